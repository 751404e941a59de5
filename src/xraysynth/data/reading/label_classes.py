"""Choosing the class of an image from its label, or from the findings that its label lists."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xraysynth.data.reading.labels import (
    class_of_word,
    findings_of_cell,
    is_list,
    without_uncertainty,
)


@dataclass(frozen=True)
class LabelClass:
    """What the label of an image means in a study.

    Attributes:
        name: The class of the study; "" if it has none.
        left_out: Why the image is of no class of the study; "" if it is of one, or the label is unknown.
    """

    name: str = ""
    left_out: str = ""

    @property
    def is_unknown(self) -> bool:
        """Whether nothing says what the label means."""
        return not self.name and not self.left_out


def choose_classes(
    labels: Iterable[str], class_of_label: Mapping[str, str | None], classes: Sequence[str]
) -> dict[str, LabelClass]:
    """Choose the class of each label.

    A label that is mapped as a whole has that class. Where any label of the table lists several findings
    (`A|B`), an image is used if its findings map to exactly one class of the study, and none of these is
    uncertain; it is left out otherwise, whatever else is found. Case, and the usual words for a class
    such as "No Finding", carry no information.

    Args:
        labels: The different labels.
        class_of_label: Label -> class, or None to drop the images.
        classes: The classes of the study.

    >>> chosen = choose_classes(["Effusion|Pneumonia", "Mass"], {}, ["normal", "pneumonia"])
    >>> chosen["Effusion|Pneumonia"].name, chosen["Mass"].left_out
    ('pneumonia', 'label of no class: Mass')
    """
    chooser = _ClassChooser(class_of_label, classes)
    chosen = {label: chooser.choose(label) for label in labels}
    if any(_lists_findings(label) for label, choice in chosen.items() if choice.is_unknown):
        for label, choice in chosen.items():
            if choice.is_unknown:
                chosen[label] = chooser.choose_by_findings(label)
    return chosen


def fold_label(label: str) -> str:
    r"""Return a label without what carries no information: case, outer and repeated spaces, Unicode form.

    >>> fold_label(" No  Finding"), fold_label("unauffa\u0308llig") == fold_label("Unauff\u00e4llig")
    ('no finding', True)
    """
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def _lists_findings(label: str) -> bool:
    return is_list(label) or len(findings_of_cell(label)) > 1


class _ClassChooser:
    """The classes of a study, found by whole labels and by single findings."""

    def __init__(self, class_of_label: Mapping[str, str | None], classes: Sequence[str]) -> None:
        self.class_of_label, self.classes = class_of_label, tuple(classes)
        self._folded: dict[str, set[str | None]] = {}
        for label, name in [*class_of_label.items(), *zip(classes, classes, strict=True)]:
            self._folded.setdefault(fold_label(label), set()).add(name)

    def choose(self, label: str) -> LabelClass:
        """Choose the class of a label that is mapped as a whole."""
        name = self._class_of(label)
        if name in self.classes:
            return LabelClass(name)
        return LabelClass() if name == "" else _of_no_class(label)

    def choose_by_findings(self, label: str) -> LabelClass:
        """Choose the only class of the study that the findings in a label map to."""
        names: dict[str, None] = {}
        for finding in findings_of_cell(label):
            certain = without_uncertainty(finding)
            name = self._class_of(certain)
            if name in self.classes and certain != finding:
                return LabelClass(left_out=f"uncertain finding: {certain}")
            if name in self.classes:
                names[name] = None
        if len(names) > 1:
            return LabelClass(left_out=f"findings of several classes: {', '.join(sorted(names))}")
        return LabelClass(next(iter(names))) if names else _of_no_class(label)

    def _class_of(self, label: str) -> str:
        """The class of a label or finding: "" if it is not known, "-" if its images are dropped."""
        if label in self.class_of_label:
            return self.class_of_label[label] or "-"
        folded = self._folded.get(fold_label(label), set())
        if len(folded) == 1:
            return next(iter(folded)) or "-"
        word = class_of_word(label)
        return word if word in self.classes else ""


def _of_no_class(label: str) -> LabelClass:
    return LabelClass(left_out=f"label of no class: {label}")
