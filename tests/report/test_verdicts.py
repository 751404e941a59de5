import math

import pytest

from xraysynth.metrics.statistics import Interval
from xraysynth.metrics.utility import Equivalent
from xraysynth.report import verdicts

MINUS = "\u2212"
GAIN = Interval(0.031, 0.004, 0.058, 164)
NOTHING = Interval(0.006, -0.02, 0.03, 164)
LOSS = Interval(-0.05, -0.08, -0.01, 164)
UNKNOWN = Interval(math.nan, math.nan, math.nan, 164)


def utility(difference, **others):
    return verdicts.utility(
        arm="hybrid 50% SD-LoRA (replace)", metric="macro-F1", difference=difference, **others
    )


@pytest.mark.parametrize(
    ("difference", "word"),
    [
        (GAIN, "better"),
        (LOSS, "worse"),
        (NOTHING, "no difference shown"),
        (Interval(0.02, 0.0, 0.05, 9), "no difference shown"),  # an end at 0 does not exclude it
        (UNKNOWN, "not compared"),
        (None, "not compared"),
    ],
)
def test_the_word_follows_the_interval(difference, word):
    assert verdicts.verdict(difference) == word
    assert utility(difference).word == word


def test_a_gain_says_how_large():
    found = utility(GAIN)
    assert found.sentence == (
        "hybrid 50% SD-LoRA (replace): macro-F1 +0.031 [0.004, 0.058] over real only"
    )


def test_a_loss_and_no_difference_are_never_called_a_gain():
    assert utility(LOSS).sentence.endswith(
        f"macro-F1 {MINUS}0.050 [{MINUS}0.080, {MINUS}0.010] against real only, worse"
    )
    assert utility(NOTHING).sentence.endswith(
        f"no difference shown in macro-F1 against real only, +0.006 [{MINUS}0.020, 0.030]"
    )
    assert utility(None).sentence.endswith("not compared with real only")


@pytest.mark.parametrize(
    ("p_holm", "word"),
    [(0.049, "better"), (0.05, "no difference shown"), (math.nan, "no difference shown")],
)
def test_a_gain_that_does_not_survive_adjustment_is_not_claimed(p_holm, word):
    found = utility(GAIN, p_holm=p_holm)
    assert found.word == word
    if word != "better":
        assert "over real only" not in found.sentence
        assert "interval alone excludes 0, but not after adjusting" in found.sentence
    else:
        assert "(Holm-adjusted p = 0.049) over real only" in found.sentence


def test_a_small_adjusted_p_does_not_override_the_interval():
    found = utility(NOTHING, p_holm=0.001)
    assert found.word == "no difference shown"
    assert "interval alone" not in found.sentence


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (GAIN, "the synthetic images beat duplicates of real ones, +0.031"),
        (NOTHING, "the synthetic images are not shown to beat duplicates of real ones, +0.006"),
        (LOSS, "the synthetic images are worse than duplicates of real ones"),
    ],
)
def test_the_duplicate_control_is_beaten_only_if_its_interval_says_so(over, words):
    found = utility(GAIN, duplicates=NOTHING, over_duplicates=over)
    assert words in found.sentence
    assert f"the duplicate-real control gives +0.006 [{MINUS}0.020, 0.030]" in found.sentence
    assert found.word == "better"
    assert "duplicates" not in utility(GAIN, over_duplicates=UNKNOWN).sentence


@pytest.mark.parametrize(
    ("permuted", "words"),
    [
        (GAIN, "which still gains, so not by its labels"),
        (LOSS, "which is worse, so the labels matter"),
        (NOTHING, "with its labels permuted +0.006 [−0.020, 0.030], no difference shown"),
    ],
)
def test_permuted_labels(permuted, words):
    assert words in utility(GAIN, permuted=permuted).sentence


def images(excess, **options):
    return verdicts.images(
        metric="FD(classifier)",
        value=Interval(7.1, 6.5, 7.7, 164),
        floor=Interval(0.86, 0.7, 1.1, 164),
        excess=Interval(6.2, *excess, 164),
        **options,
    )


