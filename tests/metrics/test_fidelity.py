import warnings

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from xraysynth.errors import XraysynthError
from xraysynth.metrics.features import Features
from xraysynth.metrics.fidelity import (
    fd_name,
    fidelity,
    frechet_distance,
    kd_name,
    kernel_distance,
)

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12))
Y = rng.normal(size=(250, 12)) @ rng.normal(size=(12, 12)) + 0.5


def features(values, encoder="classifier", **differing):
    identity = {"encoder": encoder, "weights": "w", "preprocessing": {"size_px": 64}}
    return Features(values, identity | differing)


def torch_fidelity_fid(x, y):
    sides = [fid_features_to_statistics(torch.tensor(side)) for side in (x, y)]
    return fid_statistics_to_metric(*sides, False)["frechet_inception_distance"]


def test_a_set_is_at_no_distance_from_itself():
    assert frechet_distance(real=X, synthetic=X) == pytest.approx(0, abs=1e-9)


def test_shifted_standard_normals_are_at_the_squared_shift():
    shift = np.array([1.0, -2, 0.5])
    drawn = rng.normal(size=(200_000, 3)), rng.normal(size=(200_000, 3)) + shift
    found = frechet_distance(real=drawn[0], synthetic=drawn[1])
    assert found == pytest.approx(shift @ shift, rel=0.02)


def test_diagonal_gaussians_have_the_closed_form():
    a, b = np.array([1.0, 4, 9, 0]), np.array([4.0, 1, 0.25, 1])
    base = rng.normal(size=(500, 4))
    base -= base.mean(0)
    white = np.linalg.qr(base)[0] * np.sqrt(499)  # covariance is the identity
    found = frechet_distance(real=white * np.sqrt(a), synthetic=white * np.sqrt(b))
    assert found == pytest.approx(np.sum((np.sqrt(a) - np.sqrt(b)) ** 2))


@pytest.mark.parametrize("n", [300, 9])  # 9 images in 12 dimensions: singular covariances
@pytest.mark.filterwarnings("ignore:Frechet distance")
def test_equals_torch_fidelity_and_torchmetrics_on_the_same_features(n):
    x, y = X[:n], Y[:n]
    found = frechet_distance(real=x, synthetic=y)
    assert found == pytest.approx(torch_fidelity_fid(x, y), rel=1e-6)
    moments = [t for s in (x, y) for t in (torch.tensor(s.mean(0)), torch.tensor(np.cov(s.T)))]
    assert found == pytest.approx(float(_compute_fid(*moments)), rel=1e-6)


def test_symmetric_and_blind_to_order():
    found = frechet_distance(real=X, synthetic=Y)
    assert frechet_distance(real=Y, synthetic=X) == pytest.approx(found)
    assert frechet_distance(real=X[::-1], synthetic=rng.permutation(Y)) == pytest.approx(found)


def test_float32_features_are_computed_in_float64():
    offset = (X + 1000).astype(np.float32)
    assert frechet_distance(real=offset, synthetic=offset) == pytest.approx(0, abs=1e-9)


def test_few_images_are_warned_about():
    with pytest.warns(UserWarning, match="12 images in 12 dimensions"):
        frechet_distance(real=X, synthetic=Y[:12])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(real=X, synthetic=Y[:13])


@pytest.mark.parametrize(
    ("real", "synthetic", "message"),
    [
        (X, Y[:, :5], "same encoder"),
        (X, Y[0], "must be"),
        (X, Y[:1], "at least 2"),
        (X, np.where(Y > 1, np.nan, Y), "NaN"),
    ],
)
def test_unusable_features_are_refused(real, synthetic, message):
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(XraysynthError, match=message):
            distance(real=real, synthetic=synthetic)


def test_kernel_distance_equals_torchmetrics_and_torch_fidelity():
    found = kernel_distance(real=X, synthetic=Y, subsets=4, subset_size=40, seed=3)
    again = np.random.default_rng(3)
    values = []
    for _ in range(4):
        x = torch.tensor(X[again.choice(300, 40, replace=False)])
        y = torch.tensor(Y[again.choice(250, 40, replace=False)])
        values.append(float(poly_mmd(x, y)))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values))
    many = kernel_distance(real=X, synthetic=Y, subsets=200, subset_size=100)
    theirs = kid_features_to_metric(
        torch.tensor(X), torch.tensor(Y), kid_subsets=200, kid_subset_size=100, verbose=False
    )
    assert many.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=0.1)
    assert many.sd == pytest.approx(theirs["kernel_inception_distance_std"], rel=0.3)


