"""Released images: PNG files that state that they are synthetic, and the table beside them."""

import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from xraysynth.class_names import class_file_name
from xraysynth.errors import PoolError
from xraysynth.files import write_csv
from xraysynth.images import name_decoder_errors, open_image, read_file
from xraysynth.manifest import Manifest
from xraysynth.progress import progress_bar
from xraysynth.records import sha256_bytes

DISCLAIMER = "Synthetic image, not for diagnosis"
TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's digital source type of media made by a trained model."""

SPLIT = "train"
METADATA_FILE = f"{SPLIT}/metadata.csv"
COLUMNS = ("file_name", "label", "prompt", "seed", "sha256")


def with_png_text(data: bytes, text: Mapping[str, str], name: str = "PNG") -> bytes:
    """Returns a PNG with the same pixels and exactly this text, without any other metadata.

    HTML in the values is escaped, as pages may show them: `html.unescape` returns them as they were.

    Args:
        data: A PNG file.
        text: Keyword -> value of each text chunk.
        name: Name of the file, for the messages.

    Raises:
        ImageError: If the file is no readable image.
        PoolError: If a pixel would change.
    """
    with name_decoder_errors(name):
        plain = Image.fromarray(np.asarray(open_image(data, name)))
    chunks = PngInfo()
    for keyword, value in text.items():
        escaped = html.escape(value, quote=False)
        chunks.add_text(keyword, escaped)  # tEXt, or iTXt for characters outside Latin-1
    buffer = io.BytesIO()
    plain.save(buffer, format="PNG", compress_level=6, pnginfo=chunks)
    released = open_image(buffer.getvalue(), name)
    if not np.array_equal(np.asarray(released), np.asarray(plain)):
        raise PoolError(f"{name}: the pixels changed when text was added; generate the pool again")
    return buffer.getvalue()


def write_images(images: Manifest, shared_text: Mapping[str, str], folder: Path) -> None:
    """Writes `train/<label>/<id>.png` and `train/metadata.csv`, which `datasets` reads.

    Args:
        images: Images of a pool.
        shared_text: PNG text that all images have in common.
        folder: Folder of the released part.
    """
    rows = []
    with progress_bar("release", len(images)) as bar:
        rows_of_images = images.table.to_dict("records")
        for (path, sha256), row in zip(images.listed_files, rows_of_images, strict=True):
            image_text = _image_text(row)
            png = read_file(path, sha256=sha256)
            data = with_png_text(png, {**shared_text, **image_text}, str(path))
            name = f"{class_file_name(row['label'])}/{row['image_id']}.png"
            target = folder / SPLIT / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            digest = sha256_bytes(data)
            rows.append((name, row["label"], row["prompt"], image_text["Seed"], digest))
            bar.update()
    write_csv(pd.DataFrame(rows, columns=COLUMNS), folder / METADATA_FILE)


def _image_text(row: Mapping[Any, Any]) -> dict[str, str]:
    """Returns the PNG text that only this image has, from its row of the manifest."""
    return {
        "Title": f"Synthetic chest radiograph, requested class: {row['label']}",
        "Label": row["label"],
        "Prompt": row["prompt"],
        "Seed": "" if pd.isna(row["seed"]) else str(row["seed"]),
        "Pool": row["pool"],
    }
