"""Findings as attenuation that is added inside the lung lobes of the phantom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from xraysynth.data.sources._phantom import Phantom

LEFT_UPPER, LEFT_LOWER, RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER = range(5)
LIVER_DOME_HEIGHT = 0.33
"""Lung below this height hides behind the diaphragm in a frontal view."""

LUNGS = (LEFT_UPPER, LEFT_LOWER, RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER)


@dataclass(frozen=True)
class Blob:
    """A soft ellipsoid of added attenuation, cut off at the borders of its lobes.

    `centre_mm` and `radii_mm` are (z, y, x) in the phantom; `density` is relative to water;
    `softness` is the width of the edge relative to the radius; `hollow` the share of the radius
    that is air (a cavity); `patchiness` in 0..1 how much of it is broken up.
    """

    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    density: float
    lobes: tuple[int, ...] = LUNGS
    softness: float = 0.15
    hollow: float = 0.0
    patchiness: float = 0.0


class LungSampler:
    """Where in the lungs a finding may lie: lobe, height (0 base, 1 apex) and depth (mm)."""

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

    def sample_point(
        self,
        rng: np.random.Generator,
        *,
        lobes: tuple[int, ...] = LUNGS,
        height: tuple[float, float] = (0, 1),
        depth_mm: tuple[float, float] = (0, 1000),
    ) -> tuple[float, float, float]:
        """A random point of these lobes, heights and depths below the pleura, in mm (z, y, x)."""
        fits = np.isin(self.lobe, lobes)
        fits &= (self.height >= height[0]) & (self.height <= height[1])
        fits &= (self.depth_mm >= depth_mm[0]) & (self.depth_mm <= depth_mm[1])
        z, y, x = rng.choice(self.points_mm[fits])
        return float(z), float(y), float(x)


def _draw_radii(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    z, y, x = rng.uniform(low, high) * rng.uniform(0.75, 1.3, 3)
    return float(z), float(y), float(x)


def normal(rng: np.random.Generator, sampler: LungSampler, severity: float) -> list[Blob]:
    """Nothing."""
    return []


def pneumonia(rng: np.random.Generator, sampler: LungSampler, severity: float) -> list[Blob]:
    """One lobar consolidation with patchy texture."""
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
    """Many faint patches in both lungs, mostly peripheral and in the lower zones."""
    sides = ((LEFT_UPPER, LEFT_LOWER), (RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER))
    count = int(rng.integers(3, 6)) + round(5 * severity)
    return [
        Blob(
            sampler.sample_point(
                rng, lobes=side, height=(LIVER_DOME_HEIGHT, top), depth_mm=(0, 22)
            ),
            _draw_radii(rng, 13, 26),
            density=float(rng.uniform(0.75, 1.25) * (0.45 + 0.4 * severity)),
            softness=float(rng.uniform(0.25, 0.5)),
            patchiness=float(rng.uniform(0.2, 0.8)),
        )
        for side in sides
        for top in rng.choice([0.6, 0.95], count, p=[0.75, 0.25])
    ]


def tuberculosis(rng: np.random.Generator, sampler: LungSampler, severity: float) -> list[Blob]:
    """An apical cavity with satellites, and small nodules in the upper zones."""
    side = ((LEFT_UPPER,), (RIGHT_UPPER,))[rng.integers(2)]
    centre = sampler.sample_point(rng, lobes=side, height=(0.62, 0.95), depth_mm=(6, 1000))
    density = float(rng.uniform(0.8, 1.2) * (0.85 + 0.6 * severity))
    cavity = Blob(centre, _draw_radii(rng, 17, 21 + 9 * severity), density, side, 0.12, hollow=0.62)
    blobs = [cavity]
    for _ in range(int(rng.integers(2, 5))):
        z, y, x = np.array(centre) + rng.normal(0, 16, 3)
        blobs.append(Blob((z, y, x), _draw_radii(rng, 6, 11), density, softness=0.25))
    for _ in range(int(rng.integers(4, 8)) + round(8 * severity)):
        place = sampler.sample_point(rng, height=(0.35, 1))
        blobs.append(Blob(place, _draw_radii(rng, 4, 7.5), density, softness=0.25))
    return blobs


def unspecific(rng: np.random.Generator, sampler: LungSampler, severity: float) -> list[Blob]:
    """Any number of spots of any size, place, density and softness: the likeness of no disease."""
    count = int(rng.geometric(0.25)) - 1
    size = float(rng.uniform(3, 30))
    shared = float(rng.uniform(0.1, 0.8))
    return [
        Blob(
            sampler.sample_point(rng),
            _draw_radii(rng, max(2.5, 0.5 * size), 1.4 * size),
            density=shared * float(rng.uniform(0.6, 1.4)) * (1.0 if size > 8 else 2.0),
            lobes=LUNGS if rng.random() < 0.6 else (int(rng.integers(5)),),
            softness=float(rng.uniform(0.1, 0.5)),
            hollow=float(rng.uniform(0.4, 0.7)) if rng.random() < 0.25 else 0.0,
            patchiness=float(rng.uniform(0, 0.8)),
        )
        for _ in range(min(count, 14))
    ]


FINDINGS: Mapping[str, Callable[[np.random.Generator, LungSampler, float], list[Blob]]] = {
    "normal": normal,
    "pneumonia": pneumonia,
    "covid19": covid19,
    "tuberculosis": tuberculosis,
    "unspecific": unspecific,
}


def draw_incidental_findings(rng: np.random.Generator, sampler: LungSampler) -> list[Blob]:
    """What any chest may show whatever its class: a scar, a thin band, a calcification."""
    blobs = []
    if rng.random() < 0.35:  # plate-like atelectasis: flat, near the base
        radii = (float(rng.uniform(2, 4)), 18.0, float(rng.uniform(15, 30)))
        blobs.append(
            Blob(sampler.sample_point(rng, height=(0, 0.4)), radii, float(rng.uniform(0.15, 0.4)))
        )
    if rng.random() < 0.35:
        density = float(rng.uniform(0.05, 0.13))
        blobs.append(
            Blob(sampler.sample_point(rng), _draw_radii(rng, 10, 24), density, softness=0.4)
        )
    if rng.random() < 0.2:
        blobs.append(Blob(sampler.sample_point(rng), _draw_radii(rng, 1.5, 2.5), 1.2))
    return blobs


def build_attenuation(blobs: list[Blob], phantom: Phantom, rng: np.random.Generator) -> np.ndarray:
    """The blobs as a volume on the phantom's grid, `(Z, Y, X)` relative to water."""
    volume = np.zeros_like(phantom.soft)
    coarse = rng.normal(size=(24, 24, 24)).astype(np.float32)
    for blob in blobs:
        _add_blob(volume, blob, phantom, coarse)
    return volume


