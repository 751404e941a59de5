"""One ablation of 24 trainings through every launcher: seconds, and whether the metrics agree.

4 shares x 2 generators x 3 seeds on the simulated cohort; cohort and pools are made once and are
in place for every launcher, which gets a folder of its own with a copy of them. `ours` is joblib
with two processes, `theirs` Hydra's basic launcher, one job after another; one thread a process in
both; `cpu` are their seconds of processor time, which a busy machine changes less. `--full` trains
300 steps a job instead of 100. submitit starts a process a job, two at once. `again` is the sweep when
all is done; `study_again` and `study_again_cpu` are a finished study of these pools that is started again.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STAGE = [sys.executable, "-c", "from xraysynth.cli import main; main()"]
GRID = [
    "generator=stable_diffusion,sd_lora",
    "data.synthetic_fraction=0.25,0.5,0.75,1",
    "seed=0,1,2",
]
JOBS = 24
LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "ray": ["hydra/launcher=ray", "hydra.launcher.num_cpus=2"],
    "submitit_local": ["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2"],
}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def options(steps: int) -> list[str]:
    """Those of every stage."""
    return [
        "experiment=smoke",
        "tracking=none",
        "generate.per_class=16",
        f"trainer.max_steps={steps}",
        f"trainer.val_every_steps={steps}",
        "data.batch_size=16",
    ]


def call(folder: Path, stage: str, *arguments: str) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of one command in a folder, and its JSON lines."""
    print(f"{folder.name}: xraysynth {stage} {' '.join(arguments)}", file=sys.stderr, flush=True)
    began = time.perf_counter()
    found = subprocess.run(
        [*STAGE, stage, *arguments],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    if found.returncode:
        raise SystemExit(found.stderr)
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    return time.perf_counter() - began, lines


def make_pools(folder: Path, common: list[str]) -> None:
    """The cohort, the LoRA, and a pool of each generator."""
    call(folder, "finetune", *common, "generator=sd_lora")
    call(folder, "generate", "-m", *common, "generator=stable_diffusion,sd_lora")


def table(lines: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Accuracy and macro-F1 by what varies."""
    return {" ".join(e["overrides"]): (e["accuracy"], e["macro_f1"]) for e in lines}


def compare(folder: Path, steps: int, launchers: list[str]) -> dict[str, Any]:
    """Every launcher on a copy of the same pools, and finished work that is started again."""
    common = options(steps)
    start = folder / "start"
    start.mkdir()
    make_pools(start, common)
    sweep = ["-m", *common, *GRID]
    seconds, cpu, tables = {}, {}, {}
    for name in launchers:
        own = folder / name
        shutil.copytree(start, own)
        before = processor_seconds()
        seconds[name], lines = call(own, "train", *sweep, *LAUNCHERS[name])
        cpu[name] = round(processor_seconds() - before, 1)
        tables[name] = table(lines)
        print(f"{seconds[name]:8.1f} s  {name}", file=sys.stderr, flush=True)
    again, _ = call(folder / "basic", "train", *sweep)
    same = all(len(t) == JOBS and t == tables["basic"] for t in tables.values())
    return {
        "seconds": seconds,
        "cpu": cpu,
        "identical": same,
        "again": round(again, 1),
        **time_finished_study(folder / "basic", common),
    }


def time_finished_study(folder: Path, common: list[str]) -> dict[str, float]:
    """Seconds and processor time of a study that is started a second time."""
    call(folder, "study", *common)
    before = processor_seconds()
    seconds, (line,) = call(folder, "study", *common)
    if not line["skipped"]:
        raise SystemExit(f"the study was not finished: {line}")
    cpu = round(processor_seconds() - before, 1)
    return {"study_again": round(seconds, 1), "study_again_cpu": cpu}


def processor_seconds() -> float:
    """Of all processes that were started here and have ended; not those that Ray or Slurm start."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--launchers", nargs="+", default=list(LAUNCHERS), choices=LAUNCHERS)
    chosen = parser.parse_args()
    launchers = list(dict.fromkeys(["basic", "joblib", *chosen.launchers]))
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), 300 if chosen.full else 100, launchers)
    seconds = found["seconds"]
    result = {
        "name": "sweep",
        "ratio": round(seconds["joblib"] / seconds["basic"], 2),
        "ours": round(seconds["joblib"], 1),
        "theirs": round(seconds["basic"], 1),
        "unit": "s",
        "device": f"{os.cpu_count()} CPU cores",
        "n": JOBS,
        "identical": found["identical"],
        "cpu": {name: found["cpu"][name] for name in ("basic", "joblib")},
        **{name: found[name] for name in ("again", "study_again", "study_again_cpu")},
        **{name: round(s, 1) for name, s in seconds.items() if name not in ("basic", "joblib")},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
