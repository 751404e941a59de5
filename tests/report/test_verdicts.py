import math
from dataclasses import replace

import pytest

from xraysynth.evaluation.metrics.real_data_equivalent import RealDataEquivalent
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report import verdicts
from xraysynth.report.differences import MeasuredDifference

MINUS = "\u2212"
GAIN = Interval(0.031, 0.004, 0.058, 164)
NOTHING = Interval(0.006, -0.02, 0.03, 164)
LOSS = Interval(-0.05, -0.08, -0.01, 164)
UNKNOWN = Interval(math.nan, math.nan, math.nan, 164)


def utility(difference, p_real=0.01, *, duplicates_over_real=None, **others):
    """The verdict on differences that are given as intervals, each with its adjusted p-value."""
    measured = {"over_real": MeasuredDifference(difference, p_real)}
    for name in ("duplicates", "permuted"):
        interval, p = others.get(f"over_{name}"), others.get(f"p_{name}")
        measured[f"over_{name}"] = MeasuredDifference(interval, p)
    return verdicts.utility(
        arm="hybrid 50% SD-LoRA (replace)",
        metric="macro-F1",
        duplicates_over_real=duplicates_over_real,
        **measured,
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
    assert verdicts.classify_difference(difference, p_holm=0.01) == word
    assert utility(difference).word == word


def test_a_gain_says_how_large():
    found = utility(GAIN)
    assert found.sentence == (
        "hybrid 50% SD-LoRA (replace): better than training on real images only, macro-F1 +0.031 "
        "[0.004, 0.058] (Holm-adjusted p = 0.010)"
    )


def test_a_loss_and_no_difference_are_never_called_a_gain():
    assert utility(LOSS).sentence.endswith(
        f": worse than training on real images only, macro-F1 {MINUS}0.050 [{MINUS}0.080, {MINUS}0.010] "
        "(Holm-adjusted p = 0.010)"
    )
    assert utility(NOTHING, p_real=0.4).sentence.endswith(
        f": no difference shown from training on real images only, macro-F1 +0.006 [{MINUS}0.020, 0.030] "
        "(Holm-adjusted p = 0.400)"
    )
    assert utility(None).sentence.endswith("not compared with real only")


@pytest.mark.parametrize(("p_holm", "word"), [(0.049, "better"), (0.05, "no difference shown")])
def test_a_gain_that_does_not_survive_adjustment_is_not_claimed(p_holm, word):
    found = utility(GAIN, p_real=p_holm)
    assert found.word == word
    if word != "better":
        assert "better" not in found.sentence
        assert "unadjusted interval excludes 0, but not after adjustment" in found.sentence
    else:
        assert "better than training on real images only" in found.sentence
        assert "(Holm-adjusted p = 0.049)" in found.sentence


@pytest.mark.parametrize("p_real", [None, math.nan])
def test_one_seed_claims_nothing(p_real):
    """There is an interval over patients, and no p-value."""
    found = utility(GAIN, p_real=p_real)
    assert found.word == "not compared"
    assert "+0.031 [0.004, 0.058] against real images only from one training seed" in found.sentence
    assert "interval covers the choice of patients alone" in found.sentence
    for part in ("duplicates", "permuted"):
        found = utility(GAIN, **{f"over_{part}": GAIN, f"p_{part}": p_real})
        assert found.sentence.endswith("+0.031 [0.004, 0.058] from one training seed: not compared")


def test_a_small_adjusted_p_does_not_override_the_interval():
    found = utility(NOTHING, p_real=0.001)
    assert found.word == "no difference shown"
    assert "unadjusted interval" not in found.sentence


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (
            GAIN,
            "the synthetic images do better than repeated real images (duplicate control), +0.031",
        ),
        (
            NOTHING,
            "no difference shown between the synthetic images and repeated real images (duplicate "
            "control), +0.006",
        ),
        (LOSS, "the synthetic images do worse than repeated real images (duplicate control)"),
    ],
)
def test_the_duplicate_control_is_beaten_only_if_its_interval_says_so(over, words):
    found = utility(GAIN, duplicates_over_real=NOTHING, over_duplicates=over, p_duplicates=0.01)
    assert words in found.sentence
    assert (
        f"the duplicate control scores +0.006 [{MINUS}0.020, 0.030] against real only"
        in found.sentence
    )
    assert found.word == "better"
    assert "duplicate control" not in utility(GAIN, over_duplicates=UNKNOWN).sentence


