import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from xraysynth.errors import ImageError, XraysynthError
from xraysynth.evaluation.metrics.diversity import (
    MS_SSIM_BETAS,
    count_scales,
    intra_class_similarity,
    ms_ssim_name,
    nearest_real_similarity,
    pair_similarity,
    random_pairs,
    vendi_score,
)
from xraysynth.images import read_image


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
    betas = tuple(np.array(MS_SSIM_BETAS[:scales]) / sum(MS_SSIM_BETAS[:scales]))
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
    assert [count_scales(side) for side in (11, 21, 41, 64, 160, 161, 1024)] == [
        1,
        2,
        3,
        3,
        4,
        5,
        5,
    ]
    assert ms_ssim_name(160) == "MS-SSIM (4 scales)"
    assert ms_ssim_name(161) == "MS-SSIM"
    assert pair_similarity(images(1, 168), images(1, 168)).shape == (1, 2)
    with pytest.raises(ImageError, match="at least 11 px"):
        count_scales(10)


def test_identical_images_are_fully_alike_and_float_is_used_before_arithmetic():
    x = images(2)
    assert pair_similarity(x, x) == pytest.approx(1, abs=1e-5)
    near = np.where(x < 255, x + 1, x)
    assert (pair_similarity(x, near) > 0.99).all()
    assert (pair_similarity(x, x[::-1]) < 0.9).all()


def test_the_shorter_side_decides_and_batches_do_not_matter(monkeypatch):
    x, y = images(3, 64)[:, :40], images(3, 64, seed=1)[:, :40]
    whole = pair_similarity(x, y)
    monkeypatch.setattr("xraysynth.evaluation.metrics.diversity._BATCH_PIXELS", 1)
    assert pair_similarity(x, y) == pytest.approx(whole, abs=1e-6)
    assert count_scales(min(x.shape[1:])) == 2


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
    found = intra_class_similarity(stack, targets, classes=("normal", "covid19"), max_pairs=40)
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
    found = intra_class_similarity(stack, targets, classes=("a", "b"), replicates=20)
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
    by_patient = intra_class_similarity(stack, targets, patients=np.arange(10) // 2, **given)[
        "SSIM/normal"
    ]
    by_image = intra_class_similarity(stack, targets, **given)["SSIM/normal"]
    assert (by_patient.n, by_image.n) == (40, 45)
    assert by_patient.value < by_image.value


def test_a_class_without_pairs_has_no_value():
    found = intra_class_similarity(
        images(3), np.array([0, 0, 1]), classes=("a", "b", "c"), replicates=5
    )
    for label in ("b", "c"):
        assert np.isnan(found[f"SSIM/{label}"].value)
        assert found[f"SSIM/{label}"].n == 0
    assert found["SSIM/a"].n == 1


@pytest.mark.parametrize(("n_targets", "n_patients"), [(4, 3), (3, 4)])
def test_targets_and_patients_of_other_images_are_refused(n_targets, n_patients):
    given = {"classes": ("normal",), "patients": np.arange(n_patients)}
    with pytest.raises(ImageError, match="N of each"):
        intra_class_similarity(images(3), np.zeros(n_targets, int), **given)


def test_a_grey_picture_has_the_same_ssim_from_a_colour_file(tmp_path):
    x, y = images(2)
    for mode in ("L", "RGB"):
        for name, pixels in (("x", x), ("y", y)):
            Image.fromarray(pixels).convert(mode).save(tmp_path / f"{name}-{mode}.png")
    x_grey, y_grey, x_colour, y_colour = (
        read_image(tmp_path / f"{name}.png")[None] for name in ("x-L", "y-L", "x-RGB", "y-RGB")
    )
    expected = pair_similarity(x[None], y[None])
    for first in (x_grey, x_colour):
        for second in (y_grey, y_colour):
            assert (pair_similarity(first, second) == expected).all()
    tinted = np.stack([y, y, np.zeros_like(y)], 2)
    Image.fromarray(tinted).save(tmp_path / "tinted.png")
    assert (pair_similarity(x_grey, read_image(tmp_path / "tinted.png")[None]) != expected).all()


def test_near_copies_are_alike_and_unrelated_neighbours_are_not():
    real = images(6, noise=120)
    synthetic = np.clip(real[[4, 1, 1]].astype(int) + 2, 0, 255).astype(np.uint8)
    found = nearest_real_similarity(synthetic, real, np.array([4, 1, 0]))
    assert found.shape == (3, 2)
    assert (found[:2] > 0.98).all()
    assert (found[2] < 0.6).all()
    assert (found[2] == pair_similarity(synthetic[2:], real[:1])[0]).all()
    wrapped = (synthetic - np.uint8(4) - real[[4, 1, 1]]).astype(
        float
    )  # what uint8 would make of it
    assert abs(wrapped).mean() > 100


