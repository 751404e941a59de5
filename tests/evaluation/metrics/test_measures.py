from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.stats import t as student_t
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.kid import poly_mmd

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.metrics import point_estimates
from xraysynth.evaluation.metrics.copy_measures import measure_copying
from xraysynth.evaluation.metrics.copying import authenticity
from xraysynth.evaluation.metrics.diversity import vendi_score
from xraysynth.evaluation.metrics.features import Features, concatenate_features
from xraysynth.evaluation.metrics.fidelity import frechet_distance
from xraysynth.evaluation.metrics.measures import measure_sets
from xraysynth.evaluation.metrics.point_estimates import RealReference, compute_point_estimates

CLASSES = ("normal", "pneumonia")
WHOLE = ["FD(e)", "KD(e)", "precision", "recall", "density", "coverage", "Vendi"]


def features(values, encoder="e", **differing):
    identity = replace(Identity(encoder, "w", Preprocessing(64)), **differing)
    return Features(np.asarray(values, np.float64), identity)


def drawn(seed, n, d=6):
    return np.random.default_rng(seed).normal(size=(n, d))


def measured(x, y, *, encoder="e", **options):
    """Half of each set is normal, half pneumonia, and each real patient has one image."""
    given = {
        "real": features(x, encoder),
        "synthetic": features(y, encoder),
        "real_labels": np.repeat(CLASSES, [len(x) // 2, len(x) - len(x) // 2]),
        "synthetic_labels": np.repeat(CLASSES, [len(y) // 2, len(y) - len(y) // 2]),
        "patients": [f"p{n}" for n in range(len(x))],
        "classes": CLASSES,
        "splits": 6,
    }
    return {(m.metric, m.label): m for m in measure_sets(**given | options)}


def copying(train, held, made, **options):
    patients = options.pop("patients", np.arange(len(held)) // 2)
    found = measure_copying(
        train=features(train),
        held_out=features(held),
        synthetic=features(made),
        patients=patients,
        **{"replicates": 100} | options,
    )
    return {m.metric: m for m in found}


X, Y = drawn(3, 160), drawn(4, 140)
SAME = measured(X, Y, splits=20)


def test_point_measures_equal_the_reference_implementations():
    x, y = drawn(2, 120), drawn(3, 90) * 0.8 + 0.3
    found = compute_point_estimates(real=features(x), synthetic=features(y))
    tensors = torch.tensor(x), torch.tensor(y)
    theirs = prc_features_to_metric(tensors[1], tensors[0], verbose=False)
    assert (found["precision"], found["recall"]) == pytest.approx(
        (theirs["precision"], theirs["recall"])
    )
    theirs = compute_prdc(x, y, nearest_k=5)
    assert (found["density"], found["coverage"]) == pytest.approx(
        (theirs["density"], theirs["coverage"])
    )
    assert found["FD(e)"] == pytest.approx(frechet_distance(real=x, synthetic=y))
    equal = compute_point_estimates(real=features(x[:90]), synthetic=features(y))
    assert equal["KD(e)"] == pytest.approx(float(poly_mmd(tensors[0][:90], tensors[1])))


def test_a_set_against_itself():
    found = compute_point_estimates(real=features(X), synthetic=features(X))
    assert found["FD(e)"] == pytest.approx(0, abs=1e-9)
    assert found["KD(e)"] == pytest.approx(float(poly_mmd(torch.tensor(X), torch.tensor(X))))
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)


def test_the_published_names_are_for_the_published_encoders():
    named = {point for point, label in measured(X, Y, encoder="inception") if label == ""}
    assert {"FID", "KID", "FID∞", "CMMD(inception)"} < named
    assert "CMMD" in {m for m, _ in measured(X, Y, encoder="clip", splits=2)}


def test_shards_pooled_are_the_whole():
    x, y = features(X), features(Y)
    shards = [replace(y, values=part) for part in np.array_split(Y, 3)]
    whole, together = (
        compute_point_estimates(real=x, synthetic=side)
        for side in (y, concatenate_features(shards))
    )
    assert together == pytest.approx(whole, rel=1e-6)
    alone = [compute_point_estimates(real=x, synthetic=shard)["FD(e)"] for shard in shards]
    assert np.mean(alone) > 1.1 * whole["FD(e)"]


def test_large_sets_are_compared_in_blocks(monkeypatch):
    whole = compute_point_estimates(real=features(X), synthetic=features(Y))
    monkeypatch.setattr("xraysynth.evaluation.metrics.fidelity._BLOCK_BYTES", 8 * 140 * 9)
    assert compute_point_estimates(real=features(X), synthetic=features(Y)) == pytest.approx(whole)


def test_no_score_depends_on_the_order_of_the_images():
    shuffle = np.random.default_rng(9)
    at, other = shuffle.permutation(len(X)), shuffle.permutation(len(Y))
    points = [
        compute_point_estimates(real=features(x), synthetic=features(y))
        for x, y in ((X, Y), (X[at], Y[other]))
    ]
    assert points[1] == pytest.approx(points[0])
    labels = [np.repeat(CLASSES, len(side) // 2) for side in (X, Y)]
    patients = np.arange(len(X)) // 2
    given = {"real_labels": labels[0], "synthetic_labels": labels[1], "patients": patients}
    moved = {"real_labels": labels[0][at], "synthetic_labels": labels[1][other]}
    first = measured(X, Y, **given)
    assert measured(X[at], Y[other], **moved, patients=patients[at]) == first
    assert measured(X, Y, **given, seed=1) != first
    made = drawn(5, 60)
    assert copying(X, Y, made) == copying(
        X, Y[::-1], made[::-1], patients=np.arange(140)[::-1] // 2
    )


def test_a_real_side_is_worked_out_once(monkeypatch):
    sides = features(X), features(Y), features(Y + 1)
    expected = [compute_point_estimates(real=sides[0], synthetic=side) for side in sides[1:]]
    real, seen = RealReference.from_features(sides[0]), Counter()
    for name in ("nearest_neighbours", "kth_neighbour_distances"):
        original = getattr(point_estimates, name)

        def counted(*given, _name=name, _original=original, **options):
            seen[_name] += 1
            return _original(*given, **options)

        monkeypatch.setattr(point_estimates, name, counted)
    assert [compute_point_estimates(real=real, synthetic=side) for side in sides[1:]] == expected
    assert seen == {"kth_neighbour_distances": 2}  # those of the two synthetic sets


def test_images_like_the_real_ones_show_no_excess():
    expected = {(m, label) for m in WHOLE for label in ("", *CLASSES)}
    assert set(SAME) == expected | {("FD∞(e)", ""), ("CMMD(e)", "")}
    for found in SAME.values():
        if found.label == "" or found.metric in ("FD(e)", "KD(e)"):
            assert found.p > 0.05
        assert found.low <= found.value <= found.high
        assert found.baseline_low <= found.baseline_value <= found.baseline_high
        assert found.n == (70 if found.label == "" else 35)


def test_shifted_images_show_an_excess():
    shifted = measured(X, Y + 1, splits=20)
    for metric in ("FD(e)", "KD(e)", "FD∞(e)", "CMMD(e)"):
        assert shifted[metric, ""].excess_low > 0
        assert shifted[metric, ""].p < 0.001
        assert shifted[metric, ""].better == "lower"
    for metric in ("precision", "density", "coverage"):
        assert shifted[metric, ""].excess_high < 0
        assert shifted[metric, ""].better == "floor"
    for label in CLASSES:
        assert shifted["FD(e)", label].excess_low > 0
    floors = [(m.baseline_value, m.baseline_low, m.baseline_high) for m in SAME.values()]
    assert [(m.baseline_value, m.baseline_low, m.baseline_high) for m in shifted.values()] == floors


def test_images_that_repeat_themselves_show_less_diversity():
    repeated = measured(X, np.repeat(Y[:14], 10, 0), splits=20)
    assert repeated["Vendi", ""].excess_high < 0
    assert repeated["recall", ""].excess_high < 0
    assert repeated["Vendi", ""].better == "floor"


def test_false_alarms_are_rare():
    """Drawing all synthetic images each time, the interval of density missed 0 in 33 of 100 cases."""
    alarms, many = Counter(), [f"class {n}" for n in range(20)]  # too few of each to be measured
    labels = {"real_labels": many * 10, "synthetic_labels": many * 5, "classes": many}
    for seed in range(10):
        found = measured(
            drawn(100 + seed, 200, 32), drawn(200 + seed, 100, 32), **labels, splits=20
        )
        for (metric, label), m in found.items():
            alarms[metric] += label == "" and not m.excess_low <= 0 <= m.excess_high
    assert len(alarms) == 9
    assert sum(alarms.values()) <= 4


@pytest.mark.parametrize(("m", "n"), [(500, 40), (60, 30), (40, 20)])
def test_all_sides_have_the_same_number_of_images(m, n):
    found = measured(X[:80], drawn(4, m), splits=2)
    assert {value.n for (_, label), value in found.items() if label == ""} == {n}


def test_matched_n_takes_the_bias_out_of_the_comparison():
    real, few, many = drawn(0, 120, 40), drawn(1, 120, 40), drawn(2, 2000, 40)
    first, second = (measured(real, side)["FD(e)", ""].value for side in (few, many))
    assert first == pytest.approx(second, rel=0.1)
    unmatched = [frechet_distance(real=real, synthetic=side) for side in (few, many)]
    assert unmatched[0] > 1.3 * unmatched[1]


def test_no_patient_is_in_both_halves_or_twice_in_one():
    """Every patient has a direction of its own: Vendi counts patients, and a neighbour that is
    strictly nearer than any other patient is another image of the same one."""
    patients = np.repeat(np.arange(60), 4)
    found = measured(
        np.eye(60)[patients],
        drawn(3, 200, 60),
        patients=patients,
        real_labels=np.repeat(CLASSES, 120),
    )
    for label, n in {"": 30, "normal": 15, "pneumonia": 15}.items():
        assert found["Vendi", label].n == n
        assert found["Vendi", label].baseline_low == pytest.approx(n)
        assert found["coverage", label].baseline_high == 0


def in_classes(seed, counts, d=6, shift=6.0):
    """Images of three classes that lie far apart."""
    labels = np.repeat(("a", "b", "c"), counts)
    places = np.eye(3, d)[np.searchsorted(("a", "b", "c"), labels)]
    return drawn(seed, len(labels), d) + shift * places, labels


def compared(real, made, patients=None, splits=20, **options):
    """Measures of all classes of two sets (values, labels)."""
    found = measure_sets(
        real=features(real[0]),
        synthetic=features(made[0]),
        real_labels=real[1],
        synthetic_labels=made[1],
        patients=np.arange(len(real[1])) if patients is None else patients,
        classes=("a", "b", "c"),
        splits=splits,
        **options,
    )
    return {m.metric: m for m in found if m.label == ""}


def test_a_pool_with_equally_many_of_each_class_is_compared_in_the_real_mix():
    real = in_classes(3, (201, 72, 27))
    balanced = compared(real, in_classes(4, (100, 100, 100)))
    natural = compared(real, in_classes(5, (201, 72, 27)))
    for metric, found in balanced.items():
        assert found.p > 0.05, metric
    assert balanced["FD(e)"].value < 3 * natural["FD(e)"].value
    assert balanced["FD(e)"].n == 75  # of class a, 100 synthetic images allow 50, 67 % of 75
    unmixed = frechet_distance(real=real[0], synthetic=in_classes(4, (100, 100, 100))[0])
    assert unmixed > 5 * balanced["FD(e)"].value


def test_several_images_of_a_patient_do_not_make_a_perfect_generator_look_nearer():
    """With halves by patient but sizes by image, 8 of 12 such pools were called nearer and none of
    those with a shift was called farther."""
    nearer, farther = Counter(), Counter()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        patients = np.repeat(np.arange(100), 4)
        own = np.sqrt(0.6) * rng.normal(size=(100, 16))[patients]
        real = own + np.sqrt(0.4) * rng.normal(size=(400, 16))
        made = rng.normal(size=(400, 16))
        labels = np.full(400, "a")
        for side, counts in ((made, nearer), (made + np.sqrt(0.36 / 16), farther)):
            for metric, found in compared((real, labels), (side, labels), patients).items():
                found_nearer = found.excess_high < 0 or (
                    found.p < 0.05 and found.value < found.baseline_value
                )
                found_farther = found.p < 0.05 and found.value > found.baseline_value
                counts[metric] += found_nearer if counts is nearer else found_farther
    assert max(nearer[metric] for metric in ("FD(e)", "KD(e)", "CMMD(e)")) == 0
    assert farther["KD(e)"] >= 9


@pytest.mark.parametrize("made", [50, 120])
def test_kernel_distances_find_a_difference_no_more_often_than_one_in_twenty(made):
    """The standard error is a closed form there; the deviation over splits is about twice of it."""
    options = {"real_labels": ["a"] * 50, "synthetic_labels": ["a"] * made, "classes": ("a", "b")}
    p_values = []
    for seed in range(30):
        sides = drawn(1000 + seed, 50, 3), drawn(2000 + seed, made, 3)
        p_values.append(measured(*sides, splits=20, **options)["KD(e)", "a"].p)
    assert sum(p < 0.05 for p in p_values) <= 4
    assert sum(p < 0.5 for p in p_values) >= 8  # and no less often by far


def test_a_class_that_one_side_lacks_is_left_out_on_both_and_named():
    real, made = in_classes(3, (90, 90, 20)), in_classes(4, (100, 100, 1))
    found = compared(real, made)["FD(e)"]
    assert found.note.startswith("without the class c, of which one side has too few")
    assert found.p > 0.05
    without = [side[0][side[1] != "c"] for side in (real, made)]
    assert found.value == pytest.approx(
        frechet_distance(real=without[0], synthetic=without[1]), abs=1
    )
    nothing = compared(in_classes(0, (200, 0, 0)), in_classes(1, (0, 100, 100)))["FD(e)"]
    assert np.isnan(nothing.value)
    assert "(by class: a 200 and 0, b 0 and 100, c 0 and 100)" in nothing.note


def test_the_p_value_is_that_of_t_on_the_spread_over_splits():
    found = SAME["FD(e)", ""]
    again = measured(X, Y, splits=3)["FD(e)", ""]
    assert 0 < found.p < 1
    mean, ends = again.value - again.baseline_value, (again.excess_low, again.excess_high)
    middle = 3 * mean - sum(ends)  # of three splits the interval ends at the extremes
    deviation = np.std([*ends, middle], ddof=1)
    assert again.p == pytest.approx(2 * student_t.sf(abs(mean) / deviation, 2))


def test_a_class_without_enough_images_says_what_it_needs():
    labels = ["normal"] * 145 + ["pneumonia"] * 15
    found = measured(X, Y, real_labels=labels)
    assert found["FD(e)", "normal"].n == 35
    for metric in WHOLE:
        absent = found[metric, "pneumonia"]
        assert np.isnan([absent.value, absent.baseline_value, absent.excess_low]).all()
        assert absent.n == 0
        assert "20 real patients" in absent.note
        assert "15 patients with 15 real images, and 70 synthetic images" in absent.note
    one_patient = measured(X, Y, patients=["a"] * 80 + [f"b{i}" for i in range(80)])
    assert "1 patients with 80 real images" in one_patient["FD(e)", "normal"].note


def test_few_images_are_noted():
    found = measured(drawn(0, 80, 30), drawn(1, 80, 30), splits=2)
    assert found["FD(e)", ""].note == ""
    assert "on a line" in found["FD∞(e)", ""].note
    assert "few images: 20 in 30 dimensions" in found["FD(e)", "normal"].note
    assert found["KD(e)", "normal"].note == ""


@pytest.mark.parametrize("splits", [0, 1])
def test_fewer_than_two_splits_are_refused(splits):
    with pytest.raises(XraysynthError, match=f"splits={splits}: .* at least 2 splits"):
        measured(X, Y, splits=splits)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"synthetic": features(Y, weights="v")}, "differ in weights"),
        ({"synthetic": features(Y, preprocessing=Preprocessing(65))}, "differ in preprocessing"),
        ({"real_labels": ["normal"] * 3}, "160 real images, but labels of shape"),
        ({"patients": np.arange(159)}, "patient ids of shape"),
        ({"patients": np.zeros(160)}, "one patient"),
        ({"synthetic_labels": ["covid19"] * 140}, "not among the classes .* covid19"),
        ({"synthetic": features(np.where(Y > 2, np.nan, Y))}, "NaN"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(changed, message):
    with pytest.raises(XraysynthError, match=message):
        measured(X, Y, **changed)


def test_points_refuse_other_weights_and_too_few_images():
    with pytest.raises(XraysynthError, match="differ in weights"):
        compute_point_estimates(
            real=RealReference.from_features(features(X)), synthetic=features(Y, weights="v")
        )
    for sides in ((X[:5], Y), (X, Y[:5])):
        with pytest.raises(XraysynthError, match="at least 6 images"):
            compute_point_estimates(real=features(sides[0]), synthetic=features(sides[1]))
    with pytest.raises(XraysynthError, match="same encoder"):
        compute_point_estimates(real=features(X), synthetic=features(Y[:, :3]))


def test_fresh_images_are_not_copies():
    train, held, made = drawn(0, 300), drawn(1, 240), drawn(2, 300)
    found = copying(train, held, made)
    assert list(found) == ["memorised share", "AuthPct", "C_T", "MiFD(e)"]
    share = found["memorised share"]
    assert share.excess_low <= 0 <= share.excess_high
    assert (share.baseline_value, share.n) == (0.01, 300)
    for metric in ("AuthPct", "C_T", "MiFD(e)"):
        assert found[metric].excess_low <= 0 <= found[metric].excess_high
        assert (
            found[metric].baseline_low
            <= found[metric].baseline_value
            <= found[metric].baseline_high
        )
    assert found["AuthPct"].value == authenticity(train=train, synthetic=made)
    assert found["AuthPct"].baseline_value == authenticity(train=train, synthetic=held)
    assert found["C_T"].n == found["MiFD(e)"].n == 60  # of 120 patients


def test_a_copier_is_found_by_all():
    train, held = drawn(0, 300), drawn(1, 240)
    found = copying(train, held, np.tile(train, (2, 1)) + 1e-4)
    assert found["memorised share"].value == 1
    assert found["memorised share"].excess_low > 0.9
    assert (found["AuthPct"].value, found["AuthPct"].better) == (0, "floor")
    assert found["AuthPct"].excess_high < 0
    assert found["C_T"].value < -3
    assert found["C_T"].excess_high < 0


def test_copies_have_a_higher_mifd_than_held_out_images():
    rng = np.random.default_rng(0)
    train, held = np.split(rng.normal(size=(360, 12)) * 0.5 + 3, [60])
    copies = np.tile(train, (5, 1)) + 0.02 * rng.normal(size=(300, 12))
    found = copying(train, held, copies)["MiFD(e)"]
    assert found.excess_low > 0
    assert found.better == "lower"


def test_few_held_out_images_leave_out_what_cannot_be_calibrated():
    train, made = drawn(0, 300), drawn(2, 300)
    few = copying(train, drawn(1, 99), made)
    assert np.isnan(few["memorised share"].value)
    assert few["memorised share"].note == "the measure needs 100 held-out images, but there are 99"
    assert few["AuthPct"].value == authenticity(train=train, synthetic=made)
    assert few["C_T"].n == 25
    fewer = copying(train, drawn(1, 16), made)
    for metric in ("C_T", "MiFD(e)"):
        assert np.isnan(fewer[metric].value)
        assert "8 patients with 16 held-out images, and 300 synthetic" in fewer[metric].note


def test_sets_that_never_meet_have_no_copying_statistic():
    train = np.vstack([drawn(0, 100), drawn(1, 100) + 100])
    found = copying(train, train[:100] + 0.1, drawn(2, 200) + 100)["C_T"]
    assert np.isnan(found.value) or found.value > 3


def test_copying_compares_sets_in_the_class_mix_of_the_held_out_images():
    """Classes lie unequally near to their training images, so that a pool of another mix has other
    shares without a single copy."""

    def of_spread(seed, counts):
        labels = np.repeat(("a", "b"), counts)
        spread = np.where(labels == "a", 1.0, 0.3)[:, None]
        return spread * drawn(seed, len(labels), 8) + 8.0 * (labels == "b")[:, None], labels

    train, held, made = (
        of_spread(0, (500, 10)),
        of_spread(1, (380, 20)),
        of_spread(2, (200, 200)),
    )
    patients = {"patients": np.arange(400), "replicates": 200}
    unweighted = copying(train[0], held[0], made[0], **patients)
    labels = {"held_out_labels": held[1], "synthetic_labels": made[1]}
    found = {
        m.metric: m for m in whole_and_classes(train[0], held[0], made[0], **patients | labels)
    }
    for metric in ("AuthPct", "C_T", "MiFD(e)"):
        assert found[metric].excess_low <= 0 <= found[metric].excess_high, metric
    assert not unweighted["AuthPct"].excess_low <= 0 <= unweighted["AuthPct"].excess_high


def whole_and_classes(train, held, made, **options):
    """Of all classes last, so that a dictionary by metric keeps these."""
    found = measure_copying(
        train=features(train), held_out=features(held), synthetic=features(made), **options
    )
    return sorted(found, key=lambda m: m.label, reverse=True)


def test_the_memorised_share_is_given_by_class():
    train, held, made = drawn(0, 300), drawn(1, 240), drawn(2, 300)
    made[:40] = train[:40] + 1e-4
    labels = np.repeat(("a", "b", "c"), (100, 195, 5))
    found = measure_copying(
        train=features(train),
        held_out=features(held),
        synthetic=features(made),
        patients=np.arange(240),
        held_out_labels=np.repeat(("a", "b", "c"), 80),
        synthetic_labels=labels,
        replicates=100,
    )
    shares = {m.label: m for m in found if m.metric == "memorised share"}
    assert list(shares) == ["", "a", "b", "c"]
    assert shares["a"].value == pytest.approx(0.4, abs=0.03)
    assert shares["a"].excess_low > 0.2
    assert shares["b"].value < 0.05
    assert shares["b"].n == 195
    assert np.isnan(shares["c"].value)
    assert "needs 10 synthetic and 10 held-out images" in shares["c"].note
    assert shares[""].p < 0.001
    assert {m.label for m in found if m.metric != "memorised share"} == {""}


def test_sets_without_a_class_in_common_are_not_compared_for_copies():
    options = {"held_out_labels": ["a"] * 140, "synthetic_labels": ["b"] * 160}
    given = {"train": features(X), "held_out": features(Y), "synthetic": features(X)}
    found = measure_copying(**given, patients=np.arange(140), **options)
    assert all(np.isnan(m.value) and "no class in common" in m.note for m in found)
    with pytest.raises(XraysynthError, match="both or neither"):
        measure_copying(**given, patients=np.arange(140), held_out_labels=["a"] * 140)


def test_copying_refuses_other_weights():
    with pytest.raises(XraysynthError, match="differ in weights"):
        measure_copying(
            train=features(X),
            held_out=features(Y),
            synthetic=features(Y, weights="v"),
            patients=np.arange(140),
        )


def test_diversity_is_that_of_the_images_drawn():
    found = measured(X, Y, splits=2)["Vendi", ""]
    assert found.value < vendi_score(Y)
    assert found.value == pytest.approx(vendi_score(Y[:70]), rel=0.1)


def test_the_excess_of_the_memorised_share_is_over_one_percent():
    train = drawn(0, 300)
    share = copying(train, drawn(1, 240), np.vstack([train[:60] + 1e-4, drawn(2, 240)]))[
        "memorised share"
    ]
    assert (share.excess_low, share.excess_high) == (
        pytest.approx(share.low - 0.01),
        pytest.approx(share.high - 0.01),
    )


def test_a_class_that_only_one_side_has_is_in_no_copying_measure():
    """The pool has no image of b: what is measured is as if no held-out image had it either."""
    train, held, made = in_classes(0, (200, 100, 0)), in_classes(1, (150, 90, 0)), drawn(2, 300)
    made[:, 0] += 6
    options = {"replicates": 100, "synthetic_labels": ["a"] * 300}
    found, alone = (
        {
            (m.metric, m.label): m
            for m in measure_copying(
                train=features(train[0]),
                held_out=features(held[0][:n]),
                synthetic=features(made),
                patients=np.arange(n),
                held_out_labels=held[1][:n],
                **options,
            )
        }
        for n in (240, 150)
    )
    for metric in ("memorised share", "AuthPct", "C_T", "MiFD(e)"):
        one = found[metric, ""]
        assert one.note.startswith("without the class b, which only one of the sets has")
        assert one.baseline_value == alone[metric, ""].baseline_value
        assert one.value == alone[metric, ""].value
    assert np.isnan(found["memorised share", "b"].value)


def test_a_class_of_few_images_has_no_interval_in_authpct():
    held, made = in_classes(1, (120, 120, 0)), in_classes(2, (200, 3, 0))
    found = {
        m.metric: m
        for m in whole_and_classes(
            drawn(0, 200),
            held[0],
            made[0],
            patients=np.arange(240),
            held_out_labels=held[1],
            synthetic_labels=made[1],
            replicates=50,
        )
    }
    assert np.isfinite(found["AuthPct"].value)
    assert np.isnan([found["AuthPct"].low, found["AuthPct"].excess_high]).all()
    assert found["AuthPct"].note == "few images of the class b: no interval"
    assert found["memorised share"].high > 0.5
    assert "few images of the class b" in found["memorised share"].note


def test_a_class_of_two_images_does_not_bound_all_others():
    real = in_classes(3, (200, 90, 10))
    scarce = compared(real, in_classes(4, (200, 98, 2)), splits=2)["KD(e)"]
    assert scarce.n > 130
    assert scarce.note == (f"without the class c, which would bound N to 49 in place of {scarce.n}")
    some = compared(real, in_classes(4, (200, 98, 6)), splits=2)["KD(e)"]
    assert some.n < 130
    assert "the class c bounds N, which would be 145 without it" in some.note
    half = compared(in_classes(3, (100, 100, 0)), in_classes(4, (100, 20, 0)), splits=2)["KD(e)"]
    assert half.n == 21  # half of the patients are of b: without it nothing would be said of them
    assert "the class b bounds N, which would be 50 without it" in half.note
