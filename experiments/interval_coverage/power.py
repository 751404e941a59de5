"""How often a difference is found that is as large as a report calls detectable, and how often one that
is not there.

For each kind of study, studies without any difference are drawn first, and the detectable difference
that their reports name is averaged. Then one arm is set apart by that much, up in one study and down in
the next, and what is found of it is counted. See README.md.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from seeds import Study, class_scores, draw_study
from simulate import BALANCED, CLASSES, Cell, draw

from xraysynth.evaluation.metrics.bootstrap_scores import BootstrapScores, moderate_arms
from xraysynth.report.verdicts import NO_DIFFERENCE, classify_difference
from xraysynth.stages._study.decisions import Decision, decide

SCORE = "macro_f1"
IMAGES = Cell("150 images", BALANCED, 75, skill=1.3, of_patient=0.5, of_image=0.15)
"""Test sets on which an arm scores about 0.65, so that a difference fits above and below it."""
BETWEEN = 0.12
"""Standard deviation of the skill between seeds, in the middle of the arms: 3 points of macro-F1."""
SKILLS = np.linspace(-1.0, 7.0, 81)
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


@dataclass(frozen=True)
class LevelStudy(Study):
    """A kind of study whose arms have the true scores `scores`, however much their seeds differ.

    Without `scores`, all arms have that of an arm of middle skill and spread.
    """

    scores: tuple[float, ...] = field(default=())

    @property
    def skills(self) -> np.ndarray:
        """Mean skill of each arm, `(A,)`."""
        scores = self.scores or (expected_score(self.images.skill, self.between),) * self.arms
        pairs = zip(scores, self.deviations, strict=True)
        return np.array([skill_for(score, deviation) for score, deviation in pairs])


@cache
def _score_by_skill() -> np.ndarray:
    """True score of a run by its skill, over `SKILLS`."""
    rng = np.random.default_rng(1)
    population = draw(IMAGES, 30_000, rng)
    own = np.sqrt(IMAGES.of_run) * rng.normal(size=population.shared.shape)
    right = np.eye(len(CLASSES))[population.targets]
    once = np.ones((1, len(population.targets)))
    scores = []
    for skill in SKILLS:
        logits = population.shared + own + skill * right
        scores.append(class_scores(population, logits[None], once)[SCORE][0, 0])
    return np.array(scores)


def expected_score(skill: float | np.ndarray, deviation: float) -> float | np.ndarray:
    """True score of an arm, expected over seeds whose skill varies by `deviation`."""
    skills = np.asarray(skill)[..., None] + deviation * NODES
    scores = np.interp(skills, SKILLS, _score_by_skill())
    return scores @ NODE_WEIGHTS / NODE_WEIGHTS.sum()


def skill_for(score: float, deviation: float) -> float:
    """Mean skill of an arm that has this true score."""
    return float(np.interp(score, expected_score(SKILLS, deviation), SKILLS))


def compare_with(arms: list[BootstrapScores], reference: int) -> dict[int, tuple[Decision, str]]:
    """What a report says of each arm's difference from `reference`: the numbers and the word."""
    spreads = {}
    for arm, scores in enumerate(arms):
        if arm != reference:
            spreads[arm] = scores.difference_spread(arms[reference], SCORE)
    verdicts = {}
    for arm, decision in decide(spreads).items():
        difference = arms[arm]._difference(arms[reference], SCORE)
        word = classify_difference(difference, p_holm=decision.p_holm)
        verdicts[arm] = (decision, word)
    return verdicts


def score_study(study: Study, seed: int, replicates: int) -> list[BootstrapScores]:
    """Scores of all arms of one study, with moderated variances."""
    arms, _ = moderate_arms(draw_study(study, seed, replicates), [100] * study.arms)
    return arms


Pair = tuple[int, int]


def pair_of(study: Study, arm: int, reference: int) -> Pair:
    """The two arms of a comparison; all pairs are one where the arms are alike."""
    return (0, 1) if study.spread == "alike" else (min(arm, reference), max(arm, reference))


def named_differences(
    study: LevelStudy, studies: int, replicates: int
) -> tuple[dict[Pair, float], float]:
    """Detectable difference that is named on average, by pair, and the share of studies that claim one.

    Args:
        study: A kind of study without differences.
        studies: Number of studies.
        replicates: Number of draws of patients.
    """
    named: dict[Pair, list[float]] = {}
    claims = []
    for seed in range(studies):
        reference = seed % study.arms
        verdicts = compare_with(score_study(study, seed, replicates), reference)
        claims.append(any(word != NO_DIFFERENCE for _, word in verdicts.values()))
        for arm, (decision, word) in verdicts.items():
            if word == NO_DIFFERENCE:
                named.setdefault(pair_of(study, arm, reference), []).append(decision.detectable)
    return {pair: float(np.mean(values)) for pair, values in named.items()}, float(np.mean(claims))


def found_differences(
    study: LevelStudy, named: dict[Pair, float], studies: int, replicates: int
) -> Iterator[bool]:
    """Yield whether a difference as large as the one named is found, study by study."""
    level = expected_score(study.images.skill, study.between)
    for seed in range(studies):
        reference = seed % study.arms
        arm = (reference + 1 + seed // study.arms % (study.arms - 1)) % study.arms
        sign = 1 if seed // (study.arms * (study.arms - 1)) % 2 else -1
        scores = [level] * study.arms
        scores[arm] = level + sign * named[pair_of(study, arm, reference)]
        apart = replace(study, scores=tuple(scores))
        _, word = compare_with(score_study(apart, 10_000 + seed, replicates), reference)[arm]
        yield word != NO_DIFFERENCE


def measure(study: LevelStudy, *, studies: int, replicates: int) -> dict:
    """Row of the result table for one kind of study."""
    named, claims = named_differences(study, studies, replicates)
    found = np.mean(list(found_differences(study, named, studies, replicates)))
    return {
        "arms": study.arms,
        "seeds": study.seeds,
        "spread": study.spread,
        "studies": studies,
        "detectable": round(float(np.mean(list(named.values()))), 4),
        "power": round(float(found), 4),
        "standard_error": round(float(np.sqrt(found * (1 - found) / studies)), 4),
        "false_claims": round(claims, 4),
    }


def main() -> None:
    """Write power.csv, one kind of study after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="studies a cell, twice")
    parser.add_argument("--replicates", type=int, default=200)
    arguments = parser.parse_args()
    rows = []
    for spread in ("alike", "very unequal"):
        for arms in (2, 4, 8):
            for seeds in (3, 5):
                study = LevelStudy(
                    "150 images", arms, seeds, spread, images=IMAGES, between=BETWEEN
                )
                row = measure(study, studies=arguments.studies, replicates=arguments.replicates)
                rows.append(row)
                print(row, flush=True)
                pd.DataFrame(rows).to_csv(Path(__file__).with_name("power.csv"), index=False)


if __name__ == "__main__":
    main()
