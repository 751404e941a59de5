"""Features of an image set, bound to the encoder that computed them, and their cache on disk.

A cached file is named by the digests of the images and of the encoder's identity. Its header repeats
them (`images`, `encoder`, `weights`, `preprocessing`) with the SHA-256 of the values, so that a file
that is damaged, or lies under the name of another one, is computed again. A set may lie in several
shards, each in a file whose header gives its `rows` as well. Shards begin where an encoder begins a
batch, so that together they hold the same values as one file, bit by bit.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from xraysynth import seeds
from xraysynth.errors import XraysynthError
from xraysynth.files import write_atomically

if TYPE_CHECKING:
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.evaluation.encoders.identity import Identity

FEATURES_FOLDER = "features"
"""Name of the folder of features in a study's cache."""

Shard = tuple[int, int]
"""A shard of an image set: its index, and the number of shards that the set is divided into."""

WHOLE: Shard = (0, 1)
"""The only shard of a set that is not divided."""


@dataclass(frozen=True)
class Features:
    """Features `(N, d)` float64 of one image set, and the identity of the encoder that computed them."""

    values: np.ndarray
    identity: "Identity"

    @property
    def encoder(self) -> str:
        """Name of the encoder."""
        return self.identity.encoder

    def select_rows(self, rows: np.ndarray) -> "Features":
        """Return the features of some of the images."""
        return replace(self, values=self.values[rows])


def load_or_compute_features(
    encoder: "Encoder", images: np.ndarray, *, digest: str, folder: Path
) -> Features:
    """Read the features of an image set from the cache, and compute those that it lacks.

    Where the cache holds some shards of the set, only the other shards are computed.

    Args:
        encoder: The encoder.
        images: Images `(N, H, W)` uint8. They may be memory-mapped: one batch is read at a time, and
            none where the cache holds all features.
        digest: Digest of the image set, such as `Manifest.digest()`.
        folder: Folder of the cache.

    Raises:
        XraysynthError: If a cached file holds features of another number of images.
    """
    cache = FeatureCache(encoder.identity, digest, len(images), Path(folder))
    values = []
    for shard in cache.shards_to_read():
        values.append(cache.load_or_compute(shard, encoder, images.__getitem__))
    return Features(np.concatenate(values), cache.identity)


def image_set_digest(manifest_digest: str, *, size_px: int) -> str:
    """Return the digest of the images of a manifest in study format."""
    return f"{manifest_digest}-{size_px}"


