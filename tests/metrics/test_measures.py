from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.kid import poly_mmd

from xraysynth.errors import XraysynthError
from xraysynth.metrics import points
from xraysynth.metrics.copying import authenticity
from xraysynth.metrics.diversity import vendi
from xraysynth.metrics.features import Features, pooled
from xraysynth.metrics.fidelity import frechet_distance
from xraysynth.metrics.measures import measure_copying, measure_sets
from xraysynth.metrics.points import RealSide, point_measures

CLASSES = ("normal", "pneumonia")
WHOLE = ["FD(e)", "KD(e)", "precision", "recall", "density", "coverage", "Vendi"]


def features(values, encoder="e", **differing):
    identity = {"encoder": encoder, "weights": "w", "preprocessing": {"size_px": 64}}
    return Features(np.asarray(values, np.float64), identity | differing)


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


X, Y = drawn(0, 160), drawn(1, 140)
SAME = measured(X, Y, splits=20)


def test_point_measures_equal_the_reference_implementations():
    x, y = drawn(2, 120), drawn(3, 90) * 0.8 + 0.3
    found = point_measures(real=features(x), synthetic=features(y))
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
    equal = point_measures(real=features(x[:90]), synthetic=features(y))
    assert equal["KD(e)"] == pytest.approx(float(poly_mmd(tensors[0][:90], tensors[1])))


def test_a_set_against_itself():
    found = point_measures(real=features(X), synthetic=features(X))
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
    whole, together = (point_measures(real=x, synthetic=side) for side in (y, pooled(shards)))
    assert together == pytest.approx(whole, rel=1e-6)
    alone = [point_measures(real=x, synthetic=shard)["FD(e)"] for shard in shards]
    assert np.mean(alone) > 1.1 * whole["FD(e)"]


def test_large_sets_are_compared_in_blocks(monkeypatch):
    whole = point_measures(real=features(X), synthetic=features(Y))
    monkeypatch.setattr("xraysynth.metrics.fidelity._BLOCK_BYTES", 8 * 140 * 9)
    assert point_measures(real=features(X), synthetic=features(Y)) == pytest.approx(whole)


def test_no_score_depends_on_the_order_of_the_images():
    shuffle = np.random.default_rng(9)
    at, other = shuffle.permutation(len(X)), shuffle.permutation(len(Y))
    points = [
        point_measures(real=features(x), synthetic=features(y))
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
    expected = [point_measures(real=sides[0], synthetic=side) for side in sides[1:]]
    real, seen = RealSide.of(sides[0]), Counter()
    for name in ("nearest", "radii"):
        original = getattr(points, name)

        def counted(*given, _name=name, _original=original, **options):
            seen[_name] += 1
            return _original(*given, **options)

        monkeypatch.setattr(points, name, counted)
    assert [point_measures(real=real, synthetic=side) for side in sides[1:]] == expected
    assert seen == {"radii": 2}  # those of the two synthetic sets


def test_images_like_the_real_ones_show_no_excess():
    expected = {(m, label) for m in WHOLE for label in ("", *CLASSES)}
    assert set(SAME) == expected | {("FD∞(e)", ""), ("CMMD(e)", "")}
    for found in SAME.values():
        if found.label == "" or found.metric in ("FD(e)", "KD(e)"):
            assert found.excess_low <= 0 <= found.excess_high
        assert found.low <= found.value <= found.high
        assert found.floor_low <= found.floor <= found.floor_high
        assert found.n == (70 if found.label == "" else 35)


def test_shifted_images_show_an_excess():
    shifted = measured(X, Y + 1, splits=20)
    for metric in ("FD(e)", "KD(e)", "FD∞(e)", "CMMD(e)"):
        assert shifted[metric, ""].excess_low > 0
        assert shifted[metric, ""].better == "lower"
    for metric in ("precision", "density", "coverage"):
        assert shifted[metric, ""].excess_high < 0
        assert shifted[metric, ""].better == "floor"
    for label in CLASSES:
        assert shifted["FD(e)", label].excess_low > 0
    floors = [(m.floor, m.floor_low, m.floor_high) for m in SAME.values()]
    assert [(m.floor, m.floor_low, m.floor_high) for m in shifted.values()] == floors


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


def test_halves_share_no_patient():
    # one patient has half the images: were they torn apart, both halves would hold copies of it
    values = np.vstack([np.ones((20, 2)), drawn(3, 20, 2) + 11])
    patients = ["a"] * 20 + [f"b{i}" for i in range(20)]
    found = measured(values, values, patients=patients)
    assert found["FD(e)", ""].floor_low > 50


def test_a_class_without_enough_images_says_what_it_needs():
    labels = ["normal"] * 145 + ["pneumonia"] * 15
    found = measured(X, Y, real_labels=labels)
    assert found["FD(e)", "normal"].n == 35
    for metric in WHOLE:
        absent = found[metric, "pneumonia"]
        assert np.isnan([absent.value, absent.floor, absent.excess_low]).all()
        assert absent.n == 0
        assert "20 real ones" in absent.note
        assert "there are 15 real ones of 15 patients and 70 synthetic ones" in absent.note
    one_patient = measured(X, Y, patients=["a"] * 80 + [f"b{i}" for i in range(80)])
    assert "80 real ones of 1 patients" in one_patient["FD(e)", "normal"].note


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
        ({"synthetic": features(Y, preprocessing={"size_px": 65})}, "differ in preprocessing"),
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
        point_measures(real=RealSide.of(features(X)), synthetic=features(Y, weights="v"))
    for sides in ((X[:5], Y), (X, Y[:5])):
        with pytest.raises(XraysynthError, match="at least 6 images"):
            point_measures(real=features(sides[0]), synthetic=features(sides[1]))
    with pytest.raises(XraysynthError, match="same encoder"):
        point_measures(real=features(X), synthetic=features(Y[:, :3]))


def test_fresh_images_are_not_copies():
    train, held, made = drawn(0, 300), drawn(1, 240), drawn(2, 300)
    found = copying(train, held, made)
    assert list(found) == ["memorised share", "AuthPct", "C_T", "MiFD(e)"]
    share = found["memorised share"]
    assert share.excess_low <= 0 <= share.excess_high
    assert (share.floor, share.n) == (0.01, 300)
    for metric in ("AuthPct", "C_T", "MiFD(e)"):
        assert found[metric].excess_low <= 0 <= found[metric].excess_high
        assert found[metric].floor_low <= found[metric].floor <= found[metric].floor_high
    assert found["AuthPct"].value == authenticity(train=train, synthetic=made)
    assert found["AuthPct"].floor == authenticity(train=train, synthetic=held)
    assert found["C_T"].n == found["MiFD(e)"].n == 120


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
    assert few["memorised share"].note == "needs 100 held-out images, there are 99"
    assert few["AuthPct"].value == authenticity(train=train, synthetic=made)
    assert few["C_T"].n == 49
    fewer = copying(train, drawn(1, 16), made)
    for metric in ("C_T", "MiFD(e)"):
        assert np.isnan(fewer[metric].value)
        assert "there are 16 and 300" in fewer[metric].note


def test_sets_that_never_meet_have_no_copying_statistic():
    train = np.vstack([drawn(0, 100), drawn(1, 100) + 100])
    found = copying(train, train[:100] + 0.1, drawn(2, 200) + 100)["C_T"]
    assert np.isnan(found.value) or found.value > 3


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
    assert found.value < vendi(Y)
    assert found.value == pytest.approx(vendi(Y[:70]), rel=0.1)
