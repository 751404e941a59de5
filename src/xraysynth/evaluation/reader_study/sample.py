"""Which images a reading shows, in which sessions, and in which order: pure, and seeded."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xraysynth.errors import ConfigError, format_some
from xraysynth.evaluation.reader_study.key import Case
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.seeds import derive_seed

if TYPE_CHECKING:
    import pandas as pd

CELL_COLUMNS = ["origin", "generator", "label"]
REPEAT_GAP_DIVISOR = 4
"""A repeat comes at least one GAP-th of its session after the first showing."""


@dataclass(frozen=True)
class SampledImage:
    """An image that was drawn, and its file."""

    case: Case
    path: Path


@dataclass(frozen=True)
class Sample:
    """The images of a reading, and those that readers practise on."""

    cases: list[SampledImage]
    calibration: list[SampledImage]


@dataclass(frozen=True)
class Session:
    """Numbers of the cases that are shown in one sitting, and of those shown twice in it."""

    cases: list[int]
    repeated: list[int]


def draw_sample(
    cohort: Manifest,
    pools: Mapping[str, Manifest],
    *,
    per_cell: int,
    calibration: int,
    seed: int,
) -> Sample:
    """`per_cell` images of each class from the real test split and from each pool, at random.

    Of equal files one is drawn at most, and of a patient one image while others are left. The
    images for calibration, half of them real, are of other patients. Raises `ConfigError` naming
    the cells that hold too few.
    """
    table = _candidate_table(cohort.split("test"), pools)
    order = np.random.default_rng(derive_seed(seed, "review", "draw")).permutation(len(table))
    table = table.iloc[order].reset_index(drop=True)
    table["turn"] = _rank_within_patient(table)
    table = table.sort_values("turn", kind="stable")
    _require_enough_images(table, cohort.classes, pools, per_cell)
    chosen = (
        table.groupby(CELL_COLUMNS, sort=False)
        .head(per_cell)
        .sort_values(CELL_COLUMNS, kind="stable")
    )
    rest = table.drop(chosen.index)
    known = chosen.loc[chosen["origin"] == "real", "patient"]
    return Sample(
        _sampled_images(chosen),
        _sampled_images(_draw_calibration(rest[~rest["patient"].isin(known)], calibration)),
    )


def split_into_sessions(
    cells: Sequence[Hashable], *, repeats: float, size: int, seed: int
) -> list[Session]:
    """Cases dealt to as few sessions of up to `size` showings as hold them, evenly by cell.

    Every session repeats about the share `repeats` of its cases, spread over its cells.
    """
    rng = np.random.default_rng(derive_seed(seed, "review", "sessions"))
    total = len(cells) + round(repeats * len(cells))
    count = -(-total // size)
    found = []
    for number, held in enumerate(partition_by_cell(cells, count, rng)):
        showings = (total - number + count - 1) // count
        spread = order_by_turns([cells[n] for n in held], rng)[: showings - len(held)]
        found.append(Session(held, sorted(held[n] for n in spread)))
    return found


def partition_by_cell(
    cells: Sequence[Hashable], count: int, rng: np.random.Generator
) -> list[list[int]]:
    """Positions in `count` random parts, each with as many of every cell, or one more."""
    turns = {cell: n for n, cell in enumerate(dict.fromkeys(cells))}
    by_cell = sorted(rng.permutation(len(cells)).tolist(), key=lambda n: turns[cells[n]])
    return [by_cell[number::count] for number in range(count)]


def order_by_turns(cells: Sequence[Hashable], rng: np.random.Generator) -> list[int]:
    """Positions in random order, one of each cell in turn, so that every start of it is balanced."""
    waiting: dict[Hashable, list[int]] = {}
    for n in rng.permutation(len(cells)).tolist():
        waiting.setdefault(cells[n], []).append(n)
    found: list[int] = []
    while any(waiting.values()):
        held = [members for members in waiting.values() if members]
        found += [held[n].pop() for n in rng.permutation(len(held))]
    return found


def order_showings(session: Session, seed: int) -> list[tuple[int, bool]]:
    """The cases of a session in random order, each with whether it is shown for the second time."""
    rng = np.random.default_rng(seed)
    total = len(session.cases) + len(session.repeated)
    pairs = _draw_repeat_positions(total, len(session.repeated), rng)
    found: dict[int, tuple[int, bool]] = {}
    for case, (first, second) in zip(session.repeated, pairs, strict=True):
        found |= {first: (case, False), second: (case, True)}
    once = [case for case in session.cases if case not in set(session.repeated)]
    free = [place for place in range(total) if place not in found]
    found |= {
        place: (once[n], False) for place, n in zip(free, rng.permutation(len(once)), strict=True)
    }
    return [found[place] for place in range(total)]


def _draw_repeat_positions(
    total: int, pairs: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Places of first and second showings at least a GAP-th of `total` apart, in random order.

    First ones are drawn from the first half and second ones from the second, in the same order,
    again until all are far enough apart: half a session is what they are apart on average.
    """
    half, gap = total // 2, -(-total // REPEAT_GAP_DIVISOR)
    while True:
        first = np.sort(rng.choice(half, pairs, replace=False))
        second = np.sort(half + rng.choice(total - half, pairs, replace=False))
        if pairs == 0 or (second - first).min() >= gap:
            order = rng.permutation(pairs)
            return [(int(first[n]), int(second[n])) for n in order]


