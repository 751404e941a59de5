"""View of the page of a study."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report import arm_groups, cost_verdict, costs, findings
from xraysynth.report.content import Arm, Content
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
    """Everything on the page of a study.

    Attributes:
        title: Title of the page.
        created: When the page was created.
        command: The command that creates it again.
        simulated: Whether the images called real are computed.
        confounding: Sentences on a source confounding that was acknowledged.
        failures: Messages of jobs that failed.
        limits: Sentences on the limits of the study.
        real: What images that are not synthetic are called: "real" or "simulated real".
        test_images: Number of test images, the same for every arm.
        test_patients: Number of test patients.
        has_controls: Whether there is a duplicate or permuted control.
        has_pools: Whether a generator made images.
        arms: The section on the arms; None without arms.
        tradeoffs: The section on trade-offs; None where no generator made images.

    The other attributes are one section each, in the order of the page.
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
        """The number of failed jobs in words."""
        return format_count(len(self.failures), "job")


def study_page(content: Content) -> StudyPage:
    """Returns the page of a study."""
    arms, pools, classes = arm_groups.sort_arms(content.arms), content.pools, content.classes
    generators = _generators_of_arms(arms)
    real = "simulated real" if content.simulated else "real"
    arm_costs = costs.arm_costs(content)
    cheapest_gain = cost_verdict.cheapest_gain(arm_costs)
    study_findings = findings.collect_findings(content)
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
            study_findings, cheapest_gain, arms, generators, content.spread_of_seeds
        ),
        design=design_section(arms, classes, generators, content.seeds_until),
        cohort=cohort_section(content, real),
        arms=arms_section(arms, classes),
        tradeoffs=tradeoffs_section(content, arm_costs, generators),
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


def _generators_of_arms(arms: Sequence[Arm]) -> list[str]:
    """Returns the generators whose images are in some arm, in the order of the page."""
    names: dict[str, None] = {}
    for arm in arms:
        if arm.synthetic_fraction > 0 and arm.generator:
            names[arm.generator] = None
    return list(names)
