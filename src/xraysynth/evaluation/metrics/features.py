"""Features of an image set, bound to the encoder they are from, and their cache on disk.

A cached file is named by the digests of the images and of what decides the features. Its header
repeats them (`images`, `encoder`, `weights`, `preprocessing`) with the SHA-256 of the values, so that
a file which is damaged, or lies under the name of another, is computed again. A set may lie in parts,
each a file that says its `rows` too; they begin where an encoder begins a batch, so that they hold the
values of the whole, bit by bit.
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
"""The folder in a study's cache."""

WHOLE = (0, 1)


@dataclass(frozen=True)
class Features:
    """Features `(N, d)` float64 of one image set, and the identity of the encoder they are from."""

    values: np.ndarray
    identity: "Identity"

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return self.identity.encoder

    def select_rows(self, rows: np.ndarray) -> "Features":
        """Those of some of the images."""
        return replace(self, values=self.values[rows])


def load_or_compute_features(
    encoder: "Encoder", images: np.ndarray, *, digest: str, folder: Path
) -> Features:
    """Features of `images` `(N, H, W)` uint8, read from `folder` where they are known.

    `digest` identifies the image set, such as `Manifest.digest()`. Images may be memory-mapped: a
    batch is read at a time, and none where the features are known. Where some parts are known, the
    others are added.
    """
    cache = FeatureCache(encoder.identity, digest, len(images), Path(folder))
    found = [
        cache.load_or_compute(part, encoder, images.__getitem__) for part in cache.shards_to_read()
    ]
    return Features(np.concatenate(found), cache.identity)


def image_set_digest(manifest_digest: str, *, size_px: int) -> str:
    """The digest of the images of a manifest in study format."""
    return f"{manifest_digest}-{size_px}"


@dataclass(frozen=True)
class FeatureCache:
    """Where the features of a set of `n_images` lie: in one file, or in parts (index, count)."""

    identity: "Identity"
    digest: str
    n_images: int
    folder: Path

    def rows(self, shard: tuple[int, int]) -> slice:
        """The images of a part: whole batches, as evenly as they go; none where they are too few."""
        from xraysynth.evaluation.encoders.base import BATCH_SIZE

        index, count = shard
        batches = -(-self.n_images // BATCH_SIZE)
        start, stop = (batches * i // count * BATCH_SIZE for i in (index, index + 1))
        return slice(start, min(stop, self.n_images))

    def path(self, shard: tuple[int, int] = WHOLE) -> Path:
        """The file of a part."""
        key = seeds.digest(_header_fields(self.identity, self.digest))[:16]
        which = "" if shard == WHOLE else f".{shard[0]}-of-{shard[1]}"
        return self.folder / f"{self.identity.encoder}-{key}{which}.safetensors"

    def shards_to_read(self, shard: tuple[int, int] = WHOLE) -> list[tuple[int, int]]:
        """The parts that hold this one, as far as they have images: the whole where it is there.

        Of the whole itself the parts there are; of several cuts that which lacks the least.
        """
        if shard != WHOLE:
            found = [WHOLE if self.path().exists() else shard]
        else:
            count = 1 if self.path().exists() else self._shard_count_on_disk()
            found = [(index, count) for index in range(count)]
        return [one for one in found if self.rows(one).start < self.rows(one).stop]

    def _shard_count_on_disk(self) -> int:
        names = (path.name for path in self.folder.glob(f"{self.path().stem}.*.safetensors"))
        cuts = (re.search(r"\.\d+-of-([1-9]\d*)\.safetensors$", name) for name in names)
        found = Counter(int(cut[1]) for cut in cuts if cut)
        return max(found, key=lambda count: found[count] / count, default=1)

    def load_or_compute(
        self, shard: tuple[int, int], encoder: "Encoder", images: Callable[[slice], np.ndarray]
    ) -> np.ndarray:
        """Features `(n, d)` of a part: read, or else computed from the images of its rows and kept."""
        rows, path = self.rows(shard), self.path(shard)
        facts = _header_fields(self.identity, self.digest)
        if shard != WHOLE:
            facts["rows"] = f"{rows.start} to {rows.stop} of {self.n_images}"
        values = _read_features(path, facts)
        if values is None:
            values = np.ascontiguousarray(encoder.features(images(rows)), np.float64)
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = facts | {"sha256": _array_digest(values)}
            write_atomically(path, save({"features": values}, metadata=metadata))
        if len(values) != rows.stop - rows.start:
            raise XraysynthError(
                f"{path} holds features of {len(values)} images, but {rows.stop - rows.start} were given "
                "under the same digest; pass the digest of exactly these images"
            )
        return values


def require_same_encoder(*features: Features) -> None:
    """Raise unless all features are of one encoder, one preprocessing and one set of weights."""
    first = features[0].identity
    for other in (item.identity for item in features[1:]):
        names = [field.name for field in fields(first)]
        if differing := [n for n in names if getattr(first, n) != getattr(other, n)]:
            raise XraysynthError(
                f"features differ in {' and '.join(differing)}: {_describe_identity(first)} and "
                f"{_describe_identity(other)}; compute all sides with the same encoder"
            )


def concatenate_features(shards: Sequence[Features]) -> Features:
    """Features of several shards as one set: a distance is of the whole, never averaged."""
    require_same_encoder(*shards)
    return Features(np.concatenate([shard.values for shard in shards]), shards[0].identity)


def _describe_identity(identity: "Identity") -> str:
    preprocessing, weights = (
        identity.preprocessing.digest[:12],
        seeds.short_digest(identity.weights),
    )
    return f"{identity.encoder} (preprocessing {preprocessing}, weights {weights})"


def _header_fields(identity: "Identity", images_digest: str) -> dict[str, str]:
    return {
        "images": images_digest,
        "encoder": identity.encoder,
        "weights": identity.weights,
        "preprocessing": identity.preprocessing.digest,
    }


def _read_features(path: Path, header_fields: Mapping[str, str]) -> np.ndarray | None:
    try:
        with safe_open(path, framework="np") as file:
            values: np.ndarray = file.get_tensor("features")
            found = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return values if found == {**header_fields, "sha256": _array_digest(values)} else None


def _array_digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
