"""How often clean pools are called copies, and which planted copies are found. See README.md."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.metrics.features import Features
from xraysynth.evaluation.metrics.memorization import FLAG_LEVEL, Memorization, detect_memorization

IDENTITY = Identity("simulated", "none", Preprocessing())
TRAIN, SYNTHETIC, DIMENSIONS = 200, 300, 8
HELD_OUT = (100, 150, 200, 400)
COPIES = (0.0, 0.01, 0.05, 0.2)


def pool(*, held_out: int, copies: float, seed: int, replicates: int = 300) -> Memorization:
    """A pool of new images, but for a share of near-copies of training images; held-out patients have
    two images each, which resemble each other."""
    rng = np.random.default_rng([seed, held_out])
    train, synthetic = (rng.normal(size=(n, DIMENSIONS)) for n in (TRAIN, SYNTHETIC))
    planted = round(copies * SYNTHETIC)
    synthetic[:planted] = train[:planted] + 0.01 * rng.normal(size=(planted, DIMENSIONS))
    patients = np.arange(held_out) // 2
    effects = rng.normal(size=(held_out, DIMENSIONS))[patients]
    others = np.sqrt(0.5) * (effects + rng.normal(size=(held_out, DIMENSIONS)))
    return detect_memorization(
        train=Features(train, IDENTITY),
        held_out=Features(others, IDENTITY),
        synthetic=Features(synthetic, IDENTITY),
        patients=patients,
        replicates=replicates,
        seed=seed,
    )


def measure(*, held_out: int, copies: float, sets: int) -> dict[str, float]:
    """Means over pools. `called_copies` is how often the report says so: the interval lies above the
    expected 1 % and p is below 0.05; `interval_above` and `p_below` are how often each is so."""
    pools = [pool(held_out=held_out, copies=copies, seed=seed) for seed in range(sets)]
    flagged = np.array([one.flagged.value for one in pools])
    ends = np.array([(one.flagged.low, one.flagged.high) for one in pools])
    above = ends[:, 0] > FLAG_LEVEL
    significant = np.array([one.p_value < 0.05 for one in pools])
    planted = round(copies * SYNTHETIC)
    caught = [np.mean(one.distances[:planted] < one.threshold) for one in pools if planted]
    return {
        "held_out": held_out,
        "copies": copies,
        "flagged": round(float(flagged.mean()), 4),
        "flagged_sd": round(float(flagged.std(ddof=1)), 4),
        "low": round(float(np.mean(ends[:, 0])), 4),
        "high": round(float(np.mean(ends[:, 1])), 4),
        "interval_above": round(float(np.mean(above)), 4),
        "p_below": round(float(np.mean(significant)), 4),
        "called_copies": round(float(np.mean(above & significant)), 4),
        "planted_flagged": round(float(np.mean(caught)), 4) if planted else float("nan"),
        "pools": sets,
    }


def main() -> None:
    """Write results.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=500, help="pools a row")
    sets = parser.parse_args().sets
    rows = []
    for held_out in HELD_OUT:
        for copies in COPIES:
            rows.append(measure(held_out=held_out, copies=copies, sets=sets))
            print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(Path(__file__).with_name("results.csv"), index=False)


if __name__ == "__main__":
    main()
