"""Leakage and source confounding in a cohort."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.errors import ConfoundingError
from xraysynth.images import read
from xraysynth.manifest import Manifest
from xraysynth.manifest import patient_keys as patient_keys

TELLING = 0.9
"""A class is known by its source when the source alone reaches this balanced accuracy."""


Pairs = np.ndarray | Sequence[tuple[int, int]]
"""Rows (i, j), i < j, of images that are alike: `(P, 2)` integers."""

BLOCK = 2048
RANK = {"train": 0, "val": 1, "test": 2}
"""Of the splits that a person's images lie in, the one of the highest rank keeps them."""


@dataclass(frozen=True)
class Fingerprints:
    """What near duplicates are found by: `hashes` `(N, 32)`, `thumbnails` `(N, 1024)`, both uint8."""

    hashes: np.ndarray
    thumbnails: np.ndarray


def fingerprint(paths: Iterable[Path]) -> Fingerprints:
    """A 256-bit perceptual hash and a 32 px thumbnail of every image, 1056 bytes in all."""
    hashes, thumbnails, left = bytearray(), bytearray(), iter(paths)
    with ThreadPoolExecutor() as executor:
        while block := list(islice(left, BLOCK)):
            for bits, small in executor.map(lambda path: fingerprint_pixels(read(path)), block):
                hashes += bits.tobytes()
                thumbnails += small.tobytes()
    return Fingerprints(
        np.frombuffer(hashes, np.uint8).reshape(-1, 32),
        np.frombuffer(thumbnails, np.uint8).reshape(-1, 1024),
    )


def fingerprint_pixels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash `(32,)` and thumbnail `(1024,)`, both uint8."""
    import imagehash
    from PIL import Image

    image = Image.fromarray(pixels)
    bits = imagehash.phash(image, hash_size=16).hash
    thumbnail = np.asarray(image.resize((32, 32), Image.Resampling.BOX), np.uint8)
    return np.packbits(bits), thumbnail.ravel()


def near_duplicates(
    prints: Fingerprints, *, max_bits: int = 24, min_correlation: float = 0.985, window: int = 64
) -> np.ndarray:
    """Pairs (i, j), i < j, of images alike but for size, compression or exposure, `(P, 2)` sorted.

    Both must hold: at most `max_bits` of the 256 hash bits differ, and the thumbnails correlate at
    `min_correlation` or more. (In 585 radiographs of different patients the closest two differed in 60
    bits and correlated at 0.974; halving, JPEG at quality 50 and a gamma of 1.2 change at most 14
    bits.) Candidates share one of 16 hash words, which two hashes within 15 bits always do, and lie
    within `window` of each other there, so the search is not quadratic. Of two images that both have
    `window` others with such a hash already, no more is asked: copies without end stay linked.
    """
    count = len(prints.hashes)
    compared = np.empty(0, np.int64)
    partners = np.zeros(count, np.int64)
    for word in range(16):
        codes = _candidates(prints.hashes, word, partners < window, max_bits, window)
        codes = np.setdiff1d(codes, compared, assume_unique=True)
        compared = np.sort(np.concatenate([compared, codes]), kind="stable")
        for side in np.divmod(codes, count):
            partners += np.bincount(side, minlength=count)
    alike = compared[_correlations(prints.thumbnails, compared) >= min_correlation]
    return np.stack(np.divmod(alike, max(count, 1)), axis=1)


def _candidates(
    hashes: np.ndarray, word: int, wanted: np.ndarray, max_bits: int, window: int
) -> np.ndarray:
    """i * N + j of the pairs with a like hash that are near each other in the order by one word."""
    words, long_words, count = hashes.view(np.uint16), hashes.view(np.uint64), len(hashes)
    order = np.lexsort((*words.T, words[:, word]))
    key = words[order, word]
    place = np.arange(count)
    found = [np.empty(0, np.int64)]
    for step in range(1, window):
        place = place[: np.searchsorted(place, count - step)]
        place = place[key[place] == key[place + step]]  # who has none at this step has none later
        if not len(place):
            break
        one, other = order[place], order[place + step]
        near = wanted[one] | wanted[other]
        one, other = one[near], other[near]
        alike = np.bitwise_count(long_words[one] ^ long_words[other]).sum(axis=1) <= max_bits
        one, other = one[alike], other[alike]
        found.append(np.minimum(one, other) * count + np.maximum(one, other))
    return np.concatenate(found)


def _correlations(thumbnails: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Pearson correlation of the thumbnails of each pair i * N + j; 0 where one is blank."""
    count, pixels = thumbnails.shape  # sums of 1024 products of bytes fit into 32 bits
    sums = thumbnails.sum(axis=1, dtype=np.int64)
    squares = np.einsum("nd,nd->n", thumbnails, thumbnails, dtype=np.int32)
    deviations = np.sqrt(np.maximum(pixels * squares.astype(np.int64) - sums**2, 1))
    found = np.empty(len(codes))
    for start in range(0, len(codes), BLOCK):
        part = slice(start, start + BLOCK)
        one, other = np.divmod(codes[part], count)
        products = np.einsum("nd,nd->n", thumbnails[one], thumbnails[other], dtype=np.int32)
        covariances = pixels * products.astype(np.int64) - sums[one] * sums[other]
        found[part] = covariances / (deviations[one] * deviations[other])
    return found


