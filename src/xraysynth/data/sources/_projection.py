"""Projection: from the phantom to a radiograph, by cone-beam line integrals, exposure and tone."""

from dataclasses import dataclass

import numpy as np

from xraysynth.data.sources._findings import Blob, build_attenuation
from xraysynth.data.sources._phantom import Phantom, load_phantom

WATER_PER_MM = 0.019
"""Linear attenuation of water at about 70 keV, 1/mm."""

_CENTRE_MM = (180.0, 176.0, 196.0)
"""Centre of the field of view in the phantom (x, y, z)."""

_DETECTOR_MM = 125.0
"""Distance of the detector, and of the first plane of sample points, from the centre."""


@dataclass(frozen=True)
class Body:
    """The body of one patient, which all images of the patient share.

    Attributes:
        scale: Scale (z, y, x) of the phantom.
        warp_mm: Displacements (x, y, z) on a coarse grid, `(3, 5, 5, 5)` float32.
        habitus_mm: Thickness of additional fat.
        breast_mm: Thickness of a breast.
        breast_shape: Distance from the midline, height and radius of a breast in mm.
        bone: Factor on the attenuation of bone.
    """

    scale: tuple[float, float, float]
    warp_mm: np.ndarray
    habitus_mm: float
    breast_mm: float
    breast_shape: tuple[float, float, float]
    bone: float

    @classmethod
    def draw(cls, rng: np.random.Generator, *, sex: str, age: float) -> "Body":
        """Draw a body: scale ±15 %, a smooth warp, fat, breasts by sex, and bone that age thins."""
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
    """One acquisition; nothing in it depends on the class.

    Attributes:
        view: "PA" or "AP".
        source_mm: Distance of the X-ray tube from the centre.
        tilt_deg: Rotation about the long axis, in the image plane and forwards.
        shift_mm: Offset (x, z) of the centre of the image in the phantom.
        field_mm: Width and height of the field of view.
        photons: Photons per mm² without a patient.
        scatter: Fraction of the signal that is scattered.
        blur_mm: Standard deviation of the detector's blur.
        equalise: Fraction of the low frequencies that is subtracted (unsharp masking).
        window: Percentiles of the density that become black and white.
        gamma: Exponent of the tone curve.
    """

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
        """Draw pose (±6°), position, field, dose and tone; a portable (AP) tube stands closer."""
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
    """Compute the line integrals of a chest with its findings.

    Integrals are linear, so findings are projected separately and added.

    Args:
        findings: Findings of the class.
        incidental_findings: Findings that do not depend on the class.
        body: The patient's body.
        exposure: The acquisition.
        rng: Generator of the texture of the findings.
        size_px: Width and height of the image.

    Returns:
        The line integrals of the whole chest, and of `findings` alone, `(size_px, size_px)` each.
    """
    level = 2 if size_px <= 72 else 1 if size_px <= 160 else 0
    anatomy, coarse = load_phantom(level), load_phantom(max(level, 1))
    points = _ray_points(anatomy, body, exposure, size_px)
    present = [blobs for blobs in (findings, incidental_findings) if blobs]
    added = [build_attenuation(blobs, coarse, rng) for blobs in present]
    chest, *projected = _integrate_layers(
        anatomy.soft + body.bone * anatomy.bone, anatomy, added, coarse, points
    )
    of_findings = projected.pop(0) if findings else np.zeros_like(chest)
    of_incidental = projected.pop(0) if incidental_findings else np.zeros_like(chest)
    chest += _soft_tissue(chest, body, exposure, size_px)
    return chest + of_findings + of_incidental, of_findings


