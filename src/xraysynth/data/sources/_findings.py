"""Simulated findings: attenuation that is added inside the lung lobes of the phantom."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from xraysynth.data.sources._phantom import Phantom

LEFT_UPPER, LEFT_LOWER, RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER = range(5)
LIVER_DOME_HEIGHT = 0.33
"""Height (0 base, 1 apex) below which the diaphragm hides the lung in a frontal view."""

LUNGS = (LEFT_UPPER, LEFT_LOWER, RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER)


@dataclass(frozen=True)
class Blob:
    """A soft ellipsoid of added attenuation, cut off at the borders of its lobes.

    Attributes:
        centre_mm: Centre (z, y, x) in the phantom.
        radii_mm: Radii (z, y, x).
        density: Attenuation relative to water.
        lobes: Indices of the lobes that it lies in (`Phantom.lobes`).
        softness: Width of the edge, relative to the radius.
        hollow: Fraction of the radius that is air (a cavity).
        patchiness: How much a texture breaks it up, in [0, 1].
    """

    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    density: float
    lobes: tuple[int, ...] = LUNGS
    softness: float = 0.15
    hollow: float = 0.0
    patchiness: float = 0.0


class LungSampler:
    """Samples points of the lungs by lobe, height (0 base, 1 apex) and depth below the pleura (mm)."""

    def __init__(self, coarse: Phantom) -> None:
        from scipy import ndimage

        lungs = coarse.lobes.sum(0) > 0.5
        depth = ndimage.distance_transform_edt(lungs, sampling=coarse.spacing_mm)
        index = np.argwhere(lungs)
        self.points_mm = (index + 0.5) * np.array(coarse.spacing_mm)
        self.lobe = coarse.lobes.argmax(0)[lungs]
        self.depth_mm = depth[lungs]
        z = self.points_mm[:, 0]
        self.height = (z - z.min()) / np.ptp(z)
        # Each kind of finding asks for the same few regions again and again.
        self._candidates = functools.lru_cache(maxsize=64)(self._find_candidates)

    def sample_point(
        self,
        rng: np.random.Generator,
        *,
        lobes: tuple[int, ...] = LUNGS,
        height: tuple[float, float] = (0, 1),
        depth_mm: tuple[float, float] = (0, 1000),
    ) -> tuple[float, float, float]:
        """Sample a point within these lobes, heights and depths, in mm (z, y, x)."""
        z, y, x = self.points_mm[rng.choice(self._candidates(lobes, height, depth_mm))]
        return float(z), float(y), float(x)

    def _find_candidates(
        self, lobes: tuple[int, ...], height: tuple[float, float], depth_mm: tuple[float, float]
    ) -> np.ndarray:
        """Return the positions of all points within these lobes, heights and depths."""
        is_allowed = np.isin(self.lobe, lobes)
        is_allowed &= (self.height >= height[0]) & (self.height <= height[1])
        is_allowed &= (self.depth_mm >= depth_mm[0]) & (self.depth_mm <= depth_mm[1])
        return np.flatnonzero(is_allowed)


def _draw_radii(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    z, y, x = rng.uniform(low, high) * rng.uniform(0.75, 1.3, 3)
    return float(z), float(y), float(x)


def normal(rng: np.random.Generator, sampler: LungSampler, severity: float) -> list[Blob]:
    """Return no finding."""
    return []


def pneumonia(rng: np.random.Generator, sampler: LungSampler, severity: float) -> list[Blob]:
    """Draw one lobar consolidation with patchy texture; severity in [0, 1]."""
    lobe = (int(rng.choice(LUNGS, p=[0.22, 0.24, 0.2, 0.12, 0.22])),)
    radius = 40 + 40 * severity
    blob = Blob(
        sampler.sample_point(rng, lobes=lobe, height=(LIVER_DOME_HEIGHT, 1), depth_mm=(8, 1000)),
        _draw_radii(rng, 0.85 * radius, 1.15 * radius),
        density=float(rng.uniform(0.9, 1.1) * (0.6 + 0.3 * severity)),
        lobes=lobe,
        softness=float(rng.uniform(0.1, 0.3)),
        patchiness=float(rng.uniform(0.0, 0.4)),
    )
    return [blob]


def covid19(rng: np.random.Generator, sampler: LungSampler, severity: float) -> list[Blob]:
    """Draw many faint patches in both lungs, mostly peripheral and in the lower zones."""
    sides = ((LEFT_UPPER, LEFT_LOWER), (RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER))
    count = int(rng.integers(3, 6)) + round(5 * severity)
    patches = []
    for lobes in sides:
        for top in rng.choice([0.6, 0.95], count, p=[0.75, 0.25]):
            height = (LIVER_DOME_HEIGHT, top)
            patch = Blob(
                sampler.sample_point(rng, lobes=lobes, height=height, depth_mm=(0, 22)),
                _draw_radii(rng, 13, 26),
                density=float(rng.uniform(0.75, 1.25) * (0.45 + 0.4 * severity)),
                softness=float(rng.uniform(0.25, 0.5)),
                patchiness=float(rng.uniform(0.2, 0.8)),
            )
            patches.append(patch)
    return patches


def tuberculosis(rng: np.random.Generator, sampler: LungSampler, severity: float) -> list[Blob]:
    """Draw an apical cavity with satellites, and small nodules in the upper zones."""
    side = ((LEFT_UPPER,), (RIGHT_UPPER,))[rng.integers(2)]
    centre = sampler.sample_point(rng, lobes=side, height=(0.62, 0.95), depth_mm=(6, 1000))
    density = float(rng.uniform(0.8, 1.2) * (0.85 + 0.6 * severity))
    cavity = Blob(centre, _draw_radii(rng, 17, 21 + 9 * severity), density, side, 0.12, hollow=0.62)
    blobs = [cavity]
    for _ in range(int(rng.integers(2, 5))):
        z, y, x = np.array(centre) + rng.normal(0, 16, 3)
        blobs.append(Blob((z, y, x), _draw_radii(rng, 6, 11), density, softness=0.25))
    for _ in range(int(rng.integers(4, 8)) + round(8 * severity)):
        nodule_centre = sampler.sample_point(rng, height=(0.35, 1))
        blobs.append(Blob(nodule_centre, _draw_radii(rng, 4, 7.5), density, softness=0.25))
    return blobs


def unspecific(rng: np.random.Generator, sampler: LungSampler, severity: float) -> list[Blob]:
    """Draw spots of any number, size, position, density and softness, which resemble no disease."""
    count = int(rng.geometric(0.25)) - 1
    size = float(rng.uniform(3, 30))
    mean_density = float(rng.uniform(0.1, 0.8))
    spots = []
    for _ in range(min(count, 14)):
        spot = Blob(
            sampler.sample_point(rng),
            _draw_radii(rng, max(2.5, 0.5 * size), 1.4 * size),
            density=mean_density * float(rng.uniform(0.6, 1.4)) * (1.0 if size > 8 else 2.0),
            lobes=LUNGS if rng.random() < 0.6 else (int(rng.integers(5)),),
            softness=float(rng.uniform(0.1, 0.5)),
            hollow=float(rng.uniform(0.4, 0.7)) if rng.random() < 0.25 else 0.0,
            patchiness=float(rng.uniform(0, 0.8)),
        )
        spots.append(spot)
    return spots


FINDINGS: Mapping[str, Callable[[np.random.Generator, LungSampler, float], list[Blob]]] = {
    "normal": normal,
    "pneumonia": pneumonia,
    "covid19": covid19,
    "tuberculosis": tuberculosis,
    "unspecific": unspecific,
}
"""Label -> the function that draws its findings from a generator, a sampler and a severity in [0, 1]."""


def draw_incidental_findings(rng: np.random.Generator, sampler: LungSampler) -> list[Blob]:
    """Draw findings that any chest may show, whatever its class: a band, a scar, a calcification."""
    blobs = []
    if rng.random() < 0.35:  # plate-like atelectasis: flat, near the base
        radii = (float(rng.uniform(2, 4)), 18.0, float(rng.uniform(15, 30)))
        centre = sampler.sample_point(rng, height=(0, 0.4))
        blobs.append(Blob(centre, radii, float(rng.uniform(0.15, 0.4))))
    if rng.random() < 0.35:  # scar
        density = float(rng.uniform(0.05, 0.13))
        centre = sampler.sample_point(rng)
        blobs.append(Blob(centre, _draw_radii(rng, 10, 24), density, softness=0.4))
    if rng.random() < 0.2:  # calcification
        blobs.append(Blob(sampler.sample_point(rng), _draw_radii(rng, 1.5, 2.5), 1.2))
    return blobs


def build_attenuation(blobs: list[Blob], phantom: Phantom, rng: np.random.Generator) -> np.ndarray:
    """Sum up the attenuation of blobs on the phantom's grid.

    Args:
        blobs: The findings.
        phantom: The chest, for its lobes and its grid.
        rng: Generator of the texture of patchy findings.

    Returns:
        Attenuation relative to water, `(Z, Y, X)` float32.
    """
    volume = np.zeros_like(phantom.soft)
    coarse = rng.normal(size=(24, 24, 24)).astype(np.float32)
    for blob in blobs:
        _add_blob(volume, blob, phantom, coarse)
    return volume


def _add_blob(volume: np.ndarray, blob: Blob, phantom: Phantom, noise: np.ndarray) -> None:
    box = _bounding_box(blob, phantom)
    # A spot smaller than a voxel keeps its mass: it is widened and its density lowered.
    widened_mm = np.add(blob.radii_mm, np.divide(phantom.spacing_mm, 4))
    density = float(blob.density * (np.prod(blob.radii_mm) / np.prod(widened_mm)))
    z, y, x = _centre_distances(box, blob, phantom)
    radius_z, radius_y, radius_x = widened_mm
    squared = (z / radius_z) ** 2 + (y / radius_y) ** 2 + (x / radius_x) ** 2
    radius = np.sqrt(squared).astype(np.float32)  # 1 at the surface of the ellipsoid
    shape = _soft_edge(1 - radius, blob.softness)
    if blob.hollow:
        shape = shape * _soft_edge(radius - blob.hollow, blob.softness)
    if blob.patchiness:
        shape = shape * (1 - blob.patchiness * _soft_edge(_crop_texture(noise, box, phantom), 0.4))
    fraction_in_lobes = phantom.lobes[(slice(None), *box)][list(blob.lobes)].sum(0)
    volume[tuple(box)] += density * shape * fraction_in_lobes


def _bounding_box(blob: Blob, phantom: Phantom) -> list[slice]:
    """The voxels that a blob with its soft edge can reach, as a slice per axis."""
    box = []
    for axis, (centre, radius) in enumerate(zip(blob.centre_mm, blob.radii_mm, strict=True)):
        voxel_mm, size = phantom.spacing_mm[axis], phantom.soft.shape[axis]
        reach = radius * (1 + 2 * blob.softness) + voxel_mm
        limits = [(centre - reach) / voxel_mm, (centre + reach) / voxel_mm + 1]
        start, stop = np.clip(limits, 0, size).astype(int)
        box.append(slice(start, stop))
    return box


def _centre_distances(box: list[slice], blob: Blob, phantom: Phantom) -> tuple[np.ndarray, ...]:
    """Distances in mm along each axis: `(Z, 1, 1)`, `(1, Y, 1)` and `(1, 1, X)`."""
    distances = []
    for extent, centre, voxel_mm in zip(box, blob.centre_mm, phantom.spacing_mm, strict=True):
        voxels = np.arange(extent.start, extent.stop) + 0.5
        distances.append(voxels * voxel_mm - centre)
    return np.ix_(*distances)


def _soft_edge(distance: np.ndarray, softness: float) -> np.ndarray:
    return np.clip(distance / softness + 0.5, 0, 1)


def _crop_texture(noise: np.ndarray, box: list[slice], phantom: Phantom) -> np.ndarray:
    """Smooth noise with a grain of about 14 mm, for the voxels of one box."""
    from scipy import ndimage

    indices = []
    for extent, voxel_mm in zip(box, phantom.spacing_mm, strict=True):
        voxels = np.arange(extent.start, extent.stop) + 0.5
        indices.append(voxels * (voxel_mm / 14) % 23)
    grid = np.meshgrid(*indices, indexing="ij")
    return np.asarray(ndimage.map_coordinates(noise, grid, order=1))