@pytest.mark.parametrize(
    ("over", "p", "words"),
    [
        (
            GAIN,
            0.01,
            "better than permuted ones (permuted control), +0.031 [0.004, 0.058] (Holm-adjusted p = 0.010), "
            "so the labels matter",
        ),
        (LOSS, 0.01, "the intended labels do worse than permuted ones (permuted control)"),
        (NOTHING, 0.7, "so it is not shown that the labels matter"),
        (GAIN, 0.2, "so it is not shown that the labels matter"),
    ],
)
def test_the_labels_matter_only_where_the_arm_beats_itself_with_permuted_ones(over, p, words):
    assert words in utility(LOSS, over_permuted=over, p_permuted=p).sentence
    alone = verdicts.permuted_control("arm", MeasuredDifference(over, p))
    assert words in alone.sentence
    assert alone.sentence.startswith("arm: ")


def test_a_permuted_arm_that_is_worse_than_real_only_says_nothing_of_the_labels():
    """As untuned images are, whose labels mean nothing: with them and without them it loses."""
    found = utility(LOSS, over_permuted=NOTHING, p_permuted=0.4).sentence
    assert "labels matter" not in found.replace("not shown that the labels matter", "")


NAMED = MeasuredDifference(NOTHING, 0.4, detectable=0.0834)
SMALL = MeasuredDifference(NOTHING, 0.4, detectable=0.0834, margin=0.05, p_equivalent=0.012)


def test_no_difference_names_the_one_that_would_have_been_found():
    found = verdicts.utility(arm="arm", metric="macro-F1", over_real=NAMED, over_permuted=NAMED)
    first, second = found.sentence.split("; ")
    numbers = (
        f"+0.006 [{MINUS}0.020, 0.030], where 0.083 or more would have been found "
        "(Holm-adjusted p = 0.400)"
    )
    assert first.endswith(f"real images only, macro-F1 {numbers}")
    assert f"permuted ones (permuted control), {numbers}, so it is not shown" in second
    assert NAMED.verdict_text == "no difference shown (0.083 or more would have been found)"
    boundless = replace(NAMED, detectable=1.3)
    assert boundless.detectable_text == "even the largest difference might not have been found"


@pytest.mark.parametrize("change", [{"interval": GAIN, "p_holm": 0.01}, {"p_holm": None}])
def test_what_is_shown_or_not_compared_names_no_difference_that_would_have_been_found(change):
    measured = replace(NAMED, **change)
    assert measured.detectable_text == ""
    found = verdicts.utility(arm="arm", metric="macro-F1", over_real=measured)
    assert "would have been found" not in found.sentence


def test_a_difference_that_is_smaller_than_the_margin_is_equivalent():
    found = verdicts.utility(
        arm="arm", metric="macro-F1", over_real=SMALL, over_duplicates=SMALL, over_permuted=SMALL
    )
    real, duplicates, permuted = found.sentence.split("; ")
    numbers = f"+0.006 [{MINUS}0.020, 0.030] (Holm-adjusted p of equivalence = 0.012)"
    assert found.word == "equivalent"
    assert real == (
        f"arm: equivalent within ±0.05 to training on real images only, macro-F1 {numbers}"
    )
    assert duplicates == (
        "the synthetic images are equivalent within ±0.05 to repeated real images (duplicate "
        f"control), {numbers}"
    )
    assert permuted.endswith(f"{numbers}, so the labels do not matter more than that")
    assert SMALL.verdict_text == "equivalent within ±0.05"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"p_equivalent": 0.05}, "no difference shown"),
        ({"p_equivalent": None}, "no difference shown"),
        ({"p_equivalent": math.nan, "margin": math.nan}, "no difference shown"),
        ({"interval": GAIN, "p_holm": 0.01}, "better"),
        ({"interval": LOSS, "p_holm": 0.01}, "worse"),
        ({"interval": GAIN, "p_holm": 0.06}, "equivalent"),
        ({"p_holm": None}, "not compared"),
    ],
)
def test_a_difference_that_is_shown_is_never_equivalent(change, word):
    assert replace(SMALL, **change).word == word


