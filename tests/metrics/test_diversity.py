import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from xraysynth.errors import ImageError
from xraysynth.metrics.diversity import (
    BETAS,
    ms_ssim_name,
    pair_similarity,
    random_pairs,
    scale_count,
    within_class,
)


def images(n, side=48, noise=60, seed=0):
    """A common shape plus smooth and fine noise."""
    rng = np.random.default_rng(seed)
    shape = np.hypot(*np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]) * 120 + 40
    coarse = np.kron(rng.normal(size=(n, side // 8, side // 8)), np.ones((8, 8)))
    return np.clip(
        shape + noise * (coarse + 0.3 * rng.normal(size=(n, side, side))), 0, 255
    ).astype(np.uint8)


def unit(pixels):
    return torch.from_numpy(pixels.astype(np.float32) / 255)[:, None]


@pytest.mark.parametrize(("side", "scales"), [(128, 4), (192, 5)])
def test_equals_torchmetrics(side, scales):
    x, y = images(3, side), images(3, side, seed=1)
    betas = tuple(np.array(BETAS[:scales]) / sum(BETAS[:scales]))
    given = {"data_range": 1.0, "reduction": "none"}
    expected = torch.stack(
        [
            structural_similarity_index_measure(unit(x), unit(y), **given),
            multiscale_structural_similarity_index_measure(unit(x), unit(y), betas=betas, **given),
        ],
        1,
    )
    assert pair_similarity(x, y) == pytest.approx(expected.numpy(), abs=1e-5)


def test_equals_scikit_image():
    x, y = images(2)
    given = {"data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False}
    _, local = structural_similarity(x / 255, y / 255, full=True, **given)
    # over the whole image: scikit-image's own mean leaves out a border of 5 px
    assert pair_similarity(x[None], y[None])[0, 0] == pytest.approx(local.mean(), abs=5e-3)


def test_the_data_range_is_fixed():
    dim = images(2, noise=20) // 8
    found = pair_similarity(dim[:1], dim[1:])[0, 0]
    own_range = structural_similarity_index_measure(unit(dim[:1]), unit(dim[1:]), data_range=None)
    assert found > float(own_range) + 0.1


def test_five_scales_from_161_px():
    assert [scale_count(side) for side in (11, 21, 41, 64, 160, 161, 1024)] == [1, 2, 3, 3, 4, 5, 5]
    assert ms_ssim_name(160) == "MS-SSIM (4 scales)"
    assert ms_ssim_name(161) == "MS-SSIM"
    assert pair_similarity(images(1, 168), images(1, 168)).shape == (1, 2)
    with pytest.raises(ImageError, match="at least 11 px"):
        scale_count(10)


def test_identical_images_are_fully_alike_and_float_is_used_before_arithmetic():
    x = images(2)
    assert pair_similarity(x, x) == pytest.approx(1, abs=1e-5)
    near = np.where(x < 255, x + 1, x)
    assert (pair_similarity(x, near) > 0.99).all()
    assert (pair_similarity(x, x[::-1]) < 0.9).all()


def test_the_shorter_side_decides_and_batches_do_not_matter(monkeypatch):
    x, y = images(3, 64)[:, :40], images(3, 64, seed=1)[:, :40]
    whole = pair_similarity(x, y)
    monkeypatch.setattr("xraysynth.metrics.diversity._BATCH_PIXELS", 1)
    assert pair_similarity(x, y) == pytest.approx(whole, abs=1e-6)
    assert scale_count(min(x.shape[1:])) == 2


@pytest.mark.parametrize("other", [images(2, 32), images(2).astype(float), images(3)])
def test_pairs_that_do_not_match_are_refused(other):
    with pytest.raises(ImageError, match="must be"):
        pair_similarity(images(2), other)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 60])
def test_all_pairs_are_enumerated_once(n):
    expected = {(i, j) for j in range(n) for i in range(j)}
    assert [tuple(pair) for pair in random_pairs(n, 10**6, 0)] == sorted(
        expected, key=lambda pair: pair[::-1]
    )


def test_random_pairs_are_distinct_seeded_and_spread():
    pairs = random_pairs(100_000, 500, 0)
    assert len(np.unique(pairs, axis=0)) == 500
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert pairs.min() >= 0
    assert pairs.max() < 100_000
    assert (pairs == random_pairs(100_000, 500, 0)).all()
    assert (pairs != random_pairs(100_000, 500, 1)).any()
    assert pairs.mean() == pytest.approx(50_000, rel=0.1)


def test_a_less_diverse_class_is_more_alike():
    stack = np.concatenate([images(12, noise=60), images(12, noise=10)])
    targets = np.repeat([0, 1], 12)
    found = within_class(stack, targets, classes=("normal", "covid19"), max_pairs=40)
    assert list(found) == [
        "SSIM/normal",
        "MS-SSIM (3 scales)/normal",
        "SSIM/covid19",
        "MS-SSIM (3 scales)/covid19",
    ]
    for name in ("SSIM", "MS-SSIM (3 scales)"):
        assert found[f"{name}/covid19"].low > found[f"{name}/normal"].high
        assert found[f"{name}/normal"].low < found[f"{name}/normal"].value
        assert found[f"{name}/normal"].n == 40


def test_the_value_is_the_mean_over_pairs_of_the_class():
    stack = images(8)
    targets = np.array([0, 1] * 4)
    found = within_class(stack, targets, classes=("a", "b"), replicates=20)
    own = stack[1::2]
    pairs = random_pairs(4, 99, 0)
    expected = pair_similarity(own[pairs[:, 0]], own[pairs[:, 1]]).mean(0)
    assert found["SSIM/b"].value == pytest.approx(expected[0])
    assert found["MS-SSIM (3 scales)/b"].value == pytest.approx(expected[1])
    assert found["SSIM/b"].n == 6


def test_pairs_of_one_patient_are_left_out():
    stack = np.repeat(images(5), 2, axis=0)  # two identical images of each patient
    targets = np.zeros(10, int)
    given = {"classes": ("normal",), "replicates": 20}
    by_patient = within_class(stack, targets, patients=np.arange(10) // 2, **given)["SSIM/normal"]
    by_image = within_class(stack, targets, **given)["SSIM/normal"]
    assert (by_patient.n, by_image.n) == (40, 45)
    assert by_patient.value < by_image.value


def test_a_class_without_pairs_has_no_value():
    found = within_class(images(3), np.array([0, 0, 1]), classes=("a", "b", "c"), replicates=5)
    for label in ("b", "c"):
        assert np.isnan(found[f"SSIM/{label}"].value)
        assert found[f"SSIM/{label}"].n == 0
    assert found["SSIM/a"].n == 1


@pytest.mark.parametrize(("n_targets", "n_patients"), [(4, 3), (3, 4)])
def test_targets_and_patients_of_other_images_are_refused(n_targets, n_patients):
    given = {"classes": ("normal",), "patients": np.arange(n_patients)}
    with pytest.raises(ImageError, match="N of each"):
        within_class(images(3), np.zeros(n_targets, int), **given)
