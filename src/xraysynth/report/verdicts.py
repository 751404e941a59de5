"""What the intervals say, in words: every sentence follows from one comparison and claims no more.

`claims.CLAIMS` has each sentence with the comparison that it rests on.
"""

from dataclasses import dataclass
from typing import TypeGuard

from xraysynth.evaluation.metrics.real_data_equivalent import RealDataEquivalent
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
from xraysynth.report.formatting import format_number, format_signed, is_finite

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
    "classify_difference",
    "format_difference",
    "format_p_relation",
    "format_share",
    "image_distance",
    "label_fidelity",
    "memorisation",
    "permuted_control",
    "real_data_equivalent",
    "utility",
]


def classify_difference(difference: Interval | None, *, p_holm: float | None) -> str:
    """In one word whether a difference excludes zero; higher is better.

    An adjusted p-value of 0.05 or more is no difference shown, also where the interval, which knows
    nothing of the other comparisons, excludes zero. Without a p-value, as with one training seed,
    nothing is compared.
    """
    if difference is None or not (is_finite(difference.low) and is_finite(difference.high)):
        return NOT_COMPARED
    if p_holm is None or not is_finite(p_holm):
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
    word = classify_difference(over_real, p_holm=p_real)
    if over_real is None or not (is_finite(over_real.low) and is_finite(over_real.high)):
        return Verdict(word, f"{arm}: not compared with real only")
    parts = [f"{arm}: {_claim_sentence('real', over_real, p_real, metric=metric)}"]
    if _has_bounds(duplicates_over_real):
        parts.append(f"the duplicate-real control gives {format_difference(duplicates_over_real)}")
    if _has_bounds(over_duplicates):
        parts.append(_claim_sentence("duplicates", over_duplicates, p_duplicates))
    if _has_bounds(over_permuted):
        parts.append(_claim_sentence("permuted", over_permuted, p_permuted))
    return Verdict(word, "; ".join(parts))


def permuted_control(arm: str, over_permuted: Interval, p_permuted: float | None) -> Verdict:
    """Whether an arm does better than with permuted labels, as a sentence of its own."""
    word = classify_difference(over_permuted, p_holm=p_permuted)
    return Verdict(word, f"{arm}: {_claim_sentence('permuted', over_permuted, p_permuted)}")


def _has_bounds(difference: Interval | None) -> TypeGuard[Interval]:
    return difference is not None and is_finite(difference.low) and is_finite(difference.high)


def _claim_sentence(
    subject: str, difference: Interval, p_holm: float | None, *, metric: str = ""
) -> str:
    """The sentence of a claim, with the numbers that decide it."""
    word = classify_difference(difference, p_holm=p_holm)
    numbers = format_difference(difference)
    if p_holm is not None and is_finite(p_holm):
        numbers += f" (Holm-adjusted p {format_p_relation(p_holm)})"
    sentence = CLAIMS[subject].sentences[word].format(metric=metric, change=numbers)
    if word == NO_DIFFERENCE and not difference.low <= 0 <= difference.high:
        sentence += ": the interval alone excludes 0, but not after adjusting for all comparisons"
    return sentence


@dataclass(frozen=True)
class Distance:
    """A distance of synthetic images from real ones, and that of real ones among themselves."""

    metric: str
    value: Interval
    baseline: Interval

    def __str__(self) -> str:
        digits = _decimals(self.value.value)
        value = f"{format_number(self.value.value, digits)} {_format_bounds(self.value, digits)}"
        floor = format_number(self.baseline.value, _decimals(self.baseline.value))
        return f"{self.metric} {value}, floor {floor}"


def image_distance(
    kernel: Distance,
    *,
    p_holm: float | None,
    second_distance: Distance | None = None,
    warning: str = "",
) -> Verdict:
    """Whether images lie farther from real ones than those from each other.

    By the `kernel` distance, which has no bias at small N, and its p-value, adjusted over the
    generators. `second_distance` is shown with it; `warning` ends the sentence, such as "fewer images
    than dimensions".
    """
    word = _classify_distance(kernel, p_holm)
    numbers = "; ".join(
        str(distance) for distance in (kernel, second_distance) if distance is not None
    )
    numbers += f", N = {kernel.value.n}"
    said = CLAIMS["images"].sentences[word]
    return Verdict(word, f"{said}: {numbers}{f' ({warning})' if warning else ''}")


