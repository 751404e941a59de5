"""The pixels of a manifest, decoded once and kept on disk."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from xraysynth.errors import ImageError, format_some
from xraysynth.files import atomic_path, exclusive_lock, remove_leftovers
from xraysynth.images import decode_image, pad_and_resize
from xraysynth.manifest import Manifest
from xraysynth.progress import progress_bar
from xraysynth.records import sha256_bytes
from xraysynth.seeds import short_digest


def load_cached_pixels(
    manifest: Manifest, *, size_px: int, folder: Path, memory_mapped: bool = False
) -> np.ndarray:
    """`(N, size_px, size_px)` uint8, every image in study format; decoded once, kept in `folder`,
    and read from there as a memory map on request.

    Files are checked against the SHA-256 in the manifest. Raises `ImageError` naming every file
    that is missing, damaged or changed.
    """
    path = Path(folder) / f"pixels-{_cache_key(manifest)}-{size_px}.npy"
    shape = (len(manifest), size_px, size_px)
    kept = _open_cached(path, shape, memory_mapped)
    if kept is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(path.with_suffix(".lock")):  # who waited finds it decoded
            if _open_cached(path, shape, True) is None:
                remove_leftovers(path)
                _build_cache(manifest, path, shape)
        kept = _open_cached(path, shape, memory_mapped)
    if kept is None:
        raise ImageError(f"{path}: cannot be read back; check the disk")
    return kept


def _cache_key(manifest: Manifest) -> str:
    table = manifest.table
    unhashed = [f for f, sha in zip(manifest.files, table["sha256"], strict=True) if not sha]
    if not unhashed:
        return manifest.digest()[:12]
    stats = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in unhashed if f.exists()]
    return short_digest([manifest.digest(), stats])


def _open_cached(path: Path, shape: tuple[int, int, int], memory_mapped: bool) -> np.ndarray | None:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r" if memory_mapped else None)
    except (OSError, ValueError, EOFError):  # not there yet, or cut short
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def _build_cache(manifest: Manifest, path: Path, shape: tuple[int, int, int]) -> None:
    with atomic_path(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        damaged = _decode_into(array, manifest)
        if damaged:
            raise ImageError(
                f"{len(damaged)} of {len(manifest)} images cannot be used: {format_some(damaged)}"
            )
        array.flush()


def _decode_into(array: np.ndarray, manifest: Manifest) -> list[str]:
    """Fill the array in threads (decoding releases the GIL); the messages of what failed."""
    jobs = list(zip(array, manifest.files, manifest.table["sha256"], strict=True))
    damaged = []
    with ThreadPoolExecutor() as executor, progress_bar("decode", len(jobs)) as bar:
        for message in executor.map(lambda job: _decode_file(*job), jobs):
            bar.update()
            damaged += [message] if message else []
    return damaged


def _decode_file(row: np.ndarray, path: Path, sha256: str) -> str:
    try:
        data = path.read_bytes()
        if sha256 and sha256_bytes(data) != sha256:
            return f"{path}: SHA-256 differs from the manifest; restore it or prepare again"
        row[:] = pad_and_resize(decode_image(data, str(path)), len(row))
        return ""
    except OSError as error:
        return f"{path}: {error.strerror}; check the path in the manifest"
    except ImageError as error:
        return str(error)
