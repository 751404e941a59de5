"""Seconds for what happens to a cohort's table, and for the search for near-duplicate images.

Rows: a manifest is checked, split by patient, audited and mixed with a pool of half its size. Theirs
is the same in plain pandas, with scikit-learn's StratifiedGroupKFold for the split (a test and then
a validation part), which keeps patients together and classes even, as ours does. That split alone
is timed on the first SPLIT_ROWS rows and taken to grow with the rows; `ratio_without_split` leaves
it out on both sides.

Images: hashes and thumbnails at random, 3 % of them copies with up to 14 of 256 bits flipped, and
the share of these that is found. Theirs compares the hashes of all pairs by NumPy, 2048 rows at a
time, timed on --sample images and taken to grow with the square. Worst cases, with --worst: a set of
copies of one image, all black images, and variants of one image a few bits apart.

With --per-image N, milliseconds of processor time an image of each step that reads or writes images,
and a line of a pool's journal. Files are read back from the page cache.

Both sides run on one thread. The peaks are of the whole process, its input included.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats.contingency import association
from sklearn.model_selection import StratifiedGroupKFold

from xraysynth.data import audit, duplicates
from xraysynth.data.splits import assign_splits, require_classes_in_splits
from xraysynth.generation import pool
from xraysynth.images import encode_png, pad_and_resize, read_image
from xraysynth.jobs.store import ImageStore, verify_checksums
from xraysynth.manifest import Manifest
from xraysynth.training.mixing import mix
from xraysynth.training.recipe import MixMode

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")
SHARE = 0.5
SPLIT_ROWS = 20_000


def cohort(rows: int, *, synthetic: bool = False) -> pd.DataFrame:
    """A table of 1.7 images a patient from six sources; every hundredth row has its twin's SHA-256."""
    rng = np.random.default_rng(int(synthetic))
    patient = rng.integers(0, max(rows * 6 // 10, 7), rows)
    sha256 = np.array([rng.bytes(32).hex() for _ in range(rows)])
    sha256[1::100] = sha256[: -1 if rows % 100 == 1 else None : 100][: len(sha256[1::100])]
    source = pd.Series(patient % 6).astype(str).radd("source")
    number = pd.Series(np.arange(rows)).astype(str).str.zfill(7)
    return pd.DataFrame(
        {
            "image_id": source + "-" + number,
            "path": source + "/images/" + number + ".png",
            "label": np.array(CLASSES)[np.minimum(patient % 7, 3)],
            "source": source,
            "patient_id": "" if synthetic else pd.Series(patient).astype(str).radd("p"),
            "split": "train" if synthetic else "",
            "is_synthetic": synthetic,
            "sha256": sha256,
        }
    )


def ours(table: pd.DataFrame, made: Manifest, timed: "Clock") -> None:
    """By this package; the pairs that the audit is given are those of equal SHA-256."""
    folder = Path("cohort")
    manifest = timed("validate", lambda: Manifest(table, folder, CLASSES))
    patients = manifest.table["source"] + "/" + manifest.table["patient_id"]
    fractions = {"val": 0.1, "test": 0.2}
    split = timed(
        "split",
        lambda: assign_splits(manifest.table["label"], patients, fractions=fractions, seed=0),
    )
    manifest = timed(
        "validate", lambda: Manifest(manifest.table.assign(split=split), folder, CLASSES)
    )
    timed("validate", lambda: require_classes_in_splits(manifest.table, CLASSES))
    twins = np.arange(1, len(table), 100)
    timed("audit", lambda: audit.audit_cohort(manifest, np.stack([twins - 1, twins], axis=1)))
    train = timed("mix", lambda: manifest.split("train"))
    timed(
        "mix",
        lambda: mix(train, {"pool": made}, synthetic_fraction=SHARE, mode=MixMode.replace, seed=0),
    )


def theirs(table: pd.DataFrame, made: pd.DataFrame, timed: "Clock") -> None:
    """By pandas and scikit-learn."""
    timed("validate", lambda: plain_validation(table))
    patients = table["source"] + "/" + table["patient_id"]
    few = slice(SPLIT_ROWS)
    split = timed("split", lambda: plain_split(table["label"][few], patients[few]))
    timed.seconds["split"] *= len(table) / len(split)
    table = table.assign(split=np.resize(split, len(table)))
    timed("validate", lambda: table.groupby(patients)["split"].nunique().max())
    timed("audit", lambda: plain_audit(table))
    timed("mix", lambda: plain_mix(table[table["split"] == "train"], made))


def plain_validation(table: pd.DataFrame) -> bool:
    """Ids, labels, patients and paths."""
    return bool(
        table["image_id"].is_unique
        and table["label"].isin(CLASSES).all()
        and (table["patient_id"] != "").all()
        and not any(".." in Path(path).parts or Path(path).is_absolute() for path in table["path"])
    )


def plain_split(labels: pd.Series, patients: pd.Series) -> np.ndarray:
    """A fifth for test, an eighth of the rest for val."""
    split = np.full(len(labels), "train", dtype=object)
    rest = np.arange(len(labels))
    for name, parts in (("test", 5), ("val", 8)):
        folds = StratifiedGroupKFold(parts, shuffle=True, random_state=0)
        _, chosen = next(folds.split(rest, labels.iloc[rest], patients.iloc[rest]))
        split[rest[chosen]] = name
        rest = np.delete(rest, chosen)
    return split


def plain_audit(table: pd.DataFrame) -> tuple[int, float, pd.DataFrame]:
    """Copies, Cramér's V, and the images and patients of each class and split."""
    copies = int(table["sha256"].duplicated().sum())
    counts = pd.crosstab(table["source"], table["label"])
    by_split = table.groupby(["label", "split"])["patient_id"].agg(["size", "nunique"])
    return copies, float(association(counts.to_numpy())), by_split


def plain_mix(train: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """Half of each class real, half synthetic."""
    kept = train.groupby("label").sample(frac=1 - SHARE, random_state=0)
    lacking = train["label"].value_counts() - kept["label"].value_counts()
    first = made.sort_values("image_id")
    taken = first[first.groupby("label").cumcount() < first["label"].map(lacking)]
    return pd.concat([kept, taken])


class Clock:
    """Seconds of each step, and of all."""

    def __init__(self, side: str, now: Callable[[], float] = time.perf_counter) -> None:
        self.side, self.now, self.seconds = side, now, dict[str, float]()

    def __call__(self, step: str, call: Callable[[], Any]) -> Any:
        begun = self.now()
        found = call()
        seconds = self.now() - begun
        print(f"{seconds:8.2f} s  {self.side}: {step}", file=sys.stderr, flush=True)
        self.seconds[step] = self.seconds.get(step, 0) + seconds
        return found

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def rounded(self) -> dict[str, float]:
        return {step: round(seconds, 2) for step, seconds in self.seconds.items()}


def compare_rows(rows: int) -> dict[str, Any]:
    """Both sides on the same tables, ours first."""
    table, made = cohort(rows), cohort(rows // 2, synthetic=True)
    pool = Manifest(made, Path("pool"), CLASSES)
    mine, plain = Clock("ours"), Clock("theirs")
    ours(table, pool, mine)
    peak = peak_gb()
    theirs(table, made, plain)
    our_s, their_s = mine.total, plain.total
    without = (their_s - plain.seconds["split"]) / (our_s - mine.seconds["split"])
    return {
        "ratio": round(their_s / our_s, 2),
        "ours": round(our_s, 2),
        "theirs": round(their_s, 2),
        "ratio_without_split": round(without, 2),
        "steps": mine.rounded,
        "their_steps": plain.rounded,
        "peak_gb": peak,
    }


def prints(images: int, kind: str = "random") -> tuple[duplicates.Fingerprints, np.ndarray]:
    """Fingerprints, and the planted pairs `(P, 2)`."""
    rng = np.random.default_rng(0)
    copies = images * 3 // 100
    hashes = rng.integers(0, 256, (images - copies, 32), dtype=np.uint8)
    thumbnails = rng.integers(0, 256, (images - copies, 1024), dtype=np.uint8)
    if kind != "random":
        hashes[:], thumbnails[:] = hashes[0], thumbnails[0] * (kind != "black")
    if kind == "variants":
        hashes ^= np.packbits(rng.random((len(hashes), 256)) < 0.015, axis=1)
    of, flips = rng.choice(len(hashes), copies, replace=False), rng.integers(0, 15, copies)
    flipped = rng.random((copies, 256)).argsort(axis=1).argsort(axis=1) < flips[:, None]
    noise = rng.normal(0, 4 * (kind != "black"), (copies, 1024))
    found = duplicates.Fingerprints(
        np.concatenate([hashes, hashes[of] ^ np.packbits(flipped, axis=1)]),
        np.concatenate([thumbnails, np.clip(thumbnails[of] + noise, 0, 255).astype(np.uint8)]),
    )
    return found, np.stack([of, np.arange(len(hashes), images)], axis=1)


def all_pairs(hashes: np.ndarray, *, max_bits: int = 24) -> int:
    """Pairs of like hashes, every pair compared."""
    words, alike = hashes.view(np.uint64), 0
    for start in range(0, len(words), 2048):
        block = words[start : start + 2048]
        bits = np.zeros((len(block), len(words)), np.uint8)
        for word in range(4):
            bits += np.bitwise_count(block[:, word, None] ^ words[None, :, word])
        alike += int((bits <= max_bits).sum())
    return (alike - len(words)) // 2


def compare_images(images: int, sample: int, *, worst: bool) -> dict[str, Any]:
    """Seconds and recall of our search, and the seconds of all pairs."""
    clock, (random, planted) = Clock("images"), prints(images)
    found = clock("ours", lambda: duplicates.find_near_duplicates(random))
    kinds = ("copies", "black", "variants") if worst else ()
    for kind in kinds:
        of_kind, _ = prints(images, kind)
        clock(kind, lambda of=of_kind: duplicates.find_near_duplicates(of))  # type: ignore[misc]
    peak = peak_gb()
    clock("theirs", lambda: all_pairs(random.hashes[:sample]))
    codes = [pairs[:, 0] * images + pairs[:, 1] for pairs in (planted, found)]
    our_s, their_s = clock.seconds["ours"], clock.seconds["theirs"] * (images / sample) ** 2
    return {
        "images": images,
        "images_ratio": round(their_s / our_s, 1),
        "images_ours": round(our_s, 2),
        "images_theirs_extrapolated": round(their_s, 1),
        "images_recall": round(float(np.isin(*codes).mean()), 4),
        "images_peak_gb": peak,
        **{f"images_{kind}": round(clock.seconds[kind], 1) for kind in kinds},
    }


def per_image(images: int, folder: Path) -> dict[str, float]:
    """Processor milliseconds an image: a file of 512 px to one of 64 px, and what is done with that."""
    from xraysynth.evaluation import encoders

    rng, clock = np.random.default_rng(0), Clock("per image", time.process_time)
    for number in range(images):
        small = Image.fromarray(rng.integers(0, 256, (24, 24), np.uint8))
        small.resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    files = [folder / f"{number}.png" for number in range(images)]
    store = ImageStore(folder, "store", {})
    rows = {"label": "normal", "is_synthetic": True, "prompt": "a chest radiograph"}
    encoded = clock(
        "prepare", lambda: [encode_png(pad_and_resize(read_image(path), 64)) for path in files]
    )
    clock("store", lambda: commit(store, encoded, rows))
    manifest = store.manifest()
    clock("verify", lambda: verify_checksums(manifest, remedy="none"))
    clock("fingerprint", lambda: duplicates.fingerprint_files(manifest.listed_files))
    pixels = np.stack(clock("decode", lambda: [read_image(path) for path in manifest.files]))
    embedded = encoders.build("embedded")
    embedded.features(pixels[:32])
    clock("embedded features", lambda: embedded.features(pixels))
    train(pixels[:32])
    clock("training", lambda: train(pixels))
    commit(store, [None] * (images * 100), rows)
    clock("journal", lambda: pool.count_outcomes(store))
    clock.seconds["journal"] /= 101  # lines an image
    return {step: round(seconds / images * 1000, 3) for step, seconds in clock.seconds.items()}


def commit(store: ImageStore, encoded: Sequence[bytes | None], columns: dict[str, Any]) -> None:
    """Images, or requests that were refused."""
    with store.writer() as writer:
        for number, png in enumerate(encoded):
            outcome = "image" if png else "refused"
            writer.add(f"{outcome}-{number}", png, outcome=outcome, columns=columns)


def train(pixels: np.ndarray) -> None:
    """Steps of 32 images of the default classifier, the data loader left out."""
    import torch

    from xraysynth.training.classifier import XrayClassifier

    torch.set_num_threads(1)
    network = XrayClassifier(classes=list(CLASSES), recipe={}, max_steps=1)
    optimiser = torch.optim.AdamW(network.parameters())
    images = torch.from_numpy(pixels)[:, None].float() / 255
    for start in range(0, len(images), 32):
        logits = network(images[start : start + 32])
        optimiser.zero_grad()
        torch.autograd.backward(logits.logsumexp(dim=1).sum())
        optimiser.step()


def peak_gb() -> float:
    """Of this process so far, in GB of 2^30 bytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=10_000)
    parser.add_argument("--worst", action="store_true")
    parser.add_argument("--per-image", type=int, default=0, metavar="N")
    options = parser.parse_args()
    result = {
        "name": "scale",
        **compare_rows(options.rows),
        "unit": "s",
        "device": "cpu, 1 thread",
        "n": options.rows,
        **compare_images(options.images, min(options.sample, options.images), worst=options.worst),
    }
    if options.per_image:
        with tempfile.TemporaryDirectory() as folder:
            result["per_image_ms"] = per_image(options.per_image, Path(folder))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
