"""What the rows of an export must say: each function raises `XraysynthError` with file, rows and remedy."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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


def require_columns(path: Path, names: Sequence[str], expected: Sequence[str]) -> None:
    """The columns are those of this study, in its order."""
    if list(names) != list(expected):
        lost, more = set(expected) - set(names), set(names) - set(expected)
        how = (
            f"lacks {format_some(sorted(lost))}"
            if lost
            else f"has also {format_some(sorted(more))}"
        )
        how = how if lost or more else "has them in another order"
        raise XraysynthError(
            f"{path}: the columns are not those of this study: it {how}; {RESAVED_REMEDY}"
        )


def require_same_study(path: Path, rows: Sequence[Row], key: AnswerKey) -> None:
    """The rows are of this format, of this study, and of one kit of it."""
    formats, studies, kits = ({row[n] for row in rows} for n in ("format", "study", "kit"))
    if formats != {FORMAT}:
        raise XraysynthError(
            f"{path}: the format is {format_some(sorted(formats))}, not {FORMAT}; it comes from "
            "another version"
        )
    if studies != {key.study}:
        raise XraysynthError(
            f"{path} answers study {format_some(sorted(studies))}, the key is that of study {key.study} "
            f"({key.name}); take the file away, or name the right review.name"
        )
    if len(kits) > 1 or not kits <= set(key.kits):
        raise XraysynthError(
            f"{path}: kit {format_some(sorted(kits))} is not one of the key's "
            f"({format_some(sorted(key.kits))}); give "
            "one file per reader and session"
        )


def require_checksums(path: Path, rows: Sequence[Row], names: Sequence[str]) -> None:
    """The check of every row fits its other cells; `names` are those of all columns, in order."""
    changed = [
        f"{number} (item {row['item']})"
        for number, row in enumerate(rows, 1)
        if row_checksum([row[name] for name in names[:-1]]) != row["check"]
    ]
    if changed:
        raise XraysynthError(
            f"{path}: {len(changed)} rows were changed after the export; {RESAVED_REMEDY}. "
            f"Rows: {format_some(changed)}"
        )


def require_answers(path: Path, rows: Sequence[Row], kit: Kit, key: AnswerKey) -> None:
    """The rows are all answers of one kit and of its reader, such as the page offers."""
    items = {item.id: (number, item) for number, item in enumerate(kit.items, 1)}
    _require_rows(path, rows, items, key)
    _require_answer_count(path, rows, len(items))
    readers = {(row["reader"], row["session"]) for row in rows}
    if readers != {(kit.reader, str(kit.session))}:
        raise XraysynthError(
            f"{path}: kit {rows[0]['kit']} was made for reader {kit.reader}, session {kit.session}; the "
            f"file says {format_some(' '.join(reader) for reader in readers)}; ask for a new export"
        )


def _require_rows(
    path: Path, rows: Sequence[Row], items: Mapping[str, tuple[int, KitItem]], key: AnswerKey
) -> None:
    """Every row answers one item of the kit, once, with answers that the page offers."""
    twice = [item for item, count in Counter(row["item"] for row in rows).items() if count > 1]
    if twice:
        raise XraysynthError(
            f"{path}: items answered in more than one row: {format_some(twice)}; {_NEW_EXPORT_REMEDY}"
        )
    strange = [row["item"] for row in rows if row["item"] not in items]
    if strange:
        raise XraysynthError(
            f"{path}: items that the kit does not have: {format_some(strange)}; {_NEW_EXPORT_REMEDY}"
        )
    for number, row in enumerate(rows, 1):
        wrong = _find_violation(row, *items[row["item"]], key)
        if wrong:
            raise XraysynthError(
                f"{path}: row {number} (item {row['item']}): {wrong}; {_NEW_EXPORT_REMEDY}"
            )


def _find_violation(row: Row, position: int, item: KitItem, key: AnswerKey) -> str:
    """What a row says that the page does not offer, empty if nothing."""
    if row["position"] != str(position) or row["calibration"] != str(int(item.calibration)):
        return "it is not at its place in the kit"
    if not _is_duration(row["seconds"]):
        return f"seconds must be a number from 0; got {row['seconds']!r}"
    asked = {question.id: question for question in key.questions}
    for name, answer in row.items():
        question = asked.get(name)
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
        return 0 <= float(text) < 1e6
    except ValueError:
        return False


def _check_choice(question: Question, answer: str) -> str:
    options = question.options or []
    return "" if answer in options else f"one of {format_some(options, 20)}"


def _check_scale(question: Question, answer: str) -> str:
    low, high = question.low or 0, question.high or 0
    return "" if answer in map(str, range(low, high + 1)) else f"from {low} to {high}"


def _check_marks(question: Question, answer: str) -> str:
    codes = question.options or []
    try:
        sound = all(
            code in codes and 0 <= x <= 1 and 0 <= y <= 1 for code, x, y in parse_marks(answer)
        )
    except ValueError:
        sound = False
    return "" if sound else "code@x,y;… with x and y in [0, 1]"


def _check_text(_: Question, answer: str) -> str:
    return "" if answer else "answered"


_CHECKS: dict[str, Callable[[Question, str], str]] = {
    "choice": _check_choice,
    "scale": _check_scale,
    "errors": _check_marks,
    "text": _check_text,
}


def _require_answer_count(path: Path, rows: Sequence[Row], items: int) -> None:
    said = {(row["answered"], row["of"]) for row in rows}
    if said != {(str(len(rows)), str(items))}:
        told = format_some(f"{answered} of {of}" for answered, of in sorted(said))
        raise XraysynthError(
            f"{path}: {len(rows)} rows of a kit of {items} items, but they say {told} answered; rows are "
            f"missing or come from several exports; {_NEW_EXPORT_REMEDY}"
        )
