"""The page of a blinded reading."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.reader_study.reading import Reading
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
"""Results that a note is said to belong to."""


@dataclass(frozen=True)
class ReaderRow:
    """One reader's answers, seconds and, where it was asked, how well synthetic images are told."""

    reader: str
    numbers: Sequence[str]


@dataclass(frozen=True)
class ReaderTable:
    """Who read what."""

    headings: Sequence[Heading]
    rows: Sequence[ReaderRow]


@dataclass(frozen=True)
class DesignRow:
    """Half-widths with one number of readers."""

    readers: int
    half_widths: Sequence[str]


@dataclass(frozen=True)
class DesignTable:
    """Half-widths to expect of one measure of one generator."""

    title: str
    caption: str
    headings: Sequence[Heading]
    rows: Sequence[DesignRow]


@dataclass(frozen=True)
class ReadingPage:
    """Everything on the page of a reading; sections of what was not asked are None."""

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
    """The page of an analysed reading."""
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
    sessions = [session for session in reading.exports if not session.finished]
    return "; ".join(
        f"{s.reader}, session {s.session}: {s.answered} of {s.total}" for s in sessions
    )


def _reader_table(reading: Reading) -> ReaderTable:
    compared = reading.has_measure("d_prime")
    names = ["reader", "images", "shown again", "seconds an image"]
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
    """Geometric means of the seconds an image, group by group."""
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
    """A table of half-widths per generator and measure."""
    tables = []
    for generator, measures in reading.plans.items():
        for measure, plans in measures.items():
            sizes = sorted({plan.images for plan in plans})
            widths = {
                (p.readers, p.images): _format_half_width(p.half_width, measure) for p in plans
            }
            counts = sorted({plan.readers for plan in plans})
            rows = [DesignRow(count, [widths[count, size] for size in sizes]) for count in counts]
            of = "share called real" if measure == "called_real" else "d′, with as many real images"
            if rows:
                columns = build_headings("readers", *map(str, sizes))
                caption = f"{generator}: {of}"
                tables.append(DesignTable(f"Designs for {generator}", caption, columns, rows))
    return tables


def _format_half_width(half_width: float, measure: str) -> str:
    return (
        f"{format_number(100 * half_width, 1)}%"
        if measure == "called_real"
        else format_number(half_width, 2)
    )


def _result_notes(reading: Reading) -> list[str]:
    """What qualifies results of all classes: the note and the results it belongs to."""
    lines = []
    for note, places in readers.collect_notes(reading):
        more = len(places) - MAX_RESULTS_PER_NOTE
        rest = f" and {more} more" if more > 0 else ""
        lines.append(f"{note.capitalize()}: {', '.join(places[:MAX_RESULTS_PER_NOTE])}{rest}.")
    return lines
