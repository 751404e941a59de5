"""Calls and batches whose results a pool does not have, and which may have been billed nevertheless."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from xraysynth.generation.images_api import batch_notes
from xraysynth.generation.images_api.pricing import Pricing
from xraysynth.generation.images_api.response_cache import ResponseCache
from xraysynth.records import Request


def unsettled_usd(folder: Path, *, committed_ids: Collection[str]) -> float:
    """Returns what calls and batches without a result in a pool may have cost.

    Args:
        folder: The pool's folder.
        committed_ids: Images whose results, and costs, the pool's journal has.
    """
    if not (folder / "api").is_dir():
        return 0.0
    calls_usd = ResponseCache(str(folder)).unsettled_usd(except_ids=committed_ids)
    return calls_usd + batch_notes.open_batches_usd(folder, except_ids=committed_ids)


def unsettled_usd_before(
    folder: Path, requests: Sequence[Request], pricing: Pricing, *, batch: bool
) -> float:
    """Returns what calls and batches of earlier runs may have cost that the next run will not settle.

    A run of calls settles the calls that are noted for its own requests, and a run in batches their
    batches; all others are counted here.

    Args:
        folder: The pool's folder.
        requests: The requests of the next run.
        pricing: The price of one call.
        batch: Whether the next run uses batches.
    """
    requested_ids = {request.image_id for request in requests}
    if not batch:
        _warn_of_open_batches(folder, requested_ids)
    calls_usd = ResponseCache(str(folder)).unsettled_usd(except_ids=() if batch else requested_ids)
    batches_usd = batch_notes.open_batches_usd(
        folder,
        except_ids=requested_ids if batch else (),
        default_max_usd=max((pricing.max_usd(request.prompt) for request in requests), default=0.0),
    )
    return calls_usd + batches_usd


def _warn_of_open_batches(folder: Path, requested_ids: Collection[str]) -> None:
    """Warns that images in a batch will be paid for twice, as a run of calls collects no batch."""
    batched_ids: set[str] = set()
    for batch in batch_notes.load_batches(folder):
        batched_ids.update(batch.ids)
    count = len(batched_ids.intersection(requested_ids))
    if count:
        print(
            f"warning: {count} of the images are in a batch that was submitted, and are now requested and "
            "paid for once more; stop this and run it with the generator's option batch=true to use it",
            file=sys.stderr,
            flush=True,
        )


def forget_committed_images(folder: Path, image_ids: Collection[str]) -> None:
    """Removes what is noted of images whose results a pool has.

    A process that is killed between the two leaves it behind, where it would be counted again.

    Args:
        folder: The pool's folder.
        image_ids: Images that will not be requested again.
    """
    if (folder / "api").is_dir():
        ResponseCache(str(folder)).forget_committed_images(image_ids)
        batch_notes.forget_committed_images(folder, image_ids)
