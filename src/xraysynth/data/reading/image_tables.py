"""Reading a table of images: what its columns hold, where the files are, and which rows are not used."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from xraysynth.data.reading.columns import (
    ColumnProblem,
    ColumnRoles,
    find_column_roles,
    match_name,
)
from xraysynth.data.reading.folders import IMAGE_SUFFIXES
from xraysynth.data.reading.labels import findings_of_cell, join_findings
from xraysynth.data.reading.names import MISSING_WORDS
from xraysynth.data.reading.paths import FileFinder, FoundFile
from xraysynth.data.reading.tables import read_table_content
from xraysynth.data.reading.views import reason_to_leave_out
from xraysynth.errors import DataNotFoundError, ManifestError, format_some
from xraysynth.quoting import quote_override

ROLE_ORDER = (
    *("path", "image_id", "label", "patient_id", "split", "view", "sex", "age"),
    *("source", "license", "sha256"),
)
"""The columns of `ImageTable.rows`, in this order."""


@dataclass(frozen=True)
class TableReader:
    """How a table of images is read.

    Attributes:
        path: The table.
        root: The folder of the images.
        columns: Role -> column of the table that the user names.
        where: Column -> values; the other rows are not of the study.
        labels: Labels of the study, of which one must be a row's only label; None keeps all rows.
        by_name: Whether paths are names of files, which may lie anywhere below the root.
        for_study: Whether rows of views that are not frontal are left out, and one patient of all rows is
            taken for unknown.
        owner: Who reads it, for messages: "source mine".
        option: Name of the owner's options, for remedies: "source.mine"; "" if it has none.
        how_to_get: How the images can be got, for the message that there are none.
        suffixes: Lower-case suffixes of the files that may be meant.
    """

    path: Path
    root: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: Collection[str] | None = None
    by_name: bool = False
    for_study: bool = False
    owner: str = "table"
    option: str = ""
    how_to_get: str = ""
    suffixes: Sequence[str] = IMAGE_SUFFIXES

    def read(self) -> "ImageTable":
        """Read the table.

        Raises:
            ManifestError: It cannot be read, a column is missing or ambiguous, no row is selected, or
                paths leave the root or are listed twice with different labels.
            DataNotFoundError: None of its files is there.
        """
        content = read_table_content(self.path)
        table = content.table.set_axis(list(content.lines))
        finder = FileFinder(
            self.root,
            table_folder=self.path.parent,
            by_name=self.by_name,
            suffixes=self.suffixes,
        )
        roles = find_column_roles(table, self.columns, count_files=finder.count)
        self._require_roles(roles, table)
        rows = self._role_columns(self._select(table), roles)
        rows = self._keep_labels(rows)
        patient_notes = _clear_patient_of_everybody(rows) if self.for_study else []
        found = finder.find(rows["path"].tolist())
        self._require_no_faults(rows, found)
        rows["file"] = [item.path for item in found]
        rows["unusable"] = _unusable_reasons(rows, found)
        self._require_any_file(rows)
        rows["left_out"] = self._left_out_reasons(rows, roles)
        label_column = roles.columns.get("label", "")
        notes = (*content.notes, *roles.notes, *patient_notes, *finder.notes)
        return ImageTable(rows, table.loc[rows.index], label_column, notes)

    def _require_roles(self, roles: ColumnRoles, table: pd.DataFrame) -> None:
        for problem in roles.problems:
            raise ManifestError(f"{self.owner}: {self.path}: {self._describe(problem)}")
        for column in self.where:
            if not match_name(column, table.columns):
                reason = f"there is no column {column!r}, which {self.option}.where names"
                raise ManifestError(f"{self.owner}: {self.path}: {reason}; it has {_listed(table)}")

    def _describe(self, problem: ColumnProblem) -> str:
        """A problem with its remedy: the option that names the column."""
        nearest = _nearest(problem)
        listed = format_some(map(repr, nearest), 8)
        if not nearest:
            return f"{problem.reason}; add a column {problem.role!r} to the table"
        if not self.option:
            return f"{problem.reason} ({listed}); call the right one {problem.role!r}, or add it"
        remedies = []
        for name in nearest[:3]:
            remedies.append(quote_override(f"{self.option}.columns.{problem.role}", name))
        return f"{problem.reason}: {listed}; name it with {' or '.join(remedies)}"

    def _select(self, table: pd.DataFrame) -> pd.DataFrame:
        for column, values in self.where.items():
            table = table[table[match_name(column, table.columns)].isin(list(map(str, values)))]
        return table

    def _role_columns(self, table: pd.DataFrame, roles: ColumnRoles) -> pd.DataFrame:
        rows = pd.DataFrame(index=table.index)
        for role in dict.fromkeys([*ROLE_ORDER, *self.columns]):
            if role in roles.columns:
                values = table[roles.columns[role]]
                is_text = role in ("path", "label")
                rows[role] = values if is_text else values.where(~values.isin(MISSING_WORDS), "")
            elif role == "label":
                rows[role] = join_findings(table[list(roles.finding_columns)])
        return rows

    def _keep_labels(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows with one label that is asked for, or all rows."""
        if self.labels is not None:
            wanted = set(map(str, self.labels))
            is_wanted = {cell: _only_label(cell) in wanted for cell in rows["label"].unique()}
            rows = rows[rows["label"].isin(list(wanted)) | rows["label"].map(is_wanted)]
        if rows.empty:
            raise ManifestError(
                f"{self.owner}: no row of {self.path} is selected; check "
                f"{self.option}.where={dict(self.where)} and the labels {list(self.labels or [])}"
            )
        return rows

    def _require_no_faults(self, rows: pd.DataFrame, found: Sequence[FoundFile]) -> None:
        faults = pd.Series([item.fault for item in found], rows.index, dtype=object)
        if (faults != "").any():
            first = faults[faults != ""].iloc[0]
            self._refuse(rows, faults != "", first)
        files = pd.Series([item.path for item in found], rows.index, dtype=object)
        is_repeated = files.duplicated(keep=False) & (files != "")
        facts = [name for name in ("label", "patient_id", "split") if name in rows]
        repeated = rows.loc[is_repeated, facts].assign(file=files)
        n_versions = repeated.drop_duplicates()["file"].value_counts()
        differing = files.isin(n_versions.index[n_versions > 1]) & is_repeated
        self._refuse(rows, differing, "must be listed only once, or each time with the same label")

    def _refuse(self, rows: pd.DataFrame, is_violation: "pd.Series[bool]", rule: str) -> None:
        if not is_violation.any():
            return
        paths = rows.loc[is_violation, "path"]
        described = format_some(map("line {} {!r}".format, paths.index, paths))
        option = f", or set {self.option}.root" if self.option else ""
        raise ManifestError(
            f"{self.owner}: a path {rule}; broken by {int(is_violation.sum())} of {len(rows)} rows of "
            f"{self.path}: {described}; correct or remove these rows{option}. {self.how_to_get}".strip()
        )

    def _require_any_file(self, rows: pd.DataFrame) -> None:
        if (rows["file"] != "").any():
            return
        remedy = "correct its paths"
        if self.option:
            remedy = f"set {self.option}.root to their folder"
            if not self.by_name and self._is_found_by_name(rows):
                remedy = f"take them by name with {self.option}.by_name=true, or {remedy}"
        raise DataNotFoundError(
            f"{self.owner}: none of the {len(rows)} files of {self.path} is below "
            f"{self.root.absolute()}, the first is {rows['path'].iloc[0]!r}; {remedy}. "
            f"{self.how_to_get}".strip()
        )

    def _is_found_by_name(self, rows: pd.DataFrame) -> bool:
        finder = FileFinder(self.root, by_name=True, suffixes=self.suffixes)
        return any(found.path for found in finder.find(rows["path"].head(200).tolist()))

    def _left_out_reasons(self, rows: pd.DataFrame, roles: ColumnRoles) -> list[str]:
        chosen = [match_name(column, roles.columns.values()) for column in self.where]
        is_chosen_view = roles.columns.get("view") in chosen
        is_asked = self.for_study and "view" in rows and not is_chosen_view
        views = rows["view"] if is_asked else [""] * len(rows)
        is_repeated = rows["file"].duplicated() & (rows["file"] != "")
        reason_of_view = {view: reason_to_leave_out(view) for view in set(views)}
        reasons = []
        for view, repeated in zip(views, is_repeated, strict=True):
            reasons.append(reason_of_view[view] or ("listed before" if repeated else ""))
        return reasons


