"""How often the 95 % intervals of arms and of their differences contain the truth, by number of arms and
seeds, and how wide they are: with variances moderated over the arms, and by Student's t on each alone.

Studies are drawn from a population whose scores are known: all arms are tested on the same patients,
and each run has its own skill and makes its own of an image. See README.md.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri
from simulate import BALANCED, CLASSES, UNBALANCED, Cell, TestSet, draw

from xraysynth.evaluation.metrics.bootstrap_scores import BootstrapScores, moderate_arms
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.statistics import Interval, percentile_interval

SCORES = ("accuracy", "macro_f1")
RATIOS = {"alike": 0.0, "unequal": 0.4, "very unequal": 0.8}
"""Spread of the logarithm of the arms' standard deviations; at 0.8 two of ten differ five-fold."""

ONE_APART = "one arm five-fold"


PLAIN = Cell("", BALANCED, 75, skill=2.3, of_patient=0.5, of_image=0.15)
MUCH_ALIKE = replace(PLAIN, most_images=8, of_patient=0.8, of_image=0.1)
RARE = replace(PLAIN, mix=UNBALANCED)
LARGER = replace(PLAIN, patients=200)


@dataclass(frozen=True)
class Study:
    """A kind of study. `spread` is how the arms' standard deviations between seeds differ, `between`
    their middle in units of a run's skill (0.25 is about 3 points of accuracy), and `gain` what each arm
    has more skill than the one before."""

    name: str
    arms: int
    seeds: int
    spread: str = "alike"
    images: Cell = PLAIN
    between: float = 0.25
    gain: float = 0.05

    @property
    def deviations(self) -> np.ndarray:
        """Standard deviation of the skill between seeds of each arm, `(A,)`."""
        factors = np.ones(self.arms)
        if self.spread == ONE_APART:
            factors[self.arms // 2] = 5.0
        else:
            places = (np.arange(self.arms) + 0.5) / self.arms
            factors = np.exp(RATIOS[self.spread] * ndtri(places))
        return self.between * factors

    @property
    def skills(self) -> np.ndarray:
        """Mean skill of each arm, `(A,)`."""
        return self.images.skill + self.gain * np.arange(self.arms)


def _studies() -> Iterator[Study]:
    for spread in (*RATIOS, ONE_APART):
        for arms in (2, 4, 8, 12):
            for seeds in (3, 5, 10):
                between = 0.1 if spread == ONE_APART else 0.25
                yield Study("150 images", arms, seeds, spread, between=between)
    for seeds in (3, 5):
        yield Study("150 images, seeds hardly differ", 8, seeds, between=0.0)
        yield Study("150 images, seeds differ much", 8, seeds, between=0.5)
        yield Study("up to eight images of a patient, much alike", 8, seeds, images=MUCH_ALIKE)
        yield Study("four patients in the rarest class", 8, seeds, images=RARE)
        yield Study("400 images", 8, seeds, "unequal", images=LARGER)


STUDIES = tuple(_studies())


def class_scores(images: TestSet, runs: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, F1 of each class and macro-F1 of runs `(S, N, C)` under each row of weights: `(S, 1 + R)`."""
    chosen = np.eye(len(CLASSES))[runs.argmax(2)]
    true = np.eye(len(CLASSES))[images.targets]
    found: dict[str, np.ndarray] = {"accuracy": np.zeros((len(runs), len(weights)))}
    for index, label in enumerate(CLASSES):
        hits = (chosen[:, :, index] * true[:, index]) @ weights.T
        sizes = chosen[:, :, index] @ weights.T + weights @ true[:, index]
        found[f"f1/{label}"] = 2 * hits / np.maximum(sizes, 1)
        found["accuracy"] += hits / weights.sum(1)
    found["macro_f1"] = np.mean([found[f"f1/{label}"] for label in CLASSES], axis=0)
    return found


def draw_runs(
    study: Study, images: TestSet, arm: int, runs: int, rng: np.random.Generator
) -> np.ndarray:
    """Logits `(S, N, C)` of an arm's runs."""
    skills = study.skills[arm] + study.deviations[arm] * rng.normal(size=(runs, 1, 1))
    own = np.sqrt(study.images.of_run) * rng.normal(size=(runs, *images.shared.shape))
    logits: np.ndarray = images.shared + own + skills * np.eye(len(CLASSES))[images.targets]
    return logits


def truth(study: Study, patients: int) -> dict[str, np.ndarray]:
    """Scores of each arm `(A,)` in a population of so many patients, expected over training seeds."""
    rng = np.random.default_rng(1)
    population = draw(study.images, patients, rng)
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(9)
    once = np.ones((1, len(population.targets)))
    own = np.sqrt(study.images.of_run) * rng.normal(size=population.shared.shape)
    right = np.eye(len(CLASSES))[population.targets]
    found = {name: np.zeros(study.arms) for name in SCORES}
    for arm in range(study.arms):
        for node, weight in zip(nodes, node_weights / node_weights.sum(), strict=True):
            skill = study.skills[arm] + study.deviations[arm] * node
            logits = population.shared + own + skill * right
            scores = class_scores(population, logits[None], once)
            for name in SCORES:
                found[name][arm] += weight * scores[name][0, 0]
    return found


def draw_study(study: Study, seed: int, replicates: int) -> list[BootstrapScores]:
    """Scores of all arms of one study on the same test set."""
    rng = np.random.default_rng([seed, 3])
    images = draw(study.images, study.images.patients, rng)
    draws = cluster_bootstrap_weights(images.patients, replicates, seed, targets=images.targets)
    weights = np.vstack([np.ones_like(draws[:1]), draws])
    image_counts = {"": len(images.targets)}
    patient_counts = {"": len(np.unique(images.patients))}
    for index, label in enumerate(CLASSES):
        image_counts[label] = int((images.targets == index).sum())
        patient_counts[label] = len(np.unique(images.patients[images.targets == index]))
    arms = []
    for arm in range(study.arms):
        runs = draw_runs(study, images, arm, study.seeds, rng)
        scores = class_scores(images, runs, weights)
        arms.append(BootstrapScores(scores, image_counts, patient_counts, seed))
    return arms


def by_student(arm: BootstrapScores, reference: BootstrapScores, name: str, seed: int) -> Interval:
    """Interval of a difference whose seeds' part is Student's t on the differences by seed."""
    by_seed = arm.by_run[name] - reference.by_run[name]
    means, runs = by_seed.mean(0), len(by_seed)
    error = by_seed[:, 0].std(ddof=1) / np.sqrt(runs)
    drawn = np.random.default_rng([seed, 4]).standard_t(runs - 1, len(means) - 1)
    return percentile_interval(means[0], means[1:] + error * drawn, n=0)


def seeds_width(arm: BootstrapScores, reference: BootstrapScores, name: str) -> tuple[float, float]:
    """Width of the seeds' part alone of a difference: moderated, and by Student's t."""
    deviations = (
        arm.means_and_deviations[name].deviations - reference.means_and_deviations[name].deviations
    )
    by_seed = (arm.by_run[name] - reference.by_run[name])[:, 0]
    degrees = len(by_seed) - 1
    quantile = {2: 4.3027, 4: 2.7764, 9: 2.2622}[degrees]
    low, high = np.quantile(deviations[1:], [0.025, 0.975])
    return high - low, 2 * quantile * by_seed.std(ddof=1) / np.sqrt(len(by_seed))


def measure(study: Study, *, studies: int, replicates: int, population: int = 60_000) -> list[dict]:
    """Rows of the result table for one kind of study, by score."""
    true = truth(study, population)
    covered: dict[tuple[str, str], list[bool]] = {}
    widths: dict[tuple[str, str], list[float]] = {}
    for seed in range(studies):
        arms, _ = moderate_arms(draw_study(study, seed, replicates), [100] * study.arms)
        # Which arm is the reference changes, so that each spread is compared with each other.
        first = seed % study.arms
        for name in SCORES:
            for arm in (a for a in range(study.arms) if a != first):
                found = {
                    "moderated": arms[arm].difference(arms[first], name),
                    "student": by_student(arms[arm], arms[first], name, seed),
                }
                wanted = true[name][arm] - true[name][first]
                for method, one in found.items():
                    covered.setdefault((method, name), []).append(one.low <= wanted <= one.high)
                    widths.setdefault((method, name), []).append(one.high - one.low)
                parts = seeds_width(arms[arm], arms[first], name)
                for method, part in zip(("moderated, seeds", "student, seeds"), parts, strict=True):
                    widths.setdefault((method, name), []).append(part)
            one = arms[first]._interval(name)
            covered.setdefault(("arm", name), []).append(one.low <= true[name][first] <= one.high)
    return [_row(study, name, studies, covered, widths) for name in SCORES]


def _row(study: Study, name: str, studies: int, covered: dict, widths: dict) -> dict:
    mean = {key: float(np.mean(values)) for key, values in widths.items()}
    return {
        "test_set": study.name,
        "arms": study.arms,
        "seeds": study.seeds,
        "spread": study.spread,
        "score": name,
        "studies": studies,
        "coverage": round(float(np.mean(covered["moderated", name])), 4),
        "coverage_student": round(float(np.mean(covered["student", name])), 4),
        "coverage_arm": round(float(np.mean(covered["arm", name])), 4),
        "width": round(mean["moderated", name], 4),
        "width_student": round(mean["student", name], 4),
        "seeds_width_ratio": round(
            mean["moderated, seeds", name] / mean["student, seeds", name], 3
        ),
    }


def main() -> None:
    """Write seeds.csv, one kind of study after another; kinds that are in it already are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="studies of two arms")
    parser.add_argument("--replicates", type=int, default=300)
    arguments = parser.parse_args()
    path = Path(__file__).with_name("seeds.csv")
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    known = {tuple(row[name] for name in ("test_set", "arms", "seeds", "spread")) for row in rows}
    for study in STUDIES:
        if (study.name, study.arms, study.seeds, study.spread) in known:
            continue
        # A study of more arms has more comparisons, which depend on each other somewhat.
        studies = max(3 * arguments.studies // 10, 2 * arguments.studies // study.arms)
        rows += measure(study, studies=studies, replicates=arguments.replicates)
        print(pd.DataFrame(rows[-2:]).to_string(index=False, header=len(rows) == 2), flush=True)
        pd.DataFrame(rows).to_csv(path, index=False)


if __name__ == "__main__":
    main()
