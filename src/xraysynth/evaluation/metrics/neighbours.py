"""Exact Euclidean nearest neighbours among features or pixels, in bounded memory.

Squared distances from one matrix product, |a|^2 + |b|^2 - 2ab, are fast, but lose the digits in which
near-identical rows differ. They are computed in single precision, and used only as lower bounds that
rule out most pairs. The distances of the remaining pairs are computed by subtraction in float64, so
that duplicates lie at distance exactly 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike

from xraysynth.errors import XraysynthError
from xraysynth.progress import progress_bar

MEMORY_BYTES = 2**28

_EXTRA_CANDIDATES = 8
"""Candidates per query beyond the k nearest, as the bounds may put a few rows in the wrong order."""

_MAX_ABSOLUTE_VALUE = 1e15

_PAIR_BLOCK_VALUES = 2**17
"""Number of values that are subtracted at once: a megabyte, which stays in the CPU's cache."""

_PROGRESS_MULTIPLICATIONS = 2e12
"""Number of multiplications above which a progress bar is shown: about 20 s on two cores."""


@dataclass(frozen=True)
class DistanceBounds:
    """Lower and upper bounds of the squared distances between a block of queries and of references.

    The upper bounds are `lower + row_slack[:, None] + column_slack`.

    Attributes:
        rows: The block's queries, as a slice of q rows.
        columns: The block's references, as a slice of r rows.
        lower: Lower bounds `(q, r)`. The next block overwrites this array.
        row_slack: Part `(q,)` of the gap between the bounds that is due to each query.
        column_slack: Part `(r,)` of the gap that is due to each reference.
    """

    rows: slice
    columns: slice
    lower: np.ndarray
    row_slack: np.ndarray
    column_slack: np.ndarray