def clusters(count: int, pairs: Pairs) -> np.ndarray:
    """Connected components of `count` images linked by pairs: a number per image, `(count,)`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = _sides(pairs)
    links = np.ones(len(rows), np.int8)
    graph = coo_array((links, (rows, columns)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def persons(table: pd.DataFrame, pairs: Pairs) -> np.ndarray:
    """The number of the person behind each image, `(N,)`; `pairs` are near duplicates.

    All images of a patient (`source` and `patient_id`) are of one person, and patients who share a
    near-duplicate are one person too, over any chain of patients: what holds of one image of a
    person, such as that a classifier is tested on it, concerns every other.
    """
    codes = pd.factorize(patient_keys(table))[0]
    first = np.unique(codes, return_index=True)[1]
    same_patient = np.stack([first[codes], np.arange(len(codes))], axis=1)
    links = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return clusters(len(table), np.concatenate([links, same_patient]))


def linked_patients(table: pd.DataFrame, pairs: Pairs) -> list[list[str]]:
    """Keys of the patients who share near-duplicates, a list for each person of several patients."""
    patients = pd.DataFrame({"key": patient_keys(table).array, "person": persons(table, pairs)})
    by_person = patients.drop_duplicates().groupby("person", sort=False)["key"]
    return sorted(sorted(keys) for _, keys in by_person if len(keys) > 1)


def person_keys(table: pd.DataFrame, linked: Iterable[Sequence[str]]) -> pd.Series:
    """`patient_keys`, in which patients who are one person (`linked_patients`) share the first key."""
    names = {key: keys[0] for keys in linked for key in keys}
    return patient_keys(table).map(lambda key: names.get(key, key))


def _sides(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    return first, second


def source_tells(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Class -> how well the data source alone tells it from the rest.

    Each source votes for the more probable side, once by count (`accuracy`) and once by
    class-weighted count (`balanced_accuracy`). The votes are counted on the images that decide
    them, so that many small sources tell every class: `by_chance` is the balanced accuracy that 1
    of 100 cohorts exceeds whose labels are dealt out at random.
    """
    counts = pd.crosstab(table["source"], table["label"])
    dealt = _dealt(counts.to_numpy())
    result = {}
    for place, label in enumerate(counts):
        inside, outside = counts[label], counts.sum(axis=1) - counts[label]
        accuracy = np.maximum(inside, outside).sum() / len(table)
        by_chance = np.quantile(_balanced_accuracy(dealt, place), 0.99, method="higher")
        result[str(label)] = {
            "accuracy": float(accuracy),
            "balanced_accuracy": float(_balanced_accuracy(counts.to_numpy(), place)),
            "by_chance": float(by_chance),
        }
    return result


def _balanced_accuracy(counts: np.ndarray, place: int) -> np.ndarray:
    """Of telling class `place` from the rest by the source, from counts `(…, sources, classes)`."""
    inside = counts[..., place]
    outside = counts.sum(-1) - inside
    if not outside.any():  # one class alone
        return np.full(counts.shape[:-2], 0.5)
    shares = [side / side.sum(-1, keepdims=True) for side in (inside, outside)]
    return np.asarray(np.maximum(*shares).sum(-1) / 2)


def _dealt(counts: np.ndarray, times: int = 1000) -> np.ndarray:
    """Counts `(times, sources, classes)` after dealing out the labels at random, sums kept."""
    from scipy.stats import random_table

    rows, columns = counts.sum(1), counts.sum(0)
    return np.asarray(random_table(rows, columns, seed=0).rvs(times), np.int64)


