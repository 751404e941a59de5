import warnings

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics import fidelity
from xraysynth.evaluation.metrics.fidelity import (
    Moments,
    fd_infinity_name,
    fd_name,
    frechet_distance,
    frechet_from_moments,
    frechet_infinity,
    memorisation_distance,
    mifd,
    mifd_name,
)
from xraysynth.evaluation.metrics.kernel_distances import cmmd, cmmd_name, kd_name, kernel_distance

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12))
Y = rng.normal(size=(250, 12)) @ rng.normal(size=(12, 12)) + 0.5


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


def torchmetrics_fid(x, y):
    moments = [t for s in (x, y) for t in (torch.tensor(s.mean(0)), torch.tensor(np.cov(s.T)))]
    return float(_compute_fid(*moments))


def dead_units(x):
    """Two units that are always 0 and one that is another's copy, as after a ReLU."""
    return np.hstack([x, np.zeros((len(x), 2)), x[:, :1]])


@pytest.mark.parametrize("deficient", [False, True])
@pytest.mark.parametrize("n", [300, 13, 12, 9])  # up to 12 images in 12 dimensions: singular
@pytest.mark.filterwarnings("ignore:Frechet distance")
def test_equals_torch_fidelity_and_torchmetrics_on_the_same_features(n, deficient):
    x, y = (dead_units(s[:n]) if deficient else s[:n] for s in (X, Y))
    found = frechet_distance(real=x, synthetic=y)
    assert found == pytest.approx(torch_fidelity_fid(x, y), rel=1e-6)
    assert found == pytest.approx(torchmetrics_fid(x, y), rel=1e-6)


def test_sides_that_are_singular_in_different_directions_agree_too():
    flat, tilted = X.copy(), Y.copy()
    flat[:, 0], tilted[:, 3] = 1, tilted[:, 4]
    found = frechet_distance(real=flat, synthetic=tilted)
    assert found == pytest.approx(torchmetrics_fid(flat, tilted), rel=1e-6)


@pytest.mark.parametrize("x", [X, X[:9], dead_units(X)])
def test_moments_hold_mean_and_covariance(x, monkeypatch):
    monkeypatch.setattr(fidelity, "_BLOCK_BYTES", 8 * x.shape[1] * 7)  # blocks of 7 images
    found = Moments.from_features(x.astype(np.float32))
    assert found.covariance_root.dtype == np.float64
    assert found.n == len(x)
    assert found.mean == pytest.approx(x.mean(0), abs=1e-6)
    assert found.covariance_root.T @ found.covariance_root == pytest.approx(np.cov(x.T), abs=1e-5)
    assert found.variance == pytest.approx(np.trace(np.cov(x.T)))
    assert len(found.covariance_root) <= x.shape[1]


def test_moments_are_used_again():
    real = Moments.from_features(X)
    for other in (Y, Y + 1):
        expected = frechet_distance(real=X, synthetic=other)
        assert frechet_from_moments(real, Moments.from_features(other)) == pytest.approx(expected)


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
    for distance in (frechet_distance, frechet_infinity, kernel_distance, cmmd):
        with pytest.raises(XraysynthError, match=message):
            distance(real=real, synthetic=synthetic)
    with pytest.raises(XraysynthError, match=message):
        mifd(train=real, synthetic=synthetic)


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


def test_only_the_published_encoder_has_the_published_name():
    names = fd_name, fd_infinity_name, kd_name, mifd_name, cmmd_name
    assert [name("inception") for name in names[:4]] == ["FID", "FID∞", "KID", "MiFID"]
    assert cmmd_name("clip") == "CMMD"
    assert [name("xrv") for name in names] == [
        "FD(xrv)",
        "FD∞(xrv)",
        "KD(xrv)",
        "MiFD(xrv)",
        "CMMD(xrv)",
    ]
    assert cmmd_name("inception") == "CMMD(inception)"
    assert (fd_name("clip"), mifd_name("clip")) == ("FD(clip)", "MiFD(clip)")


def test_extrapolation_takes_the_bias_out():
    draw = np.random.default_rng(5)
    x, y = draw.normal(size=(2, 2000, 8))
    shifted = y + np.eye(8)[0]
    few = x[:200], y[:200]
    biased = frechet_distance(real=few[0], synthetic=few[1])
    found = frechet_infinity(real=few[0], synthetic=few[1])
    assert abs(found.value) < biased / 2
    assert found.low <= found.value <= found.high
    assert found.n == 200
    far = frechet_infinity(real=x, synthetic=shifted, draws=4)
    assert far.value == pytest.approx(1, abs=0.15)


