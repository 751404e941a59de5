"""What a study's report shows, as plain values: the stages collect it, the page draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xraysynth.generators.base import Card
from xraysynth.manifest import Manifest
from xraysynth.metrics.statistics import Interval


@dataclass(frozen=True)
class Arm:
    """One way to train, over several seeds, tested on the same real images.

    `predictions` has one table per seed: image_id, patient_id, source, label and a probability column
    `p_<class>` per class. `scores` are means over seeds; `difference` is this arm minus real-only,
    paired by patient, and empty for real-only itself. Both are keyed as in `metrics.classification`.
    """

    generator: str
    share: float
    mode: str
    seeds: Sequence[int]
    real_images: int
    synthetic_images: int
    predictions: Sequence[pd.DataFrame]
    scores: Mapping[str, Interval]
    difference: Mapping[str, Interval]
    scores_by_seed: Sequence[Mapping[str, float]]
    seconds: Sequence[float]

    @property
    def name(self) -> str:
        """Name in tables and legends."""
        if self.share == 0:
            return "real only"
        if self.share == 1:
            return f"{self.generator} only"
        return f"{self.generator} {self.share:.0%} ({self.mode})"


@dataclass(frozen=True)
class PoolView:
    """One generator's images and what was measured on them.

    `refusals` maps `label` and `prompt` to what was refused: name to (refused, asked).
    `fidelity` has one row per encoder with columns encoder, metric (such as "FD(classifier)"), value,
    low, high, n, floor, floor_low, floor_high: `floor` is real against real at the same n.
    `diversity` has one row per class and metric: metric, label, value, low, high, pairs, real.
    `memorization` has one entry per encoder: the share of images flagged (value, low, high, n), the
    share expected of real ones, and how many held-out images say so; or a note why there is none.
    `appearance` has one entry per measure: its meaning, value, low, high, n, and that of real images.
    `ledger` is what the images cost (`xraysynth.ledger.summary`), `taught` the result of the
    generator's fine-tuning, empty where there was none.
    """

    generator: str
    card: Card
    manifest: Manifest
    outcomes: Mapping[str, int]
    refusals: Mapping[str, Mapping[str, tuple[int, int]]]
    fidelity: pd.DataFrame
    diversity: pd.DataFrame
    memorization: Sequence[Mapping[str, Any]]
    appearance: Sequence[Mapping[str, Any]]
    ledger: Mapping[str, Any]
    taught: Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """Everything on the page. `audit` is the audit of `prepare`; `stages` has columns stage, job,
    seconds, peak_memory_mb, state; `failures` are the messages of jobs that failed."""

    title: str
    created: str
    command: str
    classes: Sequence[str]
    simulated: bool
    acknowledged_confounding: Sequence[str]
    cohort: Manifest
    audit: Mapping[str, Any]
    arms: Sequence[Arm]
    pools: Sequence[PoolView]
    stages: pd.DataFrame
    environment: Mapping[str, str]
    limits: Sequence[str]
    failures: Sequence[str]
