"""Notes of batches that were submitted: they outlive the process, and say what may yet be billed.

    <folder>/api/<mark>.batch    a batch that was submitted, until its results are yielded

The mark is our own; no file is named by text of the service.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xraysynth.errors import ManifestError
from xraysynth.files import write_atomically
from xraysynth.generation.images_api.outcomes import ApiError
from xraysynth.records import from_json, to_json


@dataclass(frozen=True)
class SubmittedBatch:
    """A batch as it is noted on disk.

    Attributes:
        mark: Our own name of the batch: of its note, and in the service's list.
        ids: The image ids of its requests.
        id: The service's id of the batch; None until the service has answered.
        max_usd: Highest price of one of its requests; None in notes of earlier versions.
    """

    mark: str
    ids: Sequence[str]
    id: str | None = None
    max_usd: float | None = None


def load_batches(folder: Path) -> list[SubmittedBatch]:
    """Loads all batches that are noted in a folder.

    Args:
        folder: The folder that holds `api`.

    Raises:
        ApiError: If a note is damaged.
    """
    batches = []
    for path in sorted((folder / "api").glob("*.batch")):
        try:
            batch = from_json(SubmittedBatch, json.loads(path.read_text()))
        except (ValueError, ManifestError):
            raise ApiError(
                f"{path} is damaged: it must hold the images of a batch that was submitted. Restore it, "
                "or delete it and run this again: that submits, and pays for, its images once more"
            ) from None
        batches.append(replace(batch, mark=path.stem))  # a mark in the text could name any file
    return batches


def save_batch(folder: Path, batch: SubmittedBatch) -> None:
    """Notes a batch in place of an earlier note."""
    write_atomically(_note_path(folder, batch), json.dumps(to_json(batch)).encode())


def delete_batch(folder: Path, batch: SubmittedBatch) -> None:
    """Deletes the note of a batch."""
    _note_path(folder, batch).unlink(missing_ok=True)


def open_batches_usd(
    folder: Path, *, except_ids: Collection[str], default_max_usd: float = 0.0
) -> float:
    """Returns the dollars that batches may yet cost.

    Args:
        folder: The folder that holds `api`.
        except_ids: Image ids that are not counted.
        default_max_usd: Highest price of a request in notes that do not have it.
    """
    total_usd = 0.0
    for batch in load_batches(folder):
        max_usd = default_max_usd if batch.max_usd is None else batch.max_usd
        total_usd += max_usd * len(set(batch.ids) - set(except_ids))
    return total_usd


def forget_committed_images(folder: Path, image_ids: Collection[str]) -> None:
    """Removes images whose results the pool has from all notes, and notes without any other image."""
    for batch in load_batches(folder):
        open_ids = [image_id for image_id in batch.ids if image_id not in image_ids]
        if not open_ids:
            delete_batch(folder, batch)
        elif len(open_ids) < len(batch.ids):
            save_batch(folder, replace(batch, ids=open_ids))


def _note_path(folder: Path, batch: SubmittedBatch) -> Path:
    return folder / "api" / f"{batch.mark}.batch"
