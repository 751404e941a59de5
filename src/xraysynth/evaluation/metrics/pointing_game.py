"""The pointing game: does a classifier look where the finding is?

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) of the true class on the last feature map, compared
with the annotated boxes of findings (Zhang et al. 2018, arXiv:1608.00507).
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
"""How `PointingGame.chance` is defined; records without this entry have the area of the boxes."""


@dataclass(frozen=True)
class PointingGame:
    """Result of the pointing game: how often a classifier's map has its maximum in a finding.

    The map is that of the true class. Higher is better.

    Attributes:
        hits: Fraction of the images with known findings whose map has its maximum inside a finding.
            An empty map hits nothing.
        energy: Mean fraction of the map's mass inside the findings (the energy-based pointing game,
            Wang et al. 2020, arXiv:1910.01279).
        chance: Hit rate of a random cell of the map. The maximum of a map is always at a cell's
            centre, so that this is the mean over images of the fraction of cells whose centre lies
            in a finding, not the area of the findings.
        elsewhere: Hit rate of the same maxima in the findings of other patients, such as that of a
            classifier that looks at the lungs whatever is in them.
        energy_chance: The `energy` of an even map, which is the mean area of the findings.
        empty: Fraction of maps that are zero everywhere.
        best_fixed: Hit rate of the best constant cell, such as that of a classifier that points at
            one place whatever it is shown. The cell is chosen on these same images, so that the rate
            is a little too high.
        n: Number of images with known findings.
        over_chance: `hits` as a multiple of `chance`, NaN where no cell's centre lies in a finding.
        chance_of: `CHANCE_DEFINITION`, or "" in records of earlier versions, whose `chance` is the
            area of the boxes.
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
        """This result, with NaN for a `chance` and `best_fixed` that are not of cells of the map."""
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
    """Play the pointing game on the images that have findings.

    Args:
        module: The trained classifier.
        images: Test images `(N, H, W)` uint8.
        targets: Index of the true class of each image, `(N,)`.
        boxes: Findings of each image as [x0, y0, x1, y1] in fractions of the sides. Images without
            findings are left out.
        patients: Patient id of each image, `(N,)`.
        tolerance: Fraction of the sides by which each box is widened in all directions.
        replicates: Number of bootstrap replicates over patients.
        seed: Seed of the draws.

    Returns:
        The result, or None when no image has a finding or when the backbone has no feature map, as
        of a transformer.

    Raises:
        XraysynthError: If a box is no rectangle.
    """
    rows = [row for row, image_boxes in enumerate(boxes) if len(image_boxes)]
    layer = last_feature_layer(module, images.shape[1:]) if rows else None
    if layer is None:
        return None
    maps = grad_cam(module, images[rows], np.asarray(targets)[rows], layer=layer)
    findings = [_widen_boxes(boxes[row], tolerance) for row in rows]
    ids = np.asarray(patients).astype(str)[rows]
    weights = cluster_bootstrap_weights(ids, replicates, seed)
    pixel_masks = _box_masks(findings, images.shape[1:])
    cell_masks = _box_masks(findings, maps.shape[1:])
    hits = _mean_interval(_score_hits(maps, findings), weights)
    chance = float(cell_masks.mean())
    return PointingGame(
        hits=hits,
        energy=_mean_interval(_energy_inside(maps, pixel_masks), weights),
        chance=chance,
        elsewhere=_hit_rate_elsewhere(maps, findings, ids),
        best_fixed=float(cell_masks.mean(0).max()),
        energy_chance=float(pixel_masks.mean()),
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
    """Compute Grad-CAM maps, relu(sum_c (mean of d logit / d A_c) · A_c) over the channels A of a layer.

    Args:
        module: The classifier.
        images: Images `(N, H, W)` uint8.
        targets: Index of the class whose logit is explained, for each image, `(N,)`.
        layer: The layer of the classifier whose output is A.

    Returns:
        Maps `(N, h, w)` float64, at least 0, of the size of the layer's output.
    """
    import torch
    from captum.attr import LayerGradCam

    module.eval()
    method = LayerGradCam(module, layer)
    maps = []
    for start in range(0, len(images), _BATCH_SIZE):
        batch = torch.from_numpy(np.array(images[start : start + _BATCH_SIZE])).to(module.device)
        classes = torch.from_numpy(np.asarray(targets[start : start + _BATCH_SIZE], np.int64))
        attributions = method.attribute(
            batch[:, None].float() / 255, classes.to(module.device), relu_attributions=True
        )
        maps.append(attributions.detach()[:, 0].double().cpu().numpy())
    return np.concatenate(maps)


def last_feature_layer(
    module: "XrayClassifier", size_px: tuple[int, ...]
) -> "torch.nn.Module | None":
    """Find the layer of a timm backbone whose output is the last feature map.

    It is the outermost module that returns what `forward_features` returns.

    Args:
        module: The classifier.
        size_px: Height and width of its images.

    Returns:
        The layer, or None where the backbone's features are no map.
    """
    import torch

    outputs: list[tuple[torch.nn.Module, Any]] = []

    def record_output(layer: "torch.nn.Module", _: Any, output: Any) -> None:
        outputs.append((layer, output))

    hooks = [layer.register_forward_hook(record_output) for layer in module.backbone.modules()]
    module.eval()
    try:
        with torch.no_grad():
            blank = torch.zeros(1, 1, *size_px, device=module.device)
            features = module.backbone.forward_features(module._preprocess(blank))
    finally:
        for hook in hooks:
            hook.remove()
    if features.ndim != 4:
        return None
    outermost: torch.nn.Module | None = None  # the last one to return is around the others
    for layer, output in outputs:
        if output is features:
            outermost = layer
    return outermost


def _widen_boxes(image_boxes: Sequence[Sequence[float]], tolerance: float) -> np.ndarray:
    """Return the boxes of one image `(B, 4)`, widened by `tolerance` in all directions."""
    boxes = np.asarray(image_boxes, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not (boxes[:, :2] <= boxes[:, 2:]).all():
        raise XraysynthError(
            "boxes must be [x0, y0, x1, y1] with x0 <= x1 and y0 <= y1, in fractions of the sides; got "
            f"{image_boxes}"
        )
    return boxes + tolerance * np.array([-1, -1, 1, 1])


def _boxes_contain(boxes: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return whether points `x`, `y` of equal shape lie in any of the boxes `(B, 4)`."""
    x0, y0, x1, y1 = boxes.T.reshape(4, -1, *[1] * x.ndim)
    return np.asarray(((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)).any(0))


def _box_masks(boxes: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return, for N images, the pixels or cells of a map whose centre lies in a box: `(N, H, W)` bool."""
    height, width = shape
    x, y = np.meshgrid(_cell_centres(width), _cell_centres(height))
    return np.stack([_boxes_contain(image_boxes, x, y) for image_boxes in boxes])


def _cell_centres(n: int) -> np.ndarray:
    """Return the centres `(n,)` of equal cells in fractions of the side."""
    return (np.arange(n) + 0.5) / n


def _map_maxima(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y `(N,)` of each map's maximum in fractions of the sides.

    Empty maps have NaN, which hits nothing. Bilinear upsampling has its maxima at the centres of the
    cells, and ties beyond the outermost ones, so that the upsampled map has its maximum at the centre
    of the largest cell.
    """
    _, height, width = maps.shape
    row, column = np.divmod(maps.reshape(len(maps), -1).argmax(1), width)
    nan_if_empty = np.where(maps.max((1, 2)) > 0, 1.0, np.nan)
    return nan_if_empty * (column + 0.5) / width, nan_if_empty * (row + 0.5) / height


def _score_hits(maps: np.ndarray, boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Return 1.0 for each map whose maximum lies in a box of its image, else 0.0: `(N,)`."""
    x, y = _map_maxima(maps)
    hits = np.zeros(len(maps))
    for row, image_boxes in enumerate(boxes):
        hits[row] = _boxes_contain(image_boxes, x[row], y[row])
    return hits


def _hit_rate_elsewhere(
    maps: np.ndarray, boxes: Sequence[np.ndarray], patients: np.ndarray
) -> float:
    """Return the mean, over images, of the fraction of other patients' maxima that lie in its boxes."""
    x, y = _map_maxima(maps)
    rates = np.full(len(boxes), np.nan)
    for row, image_boxes in enumerate(boxes):
        is_other = patients != patients[row]
        if is_other.any():
            rates[row] = _boxes_contain(image_boxes, x[is_other], y[is_other]).mean()
    return float(np.nanmean(rates)) if not np.isnan(rates).all() else float("nan")


def _energy_inside(maps: np.ndarray, pixel_masks: np.ndarray) -> np.ndarray:
    """Return the fraction `(N,)` of each upsampled map's mass inside its mask; 0 for an empty map."""
    import torch
    from torch.nn import functional as F

    upsampled = F.interpolate(
        torch.from_numpy(maps)[:, None], pixel_masks.shape[1:], mode="bilinear"
    )
    mass = upsampled[:, 0].numpy()
    total = mass.sum((1, 2))
    return np.asarray((mass * pixel_masks).sum((1, 2)) / np.where(total > 0, total, 1))


def _mean_interval(values: np.ndarray, weights: np.ndarray) -> Interval:
    """Return the mean of `values` `(N,)` with its percentile interval under `weights` `(R, N)`."""
    replicates = weights @ values / weights.sum(1)
    return percentile_interval(float(values.mean()), replicates, n=len(values))
