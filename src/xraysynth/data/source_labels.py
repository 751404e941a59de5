"""What is said of the labels of a source: those of no class, and those that were recognised."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from xraysynth.errors import ManifestError, format_some
from xraysynth.quoting import quote_override
from xraysynth.records import CLASSES

if TYPE_CHECKING:  # a wrong option must be rejected before pandas is imported
    import pandas as pd

MAX_LISTED_LABELS = 20
"""How many unknown labels a remedy maps; with more of them a file is clearer."""


def unknown_labels_error(
    unknown: Sequence[str], classes: Sequence[str], *, name: str
) -> ManifestError:
    """Return the error on labels that belong to no class, with the override that drops their images.

    Args:
        unknown: The labels, each once.
        classes: The classes of the study.
        name: Name of the source.
    """
    option = f"source.{name}.labels"
    mapping: dict[str, str | None] = dict.fromkeys(unknown[:MAX_LISTED_LABELS])
    remedy = (
        f"{quote_override(option, mapping)} leaves their images out; to use them, write a class"
    )
    if len(unknown) > MAX_LISTED_LABELS:
        remedy += (
            f" (all {len(unknown)} labels in a file: {option}=labels.yaml, with a line for each)"
        )
    return ManifestError(
        f"source {name}: unknown label {format_some(map(repr, unknown))}; the study's classes are "
        f"{', '.join(classes)}. {remedy} in place of null"
    )


def require_known_classes(
    labels: Mapping[str, str | None], classes: Sequence[str], *, name: str
) -> None:
    """Require that no label is mapped to a misspelt class, which would leave its images out.

    Other classes than the study's are allowed: labels may be mapped once for several studies.

    Args:
        labels: Label -> class, or None.
        classes: The classes of the study.
        name: Name of the source.

    Raises:
        ManifestError: A class is almost one of the study's.
    """
    by_lower_case = {known.casefold(): known for known in classes}
    for label, label_class in labels.items():
        if label_class is None or label_class in (*classes, *CLASSES):
            continue
        close = difflib.get_close_matches(label_class.casefold(), by_lower_case, n=1, cutoff=0.8)
        if close:
            override = quote_override(f"source.{name}.labels", {label: by_lower_case[close[0]]})
            raise ManifestError(
                f"source {name}: source.{name}.labels maps {label!r} to {label_class!r}, which is no class "
                f"of the study ({', '.join(classes)}); if it is {by_lower_case[close[0]]!r}, write {override}"
            )


def note_on_labels(
    labels: "pd.Series",
    classes_of_images: Iterable[str],
    source_labels: Iterable[object],
    name: str,
) -> str:
    """Return a sentence on the labels that were recognised without being mapped; "" if there are none.

    Args:
        labels: Label of each image that is used, as the source has it.
        classes_of_images: Class of each of these images.
        source_labels: The labels that the user has mapped.
        name: Name of the source.
    """
    mapped = set(map(str, source_labels))
    counts = Counter(zip(labels.fillna("").astype(str), classes_of_images, strict=True))
    recognised = []
    for (label, label_class), count in sorted(counts.items()):
        if label != label_class and label not in mapped:
            recognised.append(f"{label!r} as {label_class} ({count})")
    if not recognised:
        return ""
    return (
        f"source {name}: labels are read by their usual meaning: {format_some(recognised, 12)}; "
        f"source.{name}.labels says otherwise where that is wrong."
    )
