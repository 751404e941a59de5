"""How often the 95 % intervals of a blinded reading contain the truth of all readers and images.

Every study draws new readers and new images from a population whose d', rate of fooled answers and
kappa are known. See README.md.
"""

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.evaluation.reader_study import agreement, detection
from xraysynth.evaluation.reader_study.mrmc import Estimate, ReaderStatistic
from xraysynth.evaluation.reader_study.simulated_readers import ReaderPopulation, simulate_answers
from xraysynth.seeds import derive_seed

CLASSES, D_PRIME = 4, 1.0
ASKED = 200
"""Studies of the first column of README's table; the others use all."""


@dataclass(frozen=True)
class Cell:
    """A kind of study: how many readers and images (half of them real), and how readers differ."""

    differing: str
    population: ReaderPopulation
    readers: int
    images: int


def population(spread: float, bias: float, skill: float, habit: float) -> ReaderPopulation:
    """Readers of d' 1 whose standard deviations are these."""
    return ReaderPopulation(
        {"sd_lora": D_PRIME},
        d_prime_spread=spread,
        criterion_spread=bias,
        skill_spread=skill,
        class_bias_spread=habit,
    )


DIFFERING = {
    "not at all": population(0, 0, 0, 0),
    "somewhat": population(0.3, 0.3, 0.2, 0.2),
    "strongly": population(0.5, 0.5, 0.4, 0.4),
}


def cells(readers: Sequence[int] = (2, 3, 4, 6), images: Sequence[int] = (40, 120)) -> list[Cell]:
    """Every kind of study."""
    return [Cell(n, p, j, i) for n, p in DIFFERING.items() for j in readers for i in images]


def drawn(cell: Cell, rng: np.random.Generator) -> tuple[Any, np.ndarray, np.ndarray]:
    """The readings of one study, which images are synthetic, and their strata."""
    labels = np.arange(cell.images) % CLASSES
    generators = ["" if n < cell.images // 2 else "sd_lora" for n in range(cell.images)]
    found = simulate_answers(
        cell.population,
        generators=generators,
        labels=labels,
        classes=CLASSES,
        readers=cell.readers,
        rng=rng,
    )
    synthetic = np.array([bool(generator) for generator in generators])
    return found, synthetic, labels + CLASSES * synthetic


def estimates(cell: Cell, rng: np.random.Generator) -> dict[str, Estimate]:
    """What one study says."""
    found, synthetic, strata = drawn(cell, rng)
    said, diagnosis = (
        found.called_synthetic[:, 0].astype(float),
        found.diagnosis[:, 0].astype(float),
    )
    d_prime = detection.d_prime(said, synthetic=synthetic, real=~synthetic, strata=strata)
    fooled = detection.proportion(np.where(synthetic, 1 - said, np.nan), strata)
    return {
        "d'": d_prime.estimate(),
        "fool rate": fooled.estimate(is_proportion=True),
        "Fleiss' kappa, real or synthetic": agreement.fleiss(said, strata, options=2),
        "Fleiss' kappa, diagnosis": agreement.fleiss(diagnosis, strata, options=CLASSES),
        "d', readers taken as all there are": _these_readers(d_prime),
        "d', images taken as all there are": _these_images(d_prime),
    }


def _these_readers(found: ReaderStatistic) -> Estimate:
    """What an interval over images alone would say."""
    half = 1.96 * np.sqrt(found.image_variance)
    return Estimate(found.value, found.value - half, found.value + half, 0, readers=0)


def _these_images(found: ReaderStatistic) -> Estimate:
    """What the percentiles of a bootstrap over readers alone would say."""
    draws = np.random.default_rng(0).integers(found.readers, size=(500, found.readers))
    low, high = np.quantile(found.values[draws].mean(1), [0.025, 0.975])
    return Estimate(found.value, float(low), float(high), 0, readers=0)


@functools.cache
def truths(differing: str, pairs: int) -> dict[str, float]:
    """The values of the population, from pairs of readers who see the same 1,200 images."""
    two = Cell(differing, DIFFERING[differing], 2, 1200)
    rng = np.random.default_rng(derive_seed(1, differing))
    sums: dict[str, Any] = {
        "fooled": 0.0,
        "said": [0, np.zeros(2)],
        "named": [0, np.zeros(CLASSES)],
    }
    for _ in range(pairs):
        found, synthetic, _ = drawn(two, rng)
        sums["fooled"] += 1 - found.called_synthetic[:, 0][:, synthetic].mean()
        for name, codes in (("said", found.called_synthetic), ("named", found.diagnosis)):
            sums[name][0] += (codes[0, 0] == codes[1, 0]).mean()
            sums[name][1] += np.bincount(codes.ravel(), minlength=len(sums[name][1])) / codes.size
    kappa = {
        name: _kappa(sums[name][0] / pairs, sums[name][1] / pairs) for name in ("said", "named")
    }
    return {
        "d'": D_PRIME,
        "fool rate": sums["fooled"] / pairs,
        "Fleiss' kappa, real or synthetic": kappa["said"],
        "Fleiss' kappa, diagnosis": kappa["named"],
        "d', readers taken as all there are": D_PRIME,
        "d', images taken as all there are": D_PRIME,
    }


def _kappa(agreed: float, shares: np.ndarray) -> float:
    chance = float((shares**2).sum())
    return (agreed - chance) / (1 - chance)


def rows(cell: Cell, *, studies: int, pairs: int) -> Iterator[dict[str, Any]]:
    """Per measure, how often the interval held the truth, its width and the bias."""
    name = [cell.differing, cell.readers, cell.images]
    truth = truths(cell.differing, pairs)
    generators = (np.random.default_rng(derive_seed(0, *name, n)) for n in range(studies))
    found = [estimates(cell, rng) for rng in generators]
    for measure, value in truth.items():
        all_ = [study[measure] for study in found if np.isfinite(study[measure].value)]
        held = np.array([one.low <= value <= one.high for one in all_])
        share = float(held.mean())
        yield {
            "readers differ": cell.differing,
            "readers": cell.readers,
            "images": cell.images,
            "measure": measure,
            "truth": round(value, 4),
            "coverage_of_200": round(float(held[:ASKED].mean()), 4),
            "coverage": round(share, 4),
            "error": round(1.96 * np.sqrt(share * (1 - share) / len(held)), 4),
            "width": round(float(np.median([one.high - one.low for one in all_])), 3),
            "bias": round(float(np.mean([one.value for one in all_]) - value), 4),
            "studies": len(all_),
        }


def main() -> None:
    """Write results.csv and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    arguments = parser.parse_args()
    found = []
    for cell in cells():
        found += rows(cell, studies=arguments.studies, pairs=arguments.pairs)
        print(f"{cell.differing}: {cell.readers} x {cell.images}", file=sys.stderr, flush=True)
    table = pd.DataFrame(found)
    table.to_csv(arguments.out, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
