"""What prepare records of screening: counts, examples with small pictures, and a table of all images."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd

from xraysynth.data.cohort import SourceCollection
from xraysynth.data.duplicates import Pairs
from xraysynth.data.recipe import Screening, UnusableImages
from xraysynth.data.screening import (
    ScreenedImage,
    ScreeningCounts,
    ScreeningSummary,
    choose_examples,
    format_counts,
)
from xraysynth.data.source_images import SourceImages
from xraysynth.data.sources.base import Source
from xraysynth.data.two_labels import pairs_with_two_labels
from xraysynth.errors import XraysynthError
from xraysynth.files import sha256_file, write_atomically, write_csv
from xraysynth.images import encode_png, pad_and_resize
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.records import from_json, to_json
from xraysynth.seeds import short_digest

THUMBNAIL_PX = 112
"""Side in pixels of the picture of an image that is not used."""

MAX_EXAMPLE_PAIRS = 20
"""Number of pairs of near-duplicates with two labels that the audit names."""


def screening_table_path(folder: Path, key: str) -> Path:
    """Return the CSV that lists every image that is not simply used.

    Args:
        folder: Folder of the cohorts.
        key: Key of the job that prepares the images.
    """
    return folder / f"screening-{key}.csv"


def write_screening_table(images: SourceImages, path: Path) -> str:
    """Write one row per image that is not simply used; return the path, "" if there is none."""
    if not images.screened:
        path.unlink(missing_ok=True)  # of an earlier run of the same job
        return ""
    table = pd.DataFrame(to_json(list(images.screened)))
    write_csv(table.assign(reasons=table["reasons"].map("; ".join)), path)
    return str(path)


def print_screening(counts: Mapping[str, ScreeningCounts]) -> None:
    """Print one line per source whose images are not all simply used."""
    for line in format_counts(counts):
        print(line, file=sys.stderr, flush=True)


def is_within_policy(job: Job, policy: Screening) -> bool:
    """Return whether a finished preparation has left out no more unusable images than are allowed.

    A preparation of an earlier version, which recorded no counts, is.
    """
    for values in job.record().result.get("screening", {}).values():
        counts = from_json(ScreeningCounts, values)
        n_unusable = sum(counts.unusable.values())
        allowed = policy.most_left_out * (counts.used + n_unusable)
        if n_unusable > (0 if policy.unusable is UnusableImages.stop else allowed):
            return False
    return True


def has_more_usable_images(result: ResultLine, counts: Mapping[str, ScreeningCounts]) -> bool:
    """Return whether images can be used now that could not be used when a preparation was done.

    Args:
        result: The result of the preparation; of an earlier version, it has no counts.
        counts: What screening finds now.
    """
    for source, values in result.get("screening", {}).items():
        recorded = from_json(ScreeningCounts, values)
        if source in counts and counts[source].used > recorded.used:
            return True
    return False


def summarize_screening(
    collection: SourceCollection, images: SourceImages, pairs: Pairs, *, pictures: Path
) -> ScreeningSummary:
    """Count the images by what became of them, and choose examples.

    Args:
        collection: The sources.
        images: Their images after screening, with their splits.
        pairs: Near-duplicates as row numbers of `images.table`.
        pictures: Folder for small pictures of the examples that are not used, in the folder of cohorts.
    """
    ids = images.table["image_id"].tolist()
    crossing = pairs_with_two_labels(images.table["label"], pairs)
    held_out = images.table[images.table["split"] != "train"]
    held_out_paths = set(held_out["path"])
    shown_first = sorted(images.screened, key=lambda image: image.thumbnail in held_out_paths)
    examples = _without_held_out(
        choose_examples(shown_first), set(held_out["sha256"]), folder=pictures.parent
    )
    return ScreeningSummary(
        counts=images.counts(),
        examples=_with_pictures(examples, collection, pictures),
        near_duplicates_with_two_labels=len(crossing),
        two_label_examples=[f"{ids[i]} ~ {ids[j]}" for i, j in crossing[:MAX_EXAMPLE_PAIRS]],
    )


def _without_held_out(
    examples: list[ScreenedImage], held_out_sha256: set[str], *, folder: Path
) -> list[ScreenedImage]:
    """Return the examples without pictures of validation and test images, which nobody should look at."""
    shown = []
    for image in examples:
        if image.thumbnail and sha256_file(folder / image.thumbnail) in held_out_sha256:
            image = replace(image, thumbnail="")
        shown.append(image)
    return shown


def _with_pictures(
    examples: list[ScreenedImage], collection: SourceCollection, pictures: Path
) -> list[ScreenedImage]:
    """Return the examples, each with the path and the SHA-256 of a picture where one can be made."""
    sources = {source.name: source for source in collection.sources}
    locators = collection.locators_not_used()
    with_pictures = []
    for image in examples:
        locator = locators.get((image.source, image.image_id))
        if locator is not None and not image.thumbnail:
            name = short_digest([image.source, image.image_id])
            if _write_picture(sources[image.source], locator, pictures / f"{name}.png"):
                image = replace(image, thumbnail=f"{pictures.name}/{name}.png")
        if image.thumbnail:
            sha256 = sha256_file(pictures.parent / image.thumbnail)
            image = replace(image, thumbnail_sha256=sha256)
        with_pictures.append(image)
    return with_pictures


def _write_picture(source: Source, locator: str, path: Path) -> bool:
    """Write a small picture of an image that is not used; return whether it can be read."""
    with suppress(XraysynthError):
        loaded = source.load(locator, THUMBNAIL_PX)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, encode_png(pad_and_resize(loaded.pixels, THUMBNAIL_PX)))
        return True
    return False
