"""Leakage and source confounding in a cohort."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.errors import ConfoundingError, LeakageError, some
from xraysynth.images import read
from xraysynth.manifest import Manifest

TELLING = 0.9
"""A class is known by its source when the source alone reaches this balanced accuracy."""


@dataclass(frozen=True)
class Fingerprints:
    """What near duplicates are found by: `hashes` `(N, 32)` uint8, `thumbnails` `(N, 1024)` float32."""

    hashes: np.ndarray
    thumbnails: np.ndarray


def fingerprint(paths: Iterable[Path]) -> Fingerprints:
    """A 256-bit perceptual hash and a standardised 32 px thumbnail of every image."""
    with ThreadPoolExecutor() as executor:
        pairs = list(executor.map(lambda path: fingerprint_pixels(read(path)), paths))
    hashes, thumbnails = zip(*pairs, strict=True)
    return Fingerprints(np.stack(hashes), np.stack(thumbnails))


def fingerprint_pixels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash `(32,)` uint8 and thumbnail `(1024,)` float32 with mean 0 and norm 1."""
    import imagehash
    from PIL import Image

    image = Image.fromarray(pixels)
    bits = imagehash.phash(image, hash_size=16).hash
    thumbnail = np.asarray(image.resize((32, 32), Image.Resampling.BOX), np.float32).ravel()
    thumbnail -= thumbnail.mean()
    return np.packbits(bits), thumbnail / max(float(np.linalg.norm(thumbnail)), 1e-6)


