"""Whether five seeds say of the quickstart's arms what thirty seeds know.

    xraysynth study experiment=quickstart study.name=truth study.seeds="[$(seq -s, 0 29)]"
    python experiments/quickstart/truth.py collect outputs
    python experiments/quickstart/truth.py

The first line trains every arm with thirty seeds, the second keeps the predicted classes of all runs in
truth_runs.csv and the test images in truth_images.csv, and the third draws five of the thirty seeds 200
times, compares the arms as a report does, and writes truth.csv. See README.md.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.evaluation.metrics.bootstrap_scores import BootstrapScores, moderate_arms
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.verdicts import NO_DIFFERENCE, classify_difference
from xraysynth.stages._study.decisions import Decision, decide

FOLDER = Path(__file__).parent
SCORE = "macro_f1"
SEEDS = 5
REDRAWS = 200
REAL, DUPLICATES, PERMUTED = "real only", "duplicate", "labels permuted"
Family = Mapping[int, tuple[str, str]]


def collect(outputs: Path) -> None:
    """Keep the predicted classes of a finished study's runs, one digit per test image."""
    from xraysynth import compose
    from xraysynth.stages import Workspace
    from xraysynth.stages._study import finished, plan
    from xraysynth.stages._study.tested_arm import load_predictions

    overrides = [
        "experiment=quickstart",
        f"paths.output={outputs}",
        "study.seeds=[" + ",".join(map(str, range(30))) + "]",
    ]
    workspace = plan.with_images_per_class(Workspace(compose(overrides), overrides))
    classes = workspace.config.classes
    columns = [f"p_{name}" for name in classes]
    rows = []
    for arm, jobs in finished.collect_finished_jobs(workspace).arms:
        for seed, job in jobs.items():
            table = load_predictions(job)
            digits = "".join(map(str, table[columns].to_numpy().argmax(1)))
            rows.append({"arm": arm.title, "seed": seed, "predicted": digits})
    pd.DataFrame(rows).to_csv(FOLDER / "truth_runs.csv", index=False)
    table["patient"] = pd.factorize(table["patient_id"])[0]
    table["target"] = [classes.index(label) for label in table["label"]]
    table[["patient", "target"]].to_csv(FOLDER / "truth_images.csv", index=False)


def load_arms() -> dict[str, BootstrapScores]:
    """Scores of each arm's thirty runs, by title."""
    images = pd.read_csv(FOLDER / "truth_images.csv")
    targets = images["target"].to_numpy()
    arms = {}
    table = pd.read_csv(FOLDER / "truth_runs.csv", dtype={"predicted": str})
    for title, runs in table.groupby("arm", sort=False):
        probabilities = []
        for digits in runs["predicted"]:
            probabilities.append(np.eye(targets.max() + 1)[[int(digit) for digit in digits]])
        classes = [str(n) for n in range(targets.max() + 1)]
        arm = BootstrapScores.from_runs(
            probabilities, targets, images["patient"].to_numpy(), classes=classes
        )
        names = ["accuracy", SCORE, *(f"f1/{name}" for name in classes)]
        arms[str(title)] = replace(arm, by_run={name: arm.by_run[name] for name in names})
    return arms


def families(titles: Sequence[str]) -> list[Family]:
    """The comparisons that a report claims something of: over real, over duplicates, over permuted."""
    generated = [t for t in titles if not t.startswith((REAL, DUPLICATES)) and PERMUTED not in t]
    mixed = [title for title in generated if f"{title}, {PERMUTED}" in titles]
    duplicates = next((title for title in titles if title.startswith(DUPLICATES)), "")
    found = [
        [(title, REAL) for title in generated],
        [(title, duplicates) for title in mixed if duplicates],
        [(title, f"{title}, {PERMUTED}") for title in mixed],
    ]
    return [dict(enumerate(pairs)) for pairs in found if pairs]


def judge(
    arms: Mapping[str, BootstrapScores],
) -> dict[tuple[str, str], tuple[str, Interval, Decision]]:
    """Verdict, difference and decision of every comparison."""
    moderated, _ = moderate_arms(list(arms.values()), [1] * len(arms))
    by_title = dict(zip(arms, moderated, strict=True))
    found = {}
    for family in families(list(arms)):
        spreads: dict[int, Any] = {}
        for index, (arm, reference) in family.items():
            spread = by_title[arm].difference_spread(by_title[reference], SCORE)
            assert spread is not None
            spreads[index] = spread
        for index, decision in decide(spreads).items():
            arm, reference = family[index]
            difference = by_title[arm]._difference(by_title[reference], SCORE)
            word = classify_difference(difference, p_holm=decision.p_holm)
            found[arm, reference] = word, difference, decision
    return found


def main() -> None:
    """Compare the verdicts of 200 draws of five seeds with those of all thirty."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("collect").add_argument("outputs", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "collect":
        collect(arguments.outputs)
        return
    arms = load_arms()
    known = judge(arms)
    rng = np.random.default_rng(0)
    words: dict[tuple[str, str], Counter[str]] = {pair: Counter() for pair in known}
    agreeing: Counter[tuple[str, str]] = Counter()
    detectable: dict[tuple[str, str], list[float]] = {pair: [] for pair in known}
    for _ in range(REDRAWS):
        drawn = {}
        for title, arm in arms.items():
            drawn[title] = arm.select_runs(rng.choice(arm.n_runs, SEEDS, replace=False))
        for pair, (word, _, decision) in judge(drawn).items():
            words[pair][word] += 1
            detectable[pair].append(decision.detectable)
            true_word, true, _ = known[pair]
            too_small = decision.detectable > abs(true.value)
            agreeing[pair] += word == true_word or (word == NO_DIFFERENCE and too_small)
    rows = []
    for (arm_title, reference), (word, true, _) in known.items():
        pair = arm_title, reference
        rows.append(
            {
                "arm": arm_title,
                "reference": reference,
                "difference_30_seeds": round(true.value, 4),
                "low_30_seeds": round(true.low, 4),
                "high_30_seeds": round(true.high, 4),
                "verdict_30_seeds": word,
                "same_verdict": words[pair][word] / REDRAWS,
                "agreeing": agreeing[pair] / REDRAWS,
                "detectable_5_seeds": round(float(np.median(detectable[pair])), 4),
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(FOLDER / "truth.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
