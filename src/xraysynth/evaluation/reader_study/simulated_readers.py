"""Readers whose d', bias, agreement and habits are known, and the exports they would send.

Reader j finds in image i of generator g the evidence

    x = d_jg + sqrt(a) C_i + sqrt(1 - a - b) E_ij + sqrt(b) O_ijk,    d_jg = 0 for real images,

of the image, of reader and image, and of the k-th showing, all standard normal. "Synthetic" is said above
c_j + d_j / 2, where d_j is the mean of d_jg over generators: the reader's d' is d_jg and, of one
generator, the criterion c_j, exactly. d_jg and c_j are normal around those of the `ReaderPopulation`.
Confidence is the distance from the threshold; a diagnosis is the class with most evidence.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

_CONFIDENCE_STEPS = (0.25, 0.6, 1.0, 1.6)  # distances from the threshold at which confidence rises


@dataclass(frozen=True)
class ReaderPopulation:
    """What readers and images are drawn from.

    `d_prime`, `mean_score` (mean score) and `error_rate` (marked errors per image) are by generator, the
    latter two also for real images (""). `d_prime_spread`, `criterion_spread`, `skill_spread`,
    `class_bias_spread` and `score_spread` are standard deviations between readers: of d', of the
    criterion, of diagnostic evidence, of
    the readiness to name a class, and of scores. `image_variance` and `showing_variance` are shares
    of variance.
    """

    d_prime: Mapping[str, float] = field(default_factory=lambda: {"sd_lora": 1.0})
    criterion: float = 0.1
    d_prime_spread: float = 0.3
    criterion_spread: float = 0.3
    image_variance: float = 0.3
    showing_variance: float = 0.1
    skill: float = 2.0
    skill_spread: float = 0.2
    class_bias_spread: float = 0.2
    mean_score: Mapping[str, float] = field(default_factory=dict)
    score_spread: float = 0.3
    error_rate: Mapping[str, float] = field(default_factory=dict)

    def draw_evidence(
        self, readers: int, images: int, showings: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Of variance 1 for each reader and showing, `(J, K, I)`."""
        of_both = 1 - self.image_variance - self.showing_variance
        shared = np.sqrt(self.image_variance) * rng.normal(size=images)
        own = np.sqrt(of_both) * rng.normal(size=(readers, 1, images))
        noise = np.sqrt(self.showing_variance) * rng.normal(size=(readers, showings, images))
        found: np.ndarray = shared + own + noise
        return found


@dataclass(frozen=True)
class SimulatedAnswers:
    """What J readers say at K showings of I images, `(J, K, I)` each: `said` is 1 for synthetic,
    `confidence` 1 to 5, `diagnosis` the number of a class, `quality` and `realism` -2 to 2."""

    called_synthetic: np.ndarray
    confidence: np.ndarray
    diagnosis: np.ndarray
    quality: np.ndarray
    realism: np.ndarray


def simulate_answers(
    population: ReaderPopulation,
    *,
    generators: Sequence[str],
    labels: np.ndarray,
    classes: int,
    readers: int,
    rng: np.random.Generator,
    showings: int = 1,
) -> SimulatedAnswers:
    """New readers before new images, of `generators` ("" for real) and `labels` `(I,)`."""
    shape = readers, len(labels), showings
    said, confidence = _simulate_detection(population, generators, shape, rng)
    diagnosis = _simulate_diagnosis(population, labels, classes, shape, rng)
    quality, realism = (_simulate_scores(population, generators, shape, rng) for _ in range(2))
    return SimulatedAnswers(said, confidence, diagnosis, quality, realism)


