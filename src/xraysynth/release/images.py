"""Images that say themselves what they are: PNG text, and the table beside them."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from xraysynth.errors import PoolError
from xraysynth.manifest import Manifest
from xraysynth.progress import progress_bar
from xraysynth.records import sha256_bytes

DISCLAIMER = "Synthetic image, not for diagnosis"
TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's digital source type of media made by a trained model."""

SPLIT = "train"
METADATA_FILE = f"{SPLIT}/metadata.csv"
COLUMNS = ("file_name", "label", "prompt", "seed", "sha256")


def with_png_text(data: bytes, text: Mapping[str, str]) -> bytes:
    """A PNG with the same pixels and this text in chunks of its own, and with no other text.

    Raises `PoolError` where a pixel would change.
    """
    with Image.open(io.BytesIO(data)) as image:
        plain = Image.fromarray(np.asarray(image))
    chunks = PngInfo()
    for keyword, value in text.items():
        chunks.add_text(keyword, value)  # tEXt, or iTXt for what Latin-1 cannot say
    buffer = io.BytesIO()
    plain.save(buffer, format="PNG", compress_level=6, pnginfo=chunks)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        if not np.array_equal(np.asarray(image), np.asarray(plain)):
            raise PoolError("a PNG changed its pixels when it was written anew")
    return buffer.getvalue()


def write_images(images: Manifest, shared_text: Mapping[str, str], folder: Path) -> None:
    """Write `train/<label>/<id>.png` and `train/metadata.csv`, as `datasets` reads an image folder.

    `common` is the PNG text that all images share; SHA-256 are those of the files written.
    """
    rows = []
    with progress_bar("release", len(images)) as bar:
        for path, row in zip(images.files, images.table.to_dict("records"), strict=True):
            seed = "" if pd.isna(row["seed"]) else str(row["seed"])
            own = {
                "Title": f"Synthetic chest radiograph, asked for as {row['label']}",
                "Label": row["label"],
                "Prompt": row["prompt"],
                "Seed": seed,
                "Pool": row["pool"],
            }
            data = with_png_text(path.read_bytes(), {**shared_text, **own})
            name = f"{row['label']}/{row['image_id']}.png"
            target = folder / SPLIT / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            rows.append((name, row["label"], row["prompt"], seed, sha256_bytes(data)))
            bar.update()
    with (folder / METADATA_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])
