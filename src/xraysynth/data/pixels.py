"""The pixel cache: the images of a manifest, decoded once and stored as one array.

The SHA-256 of the array's file follows it, where numpy does not look, so that a file which was altered
or cut is made again.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from xraysynth.errors import ImageError, format_some
from xraysynth.files import atomic_path, exclusive_lock, remove_leftovers, sha256_file
from xraysynth.images import decode_image, pad_and_resize
from xraysynth.manifest import Manifest
from xraysynth.progress import progress_bar
from xraysynth.records import sha256_bytes
from xraysynth.seeds import short_digest
from xraysynth.threads import available_cores

_DIGEST_BYTES = 32


def load_cached_pixels(
    manifest: Manifest, *, size_px: int, folder: Path, memory_mapped: bool = False
) -> np.ndarray:
    """Load the pixels of a manifest from the cache, or decode and cache them.

    Files are checked against the SHA-256 in the manifest when they are decoded.

    Args:
        manifest: N images.
        size_px: Width and height to which images are padded and resized (`pad_and_resize`).
        folder: Folder of the cache.
        memory_mapped: Whether to map the array into memory instead of reading it.

    Returns:
        `(N, size_px, size_px)` uint8, in the order of the manifest.

    Raises:
        ImageError: Files are missing, damaged or changed (the message names them), or the cache
            cannot be read back.
    """
    path = Path(folder) / f"pixels-{_cache_key(manifest)}-{size_px}.npy"
    shape = (len(manifest), size_px, size_px)
    pixels = _open_cached(path, shape, memory_mapped)
    if pixels is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(path.with_suffix(".lock")):
            # a process that has waited for the lock may find the images decoded
            if _open_cached(path, shape, True) is None:
                remove_leftovers(path)
                _build_cache(manifest, path, shape)
        pixels = _open_cached(path, shape, memory_mapped)
    if pixels is None:
        raise ImageError(f"{path}: the pixel cache cannot be read back; check the disk")
    return pixels


def _cache_key(manifest: Manifest) -> str:
    """Return a digest of the manifest, and of size and mtime of the files without SHA-256 in it."""
    has_no_hash = manifest.table["sha256"] == ""
    if not has_no_hash.any():
        return manifest.digest()[:12]
    file_stats = []
    for file in manifest.where(has_no_hash).files:
        if file.exists():
            stat = file.stat()
            file_stats.append((str(file), stat.st_size, stat.st_mtime_ns))
    return short_digest([manifest.digest(), file_stats])


def _open_cached(path: Path, shape: tuple[int, int, int], memory_mapped: bool) -> np.ndarray | None:
    try:
        if not _has_its_digest(path):
            return None
        array: np.ndarray = np.load(path, mmap_mode="r" if memory_mapped else None)
    except (OSError, ValueError, EOFError):  # the file does not exist yet, or is no array
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def _has_its_digest(path: Path) -> bool:
    """Whether the bytes before the last 32 have the SHA-256 that these are."""
    size = path.stat().st_size - _DIGEST_BYTES
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        return file.read().hex() == sha256_file(path, size)


def _build_cache(manifest: Manifest, path: Path, shape: tuple[int, int, int]) -> None:
    with atomic_path(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        _reserve_space(partial)
        damaged = _decode_into(array, manifest)
        if damaged:
            raise ImageError(
                f"{len(damaged)} of {len(manifest)} images cannot be used: {format_some(damaged)}"
            )
        array.flush()
        sha256 = sha256_file(partial)
        with partial.open("ab") as file:
            file.write(bytes.fromhex(sha256))


def _reserve_space(path: Path) -> None:
    """Raise OSError if the disk has no space for a file: writing to its memory map would kill us."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _decode_into(array: np.ndarray, manifest: Manifest) -> list[str]:
    """Fill the array in threads (decoding releases the GIL); return the messages of failed files."""
    messages = []
    with (
        ThreadPoolExecutor(available_cores()) as executor,
        progress_bar("decode", len(manifest)) as bar,
    ):
        for message in executor.map(_decode_file, array, manifest.files, manifest.table["sha256"]):
            bar.update()
            if message:
                messages.append(message)
    return messages


def _decode_file(row: np.ndarray, path: Path, sha256: str) -> str:
    """Decode one file into its row of the array; return the error message, "" if there is none."""
    try:
        data = path.read_bytes()
        if sha256 and sha256_bytes(data) != sha256:
            return (
                f"{path}: SHA-256 differs from the manifest; it is read again by "
                "xraysynth prepare with the same options"
            )
        row[:] = pad_and_resize(decode_image(data, str(path)), len(row))
        return ""
    except OSError as error:
        return f"{path}: {error.strerror}; restore it or run prepare again, or correct the manifest"
    except ImageError as error:
        return str(error)
