"""Holds the image sets that `images.evaluate` compares, with their pixels, labels and features."""

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
    """Sets how much work goes into intervals and baselines.

    Attributes:
        splits: How often the real images are halved for the real-vs-real baseline.
        replicates: The number of bootstrap replicates behind each interval.
        pairs_per_class: The number of image pairs per class that diversity is measured on.
    """

    splits: int = 20
    replicates: int = 1000
    pairs_per_class: int = 200


class CopyMeasureInputs(TypedDict):
    """Keyword arguments of `measure_copying` and `detect_memorization`.

    `patients` `(H,)` and `held_out_labels` `(H,)` belong to the held-out images, `synthetic_labels`
    `(N,)` to the synthetic ones.
    """

    train: Features
    held_out: Features
    synthetic: Features
    patients: np.ndarray
    held_out_labels: np.ndarray
    synthetic_labels: np.ndarray
    replicates: int


@dataclass(frozen=True)
class ImageSets:
    """Image sets by role, with all that measures need of them.

    Attributes:
        manifests: One manifest per role: "real" and "synthetic", and where copies are looked for also
            "train" and "held_out".
        linked: Keys of patients who are one person, one sequence per person.
        size_px: The side in pixels at which images are compared.
        cache: The folder where pixels and features are kept.
        resampling: The number of splits, replicates and pairs.
    """

    manifests: dict[str, Manifest]
    linked: Sequence[Sequence[str]]
    size_px: int
    cache: Path
    resampling: Resampling

    @cached_property
    def pixels(self) -> dict[str, np.ndarray]:
        """The pixels of each set by role, `(N, size_px, size_px)` uint8."""
        pixels = {}
        for role, manifest in self.manifests.items():
            pixels[role] = load_cached_pixels(manifest, size_px=self.size_px, folder=self.cache)
        return pixels

    def labels(self, role: str) -> np.ndarray:
        """Returns the class name of each image of a set, `(N,)` str."""
        return np.asarray(self.manifests[role].table["label"], str)

    def patients(self, role: str) -> np.ndarray:
        """Returns the key of the person whom each image of a set shows, `(N,)` str."""
        return np.asarray(person_keys(self.manifests[role].table, self.linked))

    def features(self, encoder: Encoder) -> dict[str, Features]:
        """Returns the features of each set by role.

        Where all real images are among the held-out ones they are not encoded a second time.
        """
        held_out_rows = _row_positions(self.manifests["real"], self.manifests.get("held_out"))
        features: dict[str, Features] = {}
        for role, manifest in reversed(self.manifests.items()):  # "held_out" comes before "real"
            if role == "real" and held_out_rows is not None:
                features[role] = features["held_out"].select_rows(held_out_rows)
                continue
            digest = image_set_digest(manifest.digest(), size_px=self.size_px)
            features[role] = load_or_compute_features(
                encoder, self.pixels[role], digest=digest, folder=self.cache / FEATURES_FOLDER
            )
        return features

    def copy_measure_inputs(self, features: Mapping[str, Features]) -> CopyMeasureInputs:
        """Returns the arguments of the functions that test whether synthetic images are copies."""
        return {
            "train": features["train"],
            "held_out": features["held_out"],
            "synthetic": features["synthetic"],
            "patients": self.patients("held_out"),
            "held_out_labels": self.labels("held_out"),
            "synthetic_labels": self.labels("synthetic"),
            "replicates": self.resampling.replicates,
        }


def _row_positions(subset: Manifest, whole_set: Manifest | None) -> np.ndarray | None:
    """Returns the rows of `whole_set` that hold the images of `subset`, None unless all are in it."""
    if whole_set is None or subset.folder != whole_set.folder:
        return None
    image_ids = pd.Index(whole_set.table["image_id"])
    rows = image_ids.get_indexer(pd.Index(subset.table["image_id"]))
    return None if (rows < 0).any() else rows
