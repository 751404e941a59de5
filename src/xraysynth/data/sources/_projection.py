"""From a phantom to a radiograph: cone-beam line integrals, then exposure and tone."""

from dataclasses import dataclass

import numpy as np

from xraysynth.data.sources._findings import Blob, build_attenuation
from xraysynth.data.sources._phantom import Phantom, load_phantom

WATER_PER_MM = 0.019
"""Linear attenuation of water at about 70 keV, 1/mm."""


@dataclass(frozen=True)
class Body:
    """One patient's build: what all their images share."""

    scale: tuple[float, float, float]
    warp_mm: np.ndarray
    habitus_mm: float
    breast_mm: float
    breast_shape: tuple[float, float, float]
    bone: float

    @classmethod
    def draw(cls, rng: np.random.Generator, *, sex: str, age: float) -> "Body":
        """Scale ±15 %, a smooth warp `(3, 5, 5, 5)`, fat, breasts, and bone that age thins."""
        overall = rng.uniform(0.9, 1.1) * (0.97 if sex == "F" else 1.03)
        z, y, x = overall * rng.uniform(0.93, 1.07, 3)
        breast = rng.uniform(5, 38) if sex == "F" else rng.uniform(0, 6)
        return cls(
            scale=(float(z), float(y), float(x)),
            warp_mm=rng.normal(0, 7, (3, 5, 5, 5)).astype(np.float32),
            habitus_mm=float(rng.gamma(2.0, 8.0)),
            breast_mm=float(breast),
            breast_shape=(rng.uniform(58, 80), rng.uniform(-95, -40), rng.uniform(45, 70)),
            bone=float(rng.normal(2.1, 0.2) - 0.008 * age),
        )


@dataclass(frozen=True)
class Exposure:
    """One acquisition; nothing in it depends on the class."""

    view: str
    source_mm: float
    tilt_deg: tuple[float, float, float]
    shift_mm: tuple[float, float]
    field_mm: float
    photons: float
    scatter: float
    blur_mm: float
    equalise: float
    window: tuple[float, float]
    gamma: float

    @classmethod
    def draw(cls, rng: np.random.Generator, *, view: str) -> "Exposure":
        """Pose ±6°, position, field, dose and tone; a portable (AP) tube stands closer."""
        turn, sway, lean = rng.uniform(-6, 6, 3)
        return cls(
            view=view,
            source_mm=float(rng.uniform(1650, 1850) if view == "PA" else rng.uniform(900, 1150)),
            tilt_deg=(float(turn), float(sway), float(lean)),
            shift_mm=(float(rng.uniform(-14, 14)), float(rng.uniform(-14, 14))),
            field_mm=float(rng.uniform(250, 305)),
            photons=float(np.exp(rng.uniform(np.log(5000), np.log(50000)))),
            scatter=float(rng.uniform(0.02, 0.12)),
            blur_mm=float(rng.uniform(0.3, 1.5)),
            equalise=float(rng.uniform(0.1, 0.5)),
            window=(float(rng.uniform(0.5, 4)), float(rng.uniform(97.5, 99.8))),
            gamma=float(rng.uniform(0.8, 1.35)),
        )


