"""What the intervals say, in words: every sentence follows from the numbers in it and claims no more."""

from dataclasses import dataclass

from xraysynth.metrics.statistics import Interval
from xraysynth.metrics.utility import Equivalent
from xraysynth.report.words import known, number, signed

BETTER, WORSE, NO_DIFFERENCE, NOT_COMPARED = (
    "better",
    "worse",
    "no difference shown",
    "not compared",
)
SIGNIFICANT = 0.05
"""Holm-adjusted p-values from here on are no difference shown, whatever the interval says."""


@dataclass(frozen=True)
class Verdict:
    """A word to style a sentence by, and the sentence, without a full stop."""

    word: str
    sentence: str


def verdict(difference: Interval | None, *, p_holm: float | None = None) -> str:
    """In one word whether a difference excludes zero; higher is better.

    A Holm-adjusted p-value of 0.05 or more is no difference shown, also where the interval, which
    knows nothing of the other comparisons, excludes zero.
    """
    if difference is None or not (known(difference.low) and known(difference.high)):
        return NOT_COMPARED
    if difference.low <= 0 <= difference.high:
        return NO_DIFFERENCE
    if p_holm is not None and not p_holm < SIGNIFICANT:
        return NO_DIFFERENCE
    return BETTER if difference.low > 0 else WORSE


def utility(
    *,
    arm: str,
    metric: str,
    difference: Interval | None,
    p_holm: float | None = None,
    over_duplicates: Interval | None = None,
    duplicates: Interval | None = None,
    permuted: Interval | None = None,
) -> Verdict:
    """Whether training on an arm's images beats training on real ones only.

    `difference` is the arm over real only, `p_holm` its p-value adjusted over the study's arms.
    `duplicates` is the duplicate-real control over real only, `over_duplicates` the arm over that
    control, `permuted` the arm with permuted labels over real only. All are paired.
    """
    word = verdict(difference, p_holm=p_holm)
    if difference is None or word == NOT_COMPARED:
        return Verdict(word, f"{arm}: not compared with real only")
    parts = [f"{arm}: {_against_real(metric, difference, word, p_holm)}"]
    if verdict(duplicates) != NOT_COMPARED and duplicates is not None:
        parts.append(f"the duplicate-real control gives {change(duplicates)}")
    if verdict(over_duplicates) != NOT_COMPARED and over_duplicates is not None:
        parts.append(_against_control(over_duplicates))
    if verdict(permuted) != NOT_COMPARED and permuted is not None:
        parts.append(_with_permuted_labels(permuted))
    return Verdict(word, "; ".join(parts))


def _against_real(metric: str, difference: Interval, word: str, p_holm: float | None) -> str:
    numbers = change(difference)
    if p_holm is not None:
        numbers += f" (Holm-adjusted p {p_value(p_holm)})"
    if word == BETTER:
        return f"{metric} {numbers} over real only"
    if word == WORSE:
        return f"{metric} {numbers} against real only, worse"
    sentence = f"{NO_DIFFERENCE} in {metric} against real only, {numbers}"
    if verdict(difference) != NO_DIFFERENCE:
        sentence += ": the interval alone excludes 0, but not after adjusting for all comparisons"
    return sentence


def _against_control(over: Interval) -> str:
    beaten = {
        BETTER: "the synthetic images beat duplicates of real ones",
        WORSE: "the synthetic images are worse than duplicates of real ones",
        NO_DIFFERENCE: "the synthetic images are not shown to beat duplicates of real ones",
    }
    return f"{beaten[verdict(over)]}, {change(over)}"


def _with_permuted_labels(permuted: Interval) -> str:
    told = {
        BETTER: "which still gains, so not by its labels",
        WORSE: "which is worse, so the labels matter",
        NO_DIFFERENCE: "no difference shown",
    }
    return f"with its labels permuted {change(permuted)}, {told[verdict(permuted)]}"


