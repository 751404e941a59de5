"""Arranges the answers of a reading as matrices of readers by images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Panel:
    """The answers of J readers to I images.

    Attributes:
        readers: The names of the readers.
        cases: One row per image, indexed by case: origin, generator ("" for real) and label.
        answers: One row per reader and case, the answer at the first showing.
        repeats: One row per answer at a later showing.
    """

    readers: tuple[str, ...]
    cases: pd.DataFrame
    answers: pd.DataFrame
    repeats: pd.DataFrame

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> "Panel":
        """Builds a panel from the table of `exports.join_with_key`."""
        ordered = table.sort_values(["reader", "session", "position"], kind="stable")
        is_repeat = ordered.duplicated(["reader", "case"])
        cases = ordered.drop_duplicates("case").set_index("case").sort_index()
        truth = cases[["origin", "generator", "label"]]
        readers = tuple(sorted(ordered["reader"].unique()))
        return cls(readers, truth, ordered[~is_repeat], ordered[is_repeat])

    @property
    def generators(self) -> list[str]:
        """The generators of the images that were answered."""
        return sorted(set(self.cases["generator"]) - {""})

    @property
    def strata(self) -> np.ndarray:
        """The stratum of each image `(I,)`: its generator and class, whose number of images is fixed."""
        names = self.cases["generator"] + "\x1f" + self.cases["label"]
        codes: np.ndarray = pd.factorize(names)[0]
        return codes

    def matrix(self, column: str, codes: Mapping[str, float] | None = None) -> np.ndarray:
        """Returns first answers `(J, I)` as numbers, NaN where there is none.

        Args:
            column: The column of `answers`.
            codes: The number of each text; None where the column holds numbers.
        """
        return self._pivot(self.answers, column, codes)

    def count_matrix(self, count: Callable[[str], int]) -> np.ndarray:
        """Returns the number of marked errors `(J, I)`, which `count` takes from the answer's text."""
        rows = self.answers.assign(counted=self.answers["errors"].map(count))
        return self._pivot(rows, "counted", None)

    def repeat_matrix(self, column: str, codes: Mapping[str, float] | None = None) -> np.ndarray:
        """Returns second answers `(J, I)` as numbers, NaN where there is none; see `matrix`."""
        return self._pivot(self.repeats.drop_duplicates(["reader", "case"]), column, codes)

    def _pivot(
        self, rows: pd.DataFrame, column: str, codes: Mapping[str, float] | None
    ) -> np.ndarray:
        """Arranges one column as `(J, I)` floats; texts without a number become NaN."""
        values = rows[column].map(codes) if codes is not None else rows[column]
        reader_rows = pd.Index(self.readers).get_indexer(rows["reader"])
        case_columns = self.cases.index.get_indexer(rows["case"])
        numbers = np.full((len(self.readers), len(self.cases)), np.nan)
        numbers[reader_rows, case_columns] = pd.to_numeric(values, errors="coerce").to_numpy(float)
        return numbers

    def mask(self, generator: str | None, label: str = "") -> np.ndarray:
        """Selects images of a generator and a class, `(I,)` bool.

        Args:
            generator: The generator; "" for real images, None for synthetic images of any generator.
            label: The class; "" for any.
        """
        generators = self.cases["generator"]
        is_selected = generators != "" if generator is None else generators == generator
        if label:
            is_selected &= self.cases["label"] == label
        return np.asarray(is_selected)
