"""What the classifiers have learned: whether they know synthetic images, and where they look."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.content import Arm
from xraysynth.report.formatting import UNKNOWN, number
from xraysynth.report.views.cells import ArmLabel, Heading, arm_label, bounds, headings


@dataclass(frozen=True)
class SeedsCell:
    """The mean over seeds, each seed's number with its interval, and N; without `raw` nothing."""

    raw: str = ""
    text: str = ""
    seeds: Sequence[str] = ()
    n: str = UNKNOWN


@dataclass(frozen=True)
class ProbeRow:
    """One arm's probes."""

    arm: ArmLabel
    told_synthetic: SeedsCell
    pointing: SeedsCell
    elsewhere: str
    chance: str
    best_fixed: str


@dataclass(frozen=True)
class ProbeTable:
    """The arms that were probed."""

    headings: Sequence[Heading]
    rows: Sequence[ProbeRow]


def probe_table(arms: Sequence[Arm]) -> ProbeTable:
    """Probes of the arms that have any."""
    names = ("told synthetic, AUROC", "N", "pointing, hit rate", "elsewhere", "chance")
    probed = [arm for arm in arms if arm.told_synthetic or arm.pointing]
    return ProbeTable(headings("arm", *names, "best fixed", "N"), [_row(arm) for arm in probed])


def _row(arm: Arm) -> ProbeRow:
    return ProbeRow(
        arm=arm_label(arm),
        told_synthetic=_by_seed(arm.told_synthetic, arm.seeds),
        pointing=_by_seed([game.hits for game in arm.pointing], arm.seeds),
        elsewhere=number(_mean([game.elsewhere for game in arm.pointing])),
        chance=number(_mean([game.chance for game in arm.pointing])),
        best_fixed=number(_mean([game.best_fixed for game in arm.pointing])),
    )


def _by_seed(results: Sequence[Interval], seeds: Sequence[int]) -> SeedsCell:
    """Seeds are named where each has a result."""
    if not results:
        return SeedsCell()
    mean = _mean([result.value for result in results])
    names = [f"seed {seed}: " for seed in seeds] if len(seeds) == len(results) else None
    lines = [
        " ".join(filter(None, [number(result.value), bounds(result.low, result.high)]))
        for result in results
    ]
    named = [f"{name}{line}" for name, line in zip(names or [""] * len(lines), lines, strict=True)]
    return SeedsCell(str(mean), number(mean), named, number(results[0].n, 0))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
