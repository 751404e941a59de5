"""One result of a reading, and the table of all of them."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from xraysynth.evaluation.reader_study.mrmc import Estimate

REAL = "real"
"""What the column generator says of real images; "" is all synthetic images together."""


@dataclass(frozen=True, kw_only=True)
class ReadingResult(Estimate):
    """An estimate of a measure, of a generator's images ("" all, "real") and of a class ("" all).

    `p_holm` is the p-value adjusted over generators; both are NaN where nothing is tested.
    """

    name: str
    generator: str
    label: str
    p_holm: float = float("nan")

    @classmethod
    def from_estimate(
        cls, name: str, generator: str, label: str, estimate: Estimate
    ) -> "ReadingResult":
        """A result from its estimate."""
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
    **{name: name for name in ("name", "generator")},
    "label": "class",
    **{name: name for name in ("value", "low", "high")},
    "readers": "n_readers",
    "n": "n_cases",
    **{name: name for name in ("note", "p", "p_holm")},
}
"""The fields of a result and their columns in the table."""


def to_table(results: Iterable[ReadingResult]) -> pd.DataFrame:
    """One row per result."""
    rows = [[getattr(result, field) for field in _COLUMNS] for result in results]
    return pd.DataFrame(rows, columns=list(_COLUMNS.values()))


def from_table(table: pd.DataFrame) -> list[ReadingResult]:
    """The results of a table; what a column of an earlier version lacks has its default."""
    fields = {field: name for field, name in _COLUMNS.items() if name in table}
    columns = [table[name] for name in fields.values()]
    return [
        ReadingResult(**dict(zip(fields, row, strict=True))) for row in zip(*columns, strict=True)
    ]
