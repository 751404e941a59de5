"""The sentences that a report can say, each with the comparison that it rests on.

docs/verdicts.md shows `CLAIMS`, and a test holds the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

BETTER = "better"
WORSE = "worse"
EQUIVALENT = "equivalent"
NO_DIFFERENCE = "no difference shown"
NOT_COMPARED = "not compared"
NEARER = "nearer"
MEMORISED = "memorised"
NO_MEMORISATION = "no memorisation shown"
NOT_ASSESSABLE = "not assessable"
SEEN = "seen"
CHANCE = "chance"

SIGNIFICANT = 0.05
"""A Holm-adjusted p-value of this or more shows no difference, whatever the interval says."""


@dataclass(frozen=True)
class Verdict:
    """A sentence about one comparison, and a word that sums it up.

    Attributes:
        word: The word, by which a page styles the sentence and results count verdicts.
        sentence: The sentence, without a full stop.
    """

    word: str
    sentence: str


@dataclass(frozen=True)
class Claim:
    """The sentences that one comparison allows.

    Attributes:
        comparison: What is subtracted from what.
        decided_by: When a word other than "no difference shown" is chosen.
        sentences: The sentence for each word of a verdict.
    """

    comparison: str
    decided_by: str
    sentences: Mapping[str, str]


_BY_SEEDS = (
    "interval without 0 and p < 0.05, adjusted after Holm over all {}; two seeds or more; equivalent: "
    "neither better nor worse, and p < 0.05 of two one-sided tests against study.equivalence_margin, "
    "adjusted likewise"
)

CLAIMS: Mapping[str, Claim] = {
    "real": Claim(
        "arm minus real only of the same real images, macro-F1, means over all seeds, paired by test patient",
        _BY_SEEDS.format("arms of all generators"),
        {
            BETTER: "better than training on real images only, {metric} {change}",
            WORSE: "worse than training on real images only, {metric} {change}",
            EQUIVALENT: "equivalent within {margin} to training on real images only, {metric} {change}",
            NO_DIFFERENCE: "no difference shown from training on real images only, {metric} {change}",
            NOT_COMPARED: "{metric} {change} against real images only from one training seed: one seed shows "
            "no difference, because its interval covers the choice of patients alone",
        },
    ),
    "duplicates": Claim(
        "arm minus its duplicate control, macro-F1, means over all seeds, paired by test patient",
        _BY_SEEDS.format("arms that have such a control"),
        {
            BETTER: "the synthetic images do better than repeated real images (duplicate control), {change}",
            WORSE: "the synthetic images do worse than repeated real images (duplicate control), {change}",
            EQUIVALENT: "the synthetic images are equivalent within {margin} to repeated real images "
            "(duplicate control), {change}",
            NO_DIFFERENCE: "no difference shown between the synthetic images and repeated real images "
            "(duplicate control), {change}",
            NOT_COMPARED: "against repeated real images (duplicate control) {change} from one training seed: "
            "not compared",
        },
    ),
    "permuted": Claim(
        "arm minus the same arm with permuted labels, macro-F1, means over all seeds, paired by test "
        "patient",
        _BY_SEEDS.format("arms that have such a control"),
        {
            BETTER: "the intended labels do better than permuted ones (permuted control), {change}, so the "
            "labels matter",
            WORSE: "the intended labels do worse than permuted ones (permuted control), {change}",
            EQUIVALENT: "the intended labels are equivalent within {margin} to permuted ones (permuted "
            "control), {change}, so the labels do not matter more than that",
            NO_DIFFERENCE: "no difference shown between the intended labels and permuted ones (permuted "
            "control), {change}, so it is not shown that the labels matter",
            NOT_COMPARED: "the intended labels against permuted ones (permuted control) {change} from one "
            "training seed: not compared",
        },
    ),
    "images": Claim(
        "distance of synthetic from real images minus the real-vs-real baseline, kernel distance of the "
        "first encoder, paired by split, at equal N, with one image per patient and one class mix",
        "p < 0.05, adjusted after Holm over the generators; the sign of the difference",
        {
            WORSE: "farther from real images than real images are from each other",
            NEARER: "nearer to real images than real images are to each other, as copies would be",
            NO_DIFFERENCE: "no difference shown from the real-vs-real baseline",
            NOT_COMPARED: "not compared with the real-vs-real baseline",
        },
    ),
    "memorisation": Claim(
        "fraction of synthetic images nearer to a training image than 99 % of held-out real ones, in the "
        "class mix of the held-out images, against the expected 1 %",
        "interval above 1 % and p < 0.05, adjusted after Holm over the generators",
        {
            MEMORISED: "memorises training images: {fraction} of its images flagged, {expected} expected",
            NO_MEMORISATION: "no memorisation shown: {fraction} of its images flagged, {expected} expected",
            NOT_ASSESSABLE: "not assessable: {reason}",
        },
    ),
    "labels": Claim(
        "fraction of synthetic images in which the label-fidelity classifier, trained on other patients, "
        "sees the intended class, mean over classes, against chance",
        "interval above or below chance among the classes that the images have",
        {
            SEEN: "the label-fidelity classifier sees the intended class in {fraction}",
            CHANCE: "the label-fidelity classifier sees the intended class in {fraction}, no better than "
            "chance ({chance})",
            WORSE: "the label-fidelity classifier sees the intended class in {fraction}, worse than chance "
            "({chance})",
            NOT_COMPARED: "label fidelity was not measured",
        },
    ),
    "equivalent": Claim(
        "number of real images that alone score as much as the arm, read off the learning curve of the "
        "real-only arms, minus the real images of the arm, divided by its synthetic images",
        "interval above or below 0",
        {
            BETTER: "one synthetic image is equivalent to {equivalent}",
            WORSE: "one synthetic image is equivalent to {equivalent}, so it lowers the score",
            NO_DIFFERENCE: "one synthetic image is equivalent to {equivalent}, possibly to none",
            NOT_COMPARED: "the real-data equivalent was not measured",
        },
    ),
}
"""What the first screen of a report can say, by its subject."""
