"""Exact Euclidean nearest neighbours among features or pixels, in bounded memory.

Squared distances from one matrix product, |a|^2 + |b|^2 - 2ab, are fast but lose the digits that
tell near-identical rows apart. They are used here only as lower bounds, in single precision, to rule
out what cannot matter; what is left is measured again by subtraction in float64. Duplicates
therefore lie at distance exactly 0.
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
"""Candidates kept beyond the k wanted, as the bounds may put a few rows in the wrong order."""
_MAX_ABSOLUTE_VALUE = 1e15
_PROGRESS_MULTIPLICATIONS = 2e12
"""Multiplications from which on a progress bar is shown: about 20 s on two cores."""


@dataclass(frozen=True)
class DistanceBounds:
    """Bounds of the squared distances of some rows of one set to some rows of another.

    `lower` `(q, r)` holds until the next block is made; the upper bounds are
    `lower + row_slack[:, None] + column_slack`.
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
    """The `k` nearest of `references` `(M, d)` to each of `queries` `(N, d)`.

    Returns Euclidean distances `(N, k)` float64, ascending, and rows of `references` `(N, k)` int64;
    of equal distances the lowest row comes first. With `exclude_self` both are one set and row i is
    no neighbour of query i, but a duplicate of it is. Memory beyond the inputs is about
    `memory_bytes`, and up to a copy of the queries where many are near-identical.

    >>> x = np.array([[0.0], [3.0], [3.0], [10.0]])
    >>> nearest_neighbours(x, x, exclude_self=True)[0].ravel()
    array([3., 0., 0., 7.])
    """
    queries, references = require_finite_features(queries, references)
    if exclude_self and len(queries) != len(references):
        raise XraysynthError(
            f"nearest neighbours: exclude_self needs one set on both sides, got {len(queries)} "
            f"queries and {len(references)} references; pass the same array twice"
        )
    if not 1 <= k <= len(references) - exclude_self:
        raise XraysynthError(
            f"nearest neighbours: k={k} of {len(references)} images, which must be at least 1 and at "
            f"most {len(references) - exclude_self} here; lower k or add images"
        )
    own = np.arange(len(queries)) if exclude_self else None
    found = _search(queries, references, k, own, memory_bytes, np.float32)
    distances, rows, certain = found
    if not certain.all():  # many near-identical rows: the bounds must be finer
        again = np.flatnonzero(~certain)
        own = None if own is None else again
        finer = _search(queries[again], references, k, own, memory_bytes, np.float64)
        distances[again], rows[again] = finer[:2]
    return distances, rows


def kth_neighbour_distances(x: np.ndarray, *, k: int) -> np.ndarray:
    """Distance of every row of `x` `(N, d)` to its `k`-th neighbour, itself left out: `(N,)`."""
    return nearest_neighbours(x, x, k=k, exclude_self=True)[0][:, -1]


