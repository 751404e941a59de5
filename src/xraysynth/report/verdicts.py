"""What the intervals say, in words: every sentence follows from one comparison and claims no more.

`claims.CLAIMS` has each sentence with the comparison that it rests on.
"""

from dataclasses import dataclass
from typing import TypeGuard

from xraysynth.evaluation.metrics.real_data_equivalent import Equivalent
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.claims import (
    BETTER,
    CHANCE,
    CLAIMS,
    COPIES,
    NEARER,
    NO_COPIES,
    NO_DIFFERENCE,
    NOT_ASSESSABLE,
    NOT_COMPARED,
    SEEN,
    SIGNIFICANT,
    WORSE,
    Verdict,
)
from xraysynth.report.formatting import known, number, signed

__all__ = [
    "BETTER",
    "CLAIMS",
    "COPIES",
    "NEARER",
    "NOT_COMPARED",
    "NO_DIFFERENCE",
    "SIGNIFICANT",
    "WORSE",
    "Distance",
    "Verdict",
    "change",
    "equivalent",
    "faithfulness",
    "images",
    "memorisation",
    "p_value",
    "permuted",
    "share",
    "utility",
    "verdict",
]


def verdict(difference: Interval | None, *, p_holm: float | None) -> str:
    """In one word whether a difference excludes zero; higher is better.

    An adjusted p-value of 0.05 or more is no difference shown, also where the interval, which knows
    nothing of the other comparisons, excludes zero. Without a p-value, as with one training seed,
    nothing is compared.
    """
    if difference is None or not (known(difference.low) and known(difference.high)):
        return NOT_COMPARED
    if p_holm is None or not known(p_holm):
        return NOT_COMPARED
    if difference.low <= 0 <= difference.high or not p_holm < SIGNIFICANT:
        return NO_DIFFERENCE
    return BETTER if difference.low > 0 else WORSE


def utility(
    *,
    arm: str,
    metric: str,
    over_real: Interval | None,
    p_real: float | None,
    over_duplicates: Interval | None = None,
    p_duplicates: float | None = None,
    duplicates_over_real: Interval | None = None,
    over_permuted: Interval | None = None,
    p_permuted: float | None = None,
) -> Verdict:
    """Whether training on an arm's images beats training on real ones only.

    All are differences of the arm, paired, with their adjusted p-values: to real only, to the
    duplicate-real control and to itself with permuted labels. `duplicates_over_real` is what that
    control gives over real only, a number without a claim.
    """
    word = verdict(over_real, p_holm=p_real)
    if over_real is None or not (known(over_real.low) and known(over_real.high)):
        return Verdict(word, f"{arm}: not compared with real only")
    parts = [f"{arm}: {_claimed('real', over_real, p_real, metric=metric)}"]
    if _is_known(duplicates_over_real):
        parts.append(f"the duplicate-real control gives {change(duplicates_over_real)}")
    if _is_known(over_duplicates):
        parts.append(_claimed("duplicates", over_duplicates, p_duplicates))
    if _is_known(over_permuted):
        parts.append(_claimed("permuted", over_permuted, p_permuted))
    return Verdict(word, "; ".join(parts))


def permuted(arm: str, over_permuted: Interval, p_permuted: float | None) -> Verdict:
    """Whether an arm does better than with permuted labels, as a sentence of its own."""
    word = verdict(over_permuted, p_holm=p_permuted)
    return Verdict(word, f"{arm}: {_claimed('permuted', over_permuted, p_permuted)}")


def _is_known(difference: Interval | None) -> TypeGuard[Interval]:
    return difference is not None and known(difference.low) and known(difference.high)


def _claimed(subject: str, difference: Interval, p_holm: float | None, *, metric: str = "") -> str:
    """The sentence of a claim, with the numbers that decide it."""
    word = verdict(difference, p_holm=p_holm)
    numbers = change(difference)
    if p_holm is not None and known(p_holm):
        numbers += f" (Holm-adjusted p {p_value(p_holm)})"
    sentence = CLAIMS[subject].sentences[word].format(metric=metric, change=numbers)
    if word == NO_DIFFERENCE and not difference.low <= 0 <= difference.high:
        sentence += ": the interval alone excludes 0, but not after adjusting for all comparisons"
    return sentence


