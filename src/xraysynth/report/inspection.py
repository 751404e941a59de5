"""The page of an inspection: what people's files are, and the command that runs a study on them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from xraysynth.report.templating import render_template


@dataclass(frozen=True)
class Picture:
    """One image of a contact sheet.

    Attributes:
        jpeg: The image as a small JPEG; empty if it cannot be decoded.
        caption: Its file, for screen readers and on hover.
        note: Words below it, such as its label; "" for none.
    """

    jpeg: bytes
    caption: str
    note: str = ""

    @cached_property
    def src(self) -> str:
        """The image as a data URL; empty if it cannot be decoded."""
        if not self.jpeg:
            return ""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class Entry:
    """A name and a text, such as a fact, an option and its reason, or a value and its number of images."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command that can be pasted into a shell.

    Attributes:
        title: What it does.
        text: The command.
        reasons: Each option that is there because of these images, and why.
    """

    title: str
    text: str
    reasons: Sequence[Entry] = ()


@dataclass(frozen=True)
class ClassRow:
    """One class of the images, or a label that becomes none.

    Attributes:
        name: Name of the class.
        cells: Numbers of images, of patients and of images of each split, as text.
        is_used: Whether the study has the class.
        caption: How many of its images are shown.
        pictures: A few of its images.
    """

    name: str
    cells: Sequence[str]
    is_used: bool
    caption: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Problem:
    """Images that are not simply used, for one reason.

    Attributes:
        title: The reason, and their number.
        pictures: A few of them.
        files: The first of their files.
        more_files: How many more there are, in words; "" for none.
    """

    title: str
    pictures: Sequence[Picture]
    files: Sequence[str]
    more_files: str


@dataclass(frozen=True)
class ProblemGroup:
    """Images of which the same becomes, by reason.

    Attributes:
        status: What they are, in a word, such as "unusable" or "flagged".
        is_serious: Whether the images cannot be used or contradict each other.
        consequence: What becomes of them.
        problems: The reasons.
    """

    status: str
    is_serious: bool
    consequence: str
    problems: Sequence[Problem]


@dataclass(frozen=True)
class PropertyTable:
    """Numbers of images by one property of their files, such as the size."""

    name: str
    rows: Sequence[Entry]


@dataclass(frozen=True)
class Inspection:
    """Everything on the page of an inspection.

    Attributes:
        name: Name of what was inspected.
        created: When.
        verdict: Whether a study can run, as a sentence.
        obstacles: Why no study can run; empty if one can.
        facts: Short facts.
        commands: The commands, the first of which runs the study.
        class_columns: Headings of the columns of numbers by class.
        classes: The classes.
        problems: What is not simply used, the most serious first.
        problem_table: Name of the CSV of all these images, beside the page.
        contents: What is there and what its owner should know, as sentences.
        properties: Properties of the files.
    """

    name: str
    created: str
    verdict: str
    obstacles: Sequence[str]
    facts: Sequence[Entry]
    commands: Sequence[Command]
    class_columns: Sequence[str]
    classes: Sequence[ClassRow]
    problems: Sequence[ProblemGroup]
    problem_table: str
    contents: Sequence[str]
    properties: Sequence[PropertyTable]


def render_inspection(inspection: Inspection) -> str:
    """Return the page of an inspection as one HTML file that contains its styles and images."""
    return render_template("inspection.html.j2", inspection)
