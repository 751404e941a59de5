"""One result of a reading, and the table of all of them."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from xraysynth.evaluation.reader_study.crossed import Estimate

REAL = "real"
"""What the column generator says of real images; "" is all synthetic images together."""

_NAN = float("nan")


@dataclass(frozen=True)
class Result:
    """A measure of a generator's images ("" all, "real") and of a class ("" all).

    `p_holm` is the p-value adjusted over generators; both are NaN where nothing is tested.
    """

    name: str
    generator: str
    label: str
    value: float
    low: float = _NAN
    high: float = _NAN
    n_readers: int = 0
    n_cases: int = 0
    note: str = ""
    p: float = _NAN
    p_holm: float = _NAN

    @classmethod
    def of(cls, name: str, generator: str, label: str, estimate: Estimate) -> "Result":
        """A result from its estimate."""
        return cls(
            name,
            generator,
            label,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            n_readers=estimate.readers,
            n_cases=estimate.images,
            note=estimate.note,
            p=estimate.p,
        )


_COLUMNS = {field: "class" if field == "label" else field for field in Result.__dataclass_fields__}


def to_table(results: Iterable[Result]) -> pd.DataFrame:
    """One row per result; the column of its label is called class."""
    rows = [[getattr(result, field) for field in _COLUMNS] for result in results]
    return pd.DataFrame(rows, columns=list(_COLUMNS.values()))


def from_table(table: pd.DataFrame) -> list[Result]:
    """The results of a table; what a column of an earlier version lacks has its default."""
    fields = {field: name for field, name in _COLUMNS.items() if name in table}
    columns = [table[name] for name in fields.values()]
    return [Result(**dict(zip(fields, row, strict=True))) for row in zip(*columns, strict=True)]
