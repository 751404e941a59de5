"""The small tables of the page, as rows that the template only has to write down."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xraysynth.report.content import Evaluation, PoolView

DIRECTIONS = {
    "lower": "lower is better",
    "higher": "higher is better",
    "floor": "the nearer to the floor the better",
}
"""What `better` of a measure says."""

_SAME = (("FID", "FD"), ("KID", "KD"))
COPYING = ("memorised", "AuthPct", "C_T", "MiFD", "MiFID")
"""What the metrics begin with that ask whether images are copies."""


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, by the names of its columns."""
    return [{str(name): v for name, v in row.items()} for row in table.to_dict("records")]


def crossed(
    rows: Sequence[Mapping[str, Any]], row: str, column: str, *, order: Sequence[str]
) -> tuple[list[str], list[tuple[str, list[Mapping[str, Any] | None]]]]:
    """Records as a table: the column names, and per value of `row` the records in that order."""
    columns = list(dict.fromkeys(str(record[column]) for record in rows))
    columns.sort(key=lambda name: order.index(name) if name in order else len(order))
    cells = {(str(record[row]), str(record[column])): record for record in rows}
    names = dict.fromkeys(str(record[row]) for record in rows)
    return columns, [(name, [cells.get((name, c)) for c in columns]) for name in names]


def stages(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Per stage: jobs, their states, total and longest seconds, and the peak of memory in MB."""
    found = []
    for name, jobs in table.groupby("stage", sort=False):
        states = jobs["state"].value_counts().to_dict()
        found.append(
            {
                "stage": name,
                "jobs": len(jobs),
                "states": ", ".join(f"{count} {state}" for state, count in states.items()),
                "seconds": float(jobs["seconds"].sum()),
                "longest": float(jobs["seconds"].max()),
                "memory": _maximum(jobs["peak_memory_mb"]),
            }
        )
    return found


def _maximum(values: pd.Series) -> float:
    known = [float(value) for value in values if value is not None and not pd.isna(value)]
    return max(known, default=math.nan)


@dataclass(frozen=True)
class Family:
    """One metric with every encoder: rows of a generator and its measures, encoder by encoder."""

    name: str
    direction: str
    rows: Sequence[tuple[str, Sequence[Mapping[str, Any] | None]]]


def family(metric: str) -> str:
    """What a metric is called whatever its encoder is: FD(xrv) and FID are both FD.

    >>> family("MiFID"), family("FD∞(classifier)"), family("C_T(embedded)")
    ('MiFD', 'FD∞', 'C_T')
    """
    name = re.sub(r"\(.*\)", "", metric).strip()
    for inception, general in _SAME:
        name = name.replace(inception, general)
    return name


def _is_copying(metric: str) -> bool:
    return family(metric).startswith(COPYING)


def _records(
    pool: PoolView | Evaluation, *, copying: bool, per_class: bool = False
) -> list[dict[str, Any]]:
    return [
        row
        for row in records(pool.measures)
        if _is_copying(row["metric"]) == copying and bool(row["label"]) == per_class
    ]


def encoders(pools: Sequence[PoolView | Evaluation], *, copying: bool) -> list[str]:
    """The encoders of the measures, in the order they come."""
    rows = [row for pool in pools for row in _records(pool, copying=copying)]
    return list(dict.fromkeys(str(row["encoder"]) for row in rows))


def families(pools: Sequence[PoolView | Evaluation], *, copying: bool) -> list[Family]:
    """Measures of all classes together, with the encoders of `encoders` side by side."""
    columns = encoders(pools, copying=copying)
    found = {
        (family(row["metric"]), pool.generator, row["encoder"]): row
        for pool in pools
        for row in _records(pool, copying=copying)
    }
    directions = {name: DIRECTIONS.get(row["better"], "") for (name, _, _), row in found.items()}
    return [
        Family(
            name,
            direction,
            [(p.generator, [found.get((name, p.generator, c)) for c in columns]) for p in pools],
        )
        for name, direction in directions.items()
    ]


def by_class(
    pool: PoolView | Evaluation, classes: Sequence[str]
) -> list[tuple[str, str, list[Mapping[str, Any] | None]]]:
    """A pool's measures of single classes: metric, encoder and a cell per class."""
    found = {
        (row["metric"], row["encoder"], row["label"]): row
        for row in _records(pool, copying=False, per_class=True)
    }
    names = dict.fromkeys((metric, encoder) for metric, encoder, _ in found)
    return [(*name, [found.get((*name, label)) for label in classes]) for name in names]


def notes(
    pools: Sequence[PoolView | Evaluation], *, copying: bool, per_class: bool = False
) -> list[str]:
    """What the measures of one table come with, each once; a cell refers to it by its number."""
    rows = [row for p in pools for row in _records(p, copying=copying, per_class=per_class)]
    return list(dict.fromkeys(row["note"] for row in rows if row["note"]))


def has_fid(pools: Sequence[PoolView | Evaluation]) -> bool:
    """Whether there is an FID among the measures, which is FD with one encoder only."""
    return any(row["metric"] == "FID" for p in pools for row in _records(p, copying=False))


def mean(rows: Sequence[Mapping[str, Any]], key: str = "value") -> float:
    """Mean over seeds of one entry; NaN of none."""
    return sum(float(row[key]) for row in rows) / len(rows) if rows else math.nan


def by_label(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Records by their class; that of all classes together under ""."""
    return {str(row["label"]): row for row in rows}


def seen(counts: Sequence[Sequence[int]]) -> list[list[tuple[int, float]]]:
    """Each cell of a table of counts with its share of the row; a row of zeros has shares of 0."""
    return [[(n, n / sum(row) if sum(row) else 0.0) for n in row] for row in counts]
