"""The sentences that a report can say, each with the comparison that it rests on.

docs/verdicts.md shows `CLAIMS`, and a test holds the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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
