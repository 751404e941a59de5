"""The pointing game: does a classifier look where the finding is?

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) of the true class on the last feature map, beside
known finding locations (Zhang et al. 2018, arXiv:1608.00507).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval, percentile_interval

if TYPE_CHECKING:
    import torch

    from xraysynth.training.classifier import XrayClassifier

_BATCH_SIZE = 64


CHANCE_DEFINITION = "map cells"
"""What `PointingGame.chance` is the chance of; records without this entry have the area of the boxes."""


@dataclass(frozen=True)
class PointingGame:
    """How often a classifier's map of the true class has its maximum in a finding; higher is better.

    `hits` is that share of the images with known findings; an empty map hits nothing. `chance` is
    the share that a random cell of the map hits: the maximum of a map is always at a cell's centre,
    so that it is the mean over images of the share of cells whose centre lies in a finding, not the
    area of the findings. `best_fixed` is the hit rate of the best of all constant cells, as of a
    classifier that points at one place whatever it is shown; the cell is chosen on these same
    images, so that it is a little too high. `elsewhere` is the share that the same points hit in
    the findings of other patients, as a classifier would that looks at lungs whatever is in them.
    `empty` is the share of maps that are zero everywhere.

    `energy` is the mean share of the map's mass inside the findings (the energy-based pointing game,
    Wang et al. 2020, arXiv:1910.01279), of which an even map has `energy_chance`, the mean area.

    `n` are the images with known findings, and `over_chance` is hits as a multiple of chance, NaN
    where no cell's centre lies in any finding. `chance_of` is what `chance` is of; records of earlier
    versions, which lack it, have the area of the boxes.
    """

    hits: Interval
    energy: Interval
    chance: float
    elsewhere: float
    energy_chance: float = float("nan")
    empty: float = float("nan")
    best_fixed: float = float("nan")
    n: int = 0
    over_chance: float = float("nan")
    chance_of: str = ""

    @property
    def with_comparable_chance(self) -> "PointingGame":
        """The same, with NaN for a `chance` and `best_fixed` that are not of cells of the map."""
        if self.chance_of == CHANCE_DEFINITION:
            return self
        return replace(self, chance=float("nan"), best_fixed=float("nan"))


def pointing_game(
    module: "XrayClassifier",
    images: np.ndarray,
    targets: np.ndarray,
    boxes: Sequence[Sequence[Sequence[float]]],
    patients: ArrayLike,
    *,
    tolerance: float = 0.0,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> PointingGame | None:
    """The pointing game on `images` `(N, H, W)` uint8 of classes `targets` `(N,)`.

    `boxes` are the findings of each image as [x0, y0, x1, y1] in fractions of the sides; `tolerance`
    widens them by that fraction. Images without findings are left out; None when there is none with
    them, or when the backbone has no feature map (a transformer).
    """
    rows = [row for row, found in enumerate(boxes) if len(found)]
    layer = last_feature_layer(module, images.shape[1:]) if rows else None
    if layer is None:
        return None
    maps = grad_cam(module, images[rows], np.asarray(targets)[rows], layer=layer)
    wide = [_widen_boxes(boxes[row], tolerance) for row in rows]
    ids = np.asarray(patients).astype(str)[rows]
    weights = cluster_bootstrap_weights(ids, replicates, seed)
    inside = np.stack([_box_mask(found, images.shape[1:]) for found in wide])
    cells = np.stack([_box_mask(found, maps.shape[1:]) for found in wide])
    hits, chance = _mean_interval(_score_hits(maps, wide), weights), float(cells.mean())
    return PointingGame(
        hits=hits,
        energy=_mean_interval(_energy_inside(maps, inside), weights),
        chance=chance,
        elsewhere=_hit_rate_elsewhere(maps, wide, ids),
        best_fixed=float(cells.mean(0).max()),
        energy_chance=float(inside.mean()),
        empty=float((maps.max((1, 2)) <= 0).mean()),
        n=hits.n,
        over_chance=hits.value / chance if chance else float("nan"),
        chance_of=CHANCE_DEFINITION,
    )


def grad_cam(
    module: "XrayClassifier",
    images: np.ndarray,
    targets: np.ndarray,
    *,
    layer: "torch.nn.Module",
) -> np.ndarray:
    """Grad-CAM maps `(N, h, w)` float64 >= 0 of the classes `targets` `(N,)`, as large as the layer's.

    relu(sum_c (mean of d logit / d A_c) · A_c) over the channels A of the layer.
    """
    import torch
    from captum.attr import LayerGradCam

    module.eval()
    method, maps = LayerGradCam(module, layer), []
    for start in range(0, len(images), _BATCH_SIZE):
        batch = torch.from_numpy(np.array(images[start : start + _BATCH_SIZE])).to(module.device)
        chosen = torch.from_numpy(np.asarray(targets[start : start + _BATCH_SIZE], np.int64))
        found = method.attribute(
            batch[:, None].float() / 255, chosen.to(module.device), relu_attributions=True
        )
        maps.append(found.detach()[:, 0].double().cpu().numpy())
    return np.concatenate(maps)


def last_feature_layer(
    module: "XrayClassifier", size_px: tuple[int, ...]
) -> "torch.nn.Module | None":
    """The layer of a timm backbone that gives its last feature map, or None where that is no map.

    It is the outermost module whose output is what `forward_features` returns.
    """
    import torch

    seen: list[tuple[torch.nn.Module, Any]] = []
    hooks = [
        part.register_forward_hook(lambda part, _, output: seen.append((part, output)))
        for part in module.backbone.modules()
    ]
    module.eval()
    try:
        with torch.no_grad():
            blank = torch.zeros(1, 1, *size_px, device=module.device)
            output = module.backbone.forward_features(module._preprocess(blank))
    finally:
        for hook in hooks:
            hook.remove()
    layers = [part for part, found in seen if found is output]
    return layers[-1] if layers and output.ndim == 4 else None


def _widen_boxes(image_boxes: Sequence[Sequence[float]], tolerance: float) -> np.ndarray:
    boxes = np.asarray(image_boxes, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not (boxes[:, :2] <= boxes[:, 2:]).all():
        raise XraysynthError(
            f"boxes must be [x0, y0, x1, y1] with x0 <= x1 and y0 <= y1, in fractions; got {image_boxes}"
        )
    return boxes + tolerance * np.array([-1, -1, 1, 1])


def _boxes_contain(boxes: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points of equal shape lie in any of the boxes `(B, 4)`."""
    x0, y0, x1, y1 = boxes.T.reshape(4, -1, *[1] * x.ndim)
    return np.asarray(((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)).any(0))


