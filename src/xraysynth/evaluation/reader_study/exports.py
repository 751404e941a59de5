"""Loads the exports of readers, checks them against the answer key, and joins them with it.

`export_format` defines the columns and cells of an export, `export_rules` what its rows must satisfy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xraysynth.errors import DataNotFoundError, XraysynthError, format_some
from xraysynth.evaluation.reader_study.export_format import (
    Row,
    export_columns,
    own_question_ids,
    read_table,
)
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

EXPORT_SUFFIXES = (".csv", ".json")


@dataclass(frozen=True)
class Export:
    """The answers of one reader in one session.

    Attributes:
        path: The file that the reader sent.
        kit: The id of the kit.
        reader: The reader's pseudonym.
        session: The number of the session, from 1.
        item_count: The number of items that the kit shows.
        rows: One row per answered item, in the order they were shown.
    """

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
    """Returns the CSV and JSON files among `paths`, and directly in the folders among them.

    Raises:
        DataNotFoundError: A path does not exist, or there is no such file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataNotFoundError(
                f"review.exports: {path} does not exist; name the folder or files that came back"
            )
        candidates = sorted(filter(Path.is_file, path.iterdir())) if path.is_dir() else [path]
        files += [file for file in candidates if file.suffix.lower() in EXPORT_SUFFIXES]
    if not files:
        raise DataNotFoundError(
            f"review.exports: there is no .csv or .json file in {format_some(paths)}; put there what the "
            "readers sent"
        )
    return list(dict.fromkeys(files))


def load_exports(paths: Sequence[Path], key: AnswerKey) -> list[Export]:
    """Loads all exports, one per reader and session, each checked against the key.

    Copies of one export, as CSV or JSON, count once.

    Raises:
        XraysynthError: A file is not an export of this study, or two files differ; the message names the
            file, the rows and the remedy.
    """
    export_of_kit: dict[str, Export] = {}
    for path in find_export_files(paths):
        export = read_export(path, key)
        other = export_of_kit.setdefault(export.kit, export)
        if other.rows != export.rows:
            raise XraysynthError(
                f"{other.path} and {path} are different exports of reader {export.reader}, session "
                f"{export.session} ({len(other.rows)} and {len(export.rows)} answers); keep the one "
                "that counts, usually the later one, and take the other away"
            )
    return sorted(export_of_kit.values(), key=lambda export: (export.reader, export.session))


def read_export(path: Path, key: AnswerKey) -> Export:
    """Reads one export and checks it against the key.

    Raises:
        XraysynthError: The file is not an export of a kit of this key, or was changed.
    """
    names, cells = read_table(path)
    require_columns(path, names, export_columns(key))
    rows = [dict(zip(names, row, strict=True)) for row in cells]
    if not rows:
        raise XraysynthError(f"{path} is an export without answers; take the file away")
    require_same_study(path, rows, key)
    require_checksums(path, rows, names)
    kit_id = rows[0]["kit"]
    kit = key.kits[kit_id]
    require_answers(path, rows, kit, key)
    rows.sort(key=lambda row: int(row["position"]))
    return Export(path, kit_id, kit.reader, kit.session, len(kit.items), tuple(rows))


def join_with_key(exports: Sequence[Export], key: AnswerKey) -> "pd.DataFrame":
    """Returns one row per answer with the truth; answers to calibration images are left out.

    Columns: reader, session, case, repeat, position, origin_answer, confidence, diagnosis, quality,
    realism, errors, comment, own_<question>, seconds, and origin, generator and label of the case.
    Questions that were not asked are empty.

    Raises:
        XraysynthError: There are answers to calibration images only.
    """
    import pandas as pd

    rows = []
    for export in exports:
        items = {item.id: item for item in key.kits[export.kit].items}
        for row in export.rows:
            item = items[row["item"]]
            if not item.calibration:
                rows.append(_answer_row(export, row, item, key))
    if not rows:
        raise XraysynthError(
            "the exports have answers to calibration images only, which do not count; wait until readers "
            "have answered more"
        )
    table = pd.DataFrame(rows)
    for name in ("confidence", "quality", "realism"):
        table[name] = pd.to_numeric(table[name])
    return table


def _answer_row(export: Export, row: Row, item: KitItem, key: AnswerKey) -> dict[str, str | float]:
    """Returns the answers to one item with the truth of its case."""
    case = key.cases[item.case]
    answers = {name: row[name] for name in QUESTIONS if name != "origin"}
    own_answers = {f"own_{name}": row[name] for name in own_question_ids(key)}
    return {
        "reader": export.reader,
        "session": export.session,
        "case": item.case,
        "repeat": item.repeat,
        "position": int(row["position"]),
        "origin_answer": row["origin"],
        **answers,
        **own_answers,
        "seconds": float(row["seconds"]),
        "origin": case.origin,
        "generator": case.generator,
        "label": case.label,
    }
