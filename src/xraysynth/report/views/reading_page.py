"""View of the page of a blinded reading."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.reader_study.sample_size import Plan
from xraysynth.report import readers
from xraysynth.report.formatting import format_number, format_percent, format_signed, is_finite
from xraysynth.report.views.cells import Heading, build_headings
from xraysynth.report.views.error_maps import ErrorsSection, errors_section
from xraysynth.report.views.reader_agreement import (
    InterReaderTable,
    IntraReaderTable,
    ReaderPairTable,
    inter_reader_table,
    intra_reader_table,
    reader_pair_table,
)
from xraysynth.report.views.reading import (
    AnswersView,
    ReadingHeadline,
    answers_view,
    reading_headlines,
)

MAX_RESULTS_PER_NOTE = 6
"""Number of results that are named with a note."""


@dataclass(frozen=True)
class ReaderRow:
    """One reader's number of answers, seconds per image and, if asked for, detection of synthetic images."""

    reader: str
    numbers: Sequence[str]


@dataclass(frozen=True)
class ReaderTable:
    """The readers with their answers."""

    headings: Sequence[Heading]
    rows: Sequence[ReaderRow]


@dataclass(frozen=True)
class DesignRow:
    """Expected half-widths with one number of readers, one per number of images."""

    readers: int
    half_widths: Sequence[str]


@dataclass(frozen=True)
class DesignTable:
    """Expected half-widths of one measure on one generator's images."""

    title: str
    caption: str
    headings: Sequence[Heading]
    rows: Sequence[DesignRow]


@dataclass(frozen=True)
class ReadingPage:
    """Everything on the page of a reading; a section without a question behind it is None.

    Attributes:
        name: Name of the reading.
        created: When the page was created.
        command: The command that creates it again.
        simulated_images: Whether the images called real are computed.
        simulated_readers: Whether the answers are computed.
        unfinished_sessions: Sessions with open answers, in words; empty if all are finished.
        headlines: One verdict per generator.
        answers: The answers to each question.
        readers: The readers with their answers.
        seconds: Seconds per image by group, in words.
        errors: Marked errors.
        inter_reader: Agreement between readers.
        intra_reader: Agreement of readers with themselves.
        reader_pairs: Agreement of each pair of readers.
        advice: Sentences on the smallest design that is precise enough.
        designs: Expected half-widths of all designs.
        notes: Notes on the reading.
        result_notes: Notes on single results.
    """

    name: str
    created: str
    command: str
    simulated_images: bool
    simulated_readers: bool
    unfinished_sessions: str
    headlines: Sequence[ReadingHeadline]
    answers: AnswersView
    readers: ReaderTable
    seconds: str
    errors: ErrorsSection | None
    inter_reader: InterReaderTable
    intra_reader: IntraReaderTable
    reader_pairs: ReaderPairTable | None
    advice: Sequence[str]
    designs: Sequence[DesignTable]
    notes: Sequence[str]
    result_notes: Sequence[str]


def reading_page(reading: Reading) -> ReadingPage:
    """Returns the page of an analysed reading."""
    return ReadingPage(
        name=reading.name,
        created=reading.created,
        command=reading.command,
        simulated_images=reading.simulated_images,
        simulated_readers=reading.simulated_readers,
        unfinished_sessions=_unfinished_sessions(reading),
        headlines=reading_headlines(reading),
        answers=answers_view(reading),
        readers=_reader_table(reading),
        seconds=_describe_seconds(reading),
        errors=errors_section(reading) if reading.has_measure("errors") else None,
        inter_reader=inter_reader_table(reading),
        intra_reader=intra_reader_table(reading),
        reader_pairs=reader_pair_table(reading) if len(reading.pairs) else None,
        advice=readers.design_advice(reading),
        designs=_design_tables(reading),
        notes=reading.notes,
        result_notes=_result_notes(reading),
    )


def _unfinished_sessions(reading: Reading) -> str:
    """Returns the sessions with open answers, in words."""
    texts = []
    for session in reading.exports:
        if not session.finished:
            progress = f"{session.answered} of {session.total}"
            texts.append(f"{session.reader}, session {session.session}: {progress}")
    return "; ".join(texts)


def _reader_table(reading: Reading) -> ReaderTable:
    """Returns each reader's answers, and how well they tell synthetic from real images."""
    compared = reading.has_measure("d_prime")
    names = ["reader", "images", "shown again", "seconds per image"]
    names += ["accuracy", "d′", "criterion"] if compared else []
    rows = []
    for row in reading.readers.itertuples(index=False):
        numbers = [str(row.answers), str(row.repeats), format_number(row.median_seconds, 1)]
        if compared:
            numbers += [
                format_percent(row.accuracy),
                format_number(row.d_prime, 2),
                format_signed(row.criterion, 2),
            ]
        rows.append(ReaderRow(str(row.reader), numbers))
    return ReaderTable(build_headings(*names), rows)


def _describe_seconds(reading: Reading) -> str:
    """Returns the geometric mean of the seconds per image by group, as a sentence."""
    parts: list[str] = []
    for group in reading.groups:
        seconds = readers.geometric_mean_seconds(reading.get("log_seconds", group))
        if seconds:
            name = readers.group_title(group)
            text = f"{name if parts else name.capitalize()}: {format_number(seconds.value, 1)} s"
            if is_finite(seconds.low):
                text += f" [{format_number(seconds.low, 1)}, {format_number(seconds.high, 1)}]"
            parts.append(text)
    return f"{'; '.join(parts)} (geometric means)." if parts else ""


def _design_tables(reading: Reading) -> list[DesignTable]:
    """Returns a table of expected half-widths per generator and measure."""
    tables = []
    for generator, measures in reading.plans.items():
        for measure, plans in measures.items():
            if plans:
                tables.append(_design_table(generator, measure, plans))
    return tables


def _design_table(generator: str, measure: str, plans: Sequence[Plan]) -> DesignTable:
    """Returns the expected half-widths by number of readers (rows) and of images (columns)."""
    half_widths: dict[int, dict[int, str]] = {}
    for plan in plans:
        text = _format_half_width(plan.half_width, measure)
        half_widths.setdefault(plan.readers, {})[plan.images] = text
    image_counts = sorted({plan.images for plan in plans})
    rows = []
    for reader_count in sorted(half_widths):
        by_images = half_widths[reader_count]
        rows.append(DesignRow(reader_count, [by_images[images] for images in image_counts]))
    title = "percentage called real"
    if measure != "called_real":
        title = "d′, with as many real images"
    headings = build_headings("readers", *map(str, image_counts))
    return DesignTable(f"Designs for {generator}", f"{generator}: {title}", headings, rows)


def _format_half_width(half_width: float, measure: str) -> str:
    """Returns an expected half-width, in percent for images called real."""
    if measure == "called_real":
        return f"{format_number(100 * half_width, 1)}%"
    return format_number(half_width, 2)


def _result_notes(reading: Reading) -> list[str]:
    """Returns the notes on results of all classes, each with the results that it belongs to."""
    lines = []
    for note, results in readers.collect_notes(reading):
        names = ", ".join(results[:MAX_RESULTS_PER_NOTE])
        hidden = len(results) - MAX_RESULTS_PER_NOTE
        if hidden > 0:
            names += f" and {hidden} more"
        lines.append(f"{note.capitalize()}: {names}.")
    return lines
