"""The classes of a study, chosen from the labels of its images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xraysynth.data.reading.labels import class_of_word, findings_of_cell, is_list

MAX_CLASSES = 8
"""Number of classes that are proposed; a column with more labels is rarely one of diagnoses."""


def standard_class(label: str) -> str:
    """Return the class of the prompt bank that a label means; other labels are classes of their own.

    >>> standard_class("PNEUMONIA"), standard_class("Pneumothorax")
    ('pneumonia', 'Pneumothorax')
    """
    return class_of_word(label) or label.strip()


@dataclass(frozen=True)
class ClassChoice:
    """The classes of a study and what becomes of the labels.

    Attributes:
        classes: The classes, normal first, then the most frequent.
        counts: Class -> number of images that have it alone, for all classes that the labels mean.
        too_rare: Class that is left out -> number of its images.
        dropped_labels: Labels that mean no class of the study.
        lists_findings: Whether labels list several findings, which the source then tells apart.
    """

    classes: list[str]
    counts: dict[str, int]
    too_rare: dict[str, int] = field(default_factory=dict)
    dropped_labels: list[str] = field(default_factory=list)
    lists_findings: bool = False


def choose_classes(
    labels: Sequence[str],
    known: Mapping[str, str | None],
    *,
    minimum: int,
    wanted: Sequence[str] = (),
) -> ClassChoice:
    """Choose the classes of a study.

    Args:
        labels: Label of each image that can be used.
        known: Label -> class, as a source states it.
        minimum: Number of images that each class needs.
        wanted: Classes that the user has named; empty to choose.
    """
    different = sorted(set(labels))
    class_of_label = {label: _class_of(label, known) for label in different}
    counts: dict[str, int] = {}
    for label in labels:
        name = class_of_label[label]
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    ordered = sorted(counts, key=lambda name: (name != "normal", -counts[name], name))
    frequent = [name for name in ordered if counts[name] >= minimum][:MAX_CLASSES]
    chosen = list(wanted) or frequent
    return ClassChoice(
        chosen,
        {name: counts[name] for name in ordered},
        too_rare={name: counts[name] for name in ordered if name not in chosen},
        dropped_labels=[label for label in different if class_of_label[label] not in chosen],
        lists_findings=any(map(_lists_findings, different)),
    )


def _class_of(label: str, known: Mapping[str, str | None]) -> str | None:
    """The class that a label means alone; None if it lists several findings, or is to be dropped."""
    if label in known:
        return known[label]
    if not _lists_findings(label):
        return standard_class(label)
    findings = {standard_class(finding) for finding in findings_of_cell(label)}
    return findings.pop() if len(findings) == 1 else None


def _lists_findings(label: str) -> bool:
    return is_list(label) or len(findings_of_cell(label)) > 1
