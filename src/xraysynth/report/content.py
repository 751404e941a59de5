"""The content of a report as plain values, which stages collect, and views and templates show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from xraysynth.evaluation.metrics.pointing_game import PointingGame
from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.evaluation.metrics.real_data_equivalent import RealDataEquivalent
from xraysynth.evaluation.metrics.seed_variance import SpreadOfSeeds
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
from xraysynth.report.differences import MeasuredDifference
from xraysynth.report.seeds_until import SeedsUntil


@dataclass(frozen=True)
class Comparison:
    """One arm minus another, paired by test patient.

    Attributes:
        differences: The difference of each score with its interval, keyed as in `metrics.classification`.
        seeds: The seeds of the arm that has finished fewer of them. With fewer than two, the spread
            between seeds is unknown: there is no p-value, and no difference is claimed.
        p: p-value of the primary score.
        p_holm: `p`, adjusted by Holm's method over all comparisons of this kind on the page.
        detectable: The smallest true difference in the primary score that would be found with a
            probability of 80 %, given what the other comparisons of this kind show; None for a
            comparison that makes no claim.
        margin: The largest difference that does not matter; None if none is given.
        p_equivalent: p-value of "the true difference is as large as `margin`, up or down", adjusted by
            Holm's method over all comparisons of this kind; None without a margin.
    """

    differences: Mapping[str, Interval] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None
    margin: float | None = None
    p_equivalent: float | None = None

    @property
    def primary(self) -> MeasuredDifference:
        """The difference in macro-F1, which arms are compared by, with what was tested of it."""
        return MeasuredDifference(
            self.differences.get("macro_f1"),
            self.p_holm,
            self.detectable,
            self.margin,
            self.p_equivalent,
        )


@dataclass(frozen=True)
class Arm:
    """One kind of training set, trained over several seeds and tested on the same real images.

    Scores and differences are keyed as in `metrics.classification`.

    Attributes:
        generator: Name of the generator; empty for arms that see real images only.
        synthetic_fraction: Fraction of the training images that are synthetic, in [0, 1].
        mode: How synthetic images are used: replace, add or pretrain.
        seeds: The finished training seeds.
        real_images: Number of distinct real training images.
        synthetic_images: Number of synthetic training images.
        predictions: One table per seed with image_id, patient_id, source, label and one probability
            column `p_<class>` per class.
        scores: Means over seeds with their intervals.
        scores_by_seed: The scores of each seed.
        seconds: Training time of each seed.
        optimiser_steps: Number of optimiser steps of each seed.
        control: Empty for a main arm; "duplicate" for repeated real images in place of the synthetic
            ones; "permuted" for permuted labels of the synthetic images; "size_matched" for as many
            images of all sources as remain without `left_out_source`.
        real_fraction: Fraction of the real train split that is used.
        left_out_source: The data source that is not trained on; empty for none.
        real_repeats: Number of repeated real images in place of synthetic ones.
        over_real: This arm minus the real-only arm of the same `real_fraction`.
        over_duplicates: This arm minus its duplicate control.
        over_permuted: This arm minus its permuted control.
        errors_removed: Difference in macro-F1 to real only, divided by 1 - macro-F1 of real only.
        external: Scores by external test set.
        real_vs_synthetic_auroc: AUROC, one per seed, of a probe that separates synthetic from real
            training images in the classifier's features.
        pointing_game: How often Grad-CAM peaks in a known finding, one per seed.
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
        """This arm minus real only, by score."""
        return self.over_real.differences

    @property
    def p_holm(self) -> float | None:
        """The adjusted p-value of the difference to real only in macro-F1."""
        return self.over_real.p_holm

    @property
    def name(self) -> str:
        """The name in tables and legends, such as "sd_lora 50% (replace)"."""
        if self.left_out_source:
            relation = "as small as without" if self.control == "size_matched" else "without"
            return f"real only {relation} {self.left_out_source}"
        part = ""
        if self.real_fraction != 1:
            part = f" of {self.real_fraction:.0%} of the real images"
        if self.synthetic_fraction == 0:
            return f"real only{part}"
        images = "duplicate real" if self.control == "duplicate" else self.generator
        labels = ", labels permuted" if self.control == "permuted" else ""
        if self.synthetic_fraction == 1:
            return f"{images} only{labels}{part}"
        return f"{images} {self.synthetic_fraction:.0%} ({self.mode}){labels}{part}"


