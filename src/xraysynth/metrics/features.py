"""Features of an image set, bound to the encoder they are from, and their cache on disk."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from xraysynth import seeds
from xraysynth.errors import XraysynthError
from xraysynth.metrics.encoders import Encoder
from xraysynth.store import write_atomically


@dataclass(frozen=True)
class Features:
    """Features `(N, d)` float64 of one image set, and the identity of the encoder they are from."""

    values: np.ndarray
    identity: Mapping[str, Any]

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return str(self.identity["encoder"])


def cached_features(encoder: Encoder, images: np.ndarray, *, digest: str, folder: Path) -> Features:
    """Features of `images` `(N, H, W)` uint8, read from `folder` where they are known.

    `digest` identifies the image set, such as `Manifest.digest()`. A cached file is checked against
    the SHA-256 in its header; a damaged one is made again.
    """
    identity = encoder.identity
    key = seeds.digest({"images": digest, "encoder": identity})
    path = Path(folder) / f"{encoder.name}-{key[:16]}.safetensors"
    values = _read(path, key)
    if values is None:
        values = encoder.features(images)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"key": key, "sha256": _array_digest(values)}
        write_atomically(path, save({"features": values}, metadata=facts))
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


def _read(path: Path, key: str) -> np.ndarray | None:
    try:
        with safe_open(path, framework="np") as file:
            values: np.ndarray = file.get_tensor("features")
            facts = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    intact = facts.get("key") == key and facts.get("sha256") == _array_digest(values)
    return values if intact else None


def _array_digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
