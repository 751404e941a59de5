"""Readers whose d', bias, agreement and habits are known, and the exports they would send.

Reader j finds in image i of generator g the evidence

    x = d_jg + sqrt(a) C_i + sqrt(1 - a - b) E_ij + sqrt(b) O_ijk,    d_jg = 0 for real images,

of the image, of reader and image, and of the k-th showing, all standard normal. "Synthetic" is said above
c_j + d_j / 2, where d_j is the mean of d_jg over generators: the reader's d' is d_jg and, of one
generator, the criterion c_j, exactly. d_jg and c_j are normal around those of the `Population`.
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

from xraysynth.evaluation.reader_study.export_format import FORMAT, check, columns
from xraysynth.evaluation.reader_study.key import Case, Key, Kit, KitItem
from xraysynth.evaluation.reader_study.protocol import ERRORS, ORIGINS, QUESTIONS, questions

_STEPS = (0.25, 0.6, 1.0, 1.6)  # distances from the threshold at which confidence rises


@dataclass(frozen=True)
class Population:
    """What readers and images are drawn from.

    `d_prime`, `likert` (mean score) and `error_rate` (marked errors per image) are by generator, the
    latter two also for real images (""). `spread`, `bias_spread`, `skill_spread`, `habit_spread` and
    `lean` are standard deviations between readers: of d', of the criterion, of diagnostic evidence, of
    the readiness to name a class, and of scores. `of_image` and `of_showing` are shares of variance.
    """

    d_prime: Mapping[str, float] = field(default_factory=lambda: {"sd_lora": 1.0})
    criterion: float = 0.1
    spread: float = 0.3
    bias_spread: float = 0.3
    of_image: float = 0.3
    of_showing: float = 0.1
    skill: float = 2.0
    skill_spread: float = 0.2
    habit_spread: float = 0.2
    likert: Mapping[str, float] = field(default_factory=dict)
    lean: float = 0.3
    error_rate: Mapping[str, float] = field(default_factory=dict)

    def evidence(
        self, readers: int, images: int, showings: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Of variance 1 for each reader and showing, `(J, K, I)`."""
        of_both = 1 - self.of_image - self.of_showing
        shared = np.sqrt(self.of_image) * rng.normal(size=images)
        own = np.sqrt(of_both) * rng.normal(size=(readers, 1, images))
        noise = np.sqrt(self.of_showing) * rng.normal(size=(readers, showings, images))
        found: np.ndarray = shared + own + noise
        return found


@dataclass(frozen=True)
class Readings:
    """What J readers say at K showings of I images, `(J, K, I)` each: `said` is 1 for synthetic,
    `confidence` 1 to 5, `diagnosis` the number of a class, `quality` and `realism` -2 to 2."""

    said: np.ndarray
    confidence: np.ndarray
    diagnosis: np.ndarray
    quality: np.ndarray
    realism: np.ndarray


def read(
    population: Population,
    *,
    generators: Sequence[str],
    labels: np.ndarray,
    classes: int,
    readers: int,
    rng: np.random.Generator,
    showings: int = 1,
) -> Readings:
    """New readers before new images, of `generators` ("" for real) and `labels` `(I,)`."""
    shape = readers, len(labels), showings
    said, confidence = _detected(population, generators, shape, rng)
    diagnosis = _diagnosed(population, labels, classes, shape, rng)
    quality, realism = (_scored(population, generators, shape, rng) for _ in range(2))
    return Readings(said, confidence, diagnosis, quality, realism)


