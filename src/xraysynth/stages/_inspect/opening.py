"""Archives among the paths of an inspection are unpacked, safely and once."""

from pathlib import Path

from xraysynth.data.fetching.unpacking import is_archive, unpack
from xraysynth.errors import DataNotFoundError


def open_path(path: Path, folder: Path) -> Path:
    """Return the path, or the folder into which its archive is unpacked.

    Args:
        path: The path that the user gave.
        folder: Folder of the inspection.

    Raises:
        DataNotFoundError: There is nothing at the path.
        ArchiveError: The archive is damaged, too large, or would write outside its folder.
    """
    path = path.expanduser()
    if not path.exists():
        raise DataNotFoundError(f"there is nothing at {path.absolute()}; check the path")
    if not (path.is_file() and is_archive(path)):
        return path.absolute()
    target = folder / "unpacked" / path.name.partition(".")[0]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unpack(path, target)
    return target.absolute()
