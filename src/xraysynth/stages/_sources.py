"""Images of sources, read once into the study's format: grey, square, `size_px` pixels a side."""

from pathlib import Path
from typing import Any

import pandas as pd

from xraysynth.config import Config
from xraysynth.data.cohort import SourceCollection
from xraysynth.data.screening import count_unusable, require_few_unusable
from xraysynth.data.sources.base import Source
from xraysynth.data.sources.parallel import load_images
from xraysynth.errors import ImageError
from xraysynth.jobs.store import ImageStore, find_damaged_images
from xraysynth.manifest import COLUMNS, patient_keys
from xraysynth.progress import progress_bar
from xraysynth.seeds import digest, identity
from xraysynth.stages._workspace import Workspace

MAX_LISTED_IMAGES = 20
"""How many of the images that cannot be read an error message lists."""


PERSON_LINKING = {"linked": "persons"}
"""Entry in the identity of jobs whose result depends on the linking of patients by near-duplicates.

Earlier versions linked images instead of persons; this entry gives their jobs other keys.
"""


def cohorts_folder(workspace: Workspace) -> Path:
    """Return the folder of prepared images, manifests and audits."""
    return workspace.output / "cohorts"


def sources_identity(config: Config, collection: SourceCollection) -> dict[str, Any]:
    """Return the settings and rows that decide the pixels, labels and patients of the images."""
    return {
        "classes": config.classes,
        "size_px": config.size_px,
        "missing_patient_id": config.missing_patient_id.value,
        **config.screening.pixel_identity(),
        **collection.identity(),
    }


def image_files(workspace: Workspace, table: pd.DataFrame) -> list[Path]:
    """Return the file of every row of a table that `read_sources` returned."""
    folder = cohorts_folder(workspace)
    return [folder / path for path in table["path"]]


def count_patients(table: pd.DataFrame) -> int:
    """Return the number of patients, each counted once per source."""
    return int(patient_keys(table).nunique())


def read_sources(workspace: Workspace, collection: SourceCollection) -> pd.DataFrame:
    """Read every image of all sources; images that were read before are not read again.

    Args:
        workspace: Gives the image size, and the folder that holds one image store per source.
        collection: The sources and their rows.

    Returns:
        One row per image with the columns of a manifest that the sources fill, `path` (relative to
        `cohorts_folder`) and `sha256`.

    Raises:
        ImageError: If images of a source cannot be used; the others are kept.
    """
    config, folder = workspace.config, cohorts_folder(workspace)
    tables = []
    for source in collection.sources:
        rows, not_used = collection.rows[source.name], collection.not_used(source.name)
        require_few_unusable(
            not_used,
            source=source.name,
            listed=len(rows) + count_unusable(not_used),
            policy=config.screening,
        )
        tables.append(_read_source(source, rows, config, folder))
    return pd.concat(tables, ignore_index=True)


def _read_source(source: Source, rows: pd.DataFrame, config: Config, folder: Path) -> pd.DataFrame:
    """Read the images of one source that its store lacks, and return the table of all of them."""
    pixel_identity = {"size_px": config.size_px, **config.screening.pixel_identity()}
    store = ImageStore(folder, source.name, {"source": identity(source), **pixel_identity})
    rows = rows.assign(name=_stored_names(rows))
    errors = _store_missing_images(source, store, rows, config)
    if errors:
        listed_errors = "\n  ".join(errors[:MAX_LISTED_IMAGES])
        raise ImageError(
            f"source {source.name}: {len(errors)} of {len(rows)} images cannot be used; repair or remove "
            "them, and run it again (the other images are kept and will not be read again):\n  "
            f"{listed_errors}"
        )
    return _join_with_store(source, store, rows)


def _stored_names(rows: pd.DataFrame) -> list[str]:
    """Name of each image in the store; an image that changed on disk has another stamp and name."""
    names = []
    for image_id, stamp in zip(rows["image_id"], rows["stamp"], strict=True):
        names.append(f"{image_id}-{digest(stamp)[:6]}")
    return names


def _store_missing_images(
    source: Source, store: ImageStore, rows: pd.DataFrame, config: Config
) -> list[str]:
    """Add the images that the store lacks or holds damaged; return a message for each unreadable one."""
    errors = []
    with store.writer() as writer:
        stored = store.table()
        damaged = find_damaged_images(stored, folder=store.folder)
        intact = stored.loc[~stored["path"].isin(damaged.keys()), "image_id"]
        missing = rows.loc[~rows["name"].isin(intact)]
        locators, crop_borders = list(missing["locator"]), config.screening.crop_borders
        images = load_images(source, locators, config.size_px, crop_borders=crop_borders)
        with progress_bar(f"read {source.name}", len(missing)) as bar:
            for name, image in zip(missing["name"], images, strict=True):
                if isinstance(image, str):
                    errors.append(image)
                else:
                    png, columns = image
                    writer.add(name, png, columns=columns)
                bar.update()
    return errors


def _join_with_store(source: Source, store: ImageStore, rows: pd.DataFrame) -> pd.DataFrame:
    """Join the rows of a source with what reading its images has found; the latter takes precedence."""
    stored = store.table().set_index("image_id").loc[rows["name"]].set_index(rows.index)
    read_columns = stored.drop(columns=["path", "sha256"]).dropna(axis=1, how="all")
    manifest_columns = rows[[name for name in rows.columns if name in COLUMNS]]
    listed_columns = manifest_columns.drop(columns=list(read_columns), errors="ignore")
    return pd.concat([listed_columns, read_columns], axis=1).assign(
        image_id=f"{source.name}-" + rows["image_id"].astype(str),
        path=f"{store.folder.name}/images/" + rows["name"] + ".png",
        sha256=stored["sha256"],
    )
