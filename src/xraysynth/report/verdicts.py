"""What the intervals say, in words: every sentence follows from one comparison and claims no more.

`CLAIMS` has each sentence with the comparison that it rests on; docs/verdicts.md shows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.metrics.utility import Equivalent
from xraysynth.report.words import known, number, signed

BETTER, WORSE, NO_DIFFERENCE, NOT_COMPARED = (
    "better",
    "worse",
    "no difference shown",
    "not compared",
)
SIGNIFICANT = 0.05
"""Holm-adjusted p-values from here on are no difference shown, whatever the interval says."""

NEARER, COPIES, NO_COPIES, NOT_ASSESSABLE = (
    "nearer",
    "copies",
    "no copying shown",
    "not assessable",
)
SEEN, CHANCE = "seen", "chance"


@dataclass(frozen=True)
class Verdict:
    """A word to style a sentence by, and the sentence, without a full stop."""

    word: str
    sentence: str


@dataclass(frozen=True)
class Claim:
    """The sentences that one comparison allows, by the word of its verdict.

    `comparison` says what is subtracted from what, `decided_by` when a word other than
    "no difference shown" is taken.
    """

    comparison: str
    decided_by: str
    sentences: Mapping[str, str]


_BY_SEEDS = "interval without 0 and p < 0.05, adjusted after Holm over all {}; two seeds or more"

CLAIMS: Mapping[str, Claim] = {
    "real": Claim(
        "arm minus real only of the same real images, macro-F1, paired by patient and seed",
        _BY_SEEDS.format("arms of all generators"),
        {
            BETTER: "{metric} {change} over real only",
            WORSE: "{metric} {change} against real only, worse",
            NO_DIFFERENCE: "no difference shown in {metric} against real only, {change}",
            NOT_COMPARED: "{metric} {change} against real only by one training seed: the interval is over "
            "patients alone, and one seed does not tell a difference",
        },
    ),
    "duplicates": Claim(
        "arm minus its duplicate-real control, macro-F1, paired by patient and seed",
        _BY_SEEDS.format("arms that have such a control"),
        {
            BETTER: "the synthetic images beat duplicates of real ones, {change}",
            WORSE: "the synthetic images are worse than duplicates of real ones, {change}",
            NO_DIFFERENCE: "the synthetic images are not shown to beat duplicates of real ones, {change}",
            NOT_COMPARED: "against duplicates of real ones {change} by one training seed: not compared",
        },
    ),
    "permuted": Claim(
        "arm minus the same arm with permuted labels, macro-F1, paired by patient and seed",
        _BY_SEEDS.format("arms that have such a control"),
        {
            BETTER: "with the right labels it is better than with permuted ones, {change}, so the labels "
            "matter",
            WORSE: "with the right labels it is worse than with permuted ones, {change}",
            NO_DIFFERENCE: "with the right labels it is not shown to be better than with permuted ones, "
            "{change}, so it is not shown that the labels matter",
            NOT_COMPARED: "with the right labels less with permuted ones {change} by one training seed: not "
            "compared",
        },
    ),
    "images": Claim(
        "synthetic against real images minus real against real ones, kernel distance of the first "
        "encoder, paired by split, at equal N, one image a patient and in one class mix",
        "p < 0.05, adjusted after Holm over the generators; its sign",
        {
            WORSE: "farther from real images than real ones are from each other",
            NEARER: "nearer to real images than real ones are to each other, as copies would be",
            NO_DIFFERENCE: "no difference from real images shown",
            NOT_COMPARED: "not compared with real images among themselves",
        },
    ),
    "copies": Claim(
        "share of synthetic images nearer to a training image than 99 % of held-out real ones, in the "
        "class mix of these, against the expected 1 %",
        "interval above 1 % and p < 0.05, adjusted after Holm over the generators",
        {
            COPIES: "copies its training images: {share} flagged, {expected} expected",
            NO_COPIES: "{share} flagged, {expected} expected: no copying shown",
            NOT_ASSESSABLE: "not assessable: {reason}",
        },
    ),
    "labels": Claim(
        "share of synthetic images in which a classifier of other patients sees the intended class, mean "
        "over classes, against chance",
        "interval above or below one in the classes that the images have",
        {
            SEEN: "a classifier of other patients sees the intended class in {share}",
            CHANCE: "a classifier of other patients sees the intended class in {share}: no better than "
            "chance, {chance}",
            WORSE: "a classifier of other patients sees the intended class in {share}: worse than chance, "
            "{chance}",
            NOT_COMPARED: "the intended class: not measured",
        },
    ),
    "worth": Claim(
        "real images that alone score as much as the arm, read off the learning curve of the real-only "
        "arms, minus those the arm has, over its synthetic images",
        "interval above or below 0",
        {
            BETTER: "one synthetic image is worth {worth}",
            WORSE: "one synthetic image is worth {worth}",
            NO_DIFFERENCE: "one synthetic image is worth {worth}",
            NOT_COMPARED: "what a synthetic image is worth: not measured",
        },
    ),
}
"""What the first screen of a report can say, by its subject."""


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
