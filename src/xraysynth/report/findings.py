"""What was found, generator by generator: the verdicts on the page's first screen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xraysynth.metrics.statistics import Interval
from xraysynth.metrics.utility import Equivalent
from xraysynth.report import tables, verdicts
from xraysynth.report.content import Arm, Content, PoolView
from xraysynth.report.rows import records
from xraysynth.report.verdicts import Verdict

PRIMARY = "macro_f1"


@dataclass(frozen=True)
class Finding:
    """One generator: whether its images help, what that rests on, and verdicts by their title."""

    generator: str
    utility: Verdict
    basis: str
    others: Sequence[tuple[str, Verdict]]


def findings(content: Content) -> list[Finding]:
    """One for each generator that was trained with, or that made images."""
    arms = tables.ordered(content.arms)
    pools = {pool.generator: pool for pool in content.pools}
    names = dict.fromkeys([arm.generator for arm in arms if arm.generator] + list(pools))
    return [_finding(content, arms, name, pools.get(name)) for name in names]


def _finding(
    content: Content, arms: Sequence[Arm], generator: str, pool: PoolView | None
) -> Finding:
    hybrids, alone = own_arms(arms, generator)
    others = _of_images(pool, content.classes) if pool else []
    if not (tried := hybrids or alone):
        nothing = Verdict(verdicts.NOT_COMPARED, f"{generator}: no classifier was trained with it")
        return Finding(generator, nothing, "", others)
    best = max(tried, key=gain)
    worth = next((row for row in content.worth if row["arm"] == best.name), None)
    if worth:
        others.append(("Worth", verdicts.equivalent(_equivalent(worth))))
    others += [("Alone", utility(arms, arm)) for arm in alone if arm is not best]
    basis = _basis(best, len(tried)) + _taught_beyond(best, pool)
    return Finding(generator, utility(arms, best), basis, others)


def own_arms(arms: Sequence[Arm], generator: str) -> tuple[list[Arm], list[Arm]]:
    """A generator's arms, hybrid and synthetic only; never controls, nor with fewer real images
    unless there are no others."""
    own = [a for a in arms if a.generator == generator and a.share > 0 and not a.control]
    whole = [arm for arm in own if not tables.group(arm)] or own
    return [a for a in whole if a.share < 1], [a for a in whole if a.share == 1]


def gain(arm: Arm) -> float:
    """Macro-F1 over real only; minus infinity where it is not known."""
    value = arm.difference[PRIMARY].value if PRIMARY in arm.difference else math.nan
    return value if math.isfinite(value) else -math.inf


def utility(arms: Sequence[Arm], arm: Arm) -> Verdict:
    """Whether an arm gains, beside its controls."""
    duplicate, permuted = (_control(arms, arm, kind) for kind in ("duplicate", "permuted"))
    return verdicts.utility(
        arm=arm.name,
        metric=tables.SUMMARY[PRIMARY],
        difference=arm.difference.get(PRIMARY),
        p_holm=arm.p_holm,
        over_duplicates=arm.over_control.get(PRIMARY),
        duplicates=duplicate.difference.get(PRIMARY) if duplicate else None,
        permuted=permuted.difference.get(PRIMARY) if permuted else None,
    )


def _control(arms: Sequence[Arm], arm: Arm, kind: str) -> Arm | None:
    """The control of an arm. Repeats of real images are the same for images that come on top and
    for those that come first."""

    def place(one: Arm) -> tuple[Any, ...]:
        mode = "add" if kind == "duplicate" and one.mode == "pretrain" else one.mode
        return one.share, mode, one.real_fraction

    return next(
        (
            other
            for other in arms
            if other.control == kind
            and place(other) == place(arm)
            and other.generator == ("" if kind == "duplicate" else arm.generator)
        ),
        None,
    )


def _basis(best: Arm, tried: int) -> str:
    seeds = f"{len(best.seeds)} seed" + "s" * (len(best.seeds) != 1)
    basis = (
        f"{tables.test_images(best)} test images, {tables.test_patients(best)} patients, {seeds}."
    )
    if tried > 1:
        corrected = (
            "p, but not the interval, corrects" if best.p_holm is not None else "nothing corrects"
        )
        basis += f" The largest gain of {tried} arms; {corrected} for that."
    return basis


def _taught_beyond(best: Arm, pool: PoolView | None) -> str:
    """Said of an arm with few real images whose generator has learned from more than these."""
    taught = pool.taught.get("images") if pool else None
    if not taught or best.real_fraction == 1:
        return ""
    return (
        f" {best.generator} was fine-tuned on {taught} real images, and its classifiers are compared with "
        f"those of {best.real_fraction:.0%} of them: what it adds is no gain from these alone."
    )


def _of_images(pool: PoolView, classes: Sequence[str]) -> list[tuple[str, Verdict]]:
    """Verdicts on the images themselves."""
    found = []
    if distance := first_measure(pool, ("FD(", "FID")):
        sides = interval(distance), interval(distance, "floor"), excess(distance)
        value, floor, over = sides
        shown = verdicts.images(
            metric=distance["metric"],
            value=value,
            floor=floor,
            excess=over,
            few=distance["note"],
        )
        found.append(("Images", shown))
    flagged = first_measure(pool, ("memorised",))
    unassessable = pool.assessable.removesuffix(": not assessable")
    copies = verdicts.memorisation(
        flagged=interval(flagged) if flagged else None, unassessable=unassessable
    )
    found.append(("Copies", copies))
    seen = next((row for row in pool.faithfulness if not row["label"]), None)
    faithful = verdicts.faithfulness(
        seen=interval(seen) if seen else None,
        classes=len(classes),
        real=interval(seen, "real") if seen else None,
    )
    return [*found, ("Labels", faithful)]


def first_measure(pool: PoolView, names: tuple[str, ...]) -> dict[str, Any] | None:
    """The first encoder's measure of all classes by one of these names."""
    rows = (row for row in records(pool.measures) if not row["label"])
    return next((row for row in rows if row["metric"].startswith(names)), None)


def interval(row: Mapping[str, Any], of: str = "") -> Interval:
    """An interval from a record: of its value, or of its `floor` or `real`."""
    low, high = (f"{of}_low", f"{of}_high") if of else ("low", "high")
    return Interval(float(row[of or "value"]), float(row[low]), float(row[high]), int(row["n"]))


def excess(row: Mapping[str, Any]) -> Interval:
    """Of a distance over its floor, paired."""
    difference = float(row["value"]) - float(row["floor"])
    return Interval(difference, row["excess_low"], row["excess_high"], int(row["n"]))


def _equivalent(row: Mapping[str, Any]) -> Equivalent:
    return Equivalent(**{name: value for name, value in row.items() if name != "arm"})