@dataclass(frozen=True)
class ImageTable:
    """The rows of a table of images.

    Attributes:
        rows: One row per selected row of the table, by its line in the file, with the `ROLE_ORDER`
            columns that the table has (`path` as it is written there), and `file` (relative to the root,
            "" if there is none), `left_out` and `unusable` (why a row is not used, "" if it is).
        table: The same rows with all columns of the table, as text.
        label_column: The column of `table` that holds the labels; "" if several say it together.
        notes: How the table was read.
    """

    rows: pd.DataFrame
    table: pd.DataFrame
    label_column: str = ""
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> pd.DataFrame:
        """The rows that are used."""
        return self.rows[(self.rows["left_out"] == "") & (self.rows["unusable"] == "")]

    def count_not_used(self) -> dict[str, int]:
        """Count the rows that are not used by reason, the most frequent first."""
        reasons = self.rows["left_out"].where(self.rows["left_out"] != "", self.rows["unusable"])
        counts = reasons[reasons != ""].value_counts()
        return dict(zip(counts.index, map(int, counts), strict=True))


_FEW_ROWS = 10
"""Up to this number of rows may be of one patient; more that all have one id have an anonymous one."""


def _clear_patient_of_everybody(rows: pd.DataFrame) -> list[str]:
    """Clear the patient if all rows have the same, such as ANONYMOUS, and return a note on it."""
    if "patient_id" not in rows or len(rows) <= _FEW_ROWS:
        return []
    patient = rows["patient_id"].iloc[0]
    if (rows["patient_id"] != patient).any():
        return []
    rows["patient_id"] = ""
    return [f"every row has the patient {patient!r}, so patients are not known"] if patient else []


def _only_label(cell: str) -> str:
    """The only finding in a cell; "" if there are several."""
    findings = findings_of_cell(cell)
    return findings[0] if len(findings) == 1 else ""


def _unusable_reasons(rows: pd.DataFrame, found: Sequence[FoundFile]) -> list[str]:
    reasons = []
    for item, label in zip(found, rows["label"], strict=True):
        reasons.append(item.reason or ("" if label else "no label"))
    return reasons


def _nearest(problem: ColumnProblem) -> list[str]:
    """The candidates of a problem, those like the role's name first."""
    import difflib

    similar = difflib.get_close_matches(problem.role, problem.candidates, n=3, cutoff=0.4)
    return list(dict.fromkeys([*similar, *problem.candidates]))


def _listed(columns: Iterable[str]) -> str:
    return format_some(map(repr, columns), 8)
