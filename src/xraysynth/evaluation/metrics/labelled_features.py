"""Features with the label and the patient of each image, in an order that content alone decides."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError, format_some
from xraysynth.evaluation.metrics.features import Features


def text_column(
    values: ArrayLike | None, n: int, *, column_name: str, image_kind: str
) -> np.ndarray:
    """Return the labels or patient ids of `n` images as text `(n,)`, all "" where `values` is None.

    Args:
        values: One label or id per image.
        n: Number of images.
        column_name: Name of the values in an error, such as "labels".
        image_kind: Name of the images in an error, such as "held-out".

    Raises:
        XraysynthError: If `values` is not one per image.

    >>> text_column(None, 2, column_name="labels", image_kind="real").tolist()
    ['', '']
    """
    column = np.full(n, "") if values is None else np.asarray(values).astype(str)
    if column.shape != (n,):
        raise XraysynthError(
            f"there are {n} {image_kind} images, but {column_name} of shape {column.shape}; give one for "
            "each image"
        )
    return column


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of N images with a label `(N,)` and a patient `(N,)` for each, both as text."""

    features: Features
    labels: np.ndarray
    patients: np.ndarray

    @classmethod
    def from_features(
        cls,
        features: Features,
        labels: ArrayLike | None,
        patients: ArrayLike | None,
        classes: Sequence[str] | None,
        image_kind: str,
    ) -> "LabelledFeatures":
        """Sort the images by their content, so that draws do not depend on the order of the files.

        Args:
            features: Features of the images.
            labels: Class name of each image; None where classes are not distinguished.
            patients: Patient id of each image; None where there are no patients.
            classes: The only labels that are allowed; None allows any.
            image_kind: Name of the images in an error, such as "held-out".

        Raises:
            XraysynthError: If labels or patients are not one per image, or not of `classes`.
        """
        n = len(features.values)
        label_column = text_column(labels, n, column_name="labels", image_kind=image_kind)
        patient_column = text_column(patients, n, column_name="patient ids", image_kind=image_kind)
        unknown = set() if classes is None else set(label_column) - set(classes)
        if classes is not None and unknown:
            raise XraysynthError(
                f"labels of {image_kind} images are not among the classes {format_some(classes)}: "
                f"{format_some(sorted(unknown))}"
            )
        digests = list(map(_row_digest, features.values, label_column, patient_column))
        order = np.array(sorted(range(n), key=digests.__getitem__))
        return cls(features.select_rows(order), label_column[order], patient_column[order])

    def select_class(self, label: str) -> "LabelledFeatures":
        """Return the images of one class."""
        return self.select_classes([label])

    def select_classes(self, labels: Sequence[str]) -> "LabelledFeatures":
        """Return the images of several classes."""
        rows = np.flatnonzero(np.isin(self.labels, labels))
        return LabelledFeatures(
            self.features.select_rows(rows), self.labels[rows], self.patients[rows]
        )


def _row_digest(row: np.ndarray, label: str, patient: str) -> bytes:
    return hashlib.sha256(row.tobytes() + f"{label}\n{patient}".encode()).digest()


def format_classes(labels: Sequence[str]) -> str:
    """Return class names as they stand in a sentence.

    >>> format_classes(["normal"]), format_classes(["a", "b"])
    ('the class normal', 'the classes a, b')
    """
    noun = "the class" if len(labels) == 1 else "the classes"
    return f"{noun} {', '.join(labels)}"
