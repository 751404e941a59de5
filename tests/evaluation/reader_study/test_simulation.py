"""Simulated readers are what they are said to be, and the intervals hold them."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xraysynth.evaluation.reader_study import detection, simulated_readers

EXPERIMENT = Path(__file__).parents[3] / "experiments/reader_simulation/simulate.py"


@pytest.fixture(scope="module")
def experiment() -> Any:
    spec = importlib.util.spec_from_file_location("reader_simulation", EXPERIMENT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def reading(
    population: simulated_readers.ReaderPopulation, images: int = 20_000, **options: Any
) -> Any:
    generators = [("", "a", "b")[n % 3] for n in range(images)]
    labels = np.arange(images) % 4
    rng = np.random.default_rng(0)
    found = simulated_readers.simulate_answers(
        population, generators=generators, labels=labels, classes=4, readers=3, rng=rng, **options
    )
    return found, np.array(generators), labels


def test_d_prime_and_criterion_are_those_asked_for():
    alike = simulated_readers.ReaderPopulation(
        {"a": 0.5, "b": 1.5}, criterion=0.2, d_prime_spread=0, criterion_spread=0
    )
    found, generators, _ = reading(alike)
    said = found.called_synthetic[:, 0].astype(float)
    strata = np.zeros(len(generators))
    for name, d in (("a", 0.5), ("b", 1.5)):
        masks = {"synthetic": generators == name, "real": generators == "", "strata": strata}
        assert detection.d_prime(said, **masks).value == pytest.approx(d, abs=0.05)
    both = {"synthetic": generators != "", "real": generators == "", "strata": strata}
    assert detection.criterion(said, **both).value == pytest.approx(0.2, abs=0.05)


def test_showings_differ_by_the_share_of_the_occasion():
    same, _, _ = reading(
        simulated_readers.ReaderPopulation({"a": 1, "b": 1}, showing_variance=0.0), 500, showings=2
    )
    assert (same.called_synthetic[:, 0] == same.called_synthetic[:, 1]).all()
    other, _, _ = reading(
        simulated_readers.ReaderPopulation({"a": 1, "b": 1}, showing_variance=0.4), 500, showings=2
    )
    assert 0.6 < (other.called_synthetic[:, 0] == other.called_synthetic[:, 1]).mean() < 0.95


def test_skill_names_the_class():
    sharp, _, labels = reading(
        simulated_readers.ReaderPopulation({"a": 1, "b": 1}, skill=9, class_bias_spread=0), 500
    )
    assert (sharp.diagnosis[:, 0] == labels).mean() > 0.99


@pytest.mark.parametrize(("readers", "images"), [(2, 40), (4, 120)])
def test_intervals_hold_the_truth_of_the_population(experiment, readers, images):
    """Of sixty studies 57 are 95 %; fewer than 52 would come once in 200 such tests."""
    population = experiment.DIFFERING["somewhat"]
    cell = experiment.Cell("somewhat", population, readers, images)
    rows = {row["measure"]: row for row in experiment.rows(cell, studies=60, pairs=150)}
    for measure in ("d'", "Fleiss' kappa, real or synthetic", "Fleiss' kappa, diagnosis"):
        assert rows[measure]["coverage"] >= 52 / 60, measure
    assert rows["d', images taken as all there are"]["coverage"] < 0.85  # too narrow, as said
