"""The answers of a reading as readers by images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Panel:
    """First answers to every case. `cases` has one row per image, indexed by case: origin, generator
    and label; `answers` one row per reader and case, repeats left out, and `repeats` the others."""

    readers: tuple[str, ...]
    cases: pd.DataFrame
    answers: pd.DataFrame
    repeats: pd.DataFrame

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> "Panel":
        """From the table of `exports.join_with_key`; the first showing of a case is its answer."""
        ordered = table.sort_values(["reader", "session", "position"], kind="stable")
        again = ordered.duplicated(["reader", "case"])
        cases = ordered.drop_duplicates("case").set_index("case").sort_index()
        readers = tuple(sorted(ordered["reader"].unique()))
        truth = cases[["origin", "generator", "label"]]
        return cls(readers, truth, ordered[~again], ordered[again])

    @property
    def generators(self) -> list[str]:
        """The generators whose images were answered."""
        return sorted(set(self.cases["generator"]) - {""})

    @property
    def strata(self) -> np.ndarray:
        """Which images the study drew a fixed number of: those of a generator and class, `(I,)`."""
        names = self.cases["generator"] + "\x1f" + self.cases["label"]
        codes: np.ndarray = pd.factorize(names)[0]
        return codes

    def matrix(self, column: str, codes: Mapping[str, float] | None = None) -> np.ndarray:
        """Answers `(J, I)`, NaN where there is none; texts become numbers by `codes`."""
        return self._pivot(self.answers, column, codes)

    def count_matrix(self, count: Callable[[str], int]) -> np.ndarray:
        """How many errors each answer marks `(J, I)`, by `count` of its text."""
        rows = self.answers.assign(counted=self.answers["errors"].map(count))
        return self._pivot(rows, "counted", None)

    def repeat_matrix(self, column: str, codes: Mapping[str, float] | None = None) -> np.ndarray:
        """Answers at the second showing of a case, as `matrix`."""
        return self._pivot(self.repeats.drop_duplicates(["reader", "case"]), column, codes)

    def _pivot(
        self, rows: pd.DataFrame, column: str, codes: Mapping[str, float] | None
    ) -> np.ndarray:
        values = rows[column].map(codes) if codes is not None else rows[column]
        reader = pd.Index(self.readers).get_indexer(rows["reader"])
        case = self.cases.index.get_indexer(rows["case"])
        found = np.full((len(self.readers), len(self.cases)), np.nan)
        found[reader, case] = pd.to_numeric(values, errors="coerce").to_numpy(float)
        return found

    def mask(self, generator: str | None, label: str = "") -> np.ndarray:
        """Images `(I,)` of a generator ("" for real, None for any synthetic), and of a class."""
        from_ = self.cases["generator"]
        here = from_ != "" if generator is None else from_ == generator
        found: np.ndarray = (here & ((self.cases["label"] == label) | (label == ""))).to_numpy()
        return found
