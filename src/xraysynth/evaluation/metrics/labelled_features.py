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
    """The labels or patient ids of `n` images as text `(n,)`, all "" where there are none.

    An error calls them `column_name` and the images `image_kind`.

    >>> text_column(None, 2, column_name="labels", image_kind="real").tolist()
    ['', '']
    """
    column = np.full(n, "") if values is None else np.asarray(values).astype(str)
    if column.shape != (n,):
        raise XraysynthError(
            f"{n} {image_kind} images, but {column_name} of shape {column.shape}; give one for each image"
        )
    return column


@dataclass(frozen=True)
class LabelledFeatures:
    """Features with a label and a patient for each image."""

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
        """By content, so that what is drawn does not depend on the order of the files."""
        n = len(features.values)
        columns = [
            text_column(labels, n, column_name="labels", image_kind=image_kind),
            text_column(patients, n, column_name="patient ids", image_kind=image_kind),
        ]
        if classes is not None and (unknown := set(columns[0]) - set(classes)):
            raise XraysynthError(
                f"labels of {image_kind} images are not among the classes {format_some(classes)}: "
                f"{format_some(sorted(unknown))}"
            )
        keys = [_row_digest(*row) for row in zip(features.values, *columns, strict=True)]
        order = np.array(sorted(range(n), key=keys.__getitem__))
        return cls(features.select_rows(order), *(column[order] for column in columns))

    def select_class(self, label: str) -> "LabelledFeatures":
        """The images of one class."""
        return self.select_classes([label])

    def select_classes(self, labels: Sequence[str]) -> "LabelledFeatures":
        """The images of some classes."""
        rows = np.flatnonzero(np.isin(self.labels, labels))
        return LabelledFeatures(
            self.features.select_rows(rows), self.labels[rows], self.patients[rows]
        )


def _row_digest(row: np.ndarray, label: str, patient: str) -> bytes:
    return hashlib.sha256(row.tobytes() + f"{label}\n{patient}".encode()).digest()


def format_classes(labels: Sequence[str]) -> str:
    """The classes in a sentence.

    >>> format_classes(["normal"]), format_classes(["a", "b"])
    ('the class normal', 'the classes a, b')
    """
    return f"the class{'es' * (len(labels) > 1)} {', '.join(labels)}"
