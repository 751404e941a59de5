"""Verdicts in words: every sentence follows from one comparison and claims no more than that.

`claims.CLAIMS` has each sentence with the comparison that it rests on.
"""

import math
from dataclasses import dataclass

from xraysynth.evaluation.metrics.real_data_equivalent import RealDataEquivalent
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.claims import (
    BETTER,
    CHANCE,
    CLAIMS,
    EQUIVALENT,
    MEMORISED,
    NEARER,
    NO_DIFFERENCE,
    NO_MEMORISATION,
    NOT_ASSESSABLE,
    NOT_COMPARED,
    SEEN,
    SIGNIFICANT,
    WORSE,
    Verdict,
)
from xraysynth.report.differences import (
    MeasuredDifference,
    classify_difference,
    has_bounds,
    is_known,
)
from xraysynth.report.formatting import format_number, format_signed, is_finite

__all__ = [
    "BETTER",
    "CLAIMS",
    "EQUIVALENT",
    "MEMORISED",
    "NEARER",
    "NOT_COMPARED",
    "NO_DIFFERENCE",
    "NO_MEMORISATION",
    "SIGNIFICANT",
    "WORSE",
    "Distance",
    "MeasuredDifference",
    "Verdict",
    "classify_difference",
    "format_difference",
    "format_fraction",
    "format_p_relation",
    "image_distance",
    "label_fidelity",
    "memorisation",
    "permuted_control",
    "real_data_equivalent",
    "utility",
]

NOTHING_MEASURED = MeasuredDifference()
"""The difference to an arm that there is not."""


def utility(
    *,
    arm: str,
    metric: str,
    over_real: MeasuredDifference,
    over_duplicates: MeasuredDifference = NOTHING_MEASURED,
    duplicates_over_real: Interval | None = None,
    over_permuted: MeasuredDifference = NOTHING_MEASURED,
) -> Verdict:
    """Returns whether training on an arm's images is better than training on real images only.

    All differences are paired by test patient, and each has its own Holm-adjusted p-value.

    Args:
        arm: Name of the arm.
        metric: Name of the score that is compared.
        over_real: The arm minus real only.
        over_duplicates: The arm minus its duplicate control.
        duplicates_over_real: The duplicate control minus real only, a number without a claim.
        over_permuted: The arm minus itself with permuted labels.
    """
    if not has_bounds(over_real.interval):
        return Verdict(over_real.word, f"{arm}: not compared with real only")
    parts = [f"{arm}: {_claim_sentence('real', over_real, metric=metric)}"]
    if has_bounds(duplicates_over_real):
        change = format_difference(duplicates_over_real)
        parts.append(f"the duplicate control scores {change} against real only")
    parts.append(_claim_sentence("duplicates", over_duplicates))
    parts.append(_claim_sentence("permuted", over_permuted))
    return Verdict(over_real.word, "; ".join(filter(None, parts)))


def permuted_control(arm: str, over_permuted: MeasuredDifference) -> Verdict:
    """Returns whether an arm is better than with permuted labels, as a sentence of its own.

    Args:
        arm: Name of the arm.
        over_permuted: The arm minus itself with permuted labels.
    """
    return Verdict(over_permuted.word, f"{arm}: {_claim_sentence('permuted', over_permuted)}")


def _claim_sentence(subject: str, difference: MeasuredDifference, *, metric: str = "") -> str:
    """Returns the sentence of a claim, with the numbers that decide it; empty without an interval."""
    interval, word = difference.interval, difference.word
    if not has_bounds(interval):
        return ""
    sentence = (
        CLAIMS[subject]
        .sentences[word]
        .format(
            metric=metric,
            change=_describe_change(difference, interval),
            margin=difference.margin_text,
        )
    )
    if word in (NO_DIFFERENCE, EQUIVALENT) and not interval.low <= 0 <= interval.high:
        sentence += (
            ": the unadjusted interval excludes 0, but not after adjustment for all comparisons"
        )
    return sentence


def _describe_change(difference: MeasuredDifference, interval: Interval) -> str:
    """Returns a difference with its interval, what else would have been found, and its p-value."""
    change = format_difference(interval)
    if difference.detectable_text:
        change += f", where {difference.detectable_text}"
    if difference.word == EQUIVALENT and is_known(difference.p_equivalent):
        change += f" (Holm-adjusted p of equivalence {format_p_relation(difference.p_equivalent)})"
    elif is_known(difference.p_holm):
        change += f" (Holm-adjusted p {format_p_relation(difference.p_holm)})"
    return change


@dataclass(frozen=True)
class Distance:
    """A distance of synthetic from real images, with its real-vs-real baseline.

    Attributes:
        metric: Name of the distance, such as "KD(classifier)".
        value: Distance of synthetic from real images, with N.
        baseline: Distance of real from real images at the same N.
    """

    metric: str
    value: Interval
    baseline: Interval

    def __str__(self) -> str:
        digits = _decimals(self.value.value)
        value = f"{format_number(self.value.value, digits)} {_format_bounds(self.value, digits)}"
        baseline = format_number(self.baseline.value, _decimals(self.baseline.value))
        return f"{self.metric} {value}, baseline {baseline}"


def image_distance(
    kernel: Distance,
    *,
    p_holm: float | None,
    second_distance: Distance | None = None,
    warning: str = "",
) -> Verdict:
    """Returns whether synthetic images are farther from real images than these from each other.

    Args:
        kernel: The kernel distance, which decides because it has no bias at small N.
        p_holm: p-value of the kernel distance, adjusted after Holm over the generators.
        second_distance: A distance that is shown with it.
        warning: Words that end the sentence, such as "fewer images than dimensions".
    """
    word = _classify_distance(kernel, p_holm)
    numbers = str(kernel)
    if second_distance is not None:
        numbers += f"; {second_distance}"
    numbers += f", N = {kernel.value.n}"
    if warning:
        numbers += f" ({warning})"
    return Verdict(word, f"{CLAIMS['images'].sentences[word]}: {numbers}")


