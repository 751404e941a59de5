import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.spatial.distance import cdist
from torch_fidelity.metric_prc import prc_features_to_metric

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.manifold import (
    compute_manifold_scores,
    density_coverage,
    precision_recall,
)


def drawn(seed, n, d=12, spread=1.0, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, d)) * spread + shift


CASES = {
    "alike": (drawn(0, 200), drawn(1, 240)),
    "narrow": (drawn(0, 200), drawn(1, 90, spread=0.5)),
    "wide": (drawn(0, 120), drawn(1, 200, spread=1.5)),
    "far": (drawn(0, 100), drawn(1, 100, shift=20.0)),
    "outlier": (drawn(0, 150), np.concatenate([drawn(1, 150), drawn(2, 1, spread=1e6)])),
    "offset": (drawn(0, 150, shift=500.0), drawn(1, 150, shift=500.2)),
}


def by_definition(real, synthetic, k_pr=3, k_dc=5):
    """All four from whole matrices of directly subtracted features."""
    own, other, cross = cdist(real, real), cdist(synthetic, synthetic), cdist(real, synthetic)
    r3, r5 = (np.sort(own, axis=1)[:, k, None] for k in (k_pr, k_dc))
    s3 = np.sort(other, axis=1)[:, k_pr]
    return (
        (cross <= r3).any(0).mean(),
        (cross <= s3).any(1).mean(),
        (cross < r5).sum() / (k_dc * len(synthetic)),
        (cross < r5).any(1).mean(),
    )


def all_four(real, synthetic, **options):
    found = compute_manifold_scores(real=real, synthetic=synthetic, **options)
    return found.precision, found.recall, found.density, found.coverage


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("k", [3, 7])
def test_precision_and_recall_equal_torch_fidelity(name, k):
    real, synthetic = CASES[name]
    expected = prc_features_to_metric(
        torch.from_numpy(synthetic),
        torch.from_numpy(real),
        prc_neighborhood=k,
        prc_batch_size=10000,
        save_cpu_ram=False,
        verbose=False,
    )
    found = precision_recall(real=real, synthetic=synthetic, k=k)
    assert found == pytest.approx((expected["precision"], expected["recall"]), abs=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("k", [5, 2])
def test_density_and_coverage_equal_prdc(name, k):
    real, synthetic = CASES[name]
    expected = compute_prdc(real_features=real, fake_features=synthetic, nearest_k=k)
    found = density_coverage(real=real, synthetic=synthetic, k=k)
    assert found == pytest.approx((expected["density"], expected["coverage"]), abs=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("memory_bytes", [2**13, 2**28])
def test_all_four_at_once_are_the_same_in_any_blocks(name, memory_bytes):
    real, synthetic = CASES[name]
    found = all_four(real, synthetic, memory_bytes=memory_bytes)
    apart = precision_recall(real=real, synthetic=synthetic)
    apart += density_coverage(real=real, synthetic=synthetic)
    assert found == pytest.approx(apart, abs=1e-12)
    assert found == pytest.approx(by_definition(real, synthetic), abs=1e-12)


def test_the_sides_are_not_interchangeable():
    real, synthetic = CASES["narrow"]
    precision, recall = precision_recall(real=real, synthetic=synthetic)
    assert precision > recall + 0.3
    assert precision_recall(real=synthetic, synthetic=real) == (recall, precision)


def test_density_alone_exceeds_one():
    real, synthetic = CASES["narrow"]
    density, coverage = density_coverage(real=real, synthetic=synthetic)
    assert density > 1.5
    assert coverage <= 1


@pytest.mark.parametrize("k", [1, 3, 5])
def test_k_plus_one_duplicates_count_by_the_stated_convention(k):
    """Radius 0: a further duplicate lies inside by `<=`, outside by `<`; with one fewer in both."""
    point = drawn(3, 1) * 1e3
    copies = np.repeat(point, 4, axis=0)
    crowd = {"real": np.repeat(point, k + 1, axis=0), "synthetic": copies}
    assert precision_recall(**crowd, k=min(k, 3))[0] == 1
    assert density_coverage(**crowd, k=k) == (0, 0)
    fewer = np.concatenate([np.repeat(point, k, axis=0), point + 1])
    assert precision_recall(real=fewer, synthetic=copies, k=min(k, 3))[0] == 1
    assert density_coverage(real=fewer, synthetic=copies, k=k) == (1, k / (k + 1))


def test_a_copier_lies_on_the_rims_of_its_originals():
    """d(copy, x) equals the radius of x exactly wherever the original is its k-th neighbour."""
    real = np.random.default_rng(0).integers(0, 4, size=(150, 6)) * 0.1 + 7
    found = all_four(real, real[:100])
    assert found == pytest.approx(by_definition(real, real[:100]), abs=1e-12)
    nudged = np.nextafter(real, 8)  # by less than single precision can tell
    assert all_four(real, nudged[:100]) == pytest.approx(
        by_definition(real, nudged[:100]), abs=1e-12
    )
    assert all_four(real, nudged[:100]) != found


def test_too_few_images_for_k_are_refused():
    with pytest.raises(XraysynthError, match="k=5 of 5 images"):
        density_coverage(real=drawn(0, 5), synthetic=drawn(1, 50))
    with pytest.raises(XraysynthError, match="k=3 of 3 images"):
        compute_manifold_scores(real=drawn(0, 50), synthetic=drawn(1, 3))
    with pytest.raises(XraysynthError, match="neither empty"):
        density_coverage(real=drawn(0, 50), synthetic=drawn(1, 0))
    with pytest.raises(XraysynthError, match=r"\(50, 12\) and \(50, 9\)"):
        precision_recall(real=drawn(0, 50), synthetic=drawn(1, 50, 9))