def _candidate_table(real: Manifest, pools: Mapping[str, Manifest]) -> "pd.DataFrame":
    """One row an image, real ones first; of equal files only the first."""
    import pandas as pd

    tables = [_image_table(real, "real", "")] + [
        _image_table(m, "synthetic", n) for n, m in pools.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[~table["sha256"].duplicated()].reset_index(drop=True)


def _image_table(images: Manifest, origin: str, generator: str) -> "pd.DataFrame":
    columns = ["label", "image_id", "source", "patient_id", "sha256"]
    table = images.table[columns].assign(origin=origin, generator=generator)
    known = table["patient_id"].where(table["patient_id"] != "", table["image_id"])
    return table.assign(path=images.files, patient=patient_keys(table.assign(patient_id=known)))


def _rank_within_patient(table: "pd.DataFrame") -> "pd.Series":
    """Which image of its patient a real one is; those of a generator have nobody in common."""
    return table.groupby(["origin", "generator", "patient"], sort=False).cumcount()


def _require_enough_images(
    table: "pd.DataFrame", classes: Sequence[str], pools: Mapping[str, Manifest], per_cell: int
) -> None:
    counts = table.groupby(CELL_COLUMNS).size()
    cells = {
        (origin, generator, label): f"{label} of {generator or 'the real test split'}"
        for origin, generator in [("real", ""), *(("synthetic", name) for name in pools)]
        for label in classes
    }
    held = {cell: int(counts.get(cell, 0)) for cell in cells}
    short = [f"{cells[cell]}: {n}" for cell, n in held.items() if n < per_cell]
    if short:
        raise ConfigError(
            f"review.per_cell={per_cell} different images of each class are needed, real and of every "
            f"generator, but there are fewer: {format_some(short)}. Set "
            f"review.per_cell={min(held.values())}, "
            "or get more: generate.per_class for a generator, splits.test_fraction for real ones"
        )


def _draw_calibration(remaining: "pd.DataFrame", count: int) -> "pd.DataFrame":
    """`count` images of the rest, half real, spread over classes and generators."""
    import pandas as pd

    wanted = {"real": -(-count // 2), "synthetic": count // 2}
    parts = []
    for origin, number in wanted.items():
        held = remaining[(remaining["origin"] == origin) & (remaining["turn"] == 0)]
        held = held.assign(round=held.groupby(CELL_COLUMNS, sort=False).cumcount())
        if len(held) < number:
            raise ConfigError(
                f"review.calibration={count} needs {number} {origin} images besides those of the "
                f"reading, but {len(held)} are left; lower review.calibration or review.per_cell"
            )
        parts.append(held.sort_values("round", kind="stable").head(number))
    return pd.concat(parts)


def _sampled_images(table: "pd.DataFrame") -> list[SampledImage]:
    names = list(Case.__dataclass_fields__)
    rows = table[[*names, "path"]].to_dict("records")
    return [
        SampledImage(Case(**{n: str(row[n]) for n in names}), Path(row["path"])) for row in rows
    ]