def nearest_neighbours(
    queries: np.ndarray,
    references: np.ndarray,
    *,
    k: int = 1,
    exclude_self: bool = False,
    memory_bytes: int = MEMORY_BYTES,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` nearest of `references` `(M, d)` to each of `queries` `(N, d)`.

    Args:
        queries: Rows whose neighbours are looked for, `(N, d)`.
        references: Rows among which they are looked for, `(M, d)`.
        k: Number of neighbours per query.
        exclude_self: Whether both arguments are the same set, in which row i is not counted as a
            neighbour of query i. Duplicates of row i are.
        memory_bytes: Approximate memory beyond the inputs. If many rows are near-identical, a copy of
            these queries is needed in addition.

    Returns:
        Euclidean distances `(N, k)` float64 in ascending order, and rows of `references` `(N, k)`
        int64. Among equal distances the lowest row comes first.

    Raises:
        XraysynthError: If there are fewer than `k` references, if features are not finite, or if
            `exclude_self` is set for sets of different sizes.

    >>> x = np.array([[0.0], [3.0], [3.0], [10.0]])
    >>> nearest_neighbours(x, x, exclude_self=True)[0].ravel()
    array([3., 0., 0., 7.])
    """
    queries, references = require_finite_features(queries, references)
    _require_valid_search(len(queries), len(references), k, exclude_self)
    self_columns = np.arange(len(queries)) if exclude_self else None
    distances, rows, is_certain = _search(
        queries, references, k, self_columns, memory_bytes, np.float32
    )
    if not is_certain.all():  # many near-identical rows: the bounds must be finer
        uncertain = np.flatnonzero(~is_certain)
        self_columns = uncertain if exclude_self else None
        finer_distances, finer_rows, _ = _search(
            queries[uncertain], references, k, self_columns, memory_bytes, np.float64
        )
        distances[uncertain] = finer_distances
        rows[uncertain] = finer_rows
    return distances, rows


def _require_valid_search(n_queries: int, n_references: int, k: int, exclude_self: bool) -> None:
    if exclude_self and n_queries != n_references:
        raise XraysynthError(
            f"nearest neighbours: exclude_self needs one set on both sides, but got {n_queries} "
            f"queries and {n_references} references; pass the same array twice"
        )
    most = n_references - exclude_self
    if not 1 <= k <= most:
        raise XraysynthError(
            f"nearest neighbours: k={k} of {n_references} images, but k must be at least 1 and at "
            f"most {most}; lower k or add images"
        )


def kth_neighbour_distances(x: np.ndarray, *, k: int) -> np.ndarray:
    """Compute the distance `(N,)` of every row of `x` `(N, d)` to its `k`-th nearest other row."""
    distances, _ = nearest_neighbours(x, x, k=k, exclude_self=True)
    return distances[:, -1]


def require_finite_features(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets as arrays `(n, d)` and `(m, d)`.

    Raises:
        XraysynthError: If a set is empty, if the shapes do not match, or if a value is NaN,
            infinite or not below 1e15.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.ndim != 2 or first.shape[1:] != second.shape[1:] or not first.size or not second.size:
        raise XraysynthError(
            f"feature sets have shapes {first.shape} and {second.shape}, but must be (n, d) and (m, d), "
            "neither empty"
        )
    for x in (first, second):
        low, high = x.min(), x.max()
        if not max(abs(float(low)), abs(float(high))) < _MAX_ABSOLUTE_VALUE:
            raise XraysynthError(
                f"features lie between {low} and {high}, but must be finite and below "
                f"{_MAX_ABSOLUTE_VALUE:g}; look for images that the encoder cannot read"
            )
    return first, second


def paired_distances(
    first: np.ndarray, rows: np.ndarray, second: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Compute the distances `(P,)` of `first[rows[p]]` to `second[columns[p]]` for every pair p.

    Rows are subtracted in float64, so that equal rows have distance exactly 0.
    """
    step = max(1, _PAIR_BLOCK_VALUES // max(1, first.shape[1]))
    distances = np.empty(len(rows))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        gap = first[rows[block]].astype(np.float64)
        gap -= second[columns[block]]
        np.square(gap, out=gap)
        distances[block] = np.sqrt(gap.sum(1))
    return distances


def iterate_distance_bounds(
    queries: np.ndarray,
    references: np.ndarray,
    *,
    memory_bytes: int = MEMORY_BYTES,
    dtype: DTypeLike = np.float32,
) -> Iterator[DistanceBounds]:
    """Yield bounds of all squared distances, block by block.

    All blocks of the same queries follow each other. Rows are centred at the references' mean. With
    machine epsilon eps, the error of a squared distance is then taken to be less than
    eps (8 + sqrt(d)) (|a|^2 + |b|^2): rounding errors grow as sqrt(d) (Higham & Mary 2019), and in
    practice stay below a third of this bound.

    Args:
        queries: Rows `(N, d)`.
        references: Rows `(M, d)`.
        memory_bytes: Approximate memory of one block.
        dtype: Precision of the matrix products.
    """
    n, m, d = len(queries), len(references), queries.shape[1]
    centre = references.mean(0, dtype=np.float64)
    error = np.finfo(dtype).eps * (8 + np.sqrt(d))
    side = _block_side(d, memory_bytes)
    buffer = np.empty(min(side, n) * min(side, m), dtype)
    bar = progress_bar("distances", n, "row") if n * m * d > _PROGRESS_MULTIPLICATIONS else None
    for rows in _row_slices(n, side):
        a, a_norms = _centre_rows(queries[rows], centre, dtype)
        a *= -2
        for columns in _row_slices(m, side):
            b, b_norms = _centre_rows(references[columns], centre, dtype)
            lower = buffer[: len(a) * len(b)].reshape(len(a), len(b))
            np.matmul(a, b.T, out=lower)
            lower += ((1 - error) * a_norms).astype(dtype)[:, None]
            lower += ((1 - error) * b_norms).astype(dtype)
            yield DistanceBounds(rows, columns, lower, 2 * error * a_norms, 2 * error * b_norms)
        _advance_bar(bar, len(a))
    if bar is not None:
        bar.close()


@dataclass(frozen=True)
class _Candidates:
    """The references that may be nearest to a block of q queries: c per query, unsorted.

    Attributes:
        lower_bounds: Lower bounds of the squared distances, `(q, c)`.
        columns: Rows of the references, `(q, c)`.
    """

    lower_bounds: torch.Tensor
    columns: torch.Tensor


def _search(
    queries: np.ndarray,
    references: np.ndarray,
    k: int,
    self_columns: np.ndarray | None,
    memory_bytes: int,
    dtype: DTypeLike,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances `(N, k)`, rows `(N, k)`, and whether both are certain, bool `(N,)`.

    `self_columns` `(N,)` holds, for each query, the row of `references` that is the query itself;
    this row is left out.
    """
    n, n_others = len(queries), len(references) - (self_columns is not None)
    n_candidates = min(k + _EXTRA_CANDIDATES, n_others)
    distances = np.empty((n, k))
    rows = np.empty((n, k), np.int64)
    is_certain = np.ones(n, bool)
    candidates: _Candidates | None = None
    for block in iterate_distance_bounds(
        queries, references, memory_bytes=memory_bytes, dtype=dtype
    ):
        if self_columns is not None:
            _exclude_self(block, self_columns)
        is_first_block = block.columns.start == 0
        candidates = _keep_smallest(block, None if is_first_block else candidates, n_candidates)
        if block.columns.stop < len(references):
            continue  # these queries have further references in the next block
        exact, columns = _sort_candidates(
            queries[block.rows], references, candidates.columns.numpy()
        )
        distances[block.rows] = exact[:, :k]
        rows[block.rows] = columns[:, :k]
        if n_candidates < n_others:
            # Every other reference has a lower bound at least as large as those of the candidates.
            largest_bound = candidates.lower_bounds.numpy().max(1)
            is_certain[block.rows] = exact[:, k - 1] ** 2 <= largest_bound
    return distances, rows, is_certain


def _exclude_self(block: DistanceBounds, self_columns: np.ndarray) -> None:
    """Set the lower bound of each query's own row to infinity, where the block holds that row."""
    column = self_columns[block.rows] - block.columns.start
    rows = np.flatnonzero((column >= 0) & (column < block.lower.shape[1]))
    block.lower[rows, column[rows]] = np.inf


def _keep_smallest(
    block: DistanceBounds, earlier: _Candidates | None, n_candidates: int
) -> _Candidates:
    """Merge a block into the `n_candidates` smallest lower bounds of each query so far."""
    lower = torch.from_numpy(block.lower)
    n_smallest = min(n_candidates, lower.shape[1])
    bounds, columns = lower.topk(n_smallest, largest=False, sorted=False)
    columns += block.columns.start
    if earlier is None:
        return _Candidates(bounds, columns)
    bounds = torch.cat([earlier.lower_bounds, bounds], 1)
    columns = torch.cat([earlier.columns, columns], 1)
    n_smallest = min(n_candidates, bounds.shape[1])
    bounds, positions = bounds.topk(n_smallest, largest=False, sorted=False)
    return _Candidates(bounds, columns.gather(1, positions))


def _sort_candidates(
    queries: np.ndarray, references: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return exact distances of the candidates `(q, c)`, ascending, and their columns `(q, c)`.

    Equal distances are in the order of their columns.
    """
    columns = np.sort(columns, axis=1)
    query_rows = np.repeat(np.arange(len(queries)), columns.shape[1])
    exact = paired_distances(queries, query_rows, references, columns.ravel())
    exact = exact.reshape(columns.shape)
    order = np.argsort(exact, axis=1, kind="stable")
    return np.take_along_axis(exact, order, 1), np.take_along_axis(columns, order, 1)


def _centre_rows(
    x: np.ndarray, centre: np.ndarray, dtype: DTypeLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return `x - centre` in `dtype`, and its squared row norms in float64."""
    centred = x - centre
    return centred.astype(dtype), np.einsum("nd,nd->n", centred, centred)


def _block_side(d: int, memory_bytes: int) -> int:
    """Return the number of rows s of a square block, so that 32 (s² + s d) bytes fit the memory."""
    return max(1, int((np.sqrt(d**2 + memory_bytes / 8) - d) / 2))


def _row_slices(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _advance_bar(bar: Any, n: int) -> None:
    if bar is not None:
        bar.update(n)
