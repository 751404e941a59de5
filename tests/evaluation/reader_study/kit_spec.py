"""A kit's specification with random textures for radiographs, made on the spot."""

import base64
import io
import random
from typing import Any

import numpy as np
from PIL import Image

from xraysynth.evaluation.reader_study import kit
from xraysynth.records import from_json

CLASSES = ["normal", "pneumonia", "covid19", "tuberculosis"]
QUESTIONS: list[dict[str, Any]] = [
    {"id": "origin", "kind": "choice", "options": ["real", "synthetic"], "required": True},
    {"id": "confidence", "kind": "scale", "low": 1, "high": 5, "required": True},
    {"id": "diagnosis", "kind": "choice", "options": CLASSES, "required": True},
    {"id": "quality", "kind": "scale", "low": -2, "high": 2, "required": True},
    {"id": "realism", "kind": "scale", "low": -2, "high": 2, "required": True},
    {
        "id": "errors",
        "kind": "errors",
        "options": ["omission", "commission", "subtle", "artefact"],
        "required": False,
    },
    {"id": "comment", "kind": "text", "required": False},
]


ACROSS, PER_SHEET = 4, 16


def image(seed: int, side_px: int) -> np.ndarray:
    """Grey noise; of 512 px it weighs about as much as a radiograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 200, (8, 8), dtype=np.uint8))
    shape = np.asarray(coarse.resize((side_px, side_px), Image.Resampling.BICUBIC), dtype=float)
    noisy = shape + rng.normal(0, 4, shape.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def place(number: int, side_px: int) -> dict[str, int]:
    """Where an item's image lies."""
    sheet, slot = divmod(number, PER_SHEET)
    row, column = divmod(slot, ACROSS)
    return {"sheet": sheet, "x": column * side_px, "y": row * side_px}


def sheets(count: int, side_px: int) -> list[str]:
    """All images as data addresses of JPEGs that hold many each."""
    found = []
    for first in range(0, count, PER_SHEET):
        canvas = np.zeros((PER_SHEET // ACROSS * side_px, ACROSS * side_px), np.uint8)
        for number in range(first, min(first + PER_SHEET, count)):
            x, y = (place(number, side_px)[axis] for axis in "xy")
            canvas[y : y + side_px, x : x + side_px] = image(number, side_px)
        file = io.BytesIO()
        Image.fromarray(canvas).save(file, "JPEG", quality=95)
        found.append("data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode())
    return found


def kit_spec(
    count: int, *, side_px: int = 128, calibration: int = 0, **changes: Any
) -> dict[str, Any]:
    """What a kit embeds, as JSON; `changes` replace its fields."""
    letters = random.Random(0)
    names = [
        "".join(letters.choices("abcdefghijklmnopqrstuvwxyz234567", k=10)) for _ in range(count)
    ]
    truth = {"origin": "synthetic", "diagnosis": "pneumonia"}
    items = [
        {
            "id": name,
            **place(i, side_px),
            "calibration": i < calibration,
            "truth": truth if i < calibration else None,
        }
        for i, name in enumerate(names)
    ]
    fields: dict[str, Any] = {
        "format": "xraysynth-review-kit/1",
        "study": "0123456789ab",
        "kit": "ba9876543210",
        "title": "Synthetic chest X-rays: reading",
        "reader": "R1",
        "session": 1,
        "sessions": 2,
        "language": "en",
        "side_px": side_px,
        "simulated": True,
        "questions": QUESTIONS,
        "sheets": sheets(count, side_px),
        "items": items,
    }
    return fields | changes


def render(spec: dict[str, Any]) -> str:
    """The page of a kit that embeds this specification."""
    return kit.render_kit(from_json(kit.KitSpec, spec))