def _add_blob(volume: np.ndarray, blob: Blob, phantom: Phantom, noise: np.ndarray) -> None:
    box, axes = [], []
    for centre, radius, step, n in zip(
        blob.centre_mm, blob.radii_mm, phantom.spacing_mm, volume.shape, strict=True
    ):
        reach = radius * (1 + 2 * blob.softness) + step
        start, stop = np.clip([(centre - reach) / step, (centre + reach) / step + 1], 0, n).astype(
            int
        )
        box.append(slice(start, stop))
        axes.append((np.arange(start, stop) + 0.5) * step - centre)
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    # a spot smaller than a voxel keeps its mass: it is widened and thinned in return
    wide = [r + step / 4 for r, step in zip(blob.radii_mm, phantom.spacing_mm, strict=True)]
    thinned = np.prod(blob.radii_mm) / np.prod(wide)
    r = np.sqrt(sum((g / w) ** 2 for g, w in zip(grid, wide, strict=True))).astype(np.float32)
    shape = _soft_edge(1 - r, blob.softness)
    if blob.hollow:
        shape = shape * _soft_edge(r - blob.hollow, blob.softness)
    if blob.patchiness:
        shape = shape * (1 - blob.patchiness * _soft_edge(_crop_texture(noise, box, phantom), 0.4))
    inside = phantom.lobes[(slice(None), *box)][list(blob.lobes)].sum(0)
    volume[tuple(box)] += float(blob.density * thinned) * shape * inside


def _soft_edge(distance: np.ndarray, softness: float) -> np.ndarray:
    return np.clip(distance / softness + 0.5, 0, 1)


def _crop_texture(noise: np.ndarray, box: list[slice], phantom: Phantom) -> np.ndarray:
    """Smooth noise with a grain of about 14 mm, cut out for one box."""
    from scipy import ndimage

    scale = [s / 14 for s in phantom.spacing_mm]
    index = [(np.arange(b.start, b.stop) + 0.5) * k % 23 for b, k in zip(box, scale, strict=True)]
    grid = np.meshgrid(*index, indexing="ij")
    return np.asarray(ndimage.map_coordinates(noise, grid, order=1))
