"""Small trees of toy radiographs, as people have them: folders, tables, DICOM files and archives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

N_IMAGES = 18
"""Images of a class: a few more than a study needs."""


def toy_radiograph(seed: int, size_px: int = 64, *, bright: bool = False) -> np.ndarray:
    """A toy frontal radiograph, `(size_px, size_px)` uint8; all seeds differ."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : size_px * 1j, 0 : 1 : size_px * 1j]
    pixels = np.full((size_px, size_px), 20.0)
    pixels[((x - 0.5) / 0.46) ** 2 + ((y - 0.55) / 0.5) ** 2 < 1] = 150
    for side in (0.3, 0.7):
        lung = ((x - side) / 0.15) ** 2 + ((y - 0.45) / 0.3) ** 2 < 1
        pixels[lung] = 100 if bright else 60
    pixels[(abs(x - 0.5) < 0.08) & (y > 0.1)] = 210
    coarse = Image.fromarray(rng.normal(0, 22, (9, 9)).astype(np.float32))
    pixels += np.asarray(coarse.resize((size_px, size_px), Image.Resampling.BICUBIC))
    return (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)


def save_image(path: Path, seed: int, **how: object) -> Path:
    """Write a toy radiograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(toy_radiograph(seed, **how)).save(path)  # type: ignore[arg-type]
    return path


def save_classes(
    root: Path,
    labels: Sequence[str] = ("normal", "pneumonia"),
    name: str = "{label}/P{number:04d}_1.png",
    n_images: int = N_IMAGES,
) -> list[Path]:
    """Write as many images of each class as a study needs, in a folder per class unless named otherwise."""
    files = []
    for position, label in enumerate(labels):
        for index in range(n_images):
            number = 1000 * position + index
            file = root / name.format(label=label, number=number, index=index)
            files.append(save_image(file, number, bright=position > 0))
    return files


def save_table(
    root: Path,
    labels: Sequence[str] = ("normal", "pneumonia"),
    *,
    name: str = "manifest.csv",
    columns: Mapping[str, str] | None = None,
) -> Path:
    """Write images and a CSV with path, label and patient_id; `columns` renames its columns."""
    renamed = {"path": "path", "label": "label", "patient_id": "patient_id", **(columns or {})}
    lines = [",".join(renamed.values())]
    for position, label in enumerate(labels):
        for index in range(N_IMAGES):
            number = 1000 * position + index
            save_image(root / f"img/{number:04d}.png", number, bright=position > 0)
            lines.append(f'img/{number:04d}.png,"{label}",P{number:04d}')
    table = root / name
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table