def _classify_distance(kernel: Distance, p_holm: float | None) -> str:
    over = kernel.value.value - kernel.baseline.value
    if not is_finite(over) or p_holm is None or not is_finite(p_holm):
        return NOT_COMPARED
    if not p_holm < SIGNIFICANT:
        return NO_DIFFERENCE
    return WORSE if over > 0 else NEARER


def memorisation(
    *,
    flagged: Interval | None,
    p_holm: float | None,
    expected: float = 0.01,
    not_assessable_reason: str = "",
) -> Verdict:
    """Whether more images are flagged as copies than real images of other patients would be.

    `p_holm` is the one-sided p-value of that, adjusted over the generators. `unassessable` says why
    the question has no answer, such as "training set unknown".
    """
    sentences = CLAIMS["copies"].sentences
    if not_assessable_reason or not _has_bounds(flagged):
        reason = not_assessable_reason or "not measured"
        return Verdict(NOT_ASSESSABLE, sentences[NOT_ASSESSABLE].format(reason=reason))
    shown = p_holm is not None and is_finite(p_holm) and p_holm < SIGNIFICANT
    word = COPIES if flagged.low > expected and shown else NO_COPIES
    numbers = {"share": format_share(flagged, digits=1), "expected": f"{expected:.0%}"}
    return Verdict(word, sentences[word].format(**numbers))


def label_fidelity(
    *, fidelity: Interval | None, classes: int, real: Interval | None = None
) -> Verdict:
    """Whether a classifier of other patients sees the intended one of so many `classes`.

    They are those that the images have, over which `seen` is a mean. Of a single one there is no
    chance to compare with: a classifier that sees nothing else is always right.
    """
    sentences = CLAIMS["labels"].sentences
    if not _has_bounds(fidelity) or classes < 2:
        return Verdict(NOT_COMPARED, sentences[NOT_COMPARED])
    numbers = format_share(fidelity)
    if real is not None and is_finite(real.value):
        numbers += f" (real images: {format_share(real)})"
    chance = 1 / classes
    word = SEEN if fidelity.low > chance else CHANCE if fidelity.high >= chance else WORSE
    return Verdict(word, sentences[word].format(share=numbers, chance=f"{chance:.0%}"))


def real_data_equivalent(estimate: RealDataEquivalent | Interval | None) -> Verdict:
    """How many real images one synthetic image stands for; bounds off the learning curve are infinite."""
    sentences = CLAIMS["worth"].sentences
    if estimate is None or estimate.low != estimate.low or estimate.high != estimate.high:
        return Verdict(NOT_COMPARED, sentences[NOT_COMPARED])
    word = BETTER if estimate.low > 0 else WORSE if estimate.high < 0 else NO_DIFFERENCE
    return Verdict(word, sentences[word].format(worth=_format_equivalent(estimate)))


def _format_equivalent(estimate: RealDataEquivalent | Interval) -> str:
    below, above = not is_finite(estimate.low), not is_finite(estimate.high)
    outside = "the rest lies off the learning curve"
    if (below and above) or (estimate.low == estimate.high and below):
        lies = "above" if estimate.low > 0 else "below" if estimate.high < 0 else "on both sides of"
        return f"an unknown number of real ones: the interval lies {lies} the learning curve"
    if below:
        return f"at most {format_number(estimate.high, 1)} real ones: {outside}"
    if above:
        return f"at least {format_number(estimate.low, 1)} real ones: {outside}"
    bounds = f"[{format_number(estimate.low, 1)}, {format_number(estimate.high, 1)}]"
    unsure = "" if estimate.low > 0 or estimate.high < 0 else ", so possibly none"
    return f"{format_number(estimate.value, 1)} {bounds} real ones{unsure}"


def format_difference(difference: Interval) -> str:
    """A difference with its sign and interval: "+0.031 [0.004, 0.058]"."""
    return f"{format_signed(difference.value)} {_format_bounds(difference, 3)}"


def format_share(interval: Interval, *, digits: int = 0) -> str:
    """A share as a percentage with its interval: "81% [77, 85]"."""
    value, low, high = (
        format_number(100 * x, digits) for x in (interval.value, interval.low, interval.high)
    )
    return f"{value}% [{low}, {high}]"


def format_p_relation(p: float) -> str:
    """A p-value with its relation: "= 0.012" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _format_bounds(interval: Interval, digits: int) -> str:
    return f"[{format_number(interval.low, digits)}, {format_number(interval.high, digits)}]"


def _decimals(size: float) -> int:
    """Decimals that leave two figures or so of a distance."""
    return 1 if abs(size) >= 1 else 2 if abs(size) >= 0.1 else 4
