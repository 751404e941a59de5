"""Originals: images as a service sent them, in the archive of a pool, with their SHA-256 in its journal."""

from collections.abc import Mapping
from pathlib import Path

from xraysynth.errors import DamagedPoolError, format_some
from xraysynth.files import file_fault
from xraysynth.jobs.store import iter_journal
from xraysynth.manifest import ListedFile, Manifest
from xraysynth.records import sha256_bytes

ORIGINAL_SUFFIXES = (".png", ".jpg", ".webp")
"""Suffixes of originals; the archive holds answers without their image, too."""

ARCHIVE_FACT = "archive_sha256"
"""Fact of the journal: suffix of a file in the archive -> its SHA-256. Earlier versions recorded none."""


def archive_digests(archive: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """Returns the fact that records what is archived of an image; empty if that is nothing.

    Args:
        archive: Bytes of each file, by its suffix without the dot.
    """
    digests = {suffix: sha256_bytes(data) for suffix, data in archive.items()}
    return {ARCHIVE_FACT: digests} if digests else {}


def original_files(manifest: Manifest) -> list[Path]:
    """Returns one file per image: the service's original if there is an archive of it, else the pool's PNG.

    Originals are checked against the SHA-256 in the pool's journal, where it has one.

    Args:
        manifest: Images of a pool.

    Raises:
        DamagedPoolError: Originals are changed or missing; it names them.
    """
    folder = manifest.folder / "archive"
    if not folder.is_dir():
        return manifest.files
    image_ids = manifest.table["image_id"].tolist()
    recorded = _recorded_originals(manifest.folder, set(image_ids))
    _require_unchanged(recorded, folder)
    originals: dict[str, Path] = {}
    for path in folder.glob("*"):
        if path.suffix in ORIGINAL_SUFFIXES:
            originals[path.stem] = path
    originals |= {image_id: file.path for image_id, file in recorded.items()}
    pairs = zip(image_ids, manifest.files, strict=True)
    return [originals.get(image_id, path) for image_id, path in pairs]


def _recorded_originals(pool: Path, image_ids: set[str]) -> dict[str, ListedFile]:
    """Returns image id -> the original whose SHA-256 the journal of a pool has."""
    originals: dict[str, ListedFile] = {}
    for entry in iter_journal(pool):
        if entry.outcome != "image" or entry.image_id not in image_ids:
            continue
        for suffix, sha256 in entry.facts.get(ARCHIVE_FACT, {}).items():
            name = f"{entry.image_id}.{suffix}"
            if Path(name).suffix in ORIGINAL_SUFFIXES:
                originals[entry.image_id] = ListedFile(pool / "archive" / name, sha256)
    return originals


def _require_unchanged(originals: Mapping[str, ListedFile], folder: Path) -> None:
    faults = []
    for path, sha256 in originals.values():
        fault = file_fault(path, sha256)
        if fault:
            faults.append(f"{path.name} ({fault})")
    if faults:
        raise DamagedPoolError(
            f"{len(faults)} of {len(originals)} originals in {folder} differ from the SHA-256 in the "
            f"journal of their pool: {format_some(faults)}; restore them from a copy, or delete {folder}: "
            "then the images of the pool are used in place of all originals"
        )
