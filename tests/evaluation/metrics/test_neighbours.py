import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics import neighbours
from xraysynth.evaluation.metrics.neighbours import (
    iterate_distance_bounds,
    kth_neighbour_distances,
    nearest_neighbours,
)


def drawn(n, d=16, seed=0, **options):
    return np.random.default_rng(seed).normal(size=(n, d), **options)


def positive(n, d, seed):
    """Like the features of a network: few directions, none negative, far from the origin."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(5, d))
    return np.maximum(rng.normal(size=(n, 5)) @ mixing + 0.1 * rng.normal(size=(n, d)) + 30, 0)


@pytest.mark.parametrize("make", [drawn, positive])
@pytest.mark.parametrize("d", [3, 64, 512])
@pytest.mark.parametrize("memory_bytes", [2**15, 2**28])
def test_equals_brute_force(make, d, memory_bytes):
    x, y = make(150, d, seed=0), make(211, d, seed=1)
    distances, rows = nearest_neighbours(x, y, k=7, memory_bytes=memory_bytes)
    expected, expected_rows = (
        NearestNeighbors(n_neighbors=7, algorithm="brute").fit(y).kneighbors(x)
    )
    assert distances == pytest.approx(expected, rel=1e-9)
    assert (rows == expected_rows).all()
    assert distances.dtype == np.float64
    assert rows.dtype == np.int64


def test_single_precision_alone_would_name_other_neighbours():
    x, y = positive(150, 64, 0), positive(2000, 64, 1)
    single = [side.astype(np.float32) for side in (x, y)]
    squared = (single[1] ** 2).sum(1) - 2 * single[0] @ single[1].T
    naive = np.argsort(squared, axis=1)[:, :7]
    _, rows = nearest_neighbours(x, y, k=7)
    assert (rows == np.argsort(cdist(x, y), axis=1)[:, :7]).all()
    assert (rows != naive).any()


def test_rows_that_differ_by_a_millionth_are_told_apart(monkeypatch):
    x = 1 + 1e-6 * drawn(300, 32)
    x = np.concatenate([x, -x])  # or the common part would vanish with the mean
    expected = np.sort(cdist(x, x), axis=1)[:, 1:4]
    distances, rows = nearest_neighbours(x, x, k=3, exclude_self=True)
    assert distances == pytest.approx(expected, rel=1e-9)
    assert np.linalg.norm(x[:, None] - x[rows], axis=2) == pytest.approx(distances, rel=1e-12)

    search = neighbours._search
    monkeypatch.setattr(neighbours, "_search", lambda *a: (*search(*a)[:2], np.ones(len(x), bool)))
    coarse, _ = nearest_neighbours(x, x, k=3, exclude_self=True)  # never asks for the finer bounds
    assert (coarse > expected * 1.01).any()


def test_duplicates_lie_at_exactly_zero_and_remain_neighbours():
    x = positive(40, 64, 0)
    twice = np.concatenate([x, x])
    distances, rows = nearest_neighbours(twice, twice, k=2, exclude_self=True)
    assert (distances[:, 0] == 0).all()
    assert (rows[:, 0] == (np.arange(80) + 40) % 80).all()
    assert (distances[:, 1] > 0.1).all()
    assert (
        nearest_neighbours(twice, twice)[1].ravel() == np.arange(80) % 40
    ).all()  # the lowest row first
    assert (kth_neighbour_distances(twice, k=1) == 0).all()
    assert (kth_neighbour_distances(twice, k=2) == distances[:, 1]).all()


@pytest.mark.parametrize("memory_bytes", [2**12, 2**28])
def test_a_crowd_of_duplicates_is_found_in_full(memory_bytes):
    x = np.concatenate([np.repeat(drawn(1), 60, axis=0), drawn(20, seed=1)])
    distances, rows = nearest_neighbours(x, x, k=59, exclude_self=True, memory_bytes=memory_bytes)
    assert (distances[:60] == 0).all()
    assert (rows != np.arange(80)[:, None]).all()
    assert distances == pytest.approx(np.sort(cdist(x, x), axis=1)[:, 1:60], rel=1e-9)


def test_own_rows_are_left_out_by_index_in_every_block():
    x = drawn(90)
    expected = np.sort(cdist(x, x) + np.diag(np.full(90, np.inf)), axis=1)[:, :4]
    for memory_bytes in (2**11, 2**14, 2**28):
        found = nearest_neighbours(x, x, k=4, exclude_self=True, memory_bytes=memory_bytes)[0]
        assert found == pytest.approx(expected, rel=1e-9)
    assert (nearest_neighbours(x, x)[0] == 0).all()


def test_eight_bit_pixels_do_not_wrap():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, size=(20, 1024), dtype=np.uint8)
    copies = np.clip(real + rng.integers(-3, 4, size=real.shape), 0, 255).astype(np.uint8)
    rms = nearest_neighbours(copies, real, k=2)[0] / np.sqrt(1024)
    assert rms[:, 0] == pytest.approx(2, abs=0.2)
    assert rms[:, 1] == pytest.approx(104, abs=5)
    wrapped = np.sqrt(((copies - real).astype(float) ** 2).mean(1))
    assert (wrapped > 100).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [2, 100, 4000])
def test_bounds_hold_the_distance_between_them(dtype, d):
    x, y = drawn(60, d) ** 3, positive(70, d, 1)
    exact = cdist(x, y) ** 2
    for block in iterate_distance_bounds(x, y, memory_bytes=2**16, dtype=dtype):
        truth = exact[block.rows, block.columns]
        assert (block.lower <= truth).all()
        upper = block.lower + block.row_slack[:, None] + block.column_slack
        assert (truth <= upper).all()
        assert (upper - block.lower < truth * (1e-2 if dtype == np.float32 else 1e-11)).all()


def test_blocks_fit_the_memory_and_cover_every_pair_once():
    x, y = drawn(50, 8), drawn(37, 8)
    seen = np.zeros((50, 37), int)
    for block in iterate_distance_bounds(x, y, memory_bytes=5000):
        seen[block.rows, block.columns] += 1
        assert block.lower.nbytes + 32 * 8 * len(block.lower) < 5000
        assert len(block.lower) >= 5
    assert (seen == 1).all()


def test_a_long_search_shows_its_progress(monkeypatch, capsys):
    nearest_neighbours(drawn(30), drawn(30))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(neighbours, "_PROGRESS_MULTIPLICATIONS", 100)
    nearest_neighbours(drawn(30), drawn(30))
    assert "30/30" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("queries", "references", "options", "message"),
    [
        (drawn(5), drawn(5), {"k": 6}, "k=6 of 5 images.*at most 5"),
        (drawn(5), drawn(5), {"k": 5, "exclude_self": True}, "at most 4"),
        (drawn(5), drawn(5), {"k": 0}, "at least 1"),
        (drawn(5), drawn(6), {"exclude_self": True}, "one set on both sides"),
        (drawn(5), drawn(5, 8), {}, r"\(5, 16\) and \(5, 8\)"),
        (drawn(5)[0], drawn(5)[0], {}, r"must be \(n, d\)"),
        (drawn(5)[:0], drawn(5), {}, "neither empty"),
        (np.full((5, 16), np.inf), drawn(5), {}, "must be finite"),
        (drawn(5), np.full((5, 16), np.nan), {}, "must be finite"),
    ],
)
def test_wrong_input_is_refused(queries, references, options, message):
    with pytest.raises(XraysynthError, match=message):
        nearest_neighbours(queries, references, **options)