def _classify_distance(kernel: Distance, p_holm: float | None) -> str:
    """Returns the word for a kernel distance, by its adjusted p-value and its excess over the baseline."""
    excess = kernel.value.value - kernel.baseline.value
    if not is_finite(excess) or p_holm is None or not is_finite(p_holm):
        return NOT_COMPARED
    if not p_holm < SIGNIFICANT:
        return NO_DIFFERENCE
    return WORSE if excess > 0 else NEARER


def memorisation(
    *,
    flagged: Interval | None,
    p_holm: float | None,
    expected: float = 0.01,
    not_assessable_reason: str = "",
) -> Verdict:
    """Returns whether more images are flagged as memorised than real images of other patients would be.

    Args:
        flagged: The fraction of synthetic images that are flagged; None where it was not measured.
        p_holm: Its one-sided p-value, adjusted after Holm over the generators.
        expected: The fraction of held-out real images that are flagged.
        not_assessable_reason: Why the question has no answer, such as "training set unknown".
    """
    sentences = CLAIMS["memorisation"].sentences
    if not_assessable_reason or not has_bounds(flagged):
        reason = not_assessable_reason or "not measured"
        return Verdict(NOT_ASSESSABLE, sentences[NOT_ASSESSABLE].format(reason=reason))
    is_significant = p_holm is not None and is_finite(p_holm) and p_holm < SIGNIFICANT
    word = MEMORISED if flagged.low > expected and is_significant else NO_MEMORISATION
    fraction = format_fraction(flagged, digits=1)
    return Verdict(word, sentences[word].format(fraction=fraction, expected=f"{expected:.0%}"))


def label_fidelity(
    *, fidelity: Interval | None, classes: int, real: Interval | None = None
) -> Verdict:
    """Returns whether the label-fidelity classifier sees the intended class more often than by chance.

    Args:
        fidelity: The fraction of synthetic images in which it sees the intended class, mean over classes.
        classes: Number of classes that the images have. With a single one there is no chance to compare
            with: a classifier that knows no other class is always right.
        real: The same fraction of real images.
    """
    sentences = CLAIMS["labels"].sentences
    if not has_bounds(fidelity) or classes < 2:
        return Verdict(NOT_COMPARED, sentences[NOT_COMPARED])
    fraction = format_fraction(fidelity)
    if real is not None and is_finite(real.value):
        fraction += f" (real images: {format_fraction(real)})"
    chance = 1 / classes
    if fidelity.low > chance:
        word = SEEN
    elif fidelity.high >= chance:
        word = CHANCE
    else:
        word = WORSE
    return Verdict(word, sentences[word].format(fraction=fraction, chance=f"{chance:.0%}"))


def real_data_equivalent(estimate: RealDataEquivalent | Interval | None) -> Verdict:
    """Returns how many additional real images one synthetic image stands for.

    Args:
        estimate: The estimate with its interval, infinite beyond the ends of the learning curve; None
            where it was not measured.
    """
    sentences = CLAIMS["equivalent"].sentences
    if estimate is None or math.isnan(estimate.low) or math.isnan(estimate.high):
        return Verdict(NOT_COMPARED, sentences[NOT_COMPARED])
    if estimate.low > 0:
        word = BETTER
    elif estimate.high < 0:
        word = WORSE
    else:
        word = NO_DIFFERENCE
    has_low, has_high = is_finite(estimate.low), is_finite(estimate.high)
    if not has_low and not has_high:
        side = {BETTER: "above", WORSE: "below"}.get(word, "on both sides of")
        return Verdict(
            word,
            "the real-data equivalent cannot be measured: the interval lies "
            f"{side} the learning curve",
        )
    equivalent = _format_equivalent(estimate)
    sentence = sentences[word].format(equivalent=equivalent)
    if not (has_low and has_high):
        sentence += "; the other end of the interval lies beyond the learning curve"
    return Verdict(word, sentence)


def _format_equivalent(estimate: RealDataEquivalent | Interval) -> str:
    """Returns an equivalent with its interval, or the end of it that is known."""
    value, low, high = (
        format_number(number, 1) for number in (estimate.value, estimate.low, estimate.high)
    )
    if not is_finite(estimate.low):
        return f"at most {high} additional real images"
    if not is_finite(estimate.high):
        return f"at least {low} additional real images"
    return f"{value} [{low}, {high}] additional real images"


def format_difference(difference: Interval) -> str:
    """Returns a difference with its sign and interval: "+0.031 [0.004, 0.058]"."""
    return f"{format_signed(difference.value)} {_format_bounds(difference, 3)}"


def format_fraction(interval: Interval, *, digits: int = 0) -> str:
    """Returns a fraction as a percentage with its interval: "81% [77, 85]".

    Args:
        interval: The fraction with its interval, in [0, 1].
        digits: Number of decimals of the percentage.
    """
    value = format_number(100 * interval.value, digits)
    low = format_number(100 * interval.low, digits)
    high = format_number(100 * interval.high, digits)
    return f"{value}% [{low}, {high}]"


def format_p_relation(p: float) -> str:
    """Returns a p-value with its relation: "= 0.012" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _format_bounds(interval: Interval, digits: int) -> str:
    return f"[{format_number(interval.low, digits)}, {format_number(interval.high, digits)}]"


def _decimals(size: float) -> int:
    """Returns the number of decimals that leaves about two significant figures of a distance."""
    if abs(size) >= 1:
        return 1
    return 2 if abs(size) >= 0.1 else 4