@dataclass(frozen=True)
class FeatureCache:
    """The files that hold the features of one image set by one encoder: one, or one per shard.

    Attributes:
        identity: Identity of the encoder.
        digest: Digest of the image set.
        n_images: Number of images.
        folder: Folder of the files.
    """

    identity: "Identity"
    digest: str
    n_images: int
    folder: Path

    def rows(self, shard: Shard) -> slice:
        """Return the images of a shard: whole batches, divided as evenly as possible.

        Empty where there are fewer batches than shards.
        """
        index, count = shard
        return slice(self._shard_start(index, count), self._shard_start(index + 1, count))

    def _shard_start(self, index: int, count: int) -> int:
        """Return the first image of shard `index` of `count`, the number of images for the end."""
        from xraysynth.evaluation.encoders.base import BATCH_SIZE

        batches = -(-self.n_images // BATCH_SIZE)
        return min(batches * index // count * BATCH_SIZE, self.n_images)

    def path(self, shard: Shard = WHOLE) -> Path:
        """Return the file of a shard."""
        key = seeds.digest(_header_fields(self.identity, self.digest))[:16]
        suffix = "" if shard == WHOLE else f".{shard[0]}-of-{shard[1]}"
        return self.folder / f"{self.identity.encoder}-{key}{suffix}.safetensors"

    def shards_to_read(self, shard: Shard = WHOLE) -> list[Shard]:
        """Return the shards whose files hold the images of `shard`, without empty ones.

        Where one file holds the whole set, it is read. Otherwise the whole set is read from shards;
        among several divisions, from the one of which the largest fraction is on disk.
        """
        if self.path().exists():
            shards = [WHOLE]
        elif shard != WHOLE:
            shards = [shard]
        else:
            count = self._shard_count_on_disk()
            shards = [(index, count) for index in range(count)]
        return list(filter(self._has_images, shards))

    def _has_images(self, shard: Shard) -> bool:
        rows = self.rows(shard)
        return bool(rows.start < rows.stop)

    def _shard_count_on_disk(self) -> int:
        """Return into how many shards the set is divided on disk, 1 where there is no shard."""
        files_by_count: Counter[int] = Counter()
        for path in self.folder.glob(f"{self.path().stem}.*.safetensors"):
            match = re.search(r"\.\d+-of-([1-9]\d*)\.safetensors$", path.name)
            if match:
                files_by_count[int(match[1])] += 1
        return max(files_by_count, key=lambda count: files_by_count[count] / count, default=1)

    def load_or_compute(
        self, shard: Shard, encoder: "Encoder", images: Callable[[slice], np.ndarray]
    ) -> np.ndarray:
        """Read the features `(n, d)` of a shard, or compute and store them.

        Args:
            shard: The shard.
            encoder: The encoder, whose identity is that of the cache.
            images: Returns the images `(n, H, W)` uint8 of a slice of the set.

        Raises:
            XraysynthError: If the file holds features of another number of images.
        """
        rows, path = self.rows(shard), self.path(shard)
        header = _header_fields(self.identity, self.digest)
        if shard != WHOLE:
            header["rows"] = f"{rows.start} to {rows.stop} of {self.n_images}"
        values = _read_features(path, header)
        if values is None:
            values = np.ascontiguousarray(encoder.features(images(rows)), np.float64)
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = header | {"sha256": _array_digest(values)}
            write_atomically(path, save({"features": values}, metadata=metadata))
        if len(values) != rows.stop - rows.start:
            raise XraysynthError(
                f"{path} holds features of {len(values)} images, but {rows.stop - rows.start} were given "
                "under the same digest; pass the digest of exactly these images"
            )
        return values


def require_same_encoder(*features: Features) -> None:
    """Check that all features are of one encoder, one preprocessing and one set of weights.

    Raises:
        XraysynthError: If an encoder, its weights or its preprocessing differ.
    """
    first = features[0].identity
    names = [field.name for field in fields(first)]
    for other in features[1:]:
        differing = []
        for name in names:
            if getattr(first, name) != getattr(other.identity, name):
                differing.append(name)
        if differing:
            raise XraysynthError(
                f"features differ in {' and '.join(differing)}: {_describe_identity(first)} and "
                f"{_describe_identity(other.identity)}; compute all sides with the same encoder"
            )


def concatenate_features(shards: Sequence[Features]) -> Features:
    """Join the features of several shards to one set, because a distance is never averaged over shards.

    Raises:
        XraysynthError: If the shards are of different encoders.
    """
    require_same_encoder(*shards)
    return Features(np.concatenate([shard.values for shard in shards]), shards[0].identity)


def _describe_identity(identity: "Identity") -> str:
    preprocessing = identity.preprocessing.digest[:12]
    weights = seeds.short_digest(identity.weights)
    return f"{identity.encoder} (preprocessing {preprocessing}, weights {weights})"


def _header_fields(identity: "Identity", images_digest: str) -> dict[str, str]:
    """Return the fields that a file's header repeats, and that its name is a digest of."""
    return {
        "images": images_digest,
        "encoder": identity.encoder,
        "weights": identity.weights,
        "preprocessing": identity.preprocessing.digest,
    }


def _read_features(path: Path, header_fields: Mapping[str, str]) -> np.ndarray | None:
    """Read the features of a file; None where it is missing, damaged, or has another header."""
    try:
        with safe_open(path, framework="np") as file:
            values: np.ndarray = file.get_tensor("features")
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    expected = {**header_fields, "sha256": _array_digest(values)}
    return values if metadata == expected else None


def _array_digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
