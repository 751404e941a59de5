"""Croissant metadata of a released pool (Akhtar et al., arXiv:2403.19546), with its RAI part."""

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


def require_mlcroissant() -> Any:
    """The library, or an error that says how to get it."""
    try:
        import mlcroissant as found
    except ImportError as error:
        raise DataNotFoundError(
            "a data release needs mlcroissant; install it with: pip install 'xraysynth[hub]', or "
            "leave the images out with release.parts=[model,study]"
        ) from error
    return found


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
    """Describe the image folder in `croissant.json` and read that back, which validates it.

    `rai` holds fields of Croissant's RAI vocabulary, named as in `require_mlcroissant.Metadata`.
    """
    mlc = require_mlcroissant()
    table = folder / METADATA_FILE
    distribution = [
        mlc.FileObject(
            id="metadata.csv",
            name="metadata.csv",
            description="One row an image.",
            content_url=METADATA_FILE,
            encoding_formats=["text/csv"],
            sha256=sha256_bytes(table.read_bytes()),
        ),
        mlc.FileSet(
            id="png-files",
            name="png-files",
            description="The images, a folder a class.",
            encoding_formats=["image/png"],
            includes=[f"{SPLIT}/*/*.png"],
        ),
    ]
    metadata = mlc.Metadata(
        name=name,
        description=description,
        conforms_to=CONFORMS_TO,
        license=[licence],
        url=url or None,
        cite_as=f"{name}: synthetic chest radiographs, made with xraysynth {version}",
        version=version,
        date_published=published,
        distribution=distribution,
        record_sets=[_build_record_set(mlc)],
        **rai,
    )
    path = folder / CROISSANT_FILE
    text = json.dumps(metadata.to_json(), indent=1, default=str, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    require_valid_croissant(path)
    return path


def require_valid_croissant(path: Path) -> None:
    """Raise if mlcroissant finds an error in the file."""
    mlc = require_mlcroissant()
    try:
        found: Sequence[str] = sorted(mlc.Dataset(path).metadata.ctx.issues.errors)
    except mlc.ValidationError as error:
        found = [str(error)]
    if found:
        raise XraysynthError(f"{path.name} is not valid Croissant: {format_some(map(str, found))}")


def _build_record_set(mlc: Any) -> Any:
    text, number = mlc.DataType.TEXT, mlc.DataType.INTEGER
    columns = {
        "label": (text, "Class that was asked for; nobody has confirmed that it can be seen."),
        "prompt": (text, "Prompt the image was made from."),
        "seed": (number, "Seed the image was made from."),
        "sha256": (text, "SHA-256 of the file."),
    }
    fields = [_image_field(mlc), _path_field(mlc)]
    for name, (kind, description) in columns.items():
        source = mlc.Source(file_object="metadata.csv", extract=mlc.Extract(column=name))
        fields.append(_build_field(mlc, name, description, kind, source))
    return mlc.RecordSet(
        id=_RECORD_SET,
        name=_RECORD_SET,
        description="The images with the class, prompt and seed they were made from.",
        fields=fields,
    )


def _image_field(mlc: Any) -> Any:
    content = mlc.Extract(file_property=mlc.FileProperty.content)
    source = mlc.Source(file_set="png-files", extract=content)
    return _build_field(
        mlc, "image", "Grey image, 8 bits a pixel.", mlc.DataType.IMAGE_OBJECT, source
    )


def _path_field(mlc: Any) -> Any:
    """The path of an image below its split, by which it is joined to its row."""
    source = mlc.Source(
        file_set="png-files",
        extract=mlc.Extract(file_property=mlc.FileProperty.fullpath),
        transforms=[mlc.Transform(regex=f"^(?:.*{SPLIT}/)?(.+)$")],
    )
    column = mlc.Extract(column="file_name")
    row = mlc.Source(file_object="metadata.csv", extract=column)
    return _build_field(mlc, "file_name", "Path of the image.", mlc.DataType.TEXT, source, row)


def _build_field(
    mlc: Any, name: str, description: str, data_type: Any, source: Any, references: Any = None
) -> Any:
    joined = {"references": references} if references is not None else {}
    return mlc.Field(
        id=f"{_RECORD_SET}/{name}",
        name=name,
        description=description,
        data_types=data_type,
        source=source,
        **joined,
    )
