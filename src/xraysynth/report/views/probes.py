"""View of the probes of the classifiers: whether they separate synthetic images, and where they look."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.content import Arm
from xraysynth.report.formatting import UNKNOWN_TEXT, format_number
from xraysynth.report.views.cells import ArmLabel, Heading, arm_label, build_headings, format_bounds


@dataclass(frozen=True)
class SeedsCell:
    """A probe's result over several seeds.

    Attributes:
        raw: The mean over seeds for machines; empty where nothing was measured.
        text: The mean as text.
        seeds: One line per seed, with its interval.
        n: Number of images.
    """

    raw: str = ""
    text: str = ""
    seeds: Sequence[str] = ()
    n: str = UNKNOWN_TEXT


@dataclass(frozen=True)
class ProbeRow:
    """The probes of one arm.

    Attributes:
        arm: The arm.
        real_vs_synthetic_auroc: How well its features separate synthetic from real training images.
        pointing_game: How often Grad-CAM peaks inside a known finding.
        elsewhere: How often the same peaks lie in findings of other images.
        chance: How often a random cell of the map would hit.
        best_fixed: Hit rate of the best single cell.
    """

    arm: ArmLabel
    real_vs_synthetic_auroc: SeedsCell
    pointing_game: SeedsCell
    elsewhere: str
    chance: str
    best_fixed: str


@dataclass(frozen=True)
class ProbeTable:
    """The probes of all arms that have any."""

    headings: Sequence[Heading]
    rows: Sequence[ProbeRow]


def probe_table(arms: Sequence[Arm]) -> ProbeTable:
    """Returns the probes of the arms that have any."""
    names = ("real-vs-synthetic AUROC", "N", "pointing game, hit rate", "elsewhere", "chance")
    rows = [_probe_row(arm) for arm in arms if arm.real_vs_synthetic_auroc or arm.pointing_game]
    return ProbeTable(build_headings("arm", *names, "best fixed", "N"), rows)


def _probe_row(arm: Arm) -> ProbeRow:
    """Returns the probes of one arm, with means over seeds."""
    hits: list[Interval] = []
    elsewhere, chance, best_fixed = [], [], []
    for game in arm.pointing_game:
        hits.append(game.hits)
        elsewhere.append(game.elsewhere)
        chance.append(game.chance)
        best_fixed.append(game.best_fixed)
    return ProbeRow(
        arm=arm_label(arm),
        real_vs_synthetic_auroc=_seeds_cell(arm.real_vs_synthetic_auroc, arm.seeds),
        pointing_game=_seeds_cell(hits, arm.seeds),
        elsewhere=format_number(_mean(elsewhere)),
        chance=format_number(_mean(chance)),
        best_fixed=format_number(_mean(best_fixed)),
    )


def _seeds_cell(results: Sequence[Interval], seeds: Sequence[int]) -> SeedsCell:
    """Returns the mean of some results with one line per result, which names its seed if all have one."""
    if not results:
        return SeedsCell()
    lines = []
    for index, result in enumerate(results):
        bounds = format_bounds(result.low, result.high)
        line = f"{format_number(result.value)} {bounds}".rstrip()
        if len(seeds) == len(results):
            line = f"seed {seeds[index]}: {line}"
        lines.append(line)
    mean = _mean([result.value for result in results])
    return SeedsCell(str(mean), format_number(mean), lines, format_number(results[0].n, 0))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
