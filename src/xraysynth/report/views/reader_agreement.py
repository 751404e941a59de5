"""Whether readers agree: with each other, with themselves, and two by two."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.reader_study.results import REAL
from xraysynth.report.formatting import known, number
from xraysynth.report.readers import ALL, ASKED, SCORES
from xraysynth.report.views.cells import Cell, Heading, headings
from xraysynth.report.views.reading import share_cell, value_cell


@dataclass(frozen=True)
class BetweenRow:
    """Agreement on one question, by group of images, and Krippendorff's alpha."""

    question: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class BetweenTable:
    """Agreement between readers."""

    headings: Sequence[Heading]
    rows: Sequence[BetweenRow]


@dataclass(frozen=True)
class RepeatRow:
    """Agreement of readers with themselves on one question, or a note why it is not known."""

    question: str
    is_measured: bool
    same: Cell
    kappa: Cell
    n: str
    note: str


@dataclass(frozen=True)
class RepeatTable:
    """Agreement of readers with themselves."""

    headings: Sequence[Heading]
    rows: Sequence[RepeatRow]


@dataclass(frozen=True)
class PairRow:
    """Agreement of two readers on one question."""

    question: str
    readers: str
    kappa: str
    images: str


@dataclass(frozen=True)
class PairTable:
    """Agreement of every two readers."""

    headings: Sequence[Heading]
    rows: Sequence[PairRow]


def between_table(reading: Reading) -> BetweenTable:
    """Of the questions for which kappa is measured."""
    groups = [ALL, REAL, *reading.generators]
    names = ["", "all images", "real", *reading.generators, "Krippendorff’s α"]
    rows = []
    for name, title in ASKED.items():
        kappa = f"weighted_kappa_{name}" if name in SCORES else f"fleiss_kappa_{name}"
        if reading.get(kappa):
            cells = [value_cell(reading.get(kappa, group)) for group in groups]
            alpha = value_cell(reading.get(f"alpha_{name}"))
            rows.append(BetweenRow(title, [*cells, alpha]))
    return BetweenTable(headings(*names), rows)


def repeat_table(reading: Reading) -> RepeatTable:
    """Of the questions that were answered twice, or might have been."""
    rows = []
    for name, title in ASKED.items():
        same = reading.get(f"same_again_{name}")
        if same:
            rows.append(
                RepeatRow(
                    question=title,
                    is_measured=known(same.value),
                    same=share_cell(same),
                    kappa=value_cell(reading.get(f"kappa_again_{name}")),
                    n=f"{same.n} images, {same.readers} readers",
                    note=same.note,
                )
            )
    return RepeatTable(headings("", "same answer", "κ", "N"), rows)


def pair_table(reading: Reading) -> PairTable:
    """Every two readers and question."""
    rows = [
        PairRow(
            ASKED[str(row.question)],
            f"{row.reader} and {row.other}",
            number(row.value, 2),
            str(row.images),
        )
        for row in reading.pairs.itertuples(index=False)
    ]
    return PairTable(headings("question", "readers", "κ", "images", words=2), rows)
