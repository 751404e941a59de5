"""How often the 95 % intervals of differences contain the truth where a study adds seeds until they are
narrow enough, and with how many seeds it stops.

Studies are drawn from the population of seeds.py; all arms are compared with the first one, and seeds are
added by the rule that a study uses (`evaluation.metrics.seed_allocation`). See README.md.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from seeds import Study, draw_study, truth

from xraysynth.evaluation.metrics.bootstrap_scores import BootstrapScores, moderate_arms
from xraysynth.evaluation.metrics.seed_allocation import (
    Precision,
    add_rounds,
    measure_precisions,
)

SCORE = "macro_f1"
MOST_SEEDS = 20


@dataclass(frozen=True)
class Rule:
    """A kind of study, the number of seeds that it begins with, and half the width that it goes on to."""

    study: Study
    start: int
    until: float


def _rules() -> Iterator[Rule]:
    for spread in ("alike", "very unequal"):
        for arms in (2, 4, 8):
            study = Study("150 images", arms, MOST_SEEDS, spread)
            for start in (3, 5):
                yield Rule(study, start, until=0.05)


RULES = tuple(_rules())


@dataclass(frozen=True)
class Ended:
    """A study at its end: its scores, the differences, and the numbers of seeds `(A,)`."""

    arms: list[BootstrapScores]
    precisions: list[Precision]
    seeds: list[int]


def follow(rule: Rule, runs: list[BootstrapScores], pairs: list[tuple[int, int]]) -> Ended:
    """Add seeds round by round, taken from all runs of each arm, until the rule stops."""

    def measure(seeds: Sequence[int]) -> list[Precision]:
        return measure_precisions(select(runs, seeds), [100] * len(runs), pairs, SCORE)

    start = [rule.start] * len(runs)
    seeds, precisions = add_rounds(measure, start, until=rule.until, most_seeds=MOST_SEEDS)
    assert precisions is not None  # no run is missing
    return Ended(select(runs, seeds), precisions, seeds)


def select(runs: list[BootstrapScores], seeds: Sequence[int]) -> list[BootstrapScores]:
    """The first so many runs of each arm."""
    return [arm.select_runs(range(number)) for arm, number in zip(runs, seeds, strict=True)]


@dataclass(frozen=True)
class Outcome:
    """How one study ended: of each difference, whether its interval contains the truth, half its width,
    and whether its patients alone are too few; and the numbers of seeds, the reference's first."""

    covered: list[bool]
    half_widths: list[float]
    too_few_patients: list[bool]
    seeds: list[int]


def run_study(rule: Rule, true: np.ndarray, seed: int, replicates: int) -> Outcome:
    """Run one study to its end."""
    runs = draw_study(rule.study, seed, replicates)
    # Which arm is the reference changes, so that each spread is compared with each other.
    first = seed % rule.study.arms
    others = [arm for arm in range(rule.study.arms) if arm != first]
    ended = follow(rule, runs, [(arm, first) for arm in others])
    arms, _ = moderate_arms(ended.arms, [100] * rule.study.arms, [SCORE])
    intervals = [arms[arm].difference(arms[first], SCORE) for arm in others]
    covered = []
    for arm, interval in zip(others, intervals, strict=True):
        covered.append(bool(interval.low <= true[arm] - true[first] <= interval.high))
    return Outcome(
        covered,
        [(interval.high - interval.low) / 2 for interval in intervals],
        [precision.patients_half_width > rule.until for precision in ended.precisions],
        [ended.seeds[arm] for arm in (first, *others)],
    )


def summarise(rule: Rule, outcomes: list[Outcome]) -> dict:
    """Row of the result table for one rule."""
    seeds = np.array([one.seeds for one in outcomes])
    widths = np.concatenate([one.half_widths for one in outcomes])
    tenth, middle, ninth = np.quantile(seeds, [0.1, 0.5, 0.9], method="nearest").tolist()
    return {
        "arms": rule.study.arms,
        "spread": rule.study.spread,
        "start": rule.start,
        "until": rule.until,
        "studies": len(outcomes),
        "coverage": round(float(np.mean([one.covered for one in outcomes])), 4),
        "half_width": round(float(widths.mean()), 4),
        "narrow_enough": round(float(np.mean(widths <= rule.until)), 3),
        "too_few_patients": round(float(np.mean([one.too_few_patients for one in outcomes])), 3),
        "seeds_10": int(tenth),
        "seeds_50": int(middle),
        "seeds_90": int(ninth),
        "seeds_of_reference": round(float(seeds[:, 0].mean()), 1),
        "seeds_of_others": round(float(seeds[:, 1:].mean()), 1),
        "at_most_seeds": round(float(np.mean(seeds == MOST_SEEDS)), 3),
    }


def main() -> None:
    """Write until.csv, one rule after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="studies a row")
    parser.add_argument("--replicates", type=int, default=1000)
    arguments = parser.parse_args()
    rows: list[dict] = []
    for rule in RULES:
        true = truth(rule.study, 60_000)[SCORE]
        outcomes = []
        for seed in range(arguments.studies):
            outcomes.append(run_study(rule, true, seed, arguments.replicates))
        rows.append(summarise(rule, outcomes))
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
        pd.DataFrame(rows).to_csv(Path(__file__).with_name("until.csv"), index=False)


if __name__ == "__main__":
    main()
