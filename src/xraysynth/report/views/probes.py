"""What the classifiers have learned: whether they know synthetic images, and where they look."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.content import Arm
from xraysynth.report.formatting import UNKNOWN_TEXT, format_number
from xraysynth.report.views.cells import ArmLabel, Heading, arm_label, build_headings, format_bounds


@dataclass(frozen=True)
class SeedsCell:
    """The mean over seeds, each seed's number with its interval, and N; without `raw` nothing."""

    raw: str = ""
    text: str = ""
    seeds: Sequence[str] = ()
    n: str = UNKNOWN_TEXT


@dataclass(frozen=True)
class ProbeRow:
    """One arm's probes."""

    arm: ArmLabel
    real_vs_synthetic_auroc: SeedsCell
    pointing_game: SeedsCell
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
    names = ("real-vs-synthetic AUROC", "N", "pointing game, hit rate", "elsewhere", "chance")
    probed = [arm for arm in arms if arm.real_vs_synthetic_auroc or arm.pointing_game]
    return ProbeTable(
        build_headings("arm", *names, "best fixed", "N"), [_probe_row(arm) for arm in probed]
    )


def _probe_row(arm: Arm) -> ProbeRow:
    return ProbeRow(
        arm=arm_label(arm),
        real_vs_synthetic_auroc=_seeds_cell(arm.real_vs_synthetic_auroc, arm.seeds),
        pointing_game=_seeds_cell([game.hits for game in arm.pointing_game], arm.seeds),
        elsewhere=format_number(_mean([game.elsewhere for game in arm.pointing_game])),
        chance=format_number(_mean([game.chance for game in arm.pointing_game])),
        best_fixed=format_number(_mean([game.best_fixed for game in arm.pointing_game])),
    )


def _seeds_cell(results: Sequence[Interval], seeds: Sequence[int]) -> SeedsCell:
    """Seeds are named where each has a result."""
    if not results:
        return SeedsCell()
    mean = _mean([result.value for result in results])
    names = [f"seed {seed}: " for seed in seeds] if len(seeds) == len(results) else None
    lines = [
        " ".join(
            filter(None, [format_number(result.value), format_bounds(result.low, result.high)])
        )
        for result in results
    ]
    named = [f"{name}{line}" for name, line in zip(names or [""] * len(lines), lines, strict=True)]
    return SeedsCell(str(mean), format_number(mean), named, format_number(results[0].n, 0))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
