"""Images alike but for size, compression or exposure, and what is linked by them."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from xraysynth.images import read_image
from xraysynth.manifest import patient_keys as patient_keys

Pairs = np.ndarray | Sequence[tuple[int, int]]
"""Rows (i, j), i < j, of images that are alike: `(P, 2)` integers."""


BLOCK_SIZE = 2048


@dataclass(frozen=True)
class Fingerprints:
    """What near duplicates are found by: `hashes` `(N, 32)`, `thumbnails` `(N, 1024)`, both uint8."""

    hashes: np.ndarray
    thumbnails: np.ndarray


def fingerprint_files(paths: Iterable[Path]) -> Fingerprints:
    """A 256-bit perceptual hash and a 32 px thumbnail of every image, 1056 bytes in all."""
    hashes, thumbnails, left = bytearray(), bytearray(), iter(paths)
    with ThreadPoolExecutor() as executor:
        while block := list(islice(left, BLOCK_SIZE)):
            for bits, small in executor.map(
                lambda path: fingerprint_pixels(read_image(path)), block
            ):
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


def find_near_duplicates(
    fingerprints: Fingerprints,
    *,
    max_bits: int = 24,
    min_correlation: float = 0.985,
    window: int = 64,
) -> np.ndarray:
    """Pairs (i, j), i < j, of images alike but for size, compression or exposure, `(P, 2)` sorted.

    Both must hold: at most `max_bits` of the 256 hash bits differ, and the thumbnails correlate at
    `min_correlation` or more. (In 585 radiographs of different patients the closest two differed in 60
    bits and correlated at 0.974; halving, JPEG at quality 50 and a gamma of 1.2 change at most 14
    bits.) Candidates share one of 16 hash words, which two hashes within 15 bits always do, and lie
    within `window` of each other there, so the search is not quadratic. Of two images that both have
    `window` others with such a hash already, no more is asked: copies without end stay linked.
    """
    count = len(fingerprints.hashes)
    compared = np.empty(0, np.int64)
    partners = np.zeros(count, np.int64)
    for word in range(16):
        codes = _find_candidates(fingerprints.hashes, word, partners < window, max_bits, window)
        codes = np.setdiff1d(codes, compared, assume_unique=True)
        compared = np.sort(np.concatenate([compared, codes]), kind="stable")
        for side in np.divmod(codes, count):
            partners += np.bincount(side, minlength=count)
    alike = compared[_compute_correlations(fingerprints.thumbnails, compared) >= min_correlation]
    return np.stack(np.divmod(alike, max(count, 1)), axis=1)


def _find_candidates(
    hashes: np.ndarray, word: int, needs_partners: np.ndarray, max_bits: int, window: int
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
        near = needs_partners[one] | needs_partners[other]
        one, other = one[near], other[near]
        alike = np.bitwise_count(long_words[one] ^ long_words[other]).sum(axis=1) <= max_bits
        one, other = one[alike], other[alike]
        found.append(np.minimum(one, other) * count + np.maximum(one, other))
    return np.concatenate(found)


def _compute_correlations(thumbnails: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Pearson correlation of the thumbnails of each pair i * N + j; 0 where one is blank."""
    count, pixels = thumbnails.shape  # sums of 1024 products of bytes fit into 32 bits
    sums = thumbnails.sum(axis=1, dtype=np.int64)
    squares = np.einsum("nd,nd->n", thumbnails, thumbnails, dtype=np.int32)
    deviations = np.sqrt(np.maximum(pixels * squares.astype(np.int64) - sums**2, 1))
    found = np.empty(len(codes))
    for start in range(0, len(codes), BLOCK_SIZE):
        part = slice(start, start + BLOCK_SIZE)
        one, other = np.divmod(codes[part], count)
        products = np.einsum("nd,nd->n", thumbnails[one], thumbnails[other], dtype=np.int32)
        covariances = pixels * products.astype(np.int64) - sums[one] * sums[other]
        found[part] = covariances / (deviations[one] * deviations[other])
    return found


def cluster_pairs(count: int, pairs: Pairs) -> np.ndarray:
    """Connected components of `count` images linked by pairs: a number per image, `(count,)`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = pair_indices(pairs)
    links = np.ones(len(rows), np.int8)
    graph = coo_array((links, (rows, columns)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def pair_indices(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    return first, second
