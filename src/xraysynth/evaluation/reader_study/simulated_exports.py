"""Makes answer keys without images, and the exports that simulated readers would send."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xraysynth.evaluation.reader_study.export_format import FORMAT, export_columns, row_checksum
from xraysynth.evaluation.reader_study.key import AnswerKey, Case, Kit, KitItem
from xraysynth.evaluation.reader_study.protocol import (
    ERROR_KINDS,
    ORIGINS,
    QUESTIONS,
    build_questions,
)
from xraysynth.evaluation.reader_study.simulated_readers import (
    ReaderPopulation,
    SimulatedAnswers,
    simulate_answers,
)

_BASE32_LETTERS = list("abcdefghijklmnopqrstuvwxyz234567")
_MEDIAN_SECONDS, _LOG_SECONDS_SPREAD = 15, 0.5
_MARK_CENTRE, _MARK_SPREAD = (0.5, 0.45), 0.18  # of the image's width and height


def simulate_key(
    generators: Sequence[str],
    classes: Sequence[str],
    *,
    per_cell: int,
    readers: int,
    repeats: float = 0.1,
    seed: int = 0,
) -> AnswerKey:
    """Makes the key of a reading without images, in which each reader sees every case in one session.

    Args:
        generators: The generators.
        classes: The classes.
        per_cell: The number of images of each class, real and of each generator.
        readers: The number of readers, who are called simulated-1, simulated-2, …
        repeats: The fraction of cases that are shown twice.
        seed: The seed of ids and orders.
    """
    rng = np.random.default_rng(seed)
    cases = _simulate_cases(generators, classes, per_cell)
    repeated = rng.permutation(list(cases))[: round(repeats * len(cases))].tolist()
    kits = {}
    for number in range(1, readers + 1):
        items = []
        for case in rng.permutation(list(cases)).tolist():
            items.append(KitItem(_item_id(rng), case, repeat=False, calibration=False))
        for case in repeated:
            items.append(KitItem(_item_id(rng), case, repeat=True, calibration=False))
        reader = f"simulated-{number}"
        file = f"{reader}_session1.html"
        kits[_hex_id("kit", seed, number)] = Kit(reader, 1, 1, file, items)
    return AnswerKey(
        study=_hex_id("study", seed),
        name="simulated",
        created="2025-01-01T00:00:00+00:00",
        simulated=True,
        classes=list(classes),
        questions=build_questions(QUESTIONS, {}, classes),
        pools=dict.fromkeys(generators, ""),
        cohort="",
        cases=cases,
        kits=kits,
    )


def _simulate_cases(
    generators: Sequence[str], classes: Sequence[str], per_cell: int
) -> dict[str, Case]:
    """Returns `per_cell` cases of each class by id, real and of each generator."""
    cases: dict[str, Case] = {}
    for generator in ("", *generators):
        for label in classes:
            for _ in range(per_cell):
                number = len(cases) + 1
                cases[f"c{number:04d}"] = _simulate_case(number, generator, label)
    return cases


def _simulate_case(number: int, generator: str, label: str) -> Case:
    origin, patient = ("synthetic", "") if generator else ("real", f"p{number}")
    return Case(origin, generator, label, f"i{number}", "simulated", patient, "")


def _hex_id(*path: str | int) -> str:
    return hashlib.sha256(json.dumps(path).encode()).hexdigest()[:12]


def _item_id(rng: np.random.Generator) -> str:
    return "".join(rng.choice(_BASE32_LETTERS, 10))


def write_exports(
    key: AnswerKey, population: ReaderPopulation, folder: Path, *, seed: int = 0
) -> list[Path]:
    """Writes the exports of simulated readers who answered every kit of a key, as CSV.

    Args:
        key: The key of the reading.
        population: The population that readers are drawn from.
        folder: The folder to write to.
        seed: The seed of the readers.

    Returns:
        The file of each kit.
    """
    rng = np.random.default_rng(seed)
    cases = list(key.cases.values())
    readers = sorted({kit.reader for kit in key.kits.values()})
    answers = simulate_answers(
        population,
        generators=[case.generator for case in cases],
        labels=np.array([key.classes.index(case.label) for case in cases]),
        classes=len(key.classes),
        readers=len(readers),
        rng=rng,
        showings=2,
    )
    paths = []
    for kit_id, kit in key.kits.items():
        rows = _answer_rows(key, kit, answers, readers.index(kit.reader), population, rng)
        path = folder / f"{key.name}_{kit.reader}_session{kit.session}.csv"
        path.write_bytes(format_csv(export_columns(key), _export_rows(key, kit_id, rows)))
        paths.append(path)
    return paths


def _answer_rows(
    key: AnswerKey,
    kit: Kit,
    answers: SimulatedAnswers,
    reader: int,
    population: ReaderPopulation,
    rng: np.random.Generator,
) -> list[dict[str, str]]:
    """Returns the answers of the reader with this number to each item of a kit, by column."""
    case_numbers = {case_id: number for number, case_id in enumerate(key.cases)}
    rows = []
    for item in kit.items:
        index = reader, int(item.repeat), case_numbers[item.case]
        generator = key.cases[item.case].generator
        row = {
            "item": item.id,
            "calibration": str(int(item.calibration)),
            "origin": ORIGINS[answers.called_synthetic[index]],
            "confidence": str(answers.confidence[index]),
            "diagnosis": key.classes[answers.diagnosis[index]],
            "quality": str(answers.quality[index]),
            "realism": str(answers.realism[index]),
            "errors": _draw_marks(population.error_rate.get(generator, 0.0), rng),
            "seconds": f"{rng.lognormal(np.log(_MEDIAN_SECONDS), _LOG_SECONDS_SPREAD):.1f}",
        }
        rows.append(row)
    return rows


def _draw_marks(rate: float, rng: np.random.Generator) -> str:
    """Draws marked errors near the centre of the image, `rate` of them on average."""
    positions = np.clip(rng.normal(_MARK_CENTRE, _MARK_SPREAD, (rng.poisson(rate), 2)), 0, 1)
    marks = []
    for x, y in positions:
        marks.append(f"{rng.choice(list(ERROR_KINDS))}@{x:.4f},{y:.4f}")
    return ";".join(marks)


def _export_rows(
    key: AnswerKey, kit_id: str, answers: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Returns the rows of an export without their checksums."""
    kit = key.kits[kit_id]
    position = {item.id: str(number) for number, item in enumerate(kit.items, 1)}
    same_in_all_rows = {
        "format": FORMAT,
        "study": key.study,
        "kit": kit_id,
        "reader": kit.reader,
        "session": str(kit.session),
        "changes": "0",
        "answered_at": "2025-01-01T12:00:00Z",
        "answered": str(len(answers)),
        "of": str(len(kit.items)),
    }
    return [{**same_in_all_rows, "position": position[row["item"]], **row} for row in answers]


def format_csv(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    """Formats rows as the kit writes them: quoted where needed, with byte order mark and checksums.

    Args:
        names: The columns; the last one is the checksum.
        rows: The cells by column; a missing one is empty.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name, "") for name in names[:-1]]
        writer.writerow([*cells, row_checksum(cells)])
    return text.getvalue().encode("utf-8-sig")
