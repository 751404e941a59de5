"""What a study's report shows, as plain values: the stages collect it, the page draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from xraysynth.evaluation.metrics.pointing_game import PointingGame
from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.evaluation.metrics.real_data_equivalent import RealDataEquivalent
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.results import (
    Appearance,
    ClosestPair,
    Diversity,
    LabelFidelity,
    Measure,
    Similarity,
    UsableShare,
)
from xraysynth.generation.generators.base import FineTuning, GeneratorCard
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.pool import Refusals
from xraysynth.manifest import Manifest
from xraysynth.report.audit import CohortAudit


@dataclass(frozen=True)
class Comparison:
    """One arm minus another, by score, paired by test patient and training seed.

    `seeds` are those that both arms have finished. With fewer than two, how seeds differ is not known:
    the intervals are over patients alone and there is no p-value, so that nothing is claimed.
    `p` is that of the primary score, `p_holm` the same adjusted over all comparisons of this kind
    on the page.
    """

    differences: Mapping[str, Interval] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Arm:
    """One way to train, over several seeds, tested on the same real images.

    `generator` is empty for arms that see real images alone. `control` is "" for an arm of its own
    interest, "duplicate" where repeats of real images stand in for the synthetic ones, "permuted"
    where the labels of the synthetic images are, "size_matched" where as many images of all data sets
    are taken as leaving `left_out` out would cost. `real_fraction` is the share of the real train split
    that is used, and `left_out` the data set that is not trained on. `real_images` are distinct ones;
    `real_repeats` is how many repeats of them stand in for synthetic ones.
    `predictions` has one table per seed: image_id, patient_id, source, label and a probability column
    `p_<class>` per class. `scores` are means over seeds. `over_real` is this arm minus real-only of
    the same `real_fraction`, `over_duplicates` minus the duplicate control of its share and mode, and
    `over_permuted` minus itself with permuted labels; empty where there is nothing to compare with. All
    are keyed as in `metrics.classification`. `errors_removed` is the difference in macro-F1 to
    real-only over 1 - macro-F1 of real-only. `optimiser_steps` has one entry per seed.
    `external` has the scores on each external test set. `real_vs_synthetic_auroc` is the AUROC of a
    probe that tells synthetic from real training images in the classifier's features, one per seed;
    `pointing_game` how often Grad-CAM peaks in a known finding, one per seed.
    """

    generator: str
    synthetic_fraction: float
    mode: str
    seeds: Sequence[int]
    real_images: int
    synthetic_images: int
    predictions: Sequence[pd.DataFrame]
    scores: Mapping[str, Interval]
    scores_by_seed: Sequence[Mapping[str, float]]
    seconds: Sequence[float]
    optimiser_steps: Sequence[int] = ()
    control: str = ""
    real_fraction: float = 1.0
    left_out_source: str = ""
    real_repeats: int = 0
    over_real: Comparison = field(default_factory=Comparison)
    over_duplicates: Comparison = field(default_factory=Comparison)
    over_permuted: Comparison = field(default_factory=Comparison)
    errors_removed: Interval | None = None
    external: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    real_vs_synthetic_auroc: Sequence[Interval] = ()
    pointing_game: Sequence[PointingGame] = ()

    @property
    def gains_over_real(self) -> Mapping[str, Interval]:
        """This arm minus real-only, by score."""
        return self.over_real.differences

    @property
    def p_holm(self) -> float | None:
        """The adjusted p-value of the difference to real-only in macro-F1."""
        return self.over_real.p_holm

    @property
    def name(self) -> str:
        """Name in tables and legends."""
        if self.left_out_source:
            how = "as small as without" if self.control == "size_matched" else "without"
            return f"real only {how} {self.left_out_source}"
        of = "" if self.real_fraction == 1 else f" of {self.real_fraction:.0%} of the real images"
        if self.synthetic_fraction == 0:
            return f"real only{of}"
        who = "duplicate real" if self.control == "duplicate" else self.generator
        mark = ", labels permuted" if self.control == "permuted" else ""
        if self.synthetic_fraction == 1:
            return f"{who} only{mark}{of}"
        return f"{who} {self.synthetic_fraction:.0%} ({self.mode}){mark}{of}"


@dataclass(frozen=True)
class PoolResults:
    """One generator's images and what was measured on them.

    `measures` has one row per encoder, metric (such as "FD(classifier)") and label.
    `not_assessable_reason` is empty where the study's train split is all that copies could be of, or says why
    memorisation cannot be assessed. `closest` holds the closest pairs, nearest first.
    `faithfulness` has one entry per class and one for all: in how many images a classifier of other
    patients sees the intended class; `seen` are the counts by intended (row) and seen (column) class,
    `(C, C)`, and `judge` says what the judge was trained on.
    `tested_on` are the scores of real-only classifiers on this pool (train on real, test on synthetic).
    `ledger` is what the images cost, `taught` how the generator was fine-tuned, None where it was not.
    `usable` is the share of images that show the intended class and are no copies, the mean over
    classes; None where it was not measured.
    """

    generator: str
    card: GeneratorCard
    manifest: Manifest
    outcomes: Mapping[str, int]
    refusals: Refusals
    measures: Sequence[Measure]
    diversity: Sequence[Diversity]
    nearest_similarity: Sequence[Similarity]
    not_assessable_reason: str
    closest: Sequence[ClosestPair]
    label_fidelity: Sequence[LabelFidelity]
    confusion_matrix: Sequence[Sequence[int]]
    fidelity_classifier: str
    real_classifier_scores: Mapping[str, Interval]
    appearance: Sequence[Appearance]
    ledger: Ledger
    finetuning: FineTuning | None
    usable_share: UsableShare | None = None


@dataclass(frozen=True)
class Evaluation:
    """One folder of synthetic images measured beside real ones, for a page of its own.

    `real` are the images compared with, `train` those that may have been copied, or None where
    nobody said; `not_assessable_reason` is as in `PoolResults`, and so are the measures.
    """

    title: str
    created: str
    command: str
    real: Manifest
    synthetic: Manifest
    train: Manifest | None
    measures: Sequence[Measure]
    diversity: Sequence[Diversity]
    nearest_similarity: Sequence[Similarity]
    not_assessable_reason: str
    closest: Sequence[ClosestPair]
    appearance: Sequence[Appearance]
    limits: Sequence[str]

    @property
    def generator(self) -> str:
        """Name of the synthetic images in tables."""
        return self.synthetic.folder.name or "synthetic"


@dataclass(frozen=True)
class JobRun:
    """A finished job of a study, with a name for the reader; None where its record does not say."""

    stage: str
    name: str
    seconds: float | None
    peak_memory_mb: float | None
    state: str


@dataclass(frozen=True)
class ArmEquivalent:
    """How many real images one synthetic image of an arm is worth, read off the learning curve."""

    arm: str
    equivalent: RealDataEquivalent


@dataclass(frozen=True)
class LeftOutSource:
    """Balanced accuracy on the `n` test images of one data set, of training with it and without.

    `outside` is of training without the data set; `matched` of training on as many images of each
    class drawn from all data sets; and `inside` of training on all images. `drop` is outside minus
    matched, what the data set's absence costs at equal size; both are None where the matched arm has
    not been trained. `drop_from_all` is outside minus inside, which a smaller training set lowers too.
    All are paired by patient, and by the `seeds` that these arms have finished.
    """

    source: str
    n: int
    inside: Interval
    outside: Interval
    drop_from_all: Interval
    matched: Interval | None = None
    drop: Interval | None = None
    seeds: Sequence[int] = ()


@dataclass(frozen=True)
class EncoderAgreement:
    """How far two encoders rank `n` generators alike: Kendall's tau."""

    first: str
    second: str
    kendall_tau: float
    n: int


@dataclass(frozen=True)
class Content:
    """Everything on the page. `audit` is None where none was recorded; `failures` are the messages of
    jobs that failed.

    `worth` has one entry per arm that mixes real and synthetic images, `left_out` one per data set
    that was left out of training, and `encoder_agreement` one per pair of encoders.
    `shortcuts` are the probes of the cohort. `machine_usd_per_hour` is what an hour of the machine costs
    that made the images. `readings` are the blinded readings of these images.
    """

    title: str
    created: str
    command: str
    classes: Sequence[str]
    simulated: bool
    acknowledged_confounding: Sequence[str]
    cohort: Manifest
    audit: CohortAudit | None
    arms: Sequence[Arm]
    pools: Sequence[PoolResults]
    jobs: Sequence[JobRun]
    environment: Mapping[str, str]
    limits: Sequence[str]
    failures: Sequence[str]
    equivalents: Sequence[ArmEquivalent] = ()
    left_out_sources: Sequence[LeftOutSource] = ()
    shortcuts: Sequence[Shortcut] = ()
    encoder_agreement: Sequence[EncoderAgreement] = ()
    machine_usd_per_hour: float | None = None
    readings: Sequence[Reading] = ()