SUBJECTS = {
    "real": ("over_real", "p_real"),
    "duplicates": ("over_duplicates", "p_duplicates"),
    "permuted": ("over_permuted", "p_permuted"),
}


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("difference", [GAIN, NOTHING, LOSS], ids=["gain", "nothing", "loss"])
@pytest.mark.parametrize("p", [0.001, 0.9, None])
def test_each_sentence_rests_on_its_own_comparison_alone(subject, difference, p):
    """Whatever the other two comparisons are, its part of the sentence stays the same."""

    def part(others, other_p):
        given = {name: others for name, _ in SUBJECTS.values()}
        given |= {p_name: other_p for _, p_name in SUBJECTS.values()}
        name, p_name = SUBJECTS[subject]
        given |= {name: difference, p_name: p}
        differences = {}
        for name, p_name in SUBJECTS.values():
            differences[name] = MeasuredDifference(given[name], given[p_name])
        sentence = verdicts.utility(arm="arm", metric="macro-F1", **differences).sentence
        sentence = sentence.removeprefix("arm: ")
        return sentence.split("; ")[list(SUBJECTS).index(subject)]

    own = part(NOTHING, 0.5)
    word = verdicts.classify_difference(difference, p_holm=p)
    expected = verdicts.CLAIMS[subject].sentences[word].partition("{change}")
    assert own.startswith(expected[0].format(metric="macro-F1"))
    assert all(part(others, q) == own for others in (GAIN, LOSS) for q in (0.01, 0.9, None))


def images(value, baseline, p_holm=0.01, **options):
    half = 0.005
    kernel = verdicts.Distance(
        "KD(classifier)",
        Interval(value, value - half, value + half, 164),
        Interval(baseline, baseline - half, baseline + half, 164),
    )
    frechet = verdicts.Distance(
        "FD(classifier)", Interval(7.1, 6.5, 7.7, 164), Interval(0.86, 0.7, 1.1, 164)
    )
    return verdicts.image_distance(kernel, p_holm=p_holm, second_distance=frechet, **options)


def test_images_against_the_baseline():
    numbers = (
        "KD(classifier) 0.0280 [0.0230, 0.0330], baseline 0.0010; "
        "FD(classifier) 7.1 [6.5, 7.7], baseline 0.86, N = 164"
    )
    farther = images(0.028, 0.001)
    assert farther.word == "worse"
    assert farther.sentence == (
        f"farther from real images than real images are from each other: {numbers}"
    )
    assert images(0.028, 0.001, p_holm=0.06) == verdicts.Verdict(
        "no difference shown", f"no difference shown from the real-vs-real baseline: {numbers}"
    )
    assert images(-0.02, 0.001).word == "nearer"
    assert "as copies would be" in images(-0.02, 0.001).sentence
    assert images(math.nan, math.nan).word == "not compared"
    assert images(0.028, 0.001, p_holm=None).word == "not compared"
    few = images(0.028, 0.001, warning="fewer images than the 512 dimensions")
    assert few.sentence.endswith("N = 164 (fewer images than the 512 dimensions)")


def memorisation(flagged, p_holm=0.001, **options):
    return verdicts.memorisation(flagged=flagged, p_holm=p_holm, **options)


def test_memorisation():
    clean = memorisation(Interval(0.033, 0.005, 0.065, 300), 0.2)
    assert clean.word == "no memorisation shown"
    assert (
        clean.sentence
        == "no memorisation shown: 3.3% [0.5, 6.5] of its images flagged, 1% expected"
    )
    copies = memorisation(Interval(0.98, 0.96, 1.0, 300))
    assert copies.word == "memorised"
    assert copies.sentence.startswith(
        "memorises training images: 98.0% [96.0, 100.0] of its images flagged"
    )
    unknown = memorisation(None, not_assessable_reason="training set unknown")
    assert unknown.word == "not assessable"
    assert unknown.sentence == "not assessable: training set unknown"
    assert memorisation(UNKNOWN).word == "not assessable"
    one_percent = memorisation(Interval(0.02, 0.01, 0.03, 300))
    assert one_percent.word == "no memorisation shown"