def images(
    *, metric: str, value: Interval, floor: Interval, excess: Interval, few: str = ""
) -> Verdict:
    """Whether images lie farther from real ones than those from each other, by a distance.

    `floor` is real against real at the same N, and `excess` the paired value - floor. `few` is a
    warning to end with, such as "fewer images than dimensions".
    """
    digits = _digits(value.value)
    numbers = (
        f"{metric} {number(value.value, digits)} {_range(value, digits)}, "
        f"floor {number(floor.value, _digits(floor.value))}, N = {value.n}"
    )
    word = {BETTER: WORSE, WORSE: "nearer"}.get(verdict(excess), verdict(excess))
    said = {
        WORSE: "farther from real images than real ones are from each other",
        "nearer": "nearer to real images than real ones are to each other, as copies would be",
        NO_DIFFERENCE: "no difference from real images shown",
        NOT_COMPARED: "not compared with real images among themselves",
    }
    return Verdict(word, f"{said[word]}: {numbers}{f' ({few})' if few else ''}")


def memorisation(
    *, flagged: Interval | None, expected: float = 0.01, unassessable: str = ""
) -> Verdict:
    """Whether more images are flagged as copies than real images of other patients would be.

    `unassessable` says why the question has no answer, such as "training set unknown".
    """
    if unassessable or flagged is None or not (known(flagged.low) and known(flagged.high)):
        return Verdict("not assessable", f"not assessable: {unassessable or 'not measured'}")
    numbers = f"{share(flagged, digits=1)} flagged, {expected:.0%} expected"
    if flagged.low > expected:
        return Verdict("copies", f"copies its training images: {numbers}")
    return Verdict("no copying shown", f"{numbers}: no copying shown")


def faithfulness(*, seen: Interval | None, classes: int, real: Interval | None = None) -> Verdict:
    """Whether a classifier of other patients sees the intended one of so many `classes`."""
    if seen is None or not (known(seen.low) and known(seen.high)):
        return Verdict(NOT_COMPARED, "the intended class: not measured")
    sentence = f"a classifier of other patients sees the intended class in {share(seen)}"
    if real is not None and known(real.value):
        sentence += f" (real images: {share(real)})"
    chance = 1 / classes
    if seen.low > chance:
        return Verdict("seen", sentence)
    level = "no better than" if seen.high >= chance else "worse than"
    return Verdict("chance", f"{sentence}: {level} chance, {chance:.0%}")


def equivalent(worth: Equivalent | Interval | None) -> Verdict:
    """How many real images one synthetic image stands for; bounds off the learning curve are infinite."""
    if worth is None or worth.low != worth.low or worth.high != worth.high:
        return Verdict(NOT_COMPARED, "what a synthetic image is worth: not measured")
    word = BETTER if worth.low > 0 else WORSE if worth.high < 0 else NO_DIFFERENCE
    return Verdict(word, f"one synthetic image is worth {_worth(worth)}")


def _worth(worth: Equivalent | Interval) -> str:
    below, above = not known(worth.low), not known(worth.high)
    outside = "the rest lies off the learning curve"
    if (below and above) or (worth.low == worth.high and below):
        lies = "above" if worth.low > 0 else "below" if worth.high < 0 else "on both sides of"
        return f"an unknown number of real ones: the interval lies {lies} the learning curve"
    if below:
        return f"at most {number(worth.high, 1)} real ones: {outside}"
    if above:
        return f"at least {number(worth.low, 1)} real ones: {outside}"
    bounds = f"[{number(worth.low, 1)}, {number(worth.high, 1)}]"
    unsure = "" if worth.low > 0 or worth.high < 0 else ", so possibly none"
    return f"{number(worth.value, 1)} {bounds} real ones{unsure}"


def change(difference: Interval) -> str:
    """A difference with its sign and interval: "+0.031 [0.004, 0.058]"."""
    return f"{signed(difference.value)} {_range(difference, 3)}"


def share(found: Interval, *, digits: int = 0) -> str:
    """A share as a percentage with its interval: "81% [77, 85]"."""
    value, low, high = (number(100 * x, digits) for x in (found.value, found.low, found.high))
    return f"{value}% [{low}, {high}]"


def p_value(p: float) -> str:
    """A p-value with its relation: "= 0.012" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _range(found: Interval, digits: int) -> str:
    return f"[{number(found.low, digits)}, {number(found.high, digits)}]"


def _digits(size: float) -> int:
    """Decimals that leave two figures or so of a distance."""
    return 1 if abs(size) >= 1 else 2 if abs(size) >= 0.1 else 4
