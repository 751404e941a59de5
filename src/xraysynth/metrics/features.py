"""Features of an image set, bound to the encoder they are from, and their cache on disk.

A cached file is named by the digests of the images and of what decides the features. Its header
repeats them (`images`, `encoder`, `weights`, `preprocessing`) with the SHA-256 of the values, so that
a file which is damaged, or lies under the name of another, is computed again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from xraysynth import seeds
from xraysynth.errors import XraysynthError
from xraysynth.store import write_atomically

if TYPE_CHECKING:
    from xraysynth.encoders.base import Encoder


@dataclass(frozen=True)
class Features:
    """Features `(N, d)` float64 of one image set, and the identity of the encoder they are from."""

    values: np.ndarray
    identity: Mapping[str, Any]

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return str(self.identity["encoder"])

    def of(self, rows: np.ndarray) -> "Features":
        """Those of some of the images."""
        return replace(self, values=self.values[rows])


def cached_features(
    encoder: "Encoder", images: np.ndarray, *, digest: str, folder: Path
) -> Features:
    """Features of `images` `(N, H, W)` uint8, read from `folder` where they are known.

    `digest` identifies the image set, such as `Manifest.digest()`. Images may be memory-mapped: a
    batch is read at a time, and none where the features are known.
    """
    identity = encoder.identity
    facts = _facts(identity, digest)
    path = Path(folder) / f"{encoder.name}-{seeds.digest(facts)[:16]}.safetensors"
    values = _read(path, facts)
    if values is None:
        values = np.ascontiguousarray(encoder.features(images), np.float64)
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = facts | {"sha256": _array_digest(values)}
        write_atomically(path, save({"features": values}, metadata=metadata))
    if len(values) != len(images):
        raise XraysynthError(
            f"{path} holds features of {len(values)} images, but {len(images)} were given under "
            "the same digest; pass the digest of exactly these images"
        )
    return Features(values, identity)


def require_same(*features: Features) -> None:
    """Raise unless all features are of one encoder, one preprocessing and one set of weights."""
    first = features[0].identity
    for other in (item.identity for item in features[1:]):
        if differing := [key for key in first if first[key] != other.get(key)]:
            described = [_describe(identity) for identity in (first, other)]
            raise XraysynthError(
                f"features differ in {' and '.join(differing)}: {described[0]} and {described[1]}; "
                "compute all sides with the same encoder"
            )


def pooled(shards: Sequence[Features]) -> Features:
    """Features of several shards as one set: a distance is of the whole, never averaged."""
    require_same(*shards)
    return Features(np.concatenate([shard.values for shard in shards]), shards[0].identity)


def _describe(identity: Mapping[str, Any]) -> str:
    hashes = (f"{key} {seeds.key12(identity[key])}" for key in ("preprocessing", "weights"))
    return f"{identity['encoder']} ({', '.join(hashes)})"


def _facts(identity: Mapping[str, Any], images: str) -> dict[str, str]:
    return {
        "images": images,
        "encoder": str(identity["encoder"]),
        "weights": str(identity["weights"]),
        "preprocessing": seeds.digest(identity["preprocessing"]),
    }


def _read(path: Path, facts: Mapping[str, str]) -> np.ndarray | None:
    try:
        with safe_open(path, framework="np") as file:
            values: np.ndarray = file.get_tensor("features")
            found = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return values if found == {**facts, "sha256": _array_digest(values)} else None


def _array_digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
