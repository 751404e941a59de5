"""Whether readers agree: with each other, with themselves, and two by two."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.reader_study.results import REAL
from xraysynth.report.formatting import format_number, is_finite
from xraysynth.report.readers import ALL_SYNTHETIC, QUESTIONS, SCORE_TITLES
from xraysynth.report.views.cells import Cell, Heading, build_headings
from xraysynth.report.views.reading import share_cell, value_cell


@dataclass(frozen=True)
class InterReaderRow:
    """Agreement on one question, by group of images, and Krippendorff's alpha."""

    question: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class InterReaderTable:
    """Agreement between readers."""

    headings: Sequence[Heading]
    rows: Sequence[InterReaderRow]


@dataclass(frozen=True)
class IntraReaderRow:
    """Agreement of readers with themselves on one question, or a note why it is not known."""

    question: str
    is_measured: bool
    same_answer: Cell
    kappa: Cell
    n: str
    note: str


@dataclass(frozen=True)
class IntraReaderTable:
    """Agreement of readers with themselves."""

    headings: Sequence[Heading]
    rows: Sequence[IntraReaderRow]


@dataclass(frozen=True)
class ReaderPairRow:
    """Agreement of two readers on one question."""

    question: str
    readers: str
    kappa: str
    images: str


@dataclass(frozen=True)
class ReaderPairTable:
    """Agreement of every two readers."""

    headings: Sequence[Heading]
    rows: Sequence[ReaderPairRow]


def inter_reader_table(reading: Reading) -> InterReaderTable:
    """Of the questions for which kappa is measured."""
    groups = [ALL_SYNTHETIC, REAL, *reading.generators]
    names = ["", "all images", "real", *reading.generators, "Krippendorff’s α"]
    rows = []
    for name, title in QUESTIONS.items():
        kappa = f"weighted_kappa_{name}" if name in SCORE_TITLES else f"fleiss_kappa_{name}"
        if reading.get(kappa):
            cells = [value_cell(reading.get(kappa, group)) for group in groups]
            alpha = value_cell(reading.get(f"alpha_{name}"))
            rows.append(InterReaderRow(title, [*cells, alpha]))
    return InterReaderTable(build_headings(*names), rows)


def intra_reader_table(reading: Reading) -> IntraReaderTable:
    """Of the questions that were answered twice, or might have been."""
    rows = []
    for name, title in QUESTIONS.items():
        same = reading.get(f"same_again_{name}")
        if same:
            rows.append(
                IntraReaderRow(
                    question=title,
                    is_measured=is_finite(same.value),
                    same_answer=share_cell(same),
                    kappa=value_cell(reading.get(f"kappa_again_{name}")),
                    n=f"{same.n} images, {same.readers} readers",
                    note=same.note,
                )
            )
    return IntraReaderTable(build_headings("", "same answer", "κ", "N"), rows)


def reader_pair_table(reading: Reading) -> ReaderPairTable:
    """Every two readers and question."""
    rows = [
        ReaderPairRow(
            QUESTIONS[str(row.question)],
            f"{row.reader} and {row.other}",
            format_number(row.value, 2),
            str(row.images),
        )
        for row in reading.pairs.itertuples(index=False)
    ]
    return ReaderPairTable(
        build_headings("question", "readers", "κ", "images", text_columns=2), rows
    )
