"""The page of a study."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report import arm_groups, costs, findings
from xraysynth.report.content import Content
from xraysynth.report.formatting import format_count
from xraysynth.report.views.appearance import AppearanceSection, appearance_section
from xraysynth.report.views.arms import ArmsSection, arms_section
from xraysynth.report.views.cohort import CohortSection, cohort_section
from xraysynth.report.views.confusion import ConfusionSection, confusion_section
from xraysynth.report.views.curves import CurvesSection, curves_section
from xraysynth.report.views.design import DesignSection, design_section
from xraysynth.report.views.findings import FindingsSection, findings_section
from xraysynth.report.views.generators import (
    Galleries,
    RefusalTable,
    build_galleries,
    refusal_tables,
)
from xraysynth.report.views.labels import LabelsSection, labels_section
from xraysynth.report.views.measures import MeasuresSection, measures_section
from xraysynth.report.views.memorisation import MemorisationSection, memorisation_section
from xraysynth.report.views.reading import StudyReading, study_reading
from xraysynth.report.views.run import RunSection, run_section
from xraysynth.report.views.tradeoffs import TradeoffsSection, tradeoffs_section


@dataclass(frozen=True)
class StudyPage:
    """Everything on the page of a study, section by section.

    `real` is what the images that are not synthetic are called; `test_images` and `test_patients` are
    those of every arm. `arms` and `tradeoffs` are None without arms or generators.
    """

    title: str
    created: str
    command: str
    simulated: bool
    confounding: Sequence[str]
    failures: Sequence[str]
    limits: Sequence[str]
    real: str
    test_images: int
    test_patients: int
    has_controls: bool
    has_pools: bool
    findings: FindingsSection
    design: DesignSection
    cohort: CohortSection
    arms: ArmsSection | None
    tradeoffs: TradeoffsSection | None
    curves: CurvesSection
    confusion: ConfusionSection
    refusals: Sequence[RefusalTable]
    measures: MeasuresSection
    memorisation: MemorisationSection
    labels: LabelsSection
    appearance: AppearanceSection
    galleries: Galleries
    readings: Sequence[StudyReading]
    run: RunSection

    @property
    def real_title(self) -> str:
        """What real images are called at the start of a sentence."""
        return self.real.capitalize()

    @property
    def failed_jobs(self) -> str:
        """How many jobs failed."""
        return format_count(len(self.failures), "job")


def study_page(content: Content) -> StudyPage:
    """The page of a study."""
    arms, pools, classes = arm_groups.sort_arms(content.arms), content.pools, content.classes
    generators = list(
        dict.fromkeys(a.generator for a in arms if a.synthetic_fraction > 0 and a.generator)
    )
    real = "simulated real" if content.simulated else "real"
    points = costs.arm_costs(content)
    return StudyPage(
        title=content.title,
        created=content.created,
        command=content.command,
        simulated=content.simulated,
        confounding=content.acknowledged_confounding,
        failures=content.failures,
        limits=content.limits,
        real=real,
        test_images=arm_groups.count_test_images(arms[0]) if arms else 0,
        test_patients=arm_groups.count_test_patients(arms[0]) if arms else 0,
        has_controls=any(arm.control for arm in arms),
        has_pools=bool(pools),
        findings=findings_section(
            findings.collect_findings(content), costs.cheapest_gain(points), arms, generators
        ),
        design=design_section(arms, classes, generators),
        cohort=cohort_section(content),
        arms=arms_section(arms, classes),
        tradeoffs=tradeoffs_section(content, points, generators),
        curves=curves_section(arms, content.equivalents, classes, generators),
        confusion=confusion_section(arms, classes),
        refusals=refusal_tables(pools),
        measures=measures_section(pools, classes, content.encoder_agreement),
        memorisation=memorisation_section(pools),
        labels=labels_section(pools, arms, classes, real),
        appearance=appearance_section(pools, classes, is_from_study=True),
        galleries=build_galleries(content.cohort, pools, classes, real),
        readings=[study_reading(reading, generators) for reading in content.readings],
        run=run_section(content.jobs, content.environment),
    )
