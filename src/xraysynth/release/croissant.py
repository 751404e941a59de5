"""Croissant metadata of released images (Akhtar et al., arXiv:2403.19546), with its RAI part."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from xraysynth.errors import DataNotFoundError, XraysynthError, format_some
from xraysynth.records import sha256_bytes
from xraysynth.release.images import METADATA_FILE, SPLIT

CROISSANT_FILE = "croissant.json"
CONFORMS_TO = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]

_RECORD_SET = "images"
_TABLE = "metadata.csv"
_IMAGE_FILES = "png-files"
_COLUMN_DESCRIPTIONS = {
    "label": "Class that was requested; nobody has confirmed that it can be seen.",
    "prompt": "Prompt from which the image was generated.",
    "seed": "Seed from which the image was generated.",
    "sha256": "SHA-256 of the file.",
}


def require_mlcroissant() -> Any:
    """Imports mlcroissant.

    Raises:
        DataNotFoundError: If it is not installed; the message says how to install it.
    """
    try:
        import mlcroissant
    except ImportError as error:
        raise DataNotFoundError(
            "a data release needs mlcroissant; install it with: pip install 'xraysynth[hub]', or "
            "leave the images out with release.parts=[model,study]"
        ) from error
    return mlcroissant


def write_croissant(
    folder: Path,
    *,
    name: str,
    description: str,
    licence: str,
    url: str,
    version: str,
    published: datetime,
    rai: dict[str, str | list[str]],
) -> Path:
    """Describes the image folder in `croissant.json` and validates that file.

    Args:
        folder: Folder of the released part, with its images and table.
        name: Name of the data set.
        description: One sentence about it.
        licence: Name of its licence.
        url: Its address, or "".
        version: Version of xraysynth.
        published: Time of the release.
        rai: Fields of Croissant's RAI vocabulary, named as in `mlcroissant.Metadata`.

    Returns:
        The file.

    Raises:
        XraysynthError: If mlcroissant finds an error in the file.
    """
    mlc = require_mlcroissant()
    metadata = mlc.Metadata(
        name=name,
        description=description,
        conforms_to=CONFORMS_TO,
        license=[licence],
        url=url or None,
        cite_as=f"{name}: synthetic chest radiographs, made with xraysynth {version}",
        version=version,
        date_published=published,
        distribution=_build_distribution(mlc, folder / METADATA_FILE),
        record_sets=[_build_record_set(mlc)],
        **rai,
    )
    path = folder / CROISSANT_FILE
    text = json.dumps(metadata.to_json(), indent=1, default=str, ensure_ascii=False)
    path.write_text(_escape_html(text) + "\n", encoding="utf-8")
    require_valid_croissant(path)
    return path


def _escape_html(json_text: str) -> str:
    """Writes JSON so that a page that embeds it holds no HTML of it; its values stay the same."""
    for character in "<>&":
        json_text = json_text.replace(character, f"\\u{ord(character):04x}")
    return json_text


def require_valid_croissant(path: Path) -> None:
    """Checks a file with mlcroissant.

    Raises:
        XraysynthError: If mlcroissant finds an error.
    """
    mlc = require_mlcroissant()
    try:
        errors: Sequence[object] = sorted(mlc.Dataset(path).metadata.ctx.issues.errors)
    except mlc.ValidationError as error:
        errors = [error]
    if errors:
        raise XraysynthError(f"{path.name} is not valid Croissant: {format_some(errors)}")


def _build_distribution(mlc: Any, table: Path) -> list[Any]:
    """Describes the files of a release: the table and the images."""
    return [
        mlc.FileObject(
            id=_TABLE,
            name=_TABLE,
            description="One row per image.",
            content_url=METADATA_FILE,
            encoding_formats=["text/csv"],
            sha256=sha256_bytes(table.read_bytes()),
        ),
        mlc.FileSet(
            id=_IMAGE_FILES,
            name=_IMAGE_FILES,
            description="The images, in one folder per class.",
            encoding_formats=["image/png"],
            includes=[f"{SPLIT}/*/*.png"],
        ),
    ]


def _build_record_set(mlc: Any) -> Any:
    """Describes one record per image: its pixels, its path, and the columns of the table."""
    fields = [_image_field(mlc), _path_field(mlc)]
    for column, description in _COLUMN_DESCRIPTIONS.items():
        data_type = mlc.DataType.INTEGER if column == "seed" else mlc.DataType.TEXT
        source = mlc.Source(file_object=_TABLE, extract=mlc.Extract(column=column))
        fields.append(_build_field(mlc, column, description, data_type, source))
    return mlc.RecordSet(
        id=_RECORD_SET,
        name=_RECORD_SET,
        description="The images with the class, prompt and seed from which they were generated.",
        fields=fields,
    )


def _image_field(mlc: Any) -> Any:
    content = mlc.Extract(file_property=mlc.FileProperty.content)
    source = mlc.Source(file_set=_IMAGE_FILES, extract=content)
    return _build_field(
        mlc, "image", "Grey image, 8 bits per pixel.", mlc.DataType.IMAGE_OBJECT, source
    )


def _path_field(mlc: Any) -> Any:
    """Describes the path of an image below its split, by which the image is joined to its row."""
    source = mlc.Source(
        file_set=_IMAGE_FILES,
        extract=mlc.Extract(file_property=mlc.FileProperty.fullpath),
        transforms=[mlc.Transform(regex=f"^(?:.*{SPLIT}/)?(.+)$")],
    )
    column = mlc.Extract(column="file_name")
    row = mlc.Source(file_object=_TABLE, extract=column)
    return _build_field(mlc, "file_name", "Path of the image.", mlc.DataType.TEXT, source, row)


def _build_field(
    mlc: Any, name: str, description: str, data_type: Any, source: Any, references: Any = None
) -> Any:
    join = {"references": references} if references is not None else {}
    return mlc.Field(
        id=f"{_RECORD_SET}/{name}",
        name=name,
        description=description,
        data_types=data_type,
        source=source,
        **join,
    )