def project(
    findings: list[Blob],
    incidental_findings: list[Blob],
    body: Body,
    exposure: Exposure,
    rng: np.random.Generator,
    *,
    size_px: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Line integrals `(2, size, size)` of the whole chest and of `blobs` alone.

    `hidden` findings are in the first only. Integrals are linear, so findings are projected apart
    and added.
    """
    level = 2 if size_px <= 72 else 1 if size_px <= 160 else 0
    anatomy, coarse = load_phantom(level), load_phantom(max(level, 1))
    rays = _ray_points(anatomy, body, exposure, size_px)
    chest = _integrate(anatomy.soft + body.bone * anatomy.bone, anatomy, rays)
    found, other = np.zeros_like(chest), np.zeros_like(chest)
    if findings:
        found = _integrate(build_attenuation(findings, coarse, rng), coarse, rays)
    if incidental_findings:
        other = _integrate(build_attenuation(incidental_findings, coarse, rng), coarse, rays)
    chest += _soft_tissue(chest, body, exposure, size_px)
    return chest + found + other, found


def _ray_points(volume: Phantom, body: Body, exposure: Exposure, size_px: int) -> np.ndarray:
    """Sample points `(K, H, W, 3)` in phantom mm (x, y, z), one plane K per step along the beam.

    The patient's scale, pose and warp displace the points, so that no volume is ever resampled.
    """
    import torch

    depth = np.arange(-125, 125, max(volume.spacing_mm[1], 2.8), dtype=np.float32)  # to the front
    toward = depth if exposure.view == "PA" else -depth  # along the beam
    pixel = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px - 0.5
    detector = pixel * exposure.field_mm * (exposure.source_mm + 125) / exposure.source_mm
    shrink = (exposure.source_mm + toward) / (exposure.source_mm + 125)  # 1 at the detector
    shape = (len(depth), size_px, size_px)
    u = shrink[:, None, None] * (detector + exposure.shift_mm[0])[None, None, :]
    v = shrink[:, None, None] * (-detector + exposure.shift_mm[1])[None, :, None]
    points = [u, depth[:, None, None], v]
    matrix = _rotation_matrix(exposure) / np.array(body.scale, np.float32)[::-1, None]
    centre = np.array(_CENTRE_MM, np.float32)
    warp = torch.nn.functional.interpolate(
        torch.from_numpy(body.warp_mm)[None], size=shape, mode="trilinear", align_corners=True
    )[0].numpy()
    out = np.empty((*shape, 3), np.float32)
    for axis in range(3):
        moved = sum(matrix[axis, k] * points[k] for k in range(3)) + centre[axis]
        np.add(moved, warp[axis], out=out[..., axis])
    return out


_CENTRE_MM = (180.0, 176.0, 196.0)
"""The middle of what the picture shows, in the phantom (x, y, z)."""


def _rotation_matrix(exposure: Exposure) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    turn, sway, lean = exposure.tilt_deg
    angles = [turn, 0.6 * sway, lean]  # about the long axis, in the picture, forwards
    matrix = Rotation.from_euler("zyx", angles, degrees=True).as_matrix()
    return np.asarray(matrix, dtype=np.float32)


def _integrate(values: np.ndarray, volume: Phantom, rays: np.ndarray) -> np.ndarray:
    """Integral over planes `(H, W)`: dimensionless, attenuation times length."""
    import torch

    extent = torch.from_numpy(volume.extent_mm[::-1].astype(np.float32).copy())
    grid = torch.from_numpy(rays) * (2 / extent) - 1
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(values)[None, None],
        grid[None],
        mode="bilinear",
        padding_mode="border",  # shoulders and belly run on beyond the scan
        align_corners=False,
    )
    step_mm = 250 / len(rays)
    return np.asarray(sampled[0, 0].sum(0).numpy() * (WATER_PER_MM * step_mm))


def _soft_tissue(chest: np.ndarray, body: Body, exposure: Exposure, size_px: int) -> np.ndarray:
    """Soft tissue that the scanned patient lacks: fat all round, and breasts, as line integrals."""
    within = np.clip(chest / 0.8, 0, 1)
    pixel = ((np.arange(size_px) + 0.5) / size_px - 0.5) * exposure.field_mm
    x = pixel[None, :] + exposure.shift_mm[0]
    z = -pixel[:, None] + exposure.shift_mm[1]
    apart, height, radius = body.breast_shape
    thickness = np.zeros_like(chest)
    for side in (-1, 1):
        drop = np.where(z < height, 1.4, 0.7) * (z - height)  # sharper below than above
        r = np.hypot((x - side * apart * body.scale[2]), drop) / radius
        thickness += body.breast_mm * np.sqrt(np.clip(1 - r**2, 0, 1))
    extra = within * (body.habitus_mm + thickness) * 0.95 * WATER_PER_MM
    return np.asarray(extra, dtype=np.float32)


def develop(integrals: np.ndarray, exposure: Exposure, rng: np.random.Generator) -> np.ndarray:
    """Line integrals `(H, W)` -> `(H, W)` uint8 as displayed, bone white.

    Beer-Lambert, scatter, detector blur, Poisson noise, logarithm, equalisation (unsharp), window,
    gamma.
    """
    from scipy import ndimage

    size = len(integrals)
    pixel_mm = exposure.field_mm / size
    intensity = np.exp(-integrals)
    within = np.clip((integrals - 0.05) / 0.4, 0, 1)
    body = within > 0.5
    scattered = ndimage.gaussian_filter(within * intensity, 60 / pixel_mm)
    signal = ndimage.gaussian_filter(intensity, exposure.blur_mm / pixel_mm)
    signal = (1 - exposure.scatter) * signal + exposure.scatter * scattered
    per_pixel = exposure.photons * pixel_mm**2
    counts = rng.poisson(signal * per_pixel)
    density = -np.log(np.maximum(counts, 1) / per_pixel)
    smooth = ndimage.gaussian_filter(density, 45 / pixel_mm)
    density = density - exposure.equalise * within * smooth
    low, high = np.percentile(density[body], exposure.window)
    tone = np.clip((density - low) / max(high - low, 1e-3), 0, 1) ** exposure.gamma
    return np.asarray(np.round(255 * within * (0.06 + 0.94 * tone)), dtype=np.uint8)


def find_boxes(projection: np.ndarray) -> list[list[float]]:
    """Extents of a finding's projection as [x0, y0, x1, y1] in fractions of width and height.

    Each connected part above a fifth of the peak is a box; specks under 0.05 % of the area are not.
    """
    from scipy import ndimage

    if projection.max() <= 0.02:
        return []
    parts, _ = ndimage.label(projection > 0.2 * projection.max())
    areas = np.bincount(parts.ravel())[1:]
    height, width = projection.shape
    return [
        [x.start / width, y.start / height, x.stop / width, y.stop / height]
        for (y, x), area in zip(ndimage.find_objects(parts), areas, strict=True)
        if area >= 0.0005 * projection.size
    ]
