"""kill -9 in the middle of a generation, and a restart."""

import os
import signal
from multiprocessing import get_context
from pathlib import Path

from small_study import overrides_for, write_cohort

from xraysynth import compose
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.stages import Workspace, generate

IMAGES, KILLED_AFTER = 96, 30


def run(folder: Path, model: Path) -> None:
    overrides = overrides_for(folder, model, "generate.per_class=24", "tracking=none")
    generate.run(Workspace(compose(overrides), overrides))


def run_and_die(folder: Path, model: Path) -> None:
    whole, made = StableDiffusion.generate, iter(range(IMAGES))

    def dying(self, requests):
        for result in whole(self, requests):
            if next(made) == KILLED_AFTER:
                os.kill(os.getpid(), signal.SIGKILL)
            yield result

    StableDiffusion.generate = dying
    run(folder, model)


def lines(folder: Path) -> list[str]:
    return [
        line for p in folder.rglob("pools/*/journal/*.jsonl") for line in p.read_text().splitlines()
    ]


def pool(folder: Path) -> dict[str, bytes]:
    (place,) = (folder / "outputs" / "pools").iterdir()
    kept = [*place.glob("images/*.png"), place / "manifest.parquet", place / "store.json"]
    return {path.name: path.read_bytes() for path in kept}


def test_a_killed_generation_goes_on_and_gives_the_same_bytes(tmp_path, tiny_sd):
    for name in ("killed", "whole"):
        write_cohort(tmp_path / name / "cohort")
    # Forked: a new process would spend seconds on imports.
    process = get_context("fork").Process(target=run_and_die, args=(tmp_path / "killed", tiny_sd))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 10 <= len(lines(tmp_path / "killed")) <= KILLED_AFTER
    run(tmp_path / "killed", tiny_sd)
    run(tmp_path / "whole", tiny_sd)
    assert pool(tmp_path / "killed") == pool(tmp_path / "whole")
    assert len(lines(tmp_path / "killed")) == IMAGES
