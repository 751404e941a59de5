"""What `evaluate` measures, as records: each number with its interval and what it stands beside.

A record is an `Interval` with more fields, so that whatever draws, compares or words an interval takes
it as it is, and a sequence of records is a table: `pd.DataFrame(evaluation.measures)`. `records.to_json`
and `records.from_json` turn them into the entries of run.json and back; fields that earlier versions
did not write have defaults.

    >>> row = Similarity(0.52, 0.5, 0.55, 40, metric="SSIM", real=0.48)
    >>> row.low > row.real
    True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.records import formerly

NAN = float("nan")


@formerly(baseline_value="floor", baseline_low="floor_low", baseline_high="floor_high")
@dataclass(frozen=True, kw_only=True)
class Measure(Interval):
    """A value of `n` synthetic images, its 95 % interval and the same of real images, the floor.

    `label` is a class, "" for all. `better` is "lower", "higher" or "floor": the nearer to the floor
    the better. `excess_low` and `excess_high` are of the paired difference to the floor. `p` is
    two-sided, of "the excess is 0", but one-sided for the memorised share: of "no more than 1 % are
    flagged". NaN where it cannot be measured; `note` says why, or what to be careful about.
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
        """The floor with its interval."""
        return Interval(self.baseline_value, self.baseline_low, self.baseline_high, self.n)

    @property
    def excess(self) -> Interval:
        """The value minus the floor, paired."""
        return Interval(self.value - self.baseline_value, self.excess_low, self.excess_high, self.n)


@dataclass(frozen=True, kw_only=True)
class Diversity(Interval):
    """Mean similarity of `n` pairs of synthetic images of one class, beside that of `real` pairs."""

    metric: str
    label: str
    real: float


@dataclass(frozen=True, kw_only=True)
class Similarity(Interval):
    """Mean similarity of `n` synthetic images to their nearest training image.

    `real` is that of held-out real images.
    """

    metric: str
    real: float


@dataclass(frozen=True, kw_only=True)
class Appearance(Interval):
    """The mean of one of `appearance.MEASURES` over `n` synthetic images, and over `real` ones."""

    measure: str
    meaning: str
    real: float


@dataclass(frozen=True)
class ClosestPair:
    """A synthetic image and its nearest training image; flagged below the threshold.

    The threshold is NaN where there are too few held-out images to say how near a copy lies.
    """

    synthetic: Path
    train: Path
    distance: float
    threshold: float
    flagged: bool


@dataclass(frozen=True, kw_only=True)
class LabelFidelity(Interval):
    """The share of `n` synthetic images in which a classifier sees the intended class.

    `label` is the class, "" for all. `real` is the share of real images, NaN where an earlier version
    did not measure it.
    """

    label: str
    real: float = NAN
    real_low: float = NAN
    real_high: float = NAN
    real_n: int | None = None

    @property
    def real_interval(self) -> Interval:
        """The share of real images with its interval."""
        n = self.n if self.real_n is None else self.real_n
        return Interval(self.real, self.real_low, self.real_high, n)


@dataclass(frozen=True, kw_only=True)
class UsableShare(Interval):
    """The share of `n` images that show the intended class and are no copies, as far as looked for."""

    copies_looked_for: bool


@dataclass(frozen=True, kw_only=True)
class ImageMeasures:
    """What is measured of a number of synthetic images beside real ones.

    `nearest_similarity` and `closest` are empty where it is not known what was trained on.
    """

    images: int
    measures: Sequence[Measure]
    diversity: Sequence[Diversity]
    nearest_similarity: Sequence[Similarity]
    closest: Sequence[ClosestPair]
    appearance: Sequence[Appearance]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(ImageMeasures):
    """What `evaluate` returns.

    `flags` `(N,)` bool are the synthetic images that count as copies by the first encoder, in the
    order of their manifest, or None where that cannot be said.
    """

    flags: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class FolderEvaluation(ImageMeasures):
    """Two folders compared at `size_px`: the paths of page and table, and a headline per measure."""

    size_px: int
    page: str
    table: str
    headline: Mapping[str, str]


PoolScores = Mapping[str, Interval | int | Sequence[str]]
"""Scores of classifiers of real images on a pool, with `seeds`, their number.

Of a pool that lacks classes `without` names these, and `<score> of real images` is on real ones.
"""


@formerly(not_assessable_reason="assessable", confusion_matrix="seen", fidelity_classifier="judge")
@dataclass(frozen=True, kw_only=True)
class PoolEvaluation(ImageMeasures):
    """What a study measures of one generator's `pool`.

    `not_assessable_reason` says why memorisation cannot be assessed, and is empty where it can. `seen` counts
    images by intended (row) and seen (column) class; `judge` says what the classifier that sees them
    was trained on. `usable` is None in records of earlier versions.
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
        """The scores of `tested_on` alone."""
        return {name: s for name, s in self.tested_on.items() if isinstance(s, Interval)}


def _format_title(row: Measure) -> str:
    return row.metric if f"({row.encoder})" in row.metric else f"{row.metric} ({row.encoder})"


def format_headline(measures: Sequence[Measure]) -> dict[str, str]:
    """The measures of all classes in a line each, for the terminal."""
    return {
        _format_title(row): f"{row.value:.4g} [{row.low:.4g}, "
        f"{row.high:.4g}], floor {row.baseline_value:.4g}, N {row.n}"
        for row in measures
        if not row.label and row.value == row.value
    }