def _ray_points(volume: Phantom, body: Body, exposure: Exposure, size_px: int) -> np.ndarray:
    """Sample points `(K, H, W, 3)` in phantom mm (x, y, z), one plane K per step along the beam.

    The patient's scale, pose and warp displace the points, so that no volume is ever resampled.
    """
    step_mm = max(volume.spacing_mm[1], 2.8)
    depth = np.arange(-_DETECTOR_MM, _DETECTOR_MM, step_mm, dtype=np.float32)  # to the front
    x, z = _cone_beam(depth, exposure, size_px)
    y = depth[:, None, None]
    matrix = _rotation_matrix(exposure) / np.array(body.scale, np.float32)[::-1, None]
    centre = np.array(_CENTRE_MM, np.float32)
    warp = _interpolate_warp(body, (len(depth), size_px, size_px))
    points = np.empty((len(depth), size_px, size_px, 3), np.float32)
    for axis in range(3):
        to_x, to_y, to_z = matrix[axis]
        posed = to_x * x + to_y * y + to_z * z + centre[axis]
        np.add(posed, warp[axis], out=points[..., axis])
    return points


def _cone_beam(
    depth: np.ndarray, exposure: Exposure, size_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal `(K, 1, W)` and vertical `(K, H, 1)` position in mm of each ray in each plane."""
    along_beam = depth if exposure.view == "PA" else -depth
    to_detector = exposure.source_mm + _DETECTOR_MM
    magnification = (exposure.source_mm + along_beam) / to_detector  # 1 at the detector
    pixel = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px - 0.5
    detector = pixel * exposure.field_mm * to_detector / exposure.source_mm
    x = magnification[:, None, None] * (detector + exposure.shift_mm[0])[None, None, :]
    z = magnification[:, None, None] * (-detector + exposure.shift_mm[1])[None, :, None]
    return x, z


def _interpolate_warp(body: Body, shape: tuple[int, int, int]) -> np.ndarray:
    """The displacement in mm of every sample point, `(3, K, H, W)`."""
    import torch

    warp = torch.nn.functional.interpolate(
        torch.from_numpy(body.warp_mm)[None], size=shape, mode="trilinear", align_corners=True
    )
    return np.asarray(warp[0].numpy())


def _rotation_matrix(exposure: Exposure) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    turn, sway, lean = exposure.tilt_deg
    angles = [turn, 0.6 * sway, lean]  # about the long axis, in the image plane, forwards
    matrix = Rotation.from_euler("zyx", angles, degrees=True).as_matrix()
    return np.asarray(matrix, dtype=np.float32)


def _integrate_layers(
    chest: np.ndarray,
    anatomy: Phantom,
    added: list[np.ndarray],
    coarse: Phantom,
    points: np.ndarray,
) -> list[np.ndarray]:
    """Integrals of the chest on the grid of `anatomy`, then of each layer on the grid of `coarse`."""
    if coarse is anatomy:
        return _integrate([chest, *added], anatomy, points)
    projected = _integrate([chest], anatomy, points)
    return [*projected, *_integrate(added, coarse, points)] if added else projected


def _integrate(layers: list[np.ndarray], volume: Phantom, points: np.ndarray) -> list[np.ndarray]:
    """Integrals of layers on one grid over the planes of points: attenuation times length, unitless.

    All layers are sampled together, because finding the voxels around the points takes the most time.

    Args:
        layers: Attenuation relative to water, `(Z, Y, X)` each.
        volume: The phantom on whose grid the layers are.
        points: Points of `_ray_points`, `(K, H, W, 3)`.

    Returns:
        The integrals of each layer, `(H, W)`.
    """
    import torch

    extent = torch.from_numpy(volume.extent_mm[::-1].astype(np.float32).copy())
    grid = torch.from_numpy(points) * (2 / extent) - 1
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(np.stack(layers))[None],
        grid[None],
        mode="bilinear",
        padding_mode="border",  # shoulders and belly continue beyond the scan
        align_corners=False,
    )
    step_mm = 2 * _DETECTOR_MM / len(points)
    return [np.asarray(layer.sum(0).numpy() * (WATER_PER_MM * step_mm)) for layer in sampled[0]]


def _soft_tissue(chest: np.ndarray, body: Body, exposure: Exposure, size_px: int) -> np.ndarray:
    """Line integrals of soft tissue that the scanned patient lacks: fat all round, and breasts."""
    within = np.clip(chest / 0.8, 0, 1)
    pixel = ((np.arange(size_px) + 0.5) / size_px - 0.5) * exposure.field_mm
    x = pixel[None, :] + exposure.shift_mm[0]
    z = -pixel[:, None] + exposure.shift_mm[1]
    from_midline, height, radius = body.breast_shape
    thickness = np.zeros_like(chest)
    for side in (-1, 1):
        vertical = np.where(z < height, 1.4, 0.7) * (z - height)  # the lower edge is sharper
        distance = np.hypot((x - side * from_midline * body.scale[2]), vertical) / radius
        thickness += body.breast_mm * np.sqrt(np.clip(1 - distance**2, 0, 1))
    integrals = within * (body.habitus_mm + thickness) * 0.95 * WATER_PER_MM
    return np.asarray(integrals, dtype=np.float32)


def develop(integrals: np.ndarray, exposure: Exposure, rng: np.random.Generator) -> np.ndarray:
    """Turn line integrals into the image that is displayed, bones white.

    The steps are Beer-Lambert, scatter, detector blur, Poisson noise, logarithm, equalisation (unsharp
    masking), window and gamma.

    Args:
        integrals: Line integrals of the chest, `(H, W)`.
        exposure: The acquisition.
        rng: Generator of the noise.

    Returns:
        `(H, W)` uint8.
    """
    pixel_mm = exposure.field_mm / len(integrals)
    within = np.clip((integrals - 0.05) / 0.4, 0, 1)  # 1 inside the body
    density = _expose(integrals, within, exposure, rng, pixel_mm=pixel_mm)
    density = density - exposure.equalise * within * _smooth(density, 45 / pixel_mm)
    low, high = np.percentile(density[within > 0.5], exposure.window)
    tone = np.clip((density - low) / max(high - low, 1e-3), 0, 1) ** exposure.gamma
    return np.asarray(np.round(255 * within * (0.06 + 0.94 * tone)), dtype=np.uint8)


def _expose(
    integrals: np.ndarray,
    within: np.ndarray,
    exposure: Exposure,
    rng: np.random.Generator,
    *,
    pixel_mm: float,
) -> np.ndarray:
    """Optical density `(H, W)`: the negative logarithm of the photons that the detector counts."""
    intensity = np.exp(-integrals)
    scattered = _smooth(within * intensity, 60 / pixel_mm)
    direct = _smooth(intensity, exposure.blur_mm / pixel_mm)
    signal = (1 - exposure.scatter) * direct + exposure.scatter * scattered
    photons_per_pixel = exposure.photons * pixel_mm**2
    counts = rng.poisson(signal * photons_per_pixel)
    return np.asarray(-np.log(np.maximum(counts, 1) / photons_per_pixel))


def _smooth(image: np.ndarray, sigma_px: float) -> np.ndarray:
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(image, sigma_px))


def find_boxes(projection: np.ndarray) -> list[list[float]]:
    """Find the bounding boxes of a projected finding.

    Each connected component above a fifth of the peak gets a box, unless it covers less than 0.05 %
    of the image.

    Args:
        projection: Line integrals of the findings alone, `(H, W)`.

    Returns:
        Boxes [x0, y0, x1, y1] in fractions of width and height.
    """
    from scipy import ndimage

    if projection.max() <= 0.02:
        return []
    components, _ = ndimage.label(projection > 0.2 * projection.max())
    areas = np.bincount(components.ravel())[1:]
    height, width = projection.shape
    boxes = []
    for (rows, columns), area in zip(ndimage.find_objects(components), areas, strict=True):
        if area >= 0.0005 * projection.size:
            x0, x1 = columns.start / width, columns.stop / width
            y0, y1 = rows.start / height, rows.stop / height
            boxes.append([x0, y0, x1, y1])
    return boxes