def _box_mask(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels, or cells of a map, `(H, W)` bool whose centre lies in any of the boxes."""
    y, x = ((np.arange(size) + 0.5) / size for size in shape)
    return _boxes_contain(boxes, *np.meshgrid(x, y))


def _map_maxima(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y `(N,)` of each map's maximum in fractions; NaN, which hits nothing, for empty maps.

    Bilinear upsampling has its maxima at the centres of the cells, and ties beyond the outermost
    ones, so that the centre of the largest cell is where the upsampled map has its maximum.
    """
    _, height, width = maps.shape
    row, column = np.divmod(maps.reshape(len(maps), -1).argmax(1), width)
    somewhere = np.where(maps.max((1, 2)) > 0, 1.0, np.nan)
    return somewhere * (column + 0.5) / width, somewhere * (row + 0.5) / height


def _score_hits(maps: np.ndarray, boxes: Sequence[np.ndarray]) -> np.ndarray:
    x, y = _map_maxima(maps)
    found = [_boxes_contain(b, x[n], y[n]) for n, b in enumerate(boxes)]
    return np.array(found, np.float64)


def _hit_rate_elsewhere(
    maps: np.ndarray, boxes: Sequence[np.ndarray], patients: np.ndarray
) -> float:
    """The mean, over images, of the share of points of other patients that lie in its boxes."""
    x, y = _map_maxima(maps)
    shares = []
    for found, patient in zip(boxes, patients, strict=True):
        others = patients != patient
        shares.append(
            _boxes_contain(found, x[others], y[others]).mean() if others.any() else np.nan
        )
    return float(np.nanmean(shares)) if not np.isnan(shares).all() else float("nan")


def _energy_inside(maps: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Share `(N,)` of each upsampled map's mass in `inside` `(N, H, W)`; 0 for an empty map."""
    import torch
    from torch.nn import functional as F

    grown = F.interpolate(torch.from_numpy(maps)[:, None], inside.shape[1:], mode="bilinear")
    mass = grown[:, 0].numpy()
    total = mass.sum((1, 2))
    return np.asarray((mass * inside).sum((1, 2)) / np.where(total > 0, total, 1))


def _mean_interval(values: np.ndarray, weights: np.ndarray) -> Interval:
    replicates = weights @ values / weights.sum(1)
    return percentile_interval(float(values.mean()), replicates, n=len(values))
