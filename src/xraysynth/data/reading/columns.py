"""Telling what the columns of a table hold: by their names, and where these do not say it by their values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xraysynth.data.reading import _column_values as values
from xraysynth.data.reading.names import EXACT_ROLES, ROLES, rank_as, simplify_name
from xraysynth.errors import format_some

if TYPE_CHECKING:
    import pandas as pd

CountFiles = Callable[[Sequence[str]], int]
"""A function that counts which of some paths are files."""


@dataclass(frozen=True)
class ColumnProblem:
    """A role for which no column, or none of several, could be chosen.

    Attributes:
        role: The role, such as "label".
        candidates: Columns that may have it; if there are none, all columns.
        reason: What is wrong, such as "several columns may hold the label".
    """

    role: str
    candidates: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class ColumnRoles:
    """What the columns of a table hold.

    Attributes:
        columns: Role ("path", "label", "patient_id", "split", "view", "sex", "age", "image_id", "source",
            "license", "sha256") -> the column of the table; a role that no column has is not in it.
        finding_columns: Columns with 1, 0, -1 or nothing for one finding each, if there is no column of
            labels.
        notes: One sentence for each role that was not told by the usual name, with the reason.
        problems: Roles that must be named by the user.
    """

    columns: Mapping[str, str]
    finding_columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[ColumnProblem, ...] = ()


def find_column_roles(
    table: "pd.DataFrame",
    given: Mapping[str, str] | None = None,
    *,
    count_files: CountFiles | None = None,
) -> ColumnRoles:
    """Tell which column of a table is the path, the label, the patient and so on.

    A column that is `given` or that has the role's own name, such as `patient_id`, has the role. Else the
    usual names decide (`names.ROLES`), where the values agree, and for path and label the values alone.

    Args:
        table: A table as `tables.read_table` reads it.
        given: Role -> column that the user names.
        count_files: Counts which of some paths are files; without it a path is told by its suffix.

    Returns:
        The roles; the problems name what the user must say. Nothing is raised.
    """
    search = _RoleSearch(table, dict(given or {}), count_files)
    for role in dict.fromkeys((*EXACT_ROLES, *ROLES, *search.given)):
        search.take_named(role)
    for role in ("path", "label", "patient_id", "split", "view", "sex", "age"):
        if role not in search.columns and role not in search.given:
            search.guess(role)
    return ColumnRoles(
        search.columns, search.finding_columns, tuple(search.notes), tuple(search.problems)
    )


def match_name(name: str, columns: Iterable[str]) -> str:
    """Return the column that a name means, which may differ in case and spaces; "" if it is none.

    >>> match_name("patient id", ["path", "Patient_ID"]), match_name("x", ["X ", "x"])
    ('Patient_ID', 'x')
    """
    names = list(columns)
    if name.strip() in names:
        return name.strip()
    similar = [column for column in names if simplify_name(column) == simplify_name(name)]
    return similar[0] if len(similar) == 1 else ""


class _RoleSearch:
    """The state of a search: which columns are taken, and what was noted."""

    def __init__(
        self, table: "pd.DataFrame", given: Mapping[str, str], count_files: CountFiles | None
    ) -> None:
        self.table, self.given, self.count_files = table, given, count_files
        self.columns: dict[str, str] = {}
        self.finding_columns: tuple[str, ...] = ()
        self.notes: list[str] = []
        self.problems: list[ColumnProblem] = []

    def take_named(self, role: str) -> None:
        """Take the column that the user names, or else the one that has the role's own name."""
        name = self.given.get(role, EXACT_ROLES.get(role, role))
        column = match_name(name, self.table.columns) if role in self.given else name
        if column in self.table:
            self.columns[role] = column
        elif role in self.given:
            reason = f"there is no column {name!r} for the role {role}"
            self.problems.append(ColumnProblem(role, tuple(self.table.columns), reason))

    def free_columns(self) -> list[str]:
        """Columns without a role; an image id may be the path as well."""
        taken = {column for role, column in self.columns.items() if role != "image_id"}
        return [column for column in self.table.columns if column not in taken]

    def guess(self, role: str) -> None:
        """Choose a column for a role by names and values."""
        if role == "path":
            self._guess_path()
        elif role == "label":
            self._guess_label()
        else:
            self._guess_by_name(role)

    def _guess_path(self) -> None:
        columns = self.free_columns()
        existing = [name for name in columns if self._holds_files(name)]
        images = [name for name in columns if values.holds_image_names(self.table[name])]
        named = self._by_rank("path", columns)
        for candidates, reason in (
            (existing, "its values are files"),
            (images, "its values end as images do"),
            (named, "its name says so"),
        ):
            if candidates:
                self._choose("path", candidates, named, reason)
                return
        self._miss("path", "no column holds paths of images")

    def _holds_files(self, name: str) -> bool:
        if self.count_files is None:
            return False
        sample = values.sample_texts(self.table[name])
        return bool(sample) and self.count_files(sample) >= 0.5 * len(sample)

    def _guess_label(self) -> None:
        columns = self.free_columns()
        named = self._by_rank("label", columns)
        telling = [name for name in columns if values.holds_labels(self.table[name])]
        telling_named = [name for name in named if name in telling]
        finding_columns = values.find_finding_columns(self.table[columns])
        if telling_named:
            self._choose("label", telling_named, [], "its name and its values say so")
        elif finding_columns:
            self.finding_columns = tuple(finding_columns)
            listed = format_some(map(repr, finding_columns), 4)
            self.notes.append(f"the label is read from one column for each finding: {listed}")
        elif named:
            self._choose("label", named, [], "its name says so")
        elif telling:
            self._choose("label", telling, [], "its values are known findings")
        else:
            self._miss("label", "no column holds known labels")

    def _guess_by_name(self, role: str) -> None:
        named = self._by_rank(role, self.free_columns())
        fitting = [name for name in named if values.fits_role(role, self.table[name])]
        for name in named:
            if name not in fitting:
                shown = format_some(map(repr, values.distinct_texts(self.table[name])), 3)
                self.notes.append(f"the column {name!r} is not read as {role}: it holds {shown}")
        best = [name for name in fitting if rank_as(role, name) == rank_as(role, fitting[0])]
        if best:
            self._choose(role, best, [], "its name says so")

    def _by_rank(self, role: str, columns: Sequence[str]) -> list[str]:
        """The columns that have one of the usual names of a role, the most certain first."""
        ranks = {name: rank_as(role, name) for name in columns}
        ranked = [(rank, name) for name, rank in ranks.items() if rank is not None]
        return [name for _, name in sorted(ranked, key=lambda item: item[0])]

    def _choose(
        self, role: str, candidates: Sequence[str], preferred: Sequence[str], reason: str
    ) -> None:
        """Take the only candidate, or the only preferred one; equal columns count as one."""
        narrowed = [name for name in preferred if name in candidates][:1] or list(candidates)
        others = [name for name in narrowed[1:] if not self._is_equal(narrowed[0], name)]
        if others:
            problem = f"several columns may hold the {role}"
            self.problems.append(ColumnProblem(role, tuple(narrowed), problem))
            return
        self.columns[role] = narrowed[0]
        self.notes.append(f"the column {narrowed[0]!r} is read as {role}: {reason}")

    def _is_equal(self, first: str, second: str) -> bool:
        return bool((self.table[first] == self.table[second]).all())

    def _miss(self, role: str, reason: str) -> None:
        self.problems.append(ColumnProblem(role, tuple(self.free_columns()), reason))
