"""Views on whether a generator copies its training images, beside the calibrated share of copies.

All compare distances to the nearest training image in the features of one encoder.
"""

import numpy as np
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.neighbours import kth_neighbour_distances, nearest_neighbours


def authenticity(*, train: np.ndarray, synthetic: np.ndarray) -> float:
    """Share of synthetic images `(m, d)` that are authentic, in [0, 1]; higher is less copied.

    y with nearest training image x is authentic if d(y, x) > d(x, nearest other training image)
    (Alaa et al., arXiv:2102.08921, section 4.3), so unless the two are each other's nearest. A pure
    copier scores 0. An independent sample of the training distribution scores 1/3 in one dimension,
    about 0.6 in eight and up to 0.9 in hundreds, where a few central images are neighbours to most:
    read it beside the value of held-out real images. m may exceed the number of training images
    `(n, d)`.

    >>> x = np.array([[0.0], [1.0], [5.0]])
    >>> authenticity(train=x, synthetic=np.array([[0.9], [2.5], [8.0], [10.0]]))
    0.5
    """
    return float(is_authentic(train=train, synthetic=synthetic).mean())


def is_authentic(*, train: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Which synthetic images are authentic, `(m,)` bool; see `authenticity`."""
    found, rows = nearest_neighbours(synthetic, train)
    answers: np.ndarray = found[:, 0] > kth_neighbour_distances(train, k=1)[rows[:, 0]]
    return answers


def data_copying(
    *,
    train: np.ndarray,
    held_out: np.ndarray,
    synthetic: np.ndarray,
    cells: int | None = None,
    min_per_cell: int = 10,
    seed: int = 0,
) -> float:
    """C_T, the data-copying statistic of features `(n, d)`, `(h, d)` and `(m, d)`.

    In each cell of a k-means partition of the training images, distances to the cell's nearest
    training image are compared between synthetic and held-out images by `mann_whitney_z`; C_T is the mean
    of the scores, weighted by the cells' shares of held-out images (Meehan et al., arXiv:2004.05675,
    eq. 4). Well below 0, such as below -3, is copying; well above 0 is underfitting; an independent
    sample lies about 0. Cells with fewer than `smallest` held-out or synthetic images, for which the
    normal approximation is poor, are left out. `cells` defaults to one per 50 images of the
    smaller of these two sets, at most 20.
    """
    if min(len(held_out), len(synthetic)) < min_per_cell or not len(train):
        raise XraysynthError(
            f"data copying: {len(train)} training, {len(held_out)} held-out and {len(synthetic)} "
            f"synthetic images: needs training images and at least {min_per_cell} of the other two"
        )
    default = min(20, max(1, min(len(held_out), len(synthetic)) // 50))
    parts = KMeans(min(cells or default, len(train)), n_init=3, random_state=seed % 2**32).fit(
        train
    )
    places = [parts.labels_, parts.predict(held_out), parts.predict(synthetic)]
    scores, weights = [], []
    for cell in range(parts.n_clusters):
        here = [place == cell for place in places]
        if min(here[1].sum(), here[2].sum()) >= min_per_cell:
            own = train[here[0]]
            null, found = (
                nearest_neighbours(held_out[here[1]], own)[0],
                nearest_neighbours(synthetic[here[2]], own)[0],
            )
            scores.append(mann_whitney_z(held_out=null[:, 0], synthetic=found[:, 0]))
            weights.append(here[1].sum())
    if not scores:
        raise XraysynthError(
            f"data copying: none of {parts.n_clusters} cells holds {min_per_cell} held-out and "
            f"{min_per_cell} synthetic images; lower cells, or the sets do not overlap at all"
        )
    return float(np.average(scores, weights=weights))


def mann_whitney_z(*, held_out: np.ndarray, synthetic: np.ndarray) -> float:
    """Mann-Whitney U of distances `(h,)` and `(m,)`, as a z-score; negative if synthetic are smaller.

    z = (U - hm / 2) / sqrt(hm (h + m + 1) / 12), where U counts the pairs with the synthetic one
    larger, ties by half (Meehan et al., arXiv:2004.05675, eq. 2).

    >>> round(mann_whitney_z(held_out=np.array([3.0, 4.0]), synthetic=np.array([1.0, 2.0])), 3)
    -1.549
    """
    pairs, both = len(held_out) * len(synthetic), len(held_out) + len(synthetic)
    u = mannwhitneyu(synthetic, held_out, method="asymptotic").statistic
    return float((u - pairs / 2) / np.sqrt(pairs * (both + 1) / 12))


def calibrated_distance(
    *, train: np.ndarray, synthetic: np.ndarray, k: int = 50, alpha: float = 0.5
) -> np.ndarray:
    """d(y, x1) / (alpha mean_j d(y, xj)) over the `k` nearest training images x1..xk of y: `(m,)`.

    Near 1 / alpha where the nearest training image is no nearer than the others, near 0 for a copy;
    below 1 counts as extracted (Carlini et al., arXiv:2301.13188, section 5.1). Of fewer than `k`
    training images all are used. A copy of an image that is there k times scores 0.
    """
    found = nearest_neighbours(synthetic, train, k=min(k, len(train)))[0]
    mean = alpha * found.mean(1)
    return found[:, 0] / np.where(mean > 0, mean, 1)
