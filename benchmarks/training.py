"""What a training of a study costs beside its optimiser steps, in seconds of processor time.

The quickstart's cohort and a pool of its published model, made once; then trainings of the hybrid arm with
one seed after another, in one process that lives on, as the workers of a study do, each tracked offline
by W&B, tested and probed. `ours` is the processor time of a training, and `theirs` that of a bare loop in the
same process and on the same kind of batch: forward pass, loss, backward pass, clipping and optimiser
step. The two take turns, so that a busy machine slows both; medians. `own` is the median difference of
a training and the loop before it, `first` that of the first training, which imports the libraries. W&B's
service, a process of its own, counts too.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from operator import sub
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported

from xraysynth.composition import compose
from xraysynth.config import Config
from xraysynth.stages import Workspace, generate, train

OPTIONS = ["experiment=quickstart", "generator=stable_diffusion", "generate.per_class=46"]
ARM = ["data.synthetic_fraction=0.5"]


def prepare_workspace(folder: Path, steps: int) -> Workspace:
    """The workspace of the arm, with its cohort and its pool in place."""
    options = [*OPTIONS, *ARM, f"paths.output={folder}", f"trainer.max_steps={steps}"]
    workspace = Workspace(compose(options), options)
    generate.run(workspace)
    return workspace


def time_training(workspace: Workspace, seed: int) -> float:
    """Seconds of processor time of one training, as a worker of a study runs it."""
    before = time.process_time()
    result = train.run(workspace.with_config(replace(workspace.config, seed=seed)))
    if result["skipped"]:
        raise SystemExit(f"seed {seed} was trained before")
    return time.process_time() - before


def time_bare_loop(config: Config) -> float:
    """Seconds of processor time of as many optimiser steps on one batch that lies ready."""
    import torch

    from xraysynth.freed_memory import freed_memory_kept
    from xraysynth.records import to_json
    from xraysynth.training.classifier import XrayClassifier, threads_for_batch

    recipe = to_json(config.classifier)
    steps = config.trainer.max_steps
    module = XrayClassifier(classes=list(config.classes), recipe=recipe, max_steps=steps).train()
    optimizer = module.configure_optimizers()["optimizer"]
    images = torch.rand(config.data.batch_size, 1, config.size_px, config.size_px)
    targets = torch.arange(len(images)) % len(config.classes)
    torch.set_num_threads(threads_for_batch(module, images))
    smoothing = recipe["label_smoothing"]
    before = time.process_time()
    with freed_memory_kept():
        for _ in range(steps):
            logits = module(images)
            loss = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), recipe["gradient_clip"])
            optimizer.step()
    return time.process_time() - before


def seconds_of_ended_processes() -> float:
    """Seconds of processor time of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_of_service() -> float:
    """Seconds of processor time of W&B's service, which this ends."""
    import wandb

    before = seconds_of_ended_processes()
    wandb.teardown()
    return seconds_of_ended_processes() - before


def compare(folder: Path, steps: int, rounds: int) -> dict[str, float]:
    """Medians over rounds of a training and a bare loop each, and the first training."""
    workspace = prepare_workspace(folder, steps)
    first = time_training(workspace, seed=0)
    trainings, bare_loops = [], []
    for seed in range(1, rounds + 1):
        bare_loops.append(time_bare_loop(workspace.config))
        trainings.append(time_training(workspace, seed=seed))
        print(f"{trainings[-1]:.2f} s, bare {bare_loops[-1]:.2f} s", file=sys.stderr, flush=True)
    service = seconds_of_service() / (rounds + 1)
    bare = median(bare_loops)
    return {
        "ours": round(median(trainings) + service, 2),
        "theirs": round(bare, 2),
        "own": round(median(map(sub, trainings, bare_loops)) + service, 2),
        "first": round(first + service - bare, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), chosen.steps, chosen.rounds)
    result = {
        "name": "training",
        "ratio": round(found["ours"] / found["theirs"], 2),
        **found,
        "unit": "s of processor time",
        "device": f"{os.cpu_count()} CPU cores",
        "n": chosen.rounds,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