def test_neighbours_are_looked_up_batch_by_batch(monkeypatch):
    synthetic, real, rows = images(5), images(7, seed=1), np.array([6, 0, 3, 3, 1])
    whole = nearest_real_similarity(synthetic, real, rows)
    monkeypatch.setattr("xraysynth.evaluation.metrics.diversity._BATCH_PIXELS", 1)
    assert nearest_real_similarity(synthetic, real, rows) == pytest.approx(whole, abs=1e-6)
    assert nearest_real_similarity(synthetic[:0], real, rows[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("real", "rows", "message"),
    [
        (images(3, 32), [0, 1], "bring both to one size"),
        (images(3), [0, 3], "at least 0 and below 3"),
        (images(3), [0, -1], "at least 0 and below 3"),
        (images(3), [0], r"must be \(2,\)"),
        (images(3).astype(float), [0, 1], "uint8"),
    ],
)
def test_neighbours_that_do_not_fit_are_refused(real, rows, message):
    with pytest.raises(ImageError, match=message):
        nearest_real_similarity(images(2), real, np.array(rows))


ORDERS = (0.5, 1, 2, 4, np.inf)


@pytest.mark.parametrize("q", ORDERS)
def test_vendi_counts_what_is_different(q):
    assert vendi_score(np.ones((9, 4)), q=q) == pytest.approx(1)
    assert vendi_score(np.eye(9, 12), q=q) == pytest.approx(9)
    assert vendi_score(np.repeat(np.eye(4), 5, axis=0), q=q) == pytest.approx(
        4
    )  # more images than d


def by_kernel(features, q):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    values = values[values > 1e-12]
    if q == 1:
        return np.exp(-(values * np.log(values)).sum())
    return 1 / values.max() if q == np.inf else (values**q).sum() ** (1 / (1 - q))


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (30, 30)])
def test_vendi_by_definition_from_either_side(q, shape, monkeypatch):
    features = np.random.default_rng(0).normal(size=shape) + 0.5
    monkeypatch.setattr("xraysynth.evaluation.metrics.diversity._BLOCK_ROWS", 7)
    assert vendi_score(features, q=q) == pytest.approx(by_kernel(features, q), rel=1e-9)
    assert vendi_score(features * np.arange(1, len(features) + 1)[:, None], q=q) == pytest.approx(
        vendi_score(features, q=q)
    )


def test_the_order_matters_where_some_images_are_rare():
    """Ten kinds, of which the first holds 11 images of 20 and the others one each."""
    features = np.eye(10)[[0] * 11 + list(range(1, 10))]
    p = np.array([11] + [1] * 9) / 20
    found = {q: vendi_score(features, q=q) for q in ORDERS}
    assert found[1] == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert found[2] == pytest.approx(1 / (p**2).sum())
    assert found[np.inf] == pytest.approx(20 / 11)
    assert (np.diff(list(found.values())) < -0.1).all()
    even = np.eye(10)[np.arange(20) % 10]
    assert vendi_score(even, q=1) == pytest.approx(vendi_score(even, q=2))


def test_rounding_adds_no_kinds_at_a_small_order():
    kinds = np.random.default_rng(0).normal(size=(5, 20))
    for times in (3, 10):  # fewer and more images than d
        assert vendi_score(np.repeat(kinds, times, axis=0), q=0.1) == pytest.approx(
            vendi_score(kinds, q=0.1)
        )


def test_vendi_of_a_large_order_approaches_the_limit():
    features = np.random.default_rng(0).normal(size=(20, 6))
    assert vendi_score(features, q=200) == pytest.approx(vendi_score(features, q=np.inf), rel=0.02)
    assert vendi_score(features, q=1 + 1e-6) == pytest.approx(vendi_score(features), rel=1e-4)


@pytest.mark.parametrize(
    ("features", "q", "message"),
    [
        (np.eye(3), 0, "q=0 must be above 0"),
        (np.eye(3), -1, "must be above 0"),
        (np.eye(3), float("nan"), "must be above 0"),
        (np.zeros((3, 2)), 1, "have no direction"),
        (np.full((3, 2), np.nan), 1, "have no direction"),
        (np.zeros((0, 2)), 1, r"must be \(N, d\)"),
    ],
)
def test_vendi_refuses_what_has_no_score(features, q, message):
    with pytest.raises(XraysynthError, match=message):
        vendi_score(features, q=q)