@pytest.mark.parametrize("p_holm", [0.05, 0.4, None])
def test_copying_is_claimed_only_where_it_survives_adjustment(p_holm):
    assert memorisation(Interval(0.03, 0.011, 0.06, 300), p_holm).word == "no memorisation shown"
    assert memorisation(Interval(0.03, 0.011, 0.06, 300), 0.049).word == "memorised"


def test_a_training_set_that_is_unknown_beats_any_number():
    found = memorisation(
        Interval(0.98, 0.96, 1.0, 300), not_assessable_reason="training set unknown"
    )
    assert found.word == "not assessable"


def test_label_fidelity():
    real = Interval(0.74, 0.70, 0.78, 300)
    found = verdicts.label_fidelity(fidelity=Interval(0.81, 0.77, 0.85, 300), real=real, classes=4)
    assert found.word == "seen"
    assert found.sentence == (
        "the label-fidelity classifier sees the intended class in 81% [77, 85] "
        "(real images: 74% [70, 78])"
    )
    chance = verdicts.label_fidelity(fidelity=Interval(0.29, 0.24, 0.33, 300), classes=4)
    assert chance.word == "chance"
    assert chance.sentence.endswith("29% [24, 33], no better than chance (25%)")
    below = verdicts.label_fidelity(fidelity=Interval(0.1, 0.05, 0.2, 300), classes=4)
    assert below.sentence.endswith("worse than chance (25%)")
    two = verdicts.label_fidelity(fidelity=Interval(0.29, 0.24, 0.33, 300), classes=5)
    assert two.word == "seen"
    assert verdicts.label_fidelity(fidelity=None, classes=4).word == "not compared"


def test_of_one_class_there_is_no_chance_to_compare_with():
    seen = Interval(0.9, 0.8, 0.95, 100)
    for classes in (0, 1):
        assert verdicts.label_fidelity(fidelity=seen, classes=classes).word == "not compared"


INF = math.inf


@pytest.mark.parametrize(
    ("value", "low", "high", "word", "said"),
    [
        (0.4, 0.1, 0.7, "better", "is equivalent to 0.4 [0.1, 0.7] additional real images"),
        (
            0.1,
            -0.2,
            0.3,
            "no difference shown",
            f"0.1 [{MINUS}0.2, 0.3] additional real images, possibly",
        ),
        (
            -0.5,
            -0.8,
            -0.2,
            "worse",
            f"to {MINUS}0.5 [{MINUS}0.8, {MINUS}0.2] additional real images, so",
        ),
        (
            0.9,
            0.4,
            INF,
            "better",
            "to at least 0.4 additional real images; the other end of the interval",
        ),
        (-INF, -INF, 0.7, "no difference shown", "to at most 0.7 additional real images"),
        (-INF, -INF, -0.1, "worse", f"to at most {MINUS}0.1 additional real images"),
        (INF, INF, INF, "better", "lies above the learning curve"),
        (-INF, -INF, -INF, "worse", "lies below the learning curve"),
        (0.0, -INF, INF, "no difference shown", "on both sides of the learning curve"),
        (math.nan, math.nan, math.nan, "not compared", "not measured"),
    ],
)
def test_how_many_real_images_a_synthetic_image_stands_for(value, low, high, word, said):
    found = verdicts.real_data_equivalent(RealDataEquivalent(value, low, high, 100))
    assert found.word == word
    assert said in found.sentence


def test_what_was_not_measured_stands_for_nothing():
    assert verdicts.real_data_equivalent(None).word == "not compared"


@pytest.mark.parametrize(("p", "text"), [(0.012, "= 0.012"), (0.0004, "< 0.001"), (1.0, "= 1.000")])
def test_p_values_have_their_relation(p, text):
    assert verdicts.format_p_relation(p) == text