def require_finite_features(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as `(n, d)` and `(m, d)` arrays of finite numbers, neither empty, or an error."""
    first, second = np.asarray(first), np.asarray(second)
    if first.ndim != 2 or first.shape[1:] != second.shape[1:] or not first.size or not second.size:
        raise XraysynthError(
            f"feature sets of shape {first.shape} and {second.shape}: must be (n, d) and (m, d), "
            "neither empty"
        )
    for x in (first, second):
        if not max(abs(float(x.min())), abs(float(x.max()))) < _MAX_ABSOLUTE_VALUE:
            raise XraysynthError(
                f"features between {x.min()} and {x.max()}: must be finite and below "
                f"{_MAX_ABSOLUTE_VALUE:g}; "
                "look for images that the encoder cannot read"
            )
    return first, second


def paired_distances(
    first: np.ndarray, rows: np.ndarray, second: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Distances of pairs `first[rows[p]]`, `second[columns[p]]`, by subtraction in float64: `(P,)`."""
    step = max(
        1, 2**17 // max(1, first.shape[1])
    )  # a megabyte, which stays in the processor's cache
    found = np.empty(len(rows))
    for at in range(0, len(rows), step):
        part = slice(at, at + step)
        gap = first[rows[part]].astype(np.float64)
        gap -= second[columns[part]]
        np.square(gap, out=gap)
        found[part] = np.sqrt(gap.sum(1))
    return found


def iterate_distance_bounds(
    queries: np.ndarray,
    references: np.ndarray,
    *,
    memory_bytes: int = MEMORY_BYTES,
    dtype: DTypeLike = np.float32,
) -> Iterator[DistanceBounds]:
    """Bounds of all squared distances, block by block; all blocks of some rows follow each other.

    With rows centred at the references' mean, products in precision eps miss the squared distance by
    less than eps (8 + sqrt(d)) (|a|^2 + |b|^2): rounding errors grow as sqrt(d) (Higham & Mary
    2019), and in practice stay below a third of this.
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


def _search(
    queries: np.ndarray,
    references: np.ndarray,
    k: int,
    self_columns: np.ndarray | None,
    memory_bytes: int,
    dtype: DTypeLike,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances `(N, k)`, rows `(N, k)`, and of which queries they are certain, `(N,)`."""
    n, m = len(queries), len(references) - (self_columns is not None)
    kept = min(k + _EXTRA_CANDIDATES, m)
    found, rows, certain = np.empty((n, k)), np.empty((n, k), np.int64), np.ones(n, bool)
    best: tuple[torch.Tensor, torch.Tensor] | None = None
    for block in iterate_distance_bounds(
        queries, references, memory_bytes=memory_bytes, dtype=dtype
    ):
        if self_columns is not None:
            _exclude_self(block, self_columns)
        best = _keep_smallest(block, best if block.columns.start else None, kept)
        if block.columns.stop < len(references):
            continue
        lower, candidates = (side.numpy() for side in best)
        at = block.rows
        exact, order = _sort_candidates(queries[at], references, candidates)
        found[at], rows[at] = exact[:, :k], order[:, :k]
        if kept < m:  # all others lie farther than the last candidate's lower bound
            certain[at] = exact[:, k - 1] ** 2 <= lower.max(1)
    return found, rows, certain


def _exclude_self(block: DistanceBounds, self_columns: np.ndarray) -> None:
    column = self_columns[block.rows] - block.columns.start
    here = np.flatnonzero((column >= 0) & (column < block.lower.shape[1]))
    block.lower[here, column[here]] = np.inf


def _keep_smallest(
    block: DistanceBounds, best: tuple[torch.Tensor, torch.Tensor] | None, n_candidates: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `kept` smallest lower bounds so far of each row, and their columns."""
    lower = torch.from_numpy(block.lower)
    values, columns = lower.topk(min(n_candidates, lower.shape[1]), largest=False, sorted=False)
    columns += block.columns.start
    if best is None:
        return values, columns
    values, columns = torch.cat([best[0], values], 1), torch.cat([best[1], columns], 1)
    values, chosen = values.topk(min(n_candidates, values.shape[1]), largest=False, sorted=False)
    return values, columns.gather(1, chosen)


def _sort_candidates(
    queries: np.ndarray, references: np.ndarray, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Exact distances of candidates `(q, c)`, ascending and equal ones by row, and their rows."""
    candidates = np.sort(candidates, axis=1)
    own = np.repeat(np.arange(len(queries)), candidates.shape[1])
    exact = paired_distances(queries, own, references, candidates.ravel()).reshape(candidates.shape)
    order = np.argsort(exact, axis=1, kind="stable")
    return np.take_along_axis(exact, order, 1), np.take_along_axis(candidates, order, 1)


def _centre_rows(
    x: np.ndarray, centre: np.ndarray, dtype: DTypeLike
) -> tuple[np.ndarray, np.ndarray]:
    shifted = x - centre
    return shifted.astype(dtype), np.einsum("nd,nd->n", shifted, shifted)


def _block_side(d: int, memory_bytes: int) -> int:
    """Rows of a square block: 32 bytes an entry and 32 bytes a feature of it fit the memory."""
    return max(1, int((np.sqrt(d**2 + memory_bytes / 8) - d) / 2))


def _row_slices(n: int, step: int) -> Iterator[slice]:
    return (slice(at, min(at + step, n)) for at in range(0, n, step))


def _advance_bar(bar: Any, n: int) -> None:
    if bar is not None:
        bar.update(n)
