"""Near-duplicates: images that differ only in size, compression or exposure."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from xraysynth.images import read_image
from xraysynth.manifest import ListedFile
from xraysynth.threads import available_cores

Pairs = np.ndarray | Sequence[tuple[int, int]]
"""Near-duplicates as row numbers (i, j) with i < j: `(P, 2)` integers."""

BLOCK_SIZE = 2048
"""Number of images that are read, or of pairs that are compared, at a time."""

HASH_BYTES = 32
HASH_WORDS = 16
"""Words of 16 bits in a hash; two hashes that differ in 15 bits or less share one of them."""

THUMBNAIL_PX = 32


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of N images, by which near-duplicates are found.

    Attributes:
        hashes: Perceptual hashes, `(N, 32)` uint8: 256 bits each.
        thumbnails: Thumbnails of 32 x 32 pixels, `(N, 1024)` uint8.
    """

    hashes: np.ndarray
    thumbnails: np.ndarray


def fingerprint_files(files: Iterable[ListedFile]) -> Fingerprints:
    """Compute the fingerprints of image files, 1056 bytes per image.

    Raises:
        ImageError: A file cannot be decoded, or has not the SHA-256 that is listed (`read_image`).
    """
    hashes, thumbnails = bytearray(), bytearray()
    remaining_files = iter(files)
    with ThreadPoolExecutor(available_cores()) as executor:
        while block := list(islice(remaining_files, BLOCK_SIZE)):
            for image_hash, thumbnail in executor.map(_fingerprint_file, block):
                hashes += image_hash.tobytes()
                thumbnails += thumbnail.tobytes()
    return Fingerprints(
        np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES),
        np.frombuffer(thumbnails, np.uint8).reshape(-1, THUMBNAIL_PX**2),
    )


def _fingerprint_file(file: ListedFile) -> tuple[np.ndarray, np.ndarray]:
    return fingerprint_pixels(read_image(file.path, sha256=file.sha256))


def fingerprint_pixels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the perceptual hash `(32,)` and the thumbnail `(1024,)` of one image, both uint8.

    Args:
        pixels: One image, `(H, W)` uint8.
    """
    import imagehash
    from PIL import Image

    image = Image.fromarray(pixels)
    bits = imagehash.phash(image, hash_size=16).hash
    thumbnail = image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    return np.packbits(bits), np.asarray(thumbnail, np.uint8).ravel()


def find_near_duplicates(
    fingerprints: Fingerprints,
    *,
    max_bits: int = 24,
    min_correlation: float = 0.985,
    window: int = 64,
) -> np.ndarray:
    """Find pairs of images that differ only in size, compression or exposure.

    A pair has similar hashes and correlated thumbnails. (In 585 radiographs of different patients the
    closest two differed in 60 bits and correlated at 0.974; halving, JPEG at quality 50 and a gamma of
    1.2 change at most 14 bits.) To avoid comparing all pairs, candidates share one of the 16 words of
    the hash, and lie within `window` of each other when images are sorted by it. Two images that
    already have `window` candidates each are not compared again: large groups of copies stay linked
    without every pair in them.

    Args:
        fingerprints: Fingerprints of N images.
        max_bits: Number of the 256 hash bits that may differ.
        min_correlation: Pearson correlation that the thumbnails must reach.
        window: Neighbours in the sorted order that are compared, and candidates that are enough.

    Returns:
        Sorted pairs of row numbers (i, j) with i < j, `(P, 2)` integers.
    """
    count = len(fingerprints.hashes)
    pair_codes = np.empty(0, np.int64)  # the pair (i, j) as i * count + j
    candidate_counts = np.zeros(count, np.int64)
    for word in range(HASH_WORDS):
        needs_candidates = candidate_counts < window
        new_codes = _find_candidates(fingerprints.hashes, word, needs_candidates, max_bits, window)
        new_codes = np.setdiff1d(new_codes, pair_codes, assume_unique=True)
        pair_codes = np.sort(np.concatenate([pair_codes, new_codes]), kind="stable")
        for rows in np.divmod(new_codes, count):
            candidate_counts += np.bincount(rows, minlength=count)
    correlations = _compute_correlations(fingerprints.thumbnails, pair_codes)
    duplicate_codes = pair_codes[correlations >= min_correlation]
    return np.stack(np.divmod(duplicate_codes, max(count, 1)), axis=1)


def _find_candidates(
    hashes: np.ndarray, word: int, needs_candidates: np.ndarray, max_bits: int, window: int
) -> np.ndarray:
    """Codes i * N + j of pairs with similar hashes among neighbours in the order by one word."""
    count = len(hashes)
    words = hashes.view(np.uint16)
    order = np.lexsort((*words.T, words[:, word]))
    sorted_words = words[order, word]
    rank = np.arange(count)
    codes = [np.empty(0, np.int64)]
    for step in range(1, window):
        rank = rank[: np.searchsorted(rank, count - step)]
        # a rank whose neighbour at this distance has another word has no equal one further away
        rank = rank[sorted_words[rank] == sorted_words[rank + step]]
        if not len(rank):
            break
        first, second = order[rank], order[rank + step]
        is_candidate = needs_candidates[first] | needs_candidates[second]
        first, second = first[is_candidate], second[is_candidate]
        is_similar = _count_different_bits(hashes, first, second) <= max_bits
        first, second = first[is_similar], second[is_similar]
        codes.append(np.minimum(first, second) * count + np.maximum(first, second))
    return np.concatenate(codes)


def _count_different_bits(hashes: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hamming distance of the hashes of each pair of rows, `(P,)`."""
    long_words = hashes.view(np.uint64)
    return np.asarray(np.bitwise_count(long_words[first] ^ long_words[second]).sum(axis=1))


def _compute_correlations(thumbnails: np.ndarray, pair_codes: np.ndarray) -> np.ndarray:
    """Pearson correlation of the thumbnails of each pair i * N + j; 0 where one of them is blank."""
    count, pixels = thumbnails.shape  # sums of 1024 products of bytes fit into 32 bits
    sums = thumbnails.sum(axis=1, dtype=np.int64)
    squares = np.einsum("nd,nd->n", thumbnails, thumbnails, dtype=np.int32)
    deviations = np.sqrt(np.maximum(pixels * squares.astype(np.int64) - sums**2, 1))
    correlations = np.empty(len(pair_codes))
    for start in range(0, len(pair_codes), BLOCK_SIZE):
        block = slice(start, start + BLOCK_SIZE)
        first, second = np.divmod(pair_codes[block], count)
        products = np.einsum("nd,nd->n", thumbnails[first], thumbnails[second], dtype=np.int32)
        covariances = pixels * products.astype(np.int64) - sums[first] * sums[second]
        correlations[block] = covariances / (deviations[first] * deviations[second])
    return correlations


def cluster_pairs(count: int, pairs: Pairs) -> np.ndarray:
    """Compute the connected components of `count` images that are linked by pairs.

    Returns:
        The component's number per image, `(count,)` integers from 0.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = pair_indices(pairs)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def pair_indices(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second row number of each pair, `(P,)` integers each."""
    first, second = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    return first, second
