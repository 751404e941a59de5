"""Records of what `images.evaluate` measures: each number with its interval and its baseline.

A record is an `Interval` with more fields, so that code that compares or draws intervals takes records
too, and a sequence of records is a table: `pd.DataFrame(evaluation.measures)`. `records.to_json` and
`records.from_json` turn records into the entries of run.json and back; fields that earlier versions did
not write have defaults.

    >>> row = Similarity(0.52, 0.5, 0.55, 40, metric="SSIM", real=0.48)
    >>> row.low > row.real
    True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.manifest import ListedFile
from xraysynth.records import formerly

NAN = float("nan")


@formerly(baseline_value="floor", baseline_low="floor_low", baseline_high="floor_high")
@dataclass(frozen=True, kw_only=True)
class Measure(Interval):
    """A measure of `n` synthetic images with its 95 % interval and its real-vs-real baseline.

    The baseline is the same measure of real images. A number is NaN where it cannot be measured.

    Attributes:
        encoder: The encoder whose features were compared.
        metric: The name of the measure, as in "FD(embedded)".
        label: The class of the images, "" for all classes.
        baseline_value: The real-vs-real baseline.
        baseline_low: The lower bound of its 95 % interval.
        baseline_high: The upper bound of its 95 % interval.
        excess_low: The lower bound of the paired difference of value and baseline.
        excess_high: The upper bound of this difference.
        better: "lower", "higher", or "floor", which means the nearer to the baseline the better.
        note: Why there is no number, or what to be careful about.
        p: The two-sided p-value of the hypothesis that the excess is 0. For the memorised share it is
            one-sided; the hypothesis is that at most 1 % of the images are flagged.
    """

    encoder: str
    metric: str
    label: str
    baseline_value: float
    baseline_low: float
    baseline_high: float
    excess_low: float
    excess_high: float
    better: str
    note: str = ""
    p: float = NAN

    @property
    def baseline(self) -> Interval:
        """The real-vs-real baseline with its interval."""
        return Interval(self.baseline_value, self.baseline_low, self.baseline_high, self.n)

    @property
    def excess(self) -> Interval:
        """The value minus the baseline, with the interval of paired differences."""
        return Interval(self.value - self.baseline_value, self.excess_low, self.excess_high, self.n)


@dataclass(frozen=True, kw_only=True)
class Diversity(Interval):
    """The mean similarity of `n` pairs of synthetic images of one class; lower is more diverse.

    Attributes:
        metric: SSIM or MS-SSIM.
        label: The class of both images.
        real: The mean similarity of pairs of real images of this class.
    """

    metric: str
    label: str
    real: float


@dataclass(frozen=True, kw_only=True)
class Similarity(Interval):
    """The mean similarity of `n` synthetic images to their nearest training image.

    Attributes:
        metric: SSIM or MS-SSIM.
        real: The mean similarity of held-out real images to their nearest training image.
    """

    metric: str
    real: float


@dataclass(frozen=True, kw_only=True)
class Appearance(Interval):
    """The mean of one appearance measure over `n` synthetic images.

    Attributes:
        measure: A key of `metrics.appearance.MEASURES`.
        meaning: What the measure measures, in words.
        real: The mean over real images.
    """

    measure: str
    meaning: str
    real: float


@dataclass(frozen=True)
class ClosestPair:
    """A synthetic image and its nearest training image.

    Attributes:
        synthetic: The file of the synthetic image.
        train: The file of the training image.
        distance: The distance of their features.
        threshold: The distance below which a synthetic image is flagged as memorised; NaN where there
            are too few held-out images to estimate it.
        flagged: Whether the distance is below the threshold.
        synthetic_sha256: The SHA-256 of the synthetic image's file; "" in records of earlier versions.
        train_sha256: The SHA-256 of the training image's file; "" likewise.
    """

    synthetic: Path
    train: Path
    distance: float
    threshold: float
    flagged: bool
    synthetic_sha256: str = ""
    train_sha256: str = ""

    @property
    def synthetic_file(self) -> ListedFile:
        """The file of the synthetic image, with its SHA-256."""
        return ListedFile(self.synthetic, self.synthetic_sha256)

    @property
    def train_file(self) -> ListedFile:
        """The file of the training image, with its SHA-256."""
        return ListedFile(self.train, self.train_sha256)


@dataclass(frozen=True, kw_only=True)
class LabelFidelity(Interval):
    """The proportion of `n` synthetic images in which a classifier sees the intended class.

    Attributes:
        label: The intended class, "" for all classes.
        real: The proportion of real images whose class the same classifier sees; NaN in records of
            earlier versions.
        real_low: The lower bound of its 95 % interval.
        real_high: The upper bound of its 95 % interval.
        real_n: The number of real images; None in records of earlier versions.
    """

    label: str
    real: float = NAN
    real_low: float = NAN
    real_high: float = NAN
    real_n: int | None = None

    @property
    def real_interval(self) -> Interval:
        """The proportion of real images with its interval; `n` stands in for an unknown `real_n`."""
        n = self.n if self.real_n is None else self.real_n
        return Interval(self.real, self.real_low, self.real_high, n)


@dataclass(frozen=True, kw_only=True)
class UsableShare(Interval):
    """The proportion of `n` synthetic images that show the intended class and are not copies.

    `copies_looked_for` is False where the training images are not known; then only the class counts.
    """

    copies_looked_for: bool


@dataclass(frozen=True, kw_only=True)
class ImageMeasures:
    """All measures of one set of synthetic images.

    Attributes:
        images: The number of synthetic images.
        measures: Distances, coverage and copy measures, with their baselines.
        diversity: Similarity of image pairs within each class.
        nearest_similarity: Similarity to the nearest training image; empty where the training images are
            not known.
        closest: The closest pairs of a synthetic and a training image; empty likewise.
        appearance: Measures of what gives synthetic images away.
    """

    images: int
    measures: Sequence[Measure]
    diversity: Sequence[Diversity]
    nearest_similarity: Sequence[Similarity]
    closest: Sequence[ClosestPair]
    appearance: Sequence[Appearance]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(ImageMeasures):
    """The result of `images.evaluate`.

    `flags` `(N,)` bool are the memorisation flags of the synthetic images by the first encoder, in the
    order of their manifest; None where there is no training set or too few held-out images.
    """

    flags: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class FolderEvaluation(ImageMeasures):
    """The result of a comparison of two folders.

    Attributes:
        size_px: The side in pixels at which the images were compared.
        page: The path of the HTML page.
        table: The path of the table of measures.
        headline: One line per measure for the terminal, see `format_headline`.
    """

    size_px: int
    page: str
    table: str
    headline: Mapping[str, str]


PoolScores = Mapping[str, Interval | int | Sequence[str]]
"""Scores of real-only classifiers on a pool by name, and `seeds`, the number of classifiers.

