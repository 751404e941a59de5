"""What comes back from readers: exports are checked against the key and joined with it.

`export_format` has what an export looks like, `export_rules` what its rows must say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xraysynth.errors import DataNotFoundError, XraysynthError, format_some
from xraysynth.evaluation.reader_study.export_format import Row, export_columns, read_table
from xraysynth.evaluation.reader_study.export_rules import (
    require_answers,
    require_checksums,
    require_columns,
    require_same_study,
)
from xraysynth.evaluation.reader_study.key import AnswerKey, KitItem
from xraysynth.evaluation.reader_study.protocol import QUESTIONS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Export:
    """One reader's answers of one session; `of` items were asked."""

    path: Path
    kit: str
    reader: str
    session: int
    item_count: int
    rows: tuple[Row, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every item is answered."""
        return len(self.rows) == self.item_count


def find_export_files(paths: Sequence[Path]) -> list[Path]:
    """The CSV and JSON files among `paths`, of a folder those directly in it."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataNotFoundError(
                f"review.exports: {path} does not exist; name the folder or files that came back"
            )
        inside = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        found += [p for p in inside if p.suffix.lower() in (".csv", ".json")]
    if not found:
        raise DataNotFoundError(
            f"review.exports: no .csv or .json file in {format_some(paths)}; put there what the readers sent"
        )
    return list(dict.fromkeys(found))


def load_exports(paths: Sequence[Path], key: AnswerKey) -> list[Export]:
    """All exports, each checked against the key, one per reader and session.

    Raises `XraysynthError` that names the file, the rows and the remedy. Copies of one export, also as
    CSV and JSON, count once.
    """
    kept: dict[str, Export] = {}
    for path in find_export_files(paths):
        export = read_export(path, key)
        other = kept.setdefault(export.kit, export)
        if other.rows != export.rows:
            raise XraysynthError(
                f"{other.path} and {path} are different exports of reader {export.reader}, session "
                f"{export.session} ({len(other.rows)} and {len(export.rows)} answers): keep the one "
                "that counts, usually the later one, and take the other away"
            )
    return sorted(kept.values(), key=lambda export: (export.reader, export.session))


def read_export(path: Path, key: AnswerKey) -> Export:
    """One export, checked against the key."""
    names, cells = read_table(path)
    require_columns(path, names, export_columns(key))
    rows = [dict(zip(names, row, strict=True)) for row in cells]
    if not rows:
        raise XraysynthError(f"{path}: an export without answers; take it away")
    require_same_study(path, rows, key)
    require_checksums(path, rows, names)
    (kit,) = {row["kit"] for row in rows}
    held = key.kits[kit]
    require_answers(path, rows, held, key)
    ordered = sorted(rows, key=lambda row: int(row["position"]))
    return Export(path, kit, held.reader, held.session, len(held.items), tuple(ordered))


def join_with_key(exports: Sequence[Export], key: AnswerKey) -> "pd.DataFrame":
    """One row per answer with its truth; those for calibration are left out.

    Columns: reader, session, case, repeat, position, origin_answer, confidence, diagnosis, quality,
    realism, errors, comment, own_<question>, seconds, and origin, generator and label of the case.
    Questions that were not asked are empty.
    """
    import pandas as pd

    rows = []
    for export in exports:
        items = {item.id: item for item in key.kits[export.kit].items}
        rows += [
            _answer_row(export, row, items[row["item"]], key)
            for row in export.rows
            if not items[row["item"]].calibration
        ]
    if not rows:
        raise XraysynthError(
            "the exports have answers to calibration images alone, which do not count; wait for more"
        )
    table = pd.DataFrame(rows)
    for name in ("confidence", "quality", "realism"):
        table[name] = pd.to_numeric(table[name])
    return table


def _answer_row(export: Export, row: Row, item: KitItem, key: AnswerKey) -> dict[str, str | float]:
    case = key.cases[item.case]
    own = [question.id for question in key.questions if question.id not in QUESTIONS]
    answers = {name: row[name] for name in QUESTIONS[1:]} | {f"own_{n}": row[n] for n in own}
    return {
        "reader": export.reader,
        "session": export.session,
        "case": item.case,
        "repeat": item.repeat,
        "position": int(row["position"]),
        "origin_answer": row["origin"],
        **answers,
        "seconds": float(row["seconds"]),
        "origin": case.origin,
        "generator": case.generator,
        "label": case.label,
    }