@dataclass(frozen=True)
class Distance:
    """A distance of synthetic images from real ones, and that of real ones among themselves."""

    metric: str
    value: Interval
    floor: Interval

    def __str__(self) -> str:
        digits = _digits(self.value.value)
        value = f"{number(self.value.value, digits)} {_range(self.value, digits)}"
        floor = number(self.floor.value, _digits(self.floor.value))
        return f"{self.metric} {value}, floor {floor}"


def images(
    kernel: Distance, *, p_holm: float | None, beside: Distance | None = None, few: str = ""
) -> Verdict:
    """Whether images lie farther from real ones than those from each other.

    By the `kernel` distance, which has no bias at small N, and its p-value, adjusted over the
    generators. `beside` is a distance that is shown with it, and `few` a warning to end with, such as
    "fewer images than dimensions".
    """
    word = _farther_or_nearer(kernel, p_holm)
    numbers = "; ".join(str(distance) for distance in (kernel, beside) if distance is not None)
    numbers += f", N = {kernel.value.n}"
    said = CLAIMS["images"].sentences[word]
    return Verdict(word, f"{said}: {numbers}{f' ({few})' if few else ''}")


def _farther_or_nearer(kernel: Distance, p_holm: float | None) -> str:
    over = kernel.value.value - kernel.floor.value
    if not known(over) or p_holm is None or not known(p_holm):
        return NOT_COMPARED
    if not p_holm < SIGNIFICANT:
        return NO_DIFFERENCE
    return WORSE if over > 0 else NEARER


def memorisation(
    *,
    flagged: Interval | None,
    p_holm: float | None,
    expected: float = 0.01,
    unassessable: str = "",
) -> Verdict:
    """Whether more images are flagged as copies than real images of other patients would be.

    `p_holm` is the one-sided p-value of that, adjusted over the generators. `unassessable` says why
    the question has no answer, such as "training set unknown".
    """
    sentences = CLAIMS["copies"].sentences
    if unassessable or not _is_known(flagged):
        reason = unassessable or "not measured"
        return Verdict(NOT_ASSESSABLE, sentences[NOT_ASSESSABLE].format(reason=reason))
    shown = p_holm is not None and known(p_holm) and p_holm < SIGNIFICANT
    word = COPIES if flagged.low > expected and shown else NO_COPIES
    numbers = {"share": share(flagged, digits=1), "expected": f"{expected:.0%}"}
    return Verdict(word, sentences[word].format(**numbers))


def faithfulness(*, seen: Interval | None, classes: int, real: Interval | None = None) -> Verdict:
    """Whether a classifier of other patients sees the intended one of so many `classes`.

    They are those that the images have, over which `seen` is a mean. Of a single one there is no
    chance to compare with: a classifier that sees nothing else is always right.
    """
    sentences = CLAIMS["labels"].sentences
    if not _is_known(seen) or classes < 2:
        return Verdict(NOT_COMPARED, sentences[NOT_COMPARED])
    numbers = share(seen)
    if real is not None and known(real.value):
        numbers += f" (real images: {share(real)})"
    chance = 1 / classes
    word = SEEN if seen.low > chance else CHANCE if seen.high >= chance else WORSE
    return Verdict(word, sentences[word].format(share=numbers, chance=f"{chance:.0%}"))


def equivalent(worth: Equivalent | Interval | None) -> Verdict:
    """How many real images one synthetic image stands for; bounds off the learning curve are infinite."""
    sentences = CLAIMS["worth"].sentences
    if worth is None or worth.low != worth.low or worth.high != worth.high:
        return Verdict(NOT_COMPARED, sentences[NOT_COMPARED])
    word = BETTER if worth.low > 0 else WORSE if worth.high < 0 else NO_DIFFERENCE
    return Verdict(word, sentences[word].format(worth=_worth(worth)))


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
