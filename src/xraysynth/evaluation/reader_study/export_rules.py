"""Checks the rows of an export: each function raises `XraysynthError` with file, rows and remedy."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from xraysynth.errors import XraysynthError, format_some
from xraysynth.evaluation.reader_study.export_format import (
    FORMAT,
    RESAVED_REMEDY,
    Row,
    parse_marks,
    row_checksum,
)
from xraysynth.evaluation.reader_study.key import AnswerKey, Kit, KitItem
from xraysynth.evaluation.reader_study.protocol import QUESTIONS, Question

_NEW_EXPORT_REMEDY = "ask the reader for a new export"
_MAX_SECONDS = 1e6


def require_columns(path: Path, names: Sequence[str], expected: Sequence[str]) -> None:
    """Requires the columns of this study, in its order."""
    if list(names) == list(expected):
        return
    missing, additional = set(expected) - set(names), set(names) - set(expected)
    if missing:
        reason = f"lacks {format_some(sorted(missing))}"
    elif additional:
        reason = f"has also {format_some(sorted(additional))}"
    else:
        reason = "has them in another order"
    raise XraysynthError(
        f"{path}: the columns are not those of this study: it {reason}; {RESAVED_REMEDY}"
    )


def require_same_study(path: Path, rows: Sequence[Row], key: AnswerKey) -> None:
    """Requires rows of the known format, of the key's study, and of one of its kits."""
    formats = set(map(itemgetter("format"), rows))
    if formats != {FORMAT}:
        raise XraysynthError(
            f"{path}: the format is {format_some(sorted(formats))}, not {FORMAT}; the file comes from "
            "another version of xraysynth, and only that version can analyse it"
        )
    studies = set(map(itemgetter("study"), rows))
    if studies != {key.study}:
        raise XraysynthError(
            f"{path} answers study {format_some(sorted(studies))}, but the key is that of study "
            f"{key.study} ({key.name}); take the file away, or name the right review.name"
        )
    kits = set(map(itemgetter("kit"), rows))
    if len(kits) > 1 or not kits <= set(key.kits):
        raise XraysynthError(
            f"{path}: kit {format_some(sorted(kits))} is not one of the key's "
            f"({format_some(sorted(key.kits))}); give one file per reader and session"
        )


def require_checksums(path: Path, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Requires that the checksum of every row fits its other cells, in the order of `names`."""
    changed = []
    for number, row in enumerate(rows, 1):
        cells = [row[name] for name in names[:-1]]
        if row_checksum(cells) != row["check"]:
            changed.append(f"{number} (item {row['item']})")
    if changed:
        raise XraysynthError(
            f"{path}: {len(changed)} rows were changed after the export; {RESAVED_REMEDY}. "
            f"Rows: {format_some(changed)}"
        )


def require_answers(path: Path, rows: Sequence[Row], kit: Kit, key: AnswerKey) -> None:
    """Requires that the rows are all answers of one kit and its reader, and that the page offers them."""
    items = {item.id: (number, item) for number, item in enumerate(kit.items, 1)}
    _require_rows(path, rows, items, key)
    _require_answer_count(path, rows, len(items))
    sessions = set(map(itemgetter("reader", "session"), rows))
    if sessions != {(kit.reader, str(kit.session))}:
        raise XraysynthError(
            f"{path}: kit {rows[0]['kit']} was made for reader {kit.reader}, session {kit.session}, but the "
            f"file names {format_some(map(' '.join, sorted(sessions)))}; {_NEW_EXPORT_REMEDY}"
        )


def _require_rows(
    path: Path, rows: Sequence[Row], items: Mapping[str, tuple[int, KitItem]], key: AnswerKey
) -> None:
    """Requires that every row answers one item of the kit, once, with answers that the page offers."""
    counts = Counter(map(itemgetter("item"), rows))
    repeated = [item for item, count in counts.items() if count > 1]
    if repeated:
        raise XraysynthError(
            f"{path}: items answered in more than one row: {format_some(repeated)}; {_NEW_EXPORT_REMEDY}"
        )
    unknown = [item for item in counts if item not in items]
    if unknown:
        raise XraysynthError(
            f"{path}: items that the kit does not have: {format_some(unknown)}; {_NEW_EXPORT_REMEDY}"
        )
    for number, row in enumerate(rows, 1):
        position, item = items[row["item"]]
        violation = _find_violation(row, position, item, key)
        if violation:
            raise XraysynthError(
                f"{path}: row {number} (item {row['item']}): {violation}; {_NEW_EXPORT_REMEDY}"
            )


def _find_violation(row: Row, position: int, item: KitItem, key: AnswerKey) -> str:
    """Returns what is wrong with a row in words, "" if nothing is."""
    if row["position"] != str(position) or row["calibration"] != str(int(item.calibration)):
        return "it is not at its place in the kit"
    if not _is_duration(row["seconds"]):
        return f"seconds must be a number from 0; got {row['seconds']!r}"
    questions = {question.id: question for question in key.questions}
    for name, answer in row.items():
        question = questions.get(name)
        if name in QUESTIONS and question is None and answer:
            return f"{name} was not asked; got {answer!r}"
        if question is not None and (answer or _needs_answer(question)):
            rule = _CHECKS[question.kind](question, answer)
            if rule:
                return f"{name} must be {rule}; got {answer!r}"
    return ""


def _needs_answer(question: Question) -> bool:
    return question.required and question.kind in ("choice", "scale", "text")


def _is_duration(text: str) -> bool:
    try:
        return 0 <= float(text) < _MAX_SECONDS
    except ValueError:
        return False


def _check_choice(question: Question, answer: str) -> str:
    options = question.options or []
    return "" if answer in options else f"one of {format_some(options, 20)}"


def _check_scale(question: Question, answer: str) -> str:
    low, high = question.low or 0, question.high or 0
    return "" if answer in map(str, range(low, high + 1)) else f"from {low} to {high}"


def _check_marks(question: Question, answer: str) -> str:
    rule = "code@x,y;… with x and y in [0, 1]"
    try:
        marks = parse_marks(answer)
    except ValueError:
        return rule
    for code, x, y in marks:
        if code not in (question.options or []) or not (0 <= x <= 1 and 0 <= y <= 1):
            return rule
    return ""


def _check_text(_: Question, answer: str) -> str:
    return "" if answer else "answered"


_CHECKS: dict[str, Callable[[Question, str], str]] = {
    "choice": _check_choice,
    "scale": _check_scale,
    "errors": _check_marks,
    "text": _check_text,
}
"""By kind of question: returns the rule that an answer breaks in words, "" if it breaks none."""


def _require_answer_count(path: Path, rows: Sequence[Row], items: int) -> None:
    """Requires the number of rows that every row states."""
    stated = set(map(itemgetter("answered", "of"), rows))
    if stated != {(str(len(rows)), str(items))}:
        listed = format_some(map(" of ".join, sorted(stated)))
        raise XraysynthError(
            f"{path}: {len(rows)} rows of a kit of {items} items, but the rows state {listed} answered; "
            f"rows are missing or come from several exports; {_NEW_EXPORT_REMEDY}"
        )
