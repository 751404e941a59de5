"""Draws the images of a reading, and deals them to sessions in an order; pure and seeded functions."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import itemgetter
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
"""Columns that define a cell: images of one cell are interchangeable in the design of a reading."""

REPEAT_GAP_DIVISOR = 4
"""A repeat comes at least a quarter of its session after the first showing."""


@dataclass(frozen=True)
class SampledImage:
    """An image of a reading and its file."""

    case: Case
    path: Path


@dataclass(frozen=True)
class Sample:
    """The images of a reading, and the calibration images that readers practise on."""

    cases: list[SampledImage]
    calibration: list[SampledImage]


@dataclass(frozen=True)
class Session:
    """The cases that are shown in one sitting, by number, and those among them that are shown twice."""

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
    """Draws images at random from each class of the real test split and of each pool.

    Of equal files at most one is drawn. A second image of a patient is drawn only where no patient
    without one is left. Calibration images, half of them real, are of other patients.

    Args:
        cohort: The real images.
        pools: The synthetic images by generator.
        per_cell: The number of images of each class, real and of each generator.
        calibration: The number of calibration images.
        seed: The seed of the draw.

    Raises:
        ConfigError: A class has too few images; the message names them.
    """
    table = _candidate_table(cohort.split("test"), pools)
    order = np.random.default_rng(derive_seed(seed, "review", "draw")).permutation(len(table))
    table = table.iloc[order].reset_index(drop=True)
    table["turn"] = _rank_within_patient(table)
    table = table.sort_values("turn", kind="stable")
    _require_enough_images(table, cohort.classes, list(pools), per_cell)
    cases = table.groupby(CELL_COLUMNS, sort=False).head(per_cell)
    cases = cases.sort_values(CELL_COLUMNS, kind="stable")
    remaining = table.drop(cases.index)
    shown_patients = cases.loc[cases["origin"] == "real", "patient"]
    remaining = remaining[~remaining["patient"].isin(shown_patients)]
    return Sample(
        cases=_sampled_images(cases),
        calibration=_sampled_images(_draw_calibration(remaining, calibration)),
    )


def split_into_sessions(
    cells: Sequence[Hashable], *, repeat_fraction: float, session_size: int, seed: int
) -> list[Session]:
    """Deals cases to as few sessions as hold them, evenly by cell.

    Args:
        cells: The cell of each case.
        repeat_fraction: The fraction of cases that each session shows twice, spread over its cells.
        session_size: The largest number of showings in a session.
        seed: The seed of the deal.
    """
    rng = np.random.default_rng(derive_seed(seed, "review", "sessions"))
    n_showings = len(cells) + round(repeat_fraction * len(cells))
    n_sessions = -(-n_showings // session_size)
    sessions = []
    for number, cases in enumerate(partition_by_cell(cells, n_sessions, rng)):
        n_session_showings = (n_showings - number + n_sessions - 1) // n_sessions
        n_repeats = n_session_showings - len(cases)
        order = order_by_turns([cells[case] for case in cases], rng)
        repeated = np.array(cases)[order[:n_repeats]]
        sessions.append(Session(cases, sorted(repeated.tolist())))
    return sessions


def partition_by_cell(
    cells: Sequence[Hashable], count: int, rng: np.random.Generator
) -> list[list[int]]:
    """Partitions positions at random, so that the number of a cell differs by at most 1 between parts.

    Args:
        cells: The cell at each position.
        count: The number of parts.
        rng: The random generator.

    Returns:
        The positions of each part.
    """
    cell_order = {cell: number for number, cell in enumerate(dict.fromkeys(cells))}
    positions = rng.permutation(len(cells)).tolist()
    positions.sort(key=lambda position: cell_order[cells[position]])
    return [positions[number::count] for number in range(count)]


def order_by_turns(cells: Sequence[Hashable], rng: np.random.Generator) -> list[int]:
    """Returns positions in random order, one of each cell in turn, so that every start is balanced.

    Args:
        cells: The cell at each position.
        rng: The random generator.
    """
    positions_by_cell: dict[Hashable, list[int]] = {}
    for position in rng.permutation(len(cells)).tolist():
        positions_by_cell.setdefault(cells[position], []).append(position)
    order: list[int] = []
    remaining = list(positions_by_cell.values())
    while remaining:
        for cell in rng.permutation(len(remaining)):
            order.append(remaining[cell].pop())
        remaining = list(filter(None, remaining))
    return order


def order_showings(session: Session, seed: int) -> list[tuple[int, bool]]:
    """Returns the showings of a session in random order: the case, and whether it is a repeat.

    A repeat comes at least 1 / `REPEAT_GAP_DIVISOR` of the session after the first showing.
    """
    rng = np.random.default_rng(seed)
    n_showings = len(session.cases) + len(session.repeated)
    position_pairs = _draw_repeat_positions(n_showings, len(session.repeated), rng)
    showings: dict[int, tuple[int, bool]] = {}
    for case, (first, second) in zip(session.repeated, position_pairs, strict=True):
        showings[first] = (case, False)
        showings[second] = (case, True)
    repeated = set(session.repeated)
    single_cases = [case for case in session.cases if case not in repeated]
    free_positions = [position for position in range(n_showings) if position not in showings]
    order = rng.permutation(len(single_cases))
    for position, index in zip(free_positions, order, strict=True):
        showings[position] = (single_cases[index], False)
    return [showings[position] for position in range(n_showings)]


def _draw_repeat_positions(
    n_showings: int, n_pairs: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Draws positions of first and second showings that are far enough apart, in random order.

    First ones are drawn from the first half and second ones from the second, and paired in order, so
    that they are half a session apart on average. They are drawn again until all are far enough apart.
    """
    half, gap = n_showings // 2, -(-n_showings // REPEAT_GAP_DIVISOR)
    while True:
        first = np.sort(rng.choice(half, n_pairs, replace=False))
        second = np.sort(half + rng.choice(n_showings - half, n_pairs, replace=False))
        if n_pairs == 0 or (second - first).min() >= gap:
            order = rng.permutation(n_pairs)
            return list(zip(first[order].tolist(), second[order].tolist(), strict=True))


