"""Features with the label and the patient of each image, in an order that content alone decides."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError, some
from xraysynth.evaluation.metrics.features import Features


def text_column(values: ArrayLike | None, n: int, *, what: str, images: str) -> np.ndarray:
    """The labels or patient ids of `n` images as text `(n,)`, all "" where there are none.

    An error calls them `what` and the images `images`.

    >>> text_column(None, 2, what="labels", images="real").tolist()
    ['', '']
    """
    column = np.full(n, "") if values is None else np.asarray(values).astype(str)
    if column.shape != (n,):
        raise XraysynthError(
            f"{n} {images} images, but {what} of shape {column.shape}; give one for each image"
        )
    return column


@dataclass(frozen=True)
class Labelled:
    """Features with a label and a patient for each image."""

    features: Features
    labels: np.ndarray
    patients: np.ndarray

    @classmethod
    def sorted(
        cls,
        features: Features,
        labels: ArrayLike | None,
        patients: ArrayLike | None,
        classes: Sequence[str] | None,
        what: str,
    ) -> "Labelled":
        """By content, so that what is drawn does not depend on the order of the files."""
        n = len(features.values)
        columns = [
            text_column(labels, n, what="labels", images=what),
            text_column(patients, n, what="patient ids", images=what),
        ]
        if classes is not None and (unknown := set(columns[0]) - set(classes)):
            raise XraysynthError(
                f"labels of {what} images are not among the classes {some(classes)}: "
                f"{some(sorted(unknown))}"
            )
        keys = [_digest(*row) for row in zip(features.values, *columns, strict=True)]
        order = np.array(sorted(range(n), key=keys.__getitem__))
        return cls(features.of(order), *(column[order] for column in columns))

    def of(self, label: str) -> "Labelled":
        """The images of one class."""
        return self.within([label])

    def within(self, labels: Sequence[str]) -> "Labelled":
        """The images of some classes."""
        rows = np.flatnonzero(np.isin(self.labels, labels))
        return Labelled(self.features.of(rows), self.labels[rows], self.patients[rows])


def _digest(row: np.ndarray, label: str, patient: str) -> bytes:
    return hashlib.sha256(row.tobytes() + f"{label}\n{patient}".encode()).digest()


def name_classes(labels: Sequence[str]) -> str:
    """The classes in a sentence.

    >>> name_classes(["normal"]), name_classes(["a", "b"])
    ('the class normal', 'the classes a, b')
    """
    return f"the class{'es' * (len(labels) > 1)} {', '.join(labels)}"