def test_kernel_distance_is_unbiased_and_not_clipped():
    draw = np.random.default_rng(1)
    values = [
        kernel_distance(
            real=draw.normal(size=(60, 4)), synthetic=draw.normal(size=(60, 4)), subsets=1, seed=s
        ).mean
        for s in range(200)
    ]
    assert min(values) < 0
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)


@pytest.mark.parametrize("size", [250, 300, 1, 0])
def test_a_subset_as_large_as_a_side_is_refused(size):
    with pytest.raises(XraysynthError, match=f"subset_size={size}"):
        kernel_distance(real=X, synthetic=Y, subset_size=size)


def test_no_subsets_are_refused():
    with pytest.raises(XraysynthError, match="subsets=0"):
        kernel_distance(real=X, synthetic=Y, subsets=0)


def test_only_inception_is_called_fid():
    assert (fd_name("inception"), kd_name("inception")) == ("FID", "KID")
    assert (fd_name("rad-dino"), kd_name("classifier")) == ("FD(rad-dino)", "KD(classifier)")


def test_images_like_the_real_ones_show_no_excess_over_the_floor():
    draw = np.random.default_rng(2)
    real, alike, unlike = (features(draw.normal(size=(n, 6))) for n in (200, 150, 150))
    unlike = features(unlike.values + 1)
    patients = np.arange(200) // 2
    same = fidelity(real=real, synthetic=alike, patients=patients)
    assert same.excess.low < 0 < same.excess.high
    assert same.kernel_excess.low < 0 < same.kernel_excess.high
    assert same.floor.low <= same.floor.value <= same.floor.high
    assert same.floor.value > 0
    other = fidelity(real=real, synthetic=unlike, patients=patients)
    assert other.excess.low > 4
    assert other.kernel_excess.low > 0
    assert other.floor == same.floor
    assert other.excess.value == pytest.approx(other.distance.value - other.floor.value)


def test_all_sides_have_the_same_number_of_images():
    draw = np.random.default_rng(2)
    real = features(draw.normal(size=(100, 3)))
    patients = np.arange(100)
    for m, n in ((500, 50), (50, 50), (30, 30)):
        found = fidelity(real=real, synthetic=features(draw.normal(size=(m, 3))), patients=patients)
        assert {found.distance.n, found.floor.n, found.kernel.n, found.excess.n} == {n}


def test_matched_n_takes_the_bias_out_of_the_comparison():
    draw = np.random.default_rng(4)
    real, few, many = (features(draw.normal(size=(n, 40))) for n in (120, 60, 2000))
    patients = np.arange(120)
    first, second = (
        fidelity(real=real, synthetic=side, patients=patients).distance.value
        for side in (few, many)
    )
    assert first == pytest.approx(second, rel=0.1)
    unmatched = [frechet_distance(real=real.values, synthetic=s.values) for s in (few, many)]
    assert unmatched[0] > 1.3 * unmatched[1]


def test_halves_share_no_patient():
    # one patient has half the images: were they torn apart, both halves would hold copies of it
    values = np.vstack([np.zeros((10, 2)), rng.normal(size=(10, 2)) + 10])
    patients = ["a"] * 10 + [f"b{i}" for i in range(10)]
    found = fidelity(real=features(values), synthetic=features(values), patients=patients)
    assert found.floor.low > 50


def test_few_images_are_flagged():
    values = rng.normal(size=(40, 30))
    found = fidelity(real=features(values), synthetic=features(values), patients=np.arange(40))
    assert (found.few_images, found.dimensions) == (True, 30)
    found = fidelity(
        real=features(values[:, :5]), synthetic=features(values[:, :5]), patients=np.arange(40)
    )
    assert not found.few_images


def test_the_seed_decides():
    given = {"real": features(X), "synthetic": features(Y), "patients": np.arange(300)}
    assert fidelity(**given, seed=1) == fidelity(**given, seed=1)
    assert fidelity(**given, seed=1) != fidelity(**given, seed=2)


def test_two_preprocessings_are_refused():
    with pytest.raises(XraysynthError, match="differ in preprocessing"):
        fidelity(
            real=features(X),
            synthetic=features(Y, preprocessing={"size_px": 65}),
            patients=np.arange(300),
        )


@pytest.mark.parametrize("patients", [np.arange(299), np.zeros(300)])
def test_patients_that_cannot_be_halved_are_refused(patients):
    with pytest.raises(XraysynthError, match="patient"):
        fidelity(real=features(X), synthetic=features(Y), patients=patients)