def _detected(
    population: Population,
    generators: Sequence[str],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    readers, images, showings = shape
    shift = rng.normal(0, population.spread, (readers, 1, 1))
    bias = rng.normal(population.criterion, population.bias_spread, (readers, 1, 1))
    d = np.array([population.d_prime.get(generator, 0.0) for generator in generators])
    signal = np.where(np.array(generators) == "", 0.0, d + shift)
    x = signal + population.evidence(readers, images, showings, rng)
    middle = (np.mean(list(population.d_prime.values())) + shift) / 2
    above = x - bias - middle
    return (above > 0).astype(int), 1 + np.searchsorted(np.array(_STEPS), np.abs(above))


def _diagnosed(
    population: Population,
    labels: np.ndarray,
    classes: int,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    readers, images, showings = shape
    skill = rng.normal(population.skill, population.skill_spread, (readers, 1, 1))
    habit = rng.normal(0, population.habit_spread, (classes, readers, 1, 1))
    evidence = [
        (labels == c) * skill + habit[c] + population.evidence(readers, images, showings, rng)
        for c in range(classes)
    ]
    named: np.ndarray = np.stack(evidence).argmax(0)
    return named


def _scored(
    population: Population,
    generators: Sequence[str],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    readers, images, showings = shape
    centre = np.array([population.likert.get(generator, 0.0) for generator in generators])
    lean = rng.normal(0, population.lean, (readers, 1, 1))
    x = centre + lean + population.evidence(readers, images, showings, rng)
    found: np.ndarray = np.clip(np.rint(x), -2, 2).astype(int)
    return found


def key_for(
    generators: Sequence[str],
    classes: Sequence[str],
    *,
    per_cell: int,
    readers: int,
    repeats: float = 0.1,
    seed: int = 0,
) -> Key:
    """The key of a reading without images: readers simulated-1, … see every case in one session."""
    rng = np.random.default_rng(seed)
    cells = [(g, c) for g in ("", *generators) for c in classes for _ in range(per_cell)]
    cases = {f"c{n:04d}": _case(n, *cell) for n, cell in enumerate(cells, 1)}
    again = list(rng.permutation(list(cases))[: round(repeats * len(cases))])
    kits = {}
    for number in range(1, readers + 1):
        shown = [(str(name), False) for name in rng.permutation(list(cases))]
        shown += [(str(name), True) for name in again]
        items = [KitItem(_item_id(rng), case, repeat, False) for case, repeat in shown]
        reader = f"simulated-{number}"
        file = f"{reader}_session1.html"
        kits[_hex("kit", seed, number)] = Kit(reader, 1, 1, file, items)
    return Key(
        study=_hex("study", seed),
        name="simulated",
        created="2025-01-01T00:00:00+00:00",
        simulated=True,
        classes=list(classes),
        questions=questions(QUESTIONS, {}, classes),
        pools=dict.fromkeys(generators, ""),
        cohort="",
        cases=cases,
        kits=kits,
    )


def _case(number: int, generator: str, label: str) -> Case:
    origin, patient = ("synthetic", "") if generator else ("real", f"p{number}")
    return Case(origin, generator, label, f"i{number}", "simulated", patient, "")


def _hex(*path: str | int) -> str:
    return hashlib.sha256(json.dumps(path).encode()).hexdigest()[:12]


def _item_id(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz234567"), 10))


def answer(key: Key, population: Population, folder: Path, *, seed: int = 0) -> list[Path]:
    """Fill every kit of a key by new readers, and write their exports as CSV."""
    rng = np.random.default_rng(seed)
    cases = list(key.cases.values())
    readers = sorted({kit.reader for kit in key.kits.values()})
    found = read(
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
        cells = _answers(key, kit, found, readers.index(kit.reader), population, rng)
        path = folder / f"{key.name}_{kit.reader}_session{kit.session}.csv"
        path.write_bytes(as_csv(columns(key), _rows(key, name, cells)))
        paths.append(path)
    return paths


def _answers(
    key: Key,
    kit: Kit,
    found: Readings,
    reader: int,
    population: Population,
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
                "origin": ORIGINS[found.said[at]],
                "confidence": str(found.confidence[at]),
                "diagnosis": key.classes[found.diagnosis[at]],
                "quality": str(found.quality[at]),
                "realism": str(found.realism[at]),
                "errors": _marks(population.error_rate.get(generator, 0.0), rng),
                "seconds": f"{rng.lognormal(np.log(15), 0.5):.1f}",
            }
        )
    return rows


def _marks(rate: float, rng: np.random.Generator) -> str:
    places = np.clip(rng.normal((0.5, 0.45), 0.18, (rng.poisson(rate), 2)), 0, 1)
    return ";".join(f"{rng.choice(list(ERRORS))}@{x:.4f},{y:.4f}" for x, y in places)


def _rows(key: Key, kit: str, answers: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
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


def as_csv(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    """Rows as the kit writes them: quoted where needed, with a byte order mark and their check."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name, "") for name in names[:-1]]
        writer.writerow([*cells, check(cells)])
    return text.getvalue().encode("utf-8-sig")
