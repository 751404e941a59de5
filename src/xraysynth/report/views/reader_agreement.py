"""View of the readers' agreement: with each other, with themselves, and pair by pair."""

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
    """Agreement between readers on one question, by group of images, and Krippendorff's alpha."""

    question: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class InterReaderTable:
    """Agreement between readers, one row per question."""

    headings: Sequence[Heading]
    rows: Sequence[InterReaderRow]


@dataclass(frozen=True)
class IntraReaderRow:
    """Agreement of readers with themselves on one question.

    Attributes:
        question: The question.
        is_measured: Whether images were shown twice; if not, `note` says why there is no number.
        same_answer: Percentage of images with the same answer again.
        kappa: Cohen's kappa of the two answers.
        n: Numbers of images and readers, in words.
        note: Why there is no number.
    """

    question: str
    is_measured: bool
    same_answer: Cell
    kappa: Cell
    n: str
    note: str


@dataclass(frozen=True)
class IntraReaderTable:
    """Agreement of readers with themselves, one row per question."""

    headings: Sequence[Heading]
    rows: Sequence[IntraReaderRow]


@dataclass(frozen=True)
class ReaderPairRow:
    """Cohen's kappa of two readers on one question, and the number of images that both have read."""

    question: str
    readers: str
    kappa: str
    images: str


@dataclass(frozen=True)
class ReaderPairTable:
    """Agreement of each pair of readers, by question."""

    headings: Sequence[Heading]
    rows: Sequence[ReaderPairRow]


def inter_reader_table(reading: Reading) -> InterReaderTable:
    """Returns the agreement between readers on the questions for which kappa was measured."""
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
    """Returns the agreement of readers with themselves on the questions that they could answer twice."""
    rows = []
    for name, title in QUESTIONS.items():
        same_answer = reading.get(f"same_again_{name}")
        if not same_answer:
            continue
        rows.append(
            IntraReaderRow(
                question=title,
                is_measured=is_finite(same_answer.value),
                same_answer=share_cell(same_answer),
                kappa=value_cell(reading.get(f"kappa_again_{name}")),
                n=f"{same_answer.n} images, {same_answer.readers} readers",
                note=same_answer.note,
            )
        )
    return IntraReaderTable(build_headings("", "same answer", "κ", "N"), rows)


def reader_pair_table(reading: Reading) -> ReaderPairTable:
    """Returns the agreement of each pair of readers on each question."""
    rows = []
    for row in reading.pairs.itertuples(index=False):
        question, readers = QUESTIONS[str(row.question)], f"{row.reader} and {row.other}"
        kappa = format_number(row.value, 2)
        rows.append(ReaderPairRow(question, readers, kappa, str(row.images)))
    headings = build_headings("question", "readers", "κ", "images", text_columns=2)
    return ReaderPairTable(headings, rows)
