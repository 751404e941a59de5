"""Measures of whether a generator copies its training images, in addition to the memorised share.

All of them compare distances to the nearest training image in the features of one encoder.
"""

import numpy as np
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.neighbours import kth_neighbour_distances, nearest_neighbours


def authenticity(*, train: np.ndarray, synthetic: np.ndarray) -> float:
    """Compute the proportion of synthetic images that are authentic, in [0, 1]; higher is less copied.

    y with nearest training image x is authentic if d(y, x) > d(x, nearest other training image)
    (Alaa et al., arXiv:2102.08921, section 4.3). A pure copier scores 0. An independent sample of the
    training distribution scores 1/3 in one dimension, about 0.6 in eight and up to 0.9 in hundreds,
    where a few central images are neighbours to most: compare the value with that of held-out real
    images.

    Args:
        train: Training features `(n, d)`.
        synthetic: Synthetic features `(m, d)`; m may exceed n.

    >>> x = np.array([[0.0], [1.0], [5.0]])
    >>> authenticity(train=x, synthetic=np.array([[0.9], [2.5], [8.0], [10.0]]))
    0.5
    """
    return float(is_authentic(train=train, synthetic=synthetic).mean())


def is_authentic(*, train: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Return which synthetic images are authentic, `(m,)` bool; see `authenticity`."""
    distances, rows = nearest_neighbours(synthetic, train)
    train_distances = kth_neighbour_distances(train, k=1)
    authentic: np.ndarray = distances[:, 0] > train_distances[rows[:, 0]]
    return authentic


def data_copying(
    *,
    train: np.ndarray,
    held_out: np.ndarray,
    synthetic: np.ndarray,
    cells: int | None = None,
    min_per_cell: int = 10,
    seed: int = 0,
) -> float:
    """Compute C_T, the data-copying statistic (Meehan et al., arXiv:2004.05675, eq. 4).

    In each cell of a k-means partition of the training images, distances to the cell's nearest
    training image are compared between synthetic and held-out images by `mann_whitney_z`. C_T is the
    mean of these scores, weighted by the cells' proportions of held-out images. Well below 0, such as
    below -3, is copying; well above 0 is underfitting; an independent sample lies about 0.

    Args:
        train: Training features `(n, d)`.
        held_out: Features `(h, d)` of other real images.
        synthetic: Synthetic features `(m, d)`.
        cells: Number of cells; by default one per 50 images of the smaller of the held-out and the
            synthetic set, at most 20.
        min_per_cell: Number of held-out or of synthetic images below which a cell is left out,
            because the normal approximation is poor.
        seed: Seed of the k-means partition.

    Raises:
        XraysynthError: If a set is too small, or no cell holds enough images of both sets.

    >>> x, h, y = np.random.default_rng(0).normal(size=(3, 200, 4))
    >>> data_copying(train=x, held_out=h, synthetic=x) < -3
    True
    >>> abs(data_copying(train=x, held_out=h, synthetic=y)) < 3
    True
    """
    fewest = min(len(held_out), len(synthetic))
    if fewest < min_per_cell or not len(train):
        raise XraysynthError(
            f"data copying needs training images and at least {min_per_cell} held-out and synthetic "
            f"images, but got {len(train)} training, {len(held_out)} held-out and {len(synthetic)} "
            "synthetic images"
        )
    default_cells = min(20, max(1, fewest // 50))
    n_cells = min(cells or default_cells, len(train))
    partition = KMeans(n_cells, n_init=3, random_state=seed % 2**32).fit(train)
    held_out_cells, synthetic_cells = partition.predict(held_out), partition.predict(synthetic)
    scores, weights = [], []
    for cell in range(n_cells):
        train_part = train[partition.labels_ == cell]
        held_out_part = held_out[held_out_cells == cell]
        synthetic_part = synthetic[synthetic_cells == cell]
        if min(len(held_out_part), len(synthetic_part)) < min_per_cell:
            continue
        null_distances = nearest_neighbours(held_out_part, train_part)[0][:, 0]
        distances = nearest_neighbours(synthetic_part, train_part)[0][:, 0]
        scores.append(mann_whitney_z(held_out=null_distances, synthetic=distances))
        weights.append(len(held_out_part))
    if not scores:
        raise XraysynthError(
            f"data copying: none of {n_cells} cells holds {min_per_cell} held-out and "
            f"{min_per_cell} synthetic images; lower cells, unless the sets do not overlap at all"
        )
    return float(np.average(scores, weights=weights))


def mann_whitney_z(*, held_out: np.ndarray, synthetic: np.ndarray) -> float:
    """Compute the z-score of Mann-Whitney's U of two samples of distances.

    z = (U - hm / 2) / sqrt(hm (h + m + 1) / 12), where U counts the pairs with the synthetic one
    larger, ties by half (Meehan et al., arXiv:2004.05675, eq. 2). Negative if the `synthetic`
    distances `(m,)` are smaller than the `held_out` ones `(h,)`.

    >>> round(mann_whitney_z(held_out=np.array([3.0, 4.0]), synthetic=np.array([1.0, 2.0])), 3)
    -1.549
    """
    n_pairs, n_distances = len(held_out) * len(synthetic), len(held_out) + len(synthetic)
    u = mannwhitneyu(synthetic, held_out, method="asymptotic").statistic
    return float((u - n_pairs / 2) / np.sqrt(n_pairs * (n_distances + 1) / 12))


def calibrated_distance(
    *, train: np.ndarray, synthetic: np.ndarray, k: int = 50, alpha: float = 0.5
) -> np.ndarray:
    """Compute d(y, x1) / (alpha mean_j d(y, xj)) over the k nearest training images x1..xk of y.

    Near 1 / alpha where the nearest training image is no nearer than the others, near 0 for a copy;
    below 1 counts as extracted (Carlini et al., arXiv:2301.13188, section 5.1). A copy of an image
    that is k times in the training set scores 0.

    Args:
        train: Training features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.
        k: Number of neighbours; all training images where there are fewer.
        alpha: Factor of the mean distance.

    Returns:
        One ratio per synthetic image, `(m,)`.
    """
    distances, _ = nearest_neighbours(synthetic, train, k=min(k, len(train)))
    scale = alpha * distances.mean(1)
    return distances[:, 0] / np.where(scale > 0, scale, 1)