Of a pool that lacks classes, `without` names these, and `<score> of real images` is the score of the same
classifiers on real images of the remaining classes.
"""


@formerly(not_assessable_reason="assessable", confusion_matrix="seen", fidelity_classifier="judge")
@dataclass(frozen=True, kw_only=True)
class PoolEvaluation(ImageMeasures):
    """All that a study measures of the pool of one generator.

    Attributes:
        pool: The path of the pool.
        not_assessable_reason: Why memorisation cannot be assessed; "" where it can.
        faithfulness: The label fidelity of all classes and of each class.
        confusion_matrix: The number of images by intended class (row) and by the class that the
            label-fidelity classifier sees (column).
        fidelity_classifier: What the label-fidelity classifier was trained on, in words.
        tested_on: Scores of the real-only classifiers on the pool.
        usable: The proportion of usable images; None in records of earlier versions.
    """

    pool: str
    not_assessable_reason: str
    faithfulness: Sequence[LabelFidelity]
    confusion_matrix: Sequence[Sequence[int]]
    fidelity_classifier: str
    tested_on: PoolScores
    usable: UsableShare | None = None

    @property
    def real_classifier_scores(self) -> dict[str, Interval]:
        """The entries of `tested_on` that are scores."""
        return {name: s for name, s in self.tested_on.items() if isinstance(s, Interval)}


def format_headline(measures: Sequence[Measure]) -> dict[str, str]:
    """Returns one line per measure of all classes, for the terminal; NaN values are left out."""
    lines = {}
    for row in measures:
        if not row.label and not np.isnan(row.value):
            interval = f"{row.value:.4g} [{row.low:.4g}, {row.high:.4g}]"
            lines[_format_title(row)] = f"{interval}, baseline {row.baseline_value:.4g}, N {row.n}"
    return lines


def _format_title(row: Measure) -> str:
    """Returns the name of the metric and, unless the name says it, of the encoder."""
    return row.metric if f"({row.encoder})" in row.metric else f"{row.metric} ({row.encoder})"