def _candidate_table(real: Manifest, pools: Mapping[str, Manifest]) -> "pd.DataFrame":
    """Returns one row per image, real ones first; of equal files only the first."""
    import pandas as pd

    tables = [_image_table(real, "real", "")]
    tables += [_image_table(images, "synthetic", name) for name, images in pools.items()]
    table = pd.concat(tables, ignore_index=True)
    return table[~table["sha256"].duplicated()].reset_index(drop=True)


def _image_table(images: Manifest, origin: str, generator: str) -> "pd.DataFrame":
    """Returns the columns of `Case` with `path` and `patient`, the key of the patient.

    An image without a patient counts as a patient of its own.
    """
    columns = ["label", "image_id", "source", "patient_id", "sha256"]
    table = images.table[columns].assign(origin=origin, generator=generator)
    patient_ids = table["patient_id"].where(table["patient_id"] != "", table["image_id"])
    patients = patient_keys(table.assign(patient_id=patient_ids))
    return table.assign(path=images.files, patient=patients)


def _rank_within_patient(table: "pd.DataFrame") -> "pd.Series":
    """Returns how many images of the same patient come before each image of the table."""
    return table.groupby(["origin", "generator", "patient"], sort=False).cumcount()


def _require_enough_images(
    table: "pd.DataFrame", classes: Sequence[str], generators: Sequence[str], per_cell: int
) -> None:
    """Requires `per_cell` images of each class of the real test split and of each generator."""
    counts = table.groupby(CELL_COLUMNS).size()
    origins = {("real", ""): "the real test split"}
    for generator in generators:
        origins["synthetic", generator] = generator
    cell_counts = {}
    for cell, name in origins.items():
        for label in classes:
            cell_counts[f"{label} of {name}"] = int(counts.get((*cell, label), 0))
    fewest = min(cell_counts.values())
    if fewest < per_cell:
        short = [f"{name}: {count}" for name, count in cell_counts.items() if count < per_cell]
        raise ConfigError(
            f"review.per_cell={per_cell} different images of each class are needed, real and of every "
            f"generator, but there are fewer: {format_some(short)}. Set review.per_cell={fewest}, or get "
            "more: generate.per_class for a generator, splits.test_fraction for real ones"
        )


def _draw_calibration(remaining: "pd.DataFrame", count: int) -> "pd.DataFrame":
    """Takes `count` images of different patients, half of them real, spread over classes and generators."""
    import pandas as pd

    numbers = {"real": -(-count // 2), "synthetic": count // 2}
    tables = []
    for origin, number in numbers.items():
        candidates = remaining[(remaining["origin"] == origin) & (remaining["turn"] == 0)]
        if len(candidates) < number:
            raise ConfigError(
                f"review.calibration={count} needs {number} {origin} images besides those of the "
                f"reading, but {len(candidates)} are left; lower review.calibration or review.per_cell"
            )
        rounds = candidates.groupby(CELL_COLUMNS, sort=False).cumcount()
        candidates = candidates.assign(round=rounds).sort_values("round", kind="stable")
        tables.append(candidates.head(number))
    return pd.concat(tables)


def _sampled_images(table: "pd.DataFrame") -> list[SampledImage]:
    """Converts rows of `_candidate_table`."""
    names = [field.name for field in fields(Case)]
    images = []
    for row in table.to_dict("records"):
        case = Case(*map(str, itemgetter(*names)(row)))
        images.append(SampledImage(case, Path(row["path"])))
    return images