def test_extrapolation_is_the_intercept_of_a_line_over_one_by_n(monkeypatch):
    sizes = []

    def line(real, synthetic):
        sizes.append(real.n)
        assert real.n == synthetic.n
        return 7 + 300 / real.n

    monkeypatch.setattr(fidelity, "frechet_from_moments", line)
    assert frechet_infinity(real=X, synthetic=Y, draws=1).value == pytest.approx(7)
    assert (len(sizes), sizes[0], sizes[-1]) == (15, 25, 250)
    assert np.ptp(np.diff(sizes)) <= 1


def test_extrapolation_is_seeded():
    given = {"real": X, "synthetic": Y, "draws": 3}
    assert frechet_infinity(**given, seed=1) == frechet_infinity(**given, seed=1)
    assert frechet_infinity(**given, seed=1) != frechet_infinity(**given, seed=2)
    with pytest.raises(XraysynthError, match="2 images and points=15"):
        frechet_infinity(real=X[:2], synthetic=Y)


def published_cmmd(x, y):
    """As in the paper's code: gamma = 1 / (2 sigma^2), means over all pairs, times 1000."""
    x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))

    def mean(a, b):
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * 10**2)).mean()

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def test_cmmd_follows_its_definition(monkeypatch):
    assert cmmd(real=X, synthetic=Y) == pytest.approx(published_cmmd(X, Y), rel=1e-6)
    assert cmmd(real=X, synthetic=X) == pytest.approx(0, abs=1e-9)
    assert cmmd(real=X, synthetic=Y * 5) == pytest.approx(cmmd(real=X, synthetic=Y))
    whole = cmmd(real=X, synthetic=Y)
    monkeypatch.setattr(fidelity, "_BLOCK_BYTES", 8 * 250 * 11)
    assert cmmd(real=X, synthetic=Y) == pytest.approx(whole)
    with pytest.raises(XraysynthError, match="all 0"):
        cmmd(real=X, synthetic=np.vstack([Y, np.zeros(12)]))


@pytest.mark.parametrize("closeness", [1e-3, 0.3, 10])
def test_mifd_equals_torchmetrics_with_the_sides_exchanged(closeness):
    draw = np.random.default_rng(6)
    train = np.vstack([draw.normal(size=(90, 12)), np.zeros(12)]) + 0.0
    copies = train[draw.integers(91, size=400)] + closeness * draw.normal(size=(400, 12))
    metric = MemorizationInformedFrechetInceptionDistance(feature=torch.nn.Identity())
    metric.set_dtype(torch.float64)
    metric.update(torch.tensor(train), real=False)
    metric.update(torch.tensor(copies), real=True)
    assert mifd(train=train, synthetic=copies) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_mifd_punishes_copies():
    draw = np.random.default_rng(6)
    train, fresh = draw.normal(size=(2, 300, 12))
    copies = train + 0.01 * draw.normal(size=train.shape)
    assert memorisation_distance(train=train, synthetic=copies) < 1e-3
    assert memorisation_distance(train=train, synthetic=fresh) == 1
    distance = frechet_distance(real=train, synthetic=copies)
    assert mifd(train=train, synthetic=copies) > 1000 * distance
    assert mifd(train=train, synthetic=train) == 0


def test_mifd_punishes_a_set_that_copies_a_few_training_images():
    draw = np.random.default_rng(7)
    train, fresh = draw.normal(size=(1000, 12)), draw.normal(size=(500, 12))
    copies = np.repeat(train[:50], 10, axis=0) + 0.01 * draw.normal(size=(500, 12))
    assert memorisation_distance(train=train, synthetic=copies) < 1e-3
    assert memorisation_distance(train=train, synthetic=fresh) > 0.05
    distance = frechet_distance(real=train, synthetic=copies)
    assert mifd(train=train, synthetic=copies) > 100 * distance


def test_the_memorisation_distance_does_not_fall_as_more_new_images_are_made():
    draw = np.random.default_rng(8)
    train, fresh = draw.normal(size=(100, 4)), draw.normal(size=(20_000, 4))
    distances = [memorisation_distance(train=train, synthetic=fresh[:n]) for n in (500, 20_000)]
    assert distances[1] == pytest.approx(distances[0], rel=0.15)