def test_images_against_the_floor():
    numbers = "FD(classifier) 7.1 [6.5, 7.7], floor 0.86, N = 164"
    farther = images((5.6, 6.9))
    assert farther.word == "worse"
    assert farther.sentence == (
        f"farther from real images than real ones are from each other: {numbers}"
    )
    assert images((-0.5, 6.9)) == verdicts.Verdict(
        "no difference shown", f"no difference from real images shown: {numbers}"
    )
    assert images((-0.9, -0.2)).word == "nearer"
    assert "as copies would be" in images((-0.9, -0.2)).sentence
    assert images((math.nan, math.nan)).word == "not compared"
    few = images((5.6, 6.9), few="fewer images than the 512 dimensions")
    assert few.sentence.endswith("N = 164 (fewer images than the 512 dimensions)")


def test_memorisation():
    clean = verdicts.memorisation(flagged=Interval(0.033, 0.005, 0.065, 300))
    assert clean.word == "no copying shown"
    assert clean.sentence == "3.3% [0.5, 6.5] flagged, 1% expected: no copying shown"
    copies = verdicts.memorisation(flagged=Interval(0.98, 0.96, 1.0, 300))
    assert copies.word == "copies"
    assert copies.sentence.startswith("copies its training images: 98.0% [96.0, 100.0] flagged")
    unknown = verdicts.memorisation(flagged=None, unassessable="training set unknown")
    assert unknown.word == "not assessable"
    assert unknown.sentence == "not assessable: training set unknown"
    assert verdicts.memorisation(flagged=UNKNOWN).word == "not assessable"
    one_percent = verdicts.memorisation(flagged=Interval(0.02, 0.01, 0.03, 300))
    assert one_percent.word == "no copying shown"


def test_a_training_set_that_is_unknown_beats_any_number():
    found = verdicts.memorisation(
        flagged=Interval(0.98, 0.96, 1.0, 300), unassessable="training set unknown"
    )
    assert found.word == "not assessable"


def test_faithfulness():
    real = Interval(0.74, 0.70, 0.78, 300)
    found = verdicts.faithfulness(seen=Interval(0.81, 0.77, 0.85, 300), real=real, classes=4)
    assert found.word == "seen"
    assert found.sentence == (
        "a classifier of other patients sees the intended class in 81% [77, 85] "
        "(real images: 74% [70, 78])"
    )
    chance = verdicts.faithfulness(seen=Interval(0.29, 0.24, 0.33, 300), classes=4)
    assert chance.word == "chance"
    assert chance.sentence.endswith("29% [24, 33]: no better than chance, 25%")
    below = verdicts.faithfulness(seen=Interval(0.1, 0.05, 0.2, 300), classes=4)
    assert below.sentence.endswith("worse than chance, 25%")
    two = verdicts.faithfulness(seen=Interval(0.29, 0.24, 0.33, 300), classes=5)
    assert two.word == "seen"
    assert verdicts.faithfulness(seen=None, classes=4).word == "not compared"


INF = math.inf


@pytest.mark.parametrize(
    ("value", "low", "high", "word", "said"),
    [
        (0.4, 0.1, 0.7, "better", "is worth 0.4 [0.1, 0.7] real ones"),
        (0.1, -0.2, 0.3, "no difference shown", f"0.1 [{MINUS}0.2, 0.3] real ones, so possibly"),
        (-0.5, -0.8, -0.2, "worse", f"worth {MINUS}0.5 [{MINUS}0.8, {MINUS}0.2] real ones"),
        (0.9, 0.4, INF, "better", "worth at least 0.4 real ones: the rest lies off"),
        (-INF, -INF, 0.7, "no difference shown", "worth at most 0.7 real ones"),
        (-INF, -INF, -0.1, "worse", f"worth at most {MINUS}0.1 real ones"),
        (INF, INF, INF, "better", "lies above the learning curve"),
        (-INF, -INF, -INF, "worse", "lies below the learning curve"),
        (0.0, -INF, INF, "no difference shown", "on both sides of the learning curve"),
        (math.nan, math.nan, math.nan, "not compared", "not measured"),
    ],
)
def test_what_a_synthetic_image_is_worth(value, low, high, word, said):
    found = verdicts.equivalent(Equivalent(value, low, high, 100, ""))
    assert found.word == word
    assert said in found.sentence


def test_what_was_not_measured_is_not_worth_anything():
    assert verdicts.equivalent(None).word == "not compared"


@pytest.mark.parametrize(("p", "text"), [(0.012, "= 0.012"), (0.0004, "< 0.001"), (1.0, "= 1.000")])
def test_p_values_have_their_relation(p, text):
    assert verdicts.p_value(p) == text
