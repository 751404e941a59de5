"""Files with the same bytes, found without reading files that differ in size or in their beginning."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

from xraysynth.errors import XraysynthError
from xraysynth.files import sha256_file


def groups_of_equal(values: Iterable[Hashable | None]) -> list[list[int]]:
    """Return the positions of equal values, one list per value that occurs more than once.

    None is equal to nothing.

    >>> groups_of_equal([3, None, 3, 1, None])
    [[0, 2]]
    """
    positions: dict[Hashable, list[int]] = defaultdict(list)
    for position, value in enumerate(values):
        if value is not None:
            positions[value].append(position)
    return [group for group in positions.values() if len(group) > 1]


def find_copies(files: Mapping[int, Path], heads: Mapping[int, tuple[int, str]]) -> list[list[int]]:
    """Find files with the same bytes.

    Args:
        files: Number of the image -> its file.
        heads: Number of the image -> size of its file in bytes and digest of its beginning.

    Returns:
        Groups of numbers of images.
    """
    numbers = list(heads)
    groups = []
    for same_head in groups_of_equal(heads[number] for number in numbers):
        candidates = [numbers[position] for position in same_head]
        digests = [_digest(files[number]) for number in candidates]
        for group in groups_of_equal(digests):
            groups.append([candidates[position] for position in group])
    return sorted(groups)


def _digest(file: Path) -> str | None:
    try:
        return sha256_file(file)
    except (OSError, XraysynthError):
        return None


def digest_of_head(data: bytes) -> str:
    """Return a digest of the first bytes of a file."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