def _simulate_detection(
    population: ReaderPopulation,
    generators: Sequence[str],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    readers, images, showings = shape
    shift = rng.normal(0, population.d_prime_spread, (readers, 1, 1))
    bias = rng.normal(population.criterion, population.criterion_spread, (readers, 1, 1))
    d = np.array([population.d_prime.get(generator, 0.0) for generator in generators])
    signal = np.where(np.array(generators) == "", 0.0, d + shift)
    x = signal + population.draw_evidence(readers, images, showings, rng)
    middle = (np.mean(list(population.d_prime.values())) + shift) / 2
    above = x - bias - middle
    return (above > 0).astype(int), 1 + np.searchsorted(np.array(_CONFIDENCE_STEPS), np.abs(above))


def _simulate_diagnosis(
    population: ReaderPopulation,
    labels: np.ndarray,
    classes: int,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    readers, images, showings = shape
    skill = rng.normal(population.skill, population.skill_spread, (readers, 1, 1))
    habit = rng.normal(0, population.class_bias_spread, (classes, readers, 1, 1))
    evidence = [
        (labels == c) * skill + habit[c] + population.draw_evidence(readers, images, showings, rng)
        for c in range(classes)
    ]
    named: np.ndarray = np.stack(evidence).argmax(0)
    return named


def _simulate_scores(
    population: ReaderPopulation,
    generators: Sequence[str],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    readers, images, showings = shape
    centre = np.array([population.mean_score.get(generator, 0.0) for generator in generators])
    lean = rng.normal(0, population.score_spread, (readers, 1, 1))
    x = centre + lean + population.draw_evidence(readers, images, showings, rng)
    found: np.ndarray = np.clip(np.rint(x), -2, 2).astype(int)
    return found


def simulate_key(
    generators: Sequence[str],
    classes: Sequence[str],
    *,
    per_cell: int,
    readers: int,
    repeats: float = 0.1,
    seed: int = 0,
) -> AnswerKey:
    """The key of a reading without images: readers simulated-1, … see every case in one session."""
    rng = np.random.default_rng(seed)
    cells = [(g, c) for g in ("", *generators) for c in classes for _ in range(per_cell)]
    cases = {f"c{n:04d}": _simulate_case(n, *cell) for n, cell in enumerate(cells, 1)}
    again = list(rng.permutation(list(cases))[: round(repeats * len(cases))])
    kits = {}
    for number in range(1, readers + 1):
        shown = [(str(name), False) for name in rng.permutation(list(cases))]
        shown += [(str(name), True) for name in again]
        items = [KitItem(_item_id(rng), case, repeat, False) for case, repeat in shown]
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


def _simulate_case(number: int, generator: str, label: str) -> Case:
    origin, patient = ("synthetic", "") if generator else ("real", f"p{number}")
    return Case(origin, generator, label, f"i{number}", "simulated", patient, "")


def _hex_id(*path: str | int) -> str:
    return hashlib.sha256(json.dumps(path).encode()).hexdigest()[:12]


def _item_id(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz234567"), 10))


def write_exports(
    key: AnswerKey, population: ReaderPopulation, folder: Path, *, seed: int = 0
) -> list[Path]:
    """Fill every kit of a key by new readers, and write their exports as CSV."""
    rng = np.random.default_rng(seed)
    cases = list(key.cases.values())
    readers = sorted({kit.reader for kit in key.kits.values()})
    found = simulate_answers(
        population,
        generators=[case.generator for case in cases],
        labels=np.array([key.classes.index(case.label) for case in cases]),
        classes=len(key.classes),
        readers=len(readers),
        rng=rng,
        showings=2,
    )
    paths = []
    for name, kit in key.kits.items():
        cells = _answer_rows(key, kit, found, readers.index(kit.reader), population, rng)
        path = folder / f"{key.name}_{kit.reader}_session{kit.session}.csv"
        path.write_bytes(format_csv(export_columns(key), _export_rows(key, name, cells)))
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
    """The answers to each item of a kit, by column."""
    place = {name: number for number, name in enumerate(key.cases)}
    rows = []
    for item in kit.items:
        at = reader, int(item.repeat), place[item.case]
        generator = key.cases[item.case].generator
        rows.append(
            {
                "item": item.id,
                "calibration": str(int(item.calibration)),
                "origin": ORIGINS[answers.called_synthetic[at]],
                "confidence": str(answers.confidence[at]),
                "diagnosis": key.classes[answers.diagnosis[at]],
                "quality": str(answers.quality[at]),
                "realism": str(answers.realism[at]),
                "errors": _draw_marks(population.error_rate.get(generator, 0.0), rng),
                "seconds": f"{rng.lognormal(np.log(15), 0.5):.1f}",
            }
        )
    return rows


def _draw_marks(rate: float, rng: np.random.Generator) -> str:
    places = np.clip(rng.normal((0.5, 0.45), 0.18, (rng.poisson(rate), 2)), 0, 1)
    return ";".join(f"{rng.choice(list(ERROR_KINDS))}@{x:.4f},{y:.4f}" for x, y in places)


def _export_rows(
    key: AnswerKey, kit: str, answers: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Whole rows of an export, without their check."""
    held = key.kits[kit]
    position = {item.id: str(number) for number, item in enumerate(held.items, 1)}
    same = {
        "format": FORMAT,
        "study": key.study,
        "kit": kit,
        "reader": held.reader,
        "session": str(held.session),
        "changes": "0",
        "answered_at": "2025-01-01T12:00:00Z",
        "answered": str(len(answers)),
        "of": str(len(held.items)),
    }
    return [same | {"position": position[row["item"]]} | dict(row) for row in answers]


def format_csv(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    """Rows as the kit writes them: quoted where needed, with a byte order mark and their check."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name, "") for name in names[:-1]]
        writer.writerow([*cells, row_checksum(cells)])
    return text.getvalue().encode("utf-8-sig")
