"""The sets of images that `evaluate` compares, by role."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd

from xraysynth.data.persons import person_keys
from xraysynth.data.pixels import load_cached_pixels
from xraysynth.evaluation.encoders.base import Encoder
from xraysynth.evaluation.metrics.features import (
    FEATURES_FOLDER,
    Features,
    image_set_digest,
    load_or_compute_features,
)
from xraysynth.manifest import Manifest


@dataclass(frozen=True)
class Resampling:
    """How much work goes into intervals: `splits` of the real images, bootstrap `replicates`."""

    splits: int = 20
    replicates: int = 1000
    pairs_per_class: int = 200


class CopyMeasureInputs(TypedDict):
    """What `measure_copying` and `detect_memorization` take."""

    train: Features
    held_out: Features
    synthetic: Features
    patients: np.ndarray
    held_out_labels: np.ndarray
    synthetic_labels: np.ndarray
    replicates: int


@dataclass(frozen=True)
class ImageSets:
    """The sets of images by role: real and synthetic, and for copies train and held_out."""

    manifests: dict[str, Manifest]
    linked: Sequence[Sequence[str]]
    size_px: int
    cache: Path
    resampling: Resampling

    @cached_property
    def pixels(self) -> dict[str, np.ndarray]:
        """Every set in study format, `(N, size_px, size_px)` uint8."""
        return {
            role: load_cached_pixels(manifest, size_px=self.size_px, folder=self.cache)
            for role, manifest in self.manifests.items()
        }

    def labels(self, role: str) -> np.ndarray:
        """The class of each image, `(N,)`."""
        return np.asarray(self.manifests[role].table["label"], str)

    def patients(self, role: str) -> np.ndarray:
        """Whom each real image is of, `(N,)`."""
        return np.asarray(person_keys(self.manifests[role].table, self.linked))

    def features(self, encoder: Encoder) -> dict[str, Features]:
        """Features of every set; real images among the held-out ones are encoded once."""
        held_rows = _row_positions(self.manifests["real"], self.manifests.get("held_out"))
        features: dict[str, Features] = {}
        for role, manifest in reversed(self.manifests.items()):
            if role == "real" and held_rows is not None:
                features[role] = features["held_out"].select_rows(held_rows)
                continue
            digest = image_set_digest(manifest.digest(), size_px=self.size_px)
            features[role] = load_or_compute_features(
                encoder, self.pixels[role], digest=digest, folder=self.cache / FEATURES_FOLDER
            )
        return features

    def copy_measure_inputs(self, features: Mapping[str, Features]) -> CopyMeasureInputs:
        """What is compared to say whether synthetic images are copies."""
        return {
            "train": features["train"],
            "held_out": features["held_out"],
            "synthetic": features["synthetic"],
            "patients": self.patients("held_out"),
            "held_out_labels": self.labels("held_out"),
            "synthetic_labels": self.labels("synthetic"),
            "replicates": self.resampling.replicates,
        }


def _row_positions(part: Manifest, whole: Manifest | None) -> np.ndarray | None:
    """Where the images of `part` lie in `whole`, if all of them do."""
    if whole is None or part.folder != whole.folder:
        return None
    rows = pd.Index(whole.table["image_id"]).get_indexer(pd.Index(part.table["image_id"]))
    return None if (rows < 0).any() else rows