def near_duplicates(
    prints: Fingerprints, *, max_bits: int = 24, min_correlation: float = 0.985, window: int = 64
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of images alike but for size, compression or exposure.

    Both must hold: at most `max_bits` of the 256 hash bits differ, and the thumbnails correlate at
    `min_correlation` or more. (In 585 radiographs of different patients the closest two differed in 60
    bits and correlated at 0.974; halving, JPEG at quality 50 and a gamma of 1.2 change at most 14
    bits.) Candidates share one of 16 hash words, which two hashes within 15 bits always do, and lie
    within `window` of each other there, so the search is not quadratic.
    """
    words = prints.hashes.view(np.uint16)
    found: set[tuple[int, int]] = set()
    for column in range(words.shape[1]):
        order = np.lexsort((*words.T, words[:, column]))
        for step in range(1, min(window, len(order))):
            one, other = order[:-step], order[step:]
            same = words[one, column] == words[other, column]
            if not same.any():
                break
            found |= _alike(one[same], other[same], prints, max_bits, min_correlation)
    return sorted(found)


def _alike(
    one: np.ndarray, other: np.ndarray, prints: Fingerprints, max_bits: int, min_correlation: float
) -> set[tuple[int, int]]:
    bits = np.bitwise_count(prints.hashes[one] ^ prints.hashes[other]).sum(axis=1)
    correlation = np.einsum("nd,nd->n", prints.thumbnails[one], prints.thumbnails[other])
    keep = (bits <= max_bits) & (correlation >= min_correlation)
    return {
        (min(a, b), max(a, b))
        for a, b in zip(one[keep].tolist(), other[keep].tolist(), strict=True)
    }


def clusters(count: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Connected components of `count` images linked by pairs: a number per image, `(count,)`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def source_tells(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Class -> how well the data source alone tells it from the rest: accuracy, balanced accuracy.

    Each source votes for the more probable side, once by count and once by class-weighted count.
    """
    result = {}
    for label in sorted(table["label"].unique()):
        counts = pd.crosstab(table["source"], table["label"] == label)
        inside, outside = counts[True], counts.get(False, pd.Series(0, index=counts.index))
        accuracy = np.maximum(inside, outside).sum() / len(table)
        shares = [side / side.sum() for side in (inside, outside) if side.sum()]
        balanced = np.maximum(*shares).sum() / 2 if len(shares) == 2 else 0.5
        result[str(label)] = {"accuracy": float(accuracy), "balanced_accuracy": float(balanced)}
    return result


def cramers_v(table: pd.DataFrame) -> float:
    """Cramér's V between class and source: 0 is no association, 1 means one tells the other."""
    from scipy.stats.contingency import association

    counts = pd.crosstab(table["source"], table["label"]).to_numpy()
    return float(association(counts, method="cramer")) if min(counts.shape) > 1 else 0.0


def audit(manifest: Manifest, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """What a reader must know about a cohort; `pairs` are its near duplicates."""
    table = manifest.table
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    differ = {
        column: table[column].to_numpy()[first] != table[column].to_numpy()[second]
        for column in ("split", "source", "sha256")
    }
    examples = [f"{table['image_id'].iloc[i]} ~ {table['image_id'].iloc[j]}" for i, j in pairs[:20]]
    groups = table.groupby(["label", "split"])
    return {
        "counts": [
            {"class": c, "split": s, "images": len(g), "patients": g["patient_id"].nunique()}
            for (c, s), g in groups
        ],
        "by_source": table.groupby(["source", "label"])
        .size()
        .rename("images")
        .reset_index()
        .to_dict("records"),
        "cramers_v": cramers_v(table),
        "source_tells": source_tells(table),
        "exact_duplicates": int((~differ["sha256"]).sum()),
        "near_duplicates": len(pairs),
        "near_duplicates_across_splits": int(differ["split"].sum()),
        "near_duplicates_across_sources": int(differ["source"].sum()),
        "examples": examples,
    }


def drop_crossing(
    table: pd.DataFrame, pairs: Sequence[tuple[int, int]]
) -> tuple[pd.DataFrame, list[tuple[int, int]]]:
    """The table without the lesser image of each pair that crosses splits, and the pairs left.

    Train gives way to val, and val to test, so that what is tested on stays as it is.
    """
    rank = table["split"].map({"train": 0, "val": 1, "test": 2}).to_numpy()
    lesser = {i if rank[i] < rank[j] else j for i, j in pairs if rank[i] != rank[j]}
    kept = [row for row in range(len(table)) if row not in lesser]
    place = {row: n for n, row in enumerate(kept)}
    left = [(place[i], place[j]) for i, j in pairs if i in place and j in place]
    return table.iloc[kept].reset_index(drop=True), left


def require_no_leakage(manifest: Manifest, pairs: Sequence[tuple[int, int]]) -> None:
    """Raise `LeakageError` when (near) duplicates lie in different splits."""
    split, name = manifest.table["split"].to_numpy(), manifest.table["image_id"].to_numpy()
    crossing = [(i, j) for i, j in pairs if split[i] != split[j]]
    if crossing:
        listed = some(f"{name[i]} ({split[i]}) ~ {name[j]} ({split[j]})" for i, j in crossing)
        raise LeakageError(
            f"{len(crossing)} pairs of near-duplicate images lie in different splits: {listed}. They come "
            "from the source's own splits; set splits.drop_duplicates=true to leave out those of the "
            "training split, or splits.official=false to split anew with duplicates kept together"
        )


def require_no_copies(held_out: Manifest, pool: Manifest, *, name: str) -> None:
    """Raise `LeakageError` when a pool holds a near-duplicate of a validation or test image."""
    pairs = near_duplicates(fingerprint([*held_out.files, *pool.files]))
    ids = [*held_out.table["image_id"], *pool.table["image_id"]]
    copies = [f"{ids[j]} ~ {ids[i]}" for i, j in pairs if i < len(held_out) <= j]
    if copies:
        raise LeakageError(
            f"pool {name} holds {len(copies)} near-duplicates of validation or test images: "
            f"{some(copies)}; take them out of it, or test on other patients"
        )


def require_no_confounding(report: Mapping[str, Any], *, acknowledged: bool) -> list[str]:
    """Sentences on classes known by their source; raises `ConfoundingError` unless acknowledged."""
    found = [
        f"the data source alone tells {label} from the other classes with {tells['accuracy']:.0%} accuracy "
        f"({tells['balanced_accuracy']:.0%} balanced)"
        for label, tells in report["source_tells"].items()
        if tells["balanced_accuracy"] >= TELLING
    ]
    if found and not acknowledged:
        raise ConfoundingError(
            f"confounded: {'; '.join(found)}; Cramér's V between class and source is "
            f"{report['cramers_v']:.2f}. A classifier can learn the source instead of the disease. Add "
            "sources that hold several classes, leave the class out (classes=[…]), or go on with "
            "acknowledge_confounding=true, which every report will then say at its head"
        )
    return found
