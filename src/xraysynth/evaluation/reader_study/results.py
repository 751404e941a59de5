"""Holds one result of a reading, and converts all of them to a table and back."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

import pandas as pd

from xraysynth.evaluation.reader_study.mrmc import Estimate

REAL = "real"
"""The name of real images in the column generator; "" stands for all synthetic images together."""


@dataclass(frozen=True, kw_only=True)
class ReadingResult(Estimate):
    """An estimate of one measure of some images.

    Attributes:
        name: The measure.
        generator: The generator of the images; "" for all synthetic images, "real" for real ones.
        label: The class of the images; "" for all.
        p_holm: The p value adjusted over generators (Holm 1979); NaN where nothing is tested.
    """

    name: str
    generator: str
    label: str
    p_holm: float = float("nan")

    @classmethod
    def from_estimate(
        cls, name: str, generator: str, label: str, estimate: Estimate
    ) -> "ReadingResult":
        """Builds the result of a measure, a generator and a class from its estimate."""
        return cls(
            *estimate.as_tuple(),
            readers=estimate.readers,
            note=estimate.note,
            p=estimate.p,
            name=name,
            generator=generator,
            label=label,
        )


_COLUMNS = {
    "name": "name",
    "generator": "generator",
    "label": "class",
    "value": "value",
    "low": "low",
    "high": "high",
    "readers": "n_readers",
    "n": "n_cases",
    "note": "note",
    "p": "p",
    "p_holm": "p_holm",
}
"""The fields of a result and their columns in the table."""


def to_table(results: Iterable[ReadingResult]) -> pd.DataFrame:
    """Returns a table with one row per result."""
    rows = map(attrgetter(*_COLUMNS), results)
    return pd.DataFrame(rows, columns=list(_COLUMNS.values()))


def from_table(table: pd.DataFrame) -> list[ReadingResult]:
    """Returns the results of a table; a column that an earlier version lacks gets the field's default."""
    fields = {column: field for field, column in _COLUMNS.items() if column in table}
    rows = table[list(fields)].rename(columns=fields).to_dict("records")
    return [ReadingResult(**row) for row in rows]