def cramers_v(table: pd.DataFrame) -> float:
    """Cramér's V between class and source: 0 is no association, 1 means one tells the other."""
    from scipy.stats.contingency import association

    counts = pd.crosstab(table["source"], table["label"]).to_numpy()
    return float(association(counts, method="cramer")) if min(counts.shape) > 1 else 0.0


@dataclass(frozen=True)
class Audit:
    """What a reader must know about a cohort.

    `counts` are images and patients by class and split, `by_source` images by source and class, and
    `source_tells` how well the source alone tells each class (`source_tells`). `linked_patients` is
    None in audits of earlier versions, which do not say who is one person.
    """

    counts: list[dict[str, str | int]] = field(default_factory=list)
    by_source: list[dict[str, str | int]] = field(default_factory=list)
    cramers_v: float = 0.0
    source_tells: dict[str, dict[str, float]] = field(default_factory=dict)
    exact_duplicates: int = 0
    near_duplicates: int = 0
    near_duplicates_across_splits: int = 0
    near_duplicates_across_sources: int = 0
    examples: list[str] = field(default_factory=list)
    simulated: list[str] = field(default_factory=list)
    linked_patients: list[list[str]] | None = None
    notes: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    @property
    def may_link_patients(self) -> bool:
        """Whether patients share near-duplicates, as far as the audit says."""
        linked = self.linked_patients
        return bool(self.near_duplicates if linked is None else linked)


def audit(manifest: Manifest, pairs: Pairs) -> Audit:
    """The audit of a cohort whose near duplicates are `pairs`."""
    table = manifest.table
    first, second = _sides(pairs)
    differ = {
        column: table[column].to_numpy()[first] != table[column].to_numpy()[second]
        for column in ("split", "source", "sha256")
    }
    examples = [f"{table['image_id'].iloc[i]} ~ {table['image_id'].iloc[j]}" for i, j in pairs[:20]]
    patients = table.groupby(["label", "split"])["patient_id"].agg(["size", "nunique"])
    return Audit(
        counts=[
            {"class": label, "split": split, "images": int(images), "patients": int(people)}
            for (label, split), images, people in patients.itertuples()
        ],
        by_source=table.groupby(["source", "label"])
        .size()
        .rename("images")
        .reset_index()
        .to_dict("records"),
        cramers_v=cramers_v(table),
        source_tells=source_tells(table),
        exact_duplicates=int((~differ["sha256"]).sum()),
        near_duplicates=len(pairs),
        near_duplicates_across_splits=int(differ["split"].sum()),
        near_duplicates_across_sources=int(differ["source"].sum()),
        examples=examples,
    )


def drop_crossing(table: pd.DataFrame, pairs: Pairs) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with the images of each person in one split alone, and the pairs left.

    Of a person (`persons`) whose images lie in several splits those of the last stay: train gives
    way to val, and val to test, so that what is tested on stays as it is.
    """
    rank = table["split"].map(RANK)
    last = rank.groupby(persons(table, pairs)).transform("max")
    kept = ((rank == last) | rank.isna()).to_numpy()  # an unknown split is the manifest's to refuse
    first, second = _sides(pairs)
    place = np.cumsum(kept) - 1
    both = kept[first] & kept[second]
    left = np.stack([place[first[both]], place[second[both]]], axis=1)
    return table.loc[kept].reset_index(drop=True), left


def require_no_confounding(report: Audit, *, acknowledged: bool) -> list[str]:
    """Sentences on classes known by their source; raises `ConfoundingError` unless acknowledged."""
    found = [
        f"the data source alone tells {label} from the other classes with {tells['accuracy']:.0%} accuracy "
        f"({tells['balanced_accuracy']:.0%} balanced)"
        for label, tells in report.source_tells.items()
        if tells["balanced_accuracy"] >= max(TELLING, tells.get("by_chance", 0.0) + 1e-9)
    ]
    if found and not acknowledged:
        raise ConfoundingError(
            f"confounded: {'; '.join(found)}; Cramér's V between class and source is "
            f"{report.cramers_v:.2f}. A classifier can learn the source instead of the disease. Add "
            "sources that hold several classes, leave the class out (classes=[…]), or go on with "
            "acknowledge_confounding=true, which every report will then say at its head"
        )
    return found
