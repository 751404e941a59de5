"""Render the radiographs that the embedded Stable Diffusion learns from.

Patients of a seed of their own, a third normal, the rest with spots that are the likeness of no
disease. Writes `images.npy` `(N, 64, 64)` uint8 and `captions.json`, N view, sex and age triples.
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np

SEED = 1_000_001
SIZE_PX = 64


def one(number: int) -> tuple[np.ndarray, list[object]]:
    """Image and its [view, sex, age]."""
    from xraysynth.data.sources.simulated import draw_patient, render

    label = "normal" if number % 3 == 0 else "unspecific"
    pixels, _ = render(SEED, label, number, 0, size_px=SIZE_PX)
    patient = draw_patient(SEED, label, number)
    return pixels, [patient.views[0], patient.sex, patient.age]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    images = np.zeros((args.images, SIZE_PX, SIZE_PX), np.uint8)
    captions = []
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for n, (pixels, caption) in enumerate(pool.imap(one, range(args.images), chunksize=32)):
            images[n] = pixels
            captions.append(caption)
            if n % 500 == 499:
                rate = (n + 1) / (time.monotonic() - started)
                print(
                    f"{n + 1} images, {rate:.1f}/s, {(args.images - n) / rate:.0f} s left",
                    flush=True,
                )
    np.save(args.work / "images.npy", images)
    (args.work / "captions.json").write_text(json.dumps(captions))


if __name__ == "__main__":
    main()
