"""One training as a whole process, bare and with OMP_NUM_THREADS set: what choosing the threads saves.

`ours` is a bare `xraysynth train`, which takes one thread for a small network; `theirs` the same with as many
threads as torch takes by itself, one per core (`--threads`). `one` is with
OMP_NUM_THREADS=1, whose weights must be those of the bare command, byte for byte. Medians over rounds, in
each of which all three run, so that a busy machine slows all of them; `fit` are the seconds of the
training loop alone, without imports.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

STAGE = [sys.executable, "-c", "from xraysynth.cli import main; main()"]
OPTIONS = ["experiment=smoke", "tracking=none", "data.synthetic_fraction=0"]


class Run(NamedTuple):
    """One command: seconds of the process and of the training loop, and the SHA-256 of the weights."""

    seconds: float
    fit: float
    weights: str


def train(output: Path, threads: int | None, steps: int) -> Run:
    """Train in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    words = [*OPTIONS, f"paths.output={output}", f"trainer.max_steps={steps}"]
    began = time.perf_counter()
    done = subprocess.run(
        [*STAGE, "train", *words], env=environment, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - began
    result = json.loads(done.stdout.splitlines()[-1])
    weights = hashlib.sha256(Path(result["weights"]).read_bytes()).hexdigest()
    return Run(seconds, result["fit_seconds"], weights)


def compare(folder: Path, *, threads: int, steps: int, rounds: int) -> dict[str, list[Run]]:
    """All runs by name; the cohort is prepared by a first one that does not count."""
    choices = {"bare": None, "one": 1, "several": threads}
    subprocess.run(
        [*STAGE, "prepare", *OPTIONS, f"paths.output={folder}"], capture_output=True, check=True
    )
    runs: dict[str, list[Run]] = {name: [] for name in choices}
    for number in range(rounds):
        for name, count in choices.items():
            own = shutil.copytree(folder, folder.parent / f"{name}{number}")  # none is done already
            runs[name].append(train(Path(own), count, steps))
            print(f"{runs[name][-1].seconds:8.1f} s  {name}", file=sys.stderr, flush=True)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = compare(Path(folder) / "prepared", **vars(chosen))
    seconds = {name: median(run.seconds for run in of_name) for name, of_name in runs.items()}
    fit = {name: round(median(run.fit for run in of_name), 2) for name, of_name in runs.items()}
    result = {
        "name": "threads",
        "ratio": round(seconds["bare"] / seconds["several"], 2),
        "ours": round(seconds["bare"], 1),
        "theirs": round(seconds["several"], 1),
        "unit": "s",
        "device": f"{os.cpu_count()} CPU cores",
        "n": chosen.rounds,
        "one": round(seconds["one"], 1),
        "fit": fit,
        "identical": len({run.weights for name in ("bare", "one") for run in runs[name]}) == 1,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