@dataclass(frozen=True)
class PoolResults:
    """One generator's images and the measures on them.

    Attributes:
        generator: Name of the generator.
        card: The facts about the generator that its class states.
        manifest: The images.
        outcomes: Number of requests by outcome, such as image, refused or failed.
        refusals: Refused and answered requests by class and prompt.
        measures: One row per encoder, metric (such as "FD(classifier)") and class.
        diversity: Similarity of pairs of images within a class.
        nearest_similarity: Similarity of images to their nearest training image.
        not_assessable_reason: Why memorisation cannot be assessed, such as an unknown training set;
            empty where it can.
        closest: The closest pairs of a synthetic and a training image, nearest first.
        label_fidelity: One entry per class and one for all classes: the fraction of images in which the
            label-fidelity classifier sees the intended class.
        confusion_matrix: Images by intended (row) and seen (column) class, `(C, C)`.
        fidelity_classifier: What the label-fidelity classifier was trained on, in words.
        real_classifier_scores: Scores of real-only classifiers on this pool.
        appearance: Properties that may reveal synthetic images.
        ledger: What the images cost.
        finetuning: How the generator was fine-tuned; None where it was not.
        usable_share: Fraction of images that show the intended class and have no memorisation flag, mean
            over classes; None where it was not measured.
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
    """One folder of synthetic images compared with real ones, for a page of its own.

    Measures are as in `PoolResults`.

    Attributes:
        title: Title of the page.
        created: When the page was created.
        command: The command that creates it again.
        real: The images compared with.
        synthetic: The synthetic images.
        train: The images that the generator was trained on; None if they were not given.
        limits: Sentences on the limits of the comparison.
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
        """The name of the synthetic images in tables."""
        return self.synthetic.folder.name or "synthetic"


@dataclass(frozen=True)
class JobRun:
    """A job of a study with a readable name; numbers are None if its record lacks them."""

    stage: str
    name: str
    seconds: float | None
    peak_memory_mb: float | None
    state: str


@dataclass(frozen=True)
class ArmEquivalent:
    """The real-data equivalent of one synthetic image of an arm, by the arm's name."""

    arm: str
    equivalent: RealDataEquivalent


@dataclass(frozen=True)
class LeftOutSource:
    """Balanced accuracy on the test images of one data source, after training with and without it.

    All numbers are paired by patient.

    Attributes:
        source: The data source.
        n: Number of its test images.
        inside: Trained on all images.
        outside: Trained without the source.
        drop_from_all: `outside` minus `inside`, which includes the effect of the smaller training set.
        matched: Trained on as many images of each class as without the source, drawn from all sources;
            None where this arm has not been trained.
        drop: `outside` minus `matched`, the effect of the missing source at equal size.
        seeds: The seeds of the arm that has finished the fewest.
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
    """How similarly two encoders rank `n` generators, by Kendall's tau in [-1, 1]."""

    first: str
    second: str
    kendall_tau: float
    n: int


@dataclass(frozen=True)
class Content:
    """Everything on the page of a study.

    Attributes:
        title: Title of the page.
        created: When the page was created.
        command: The command that creates it again.
        classes: The classes in order.
        simulated: Whether the images called real are simulated.
        acknowledged_confounding: Sentences on a source confounding that was acknowledged.
        cohort: The real images.
        audit: The audit of the cohort; None where none was recorded.
        arms: The arms, scored and compared.
        pools: Each generator's images and measures.
        jobs: The jobs of the study.
        environment: Versions and machine of the last training.
        limits: Sentences on the limits of the study.
        failures: Messages of jobs that failed.
        equivalents: One per arm that mixes real and synthetic images.
        left_out_sources: One per data source that was left out of training.
        shortcuts: Shortcut probes of the cohort.
        encoder_agreement: One per pair of encoders.
        machine_usd_per_hour: Price of an hour of the machine that made the images; None if not set.
        readings: Blinded readings of these images.
        spread_of_seeds: How much training seeds differ in macro-F1, one entry per group of arms of about
            as many training images, the smallest first.
        seeds_until: With how many seeds the study ended; None if it had fixed ones.
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
    spread_of_seeds: Sequence[SpreadOfSeeds] = ()
    seeds_until: SeedsUntil | None = None
