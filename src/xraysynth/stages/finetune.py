"""Generators that learn are fine-tuned on the real train split, and on nothing else.

Writes the weights below paths.output/finetune, beside a record of every image and patient they have
seen, by which later stages refuse to test on any of them. Killed at any step, it goes on from its
last checkpoint. Validation images only measure the loss. Generators that do not learn are passed by.
Over several processes or GPUs: torchrun --nproc_per_node 2 --no-python xraysynth finetune …
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.leakage import learned_from
from xraysynth.errors import ConfigError
from xraysynth.files import append_line
from xraysynth.generation.generators.base import FineTuning, Generator, Learner
from xraysynth.generation.ledger import Ledger, add_up_sessions
from xraysynth.generation.metering import metered_session
from xraysynth.generation.prompts import PromptBank
from xraysynth.jobs.distributed import process_group, world_size
from xraysynth.jobs.job import Job
from xraysynth.manifest import Manifest
from xraysynth.records import LEARNED, Captioned, to_json
from xraysynth.seeds import derive_seed
from xraysynth.stages import prepare

SESSIONS = "ledger.jsonl"
"""File beside the weights: what each session of the fine-tuning took."""

CHECKPOINTS = "checkpoint.*"

SECTIONS = ("classes", "generator", "lora", "prompts", "tracking")
"""The options that this stage reads, besides those of prepare."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Fine-tune every selected generator that learns, or find it done."""
    learners = untaught(config)
    if not learners:
        raise ConfigError("generator names none that is fine-tuned; for example generator=sd_lora")
    cohort, _ = prepare.cohort(config, overrides)
    results = {}
    for name, learner in learners.items():
        this = job(config, learner, cohort)
        results[name] = this.run(
            partial(_work, config, learner, cohort, this),
            config=config.plain(),
            overrides=overrides,
            beside=partial(_teach, config, learner, cohort, this, None),
        )
    return {"stage": "finetune", "state": "done", "generators": results}


def untaught(config: Config) -> dict[str, Learner]:
    """The selected generators that learn, as far as their weights are not given."""
    found = config.generators()
    return {n: g for n, g in found.items() if isinstance(g, Learner) and g.untaught}


def generators(config: Config, overrides: Sequence[str]) -> dict[str, Generator]:
    """The selected generators, those that learn bound to the weights they learn or have learned."""
    if not untaught(config):
        return config.generators()  # most need no cohort to be known by
    cohort, _ = prepare.cohort(config, overrides)
    return bound(config, cohort)


def bound(config: Config, cohort: Manifest) -> dict[str, Generator]:
    """As `generators`, for a cohort at hand."""
    found = config.generators()
    for name, learner in untaught(config).items():
        this = job(config, learner, cohort)
        found[name] = learner.taught(this.key, this.folder)
    return found


def job(config: Config, learner: Learner, cohort: Manifest) -> Job:
    """The job that teaches this generator on this cohort's train split."""
    decides = {
        "learner": learner.lesson(),
        "train": cohort.split("train").digest(),
        "val": cohort.split("val").digest(),
        "prompts": config.prompts.digest(config.classes),
    }
    return Job("finetune", decides, config.output, leaves=(LEARNED,))


def require_taught(config: Config, overrides: Sequence[str]) -> None:
    """An error that says what to run, if a generator has not learned yet."""
    learners = untaught(config)
    if learners:
        cohort, _ = prepare.cohort(config, overrides)
        for learner in learners.values():
            job(config, learner, cohort).result(" ".join(["xraysynth finetune", *overrides]))


def _teach(config: Config, learner: Learner, cohort: Manifest, this: Job, run: Any) -> FineTuning:
    def examples(side_px: int) -> tuple[Captioned, Captioned]:
        train, val = (
            _examples(learner, cohort.split(name), config, side_px) for name in ("train", "val")
        )
        return train, val

    cache, listener = config.output / "cache", tracking.Learning(run)
    with process_group():
        return learner.teach(examples, folder=this.folder, cache=cache, listener=listener)


def _work(config: Config, learner: Learner, cohort: Manifest, this: Job) -> FineTuning:
    record = learned_from(cohort.split("train"))
    with tracking.tracked(config, this) as run:
        with metered_session(_journal(this)):
            taught = _teach(config, learner, cohort, this, run)
        summary = replace(
            taught,
            weights=str(this.folder),
            images=len(cohort.split("train")),
            patients=len(record.patients),
            processes=world_size(),
            ledger=_spent(this),
        )
        tracking.log_lora(run, to_json(summary), job=this, cohort=cohort)
    # Last: with it the weights count as there.
    record.write(this.folder / LEARNED)
    return summary


def _journal(this: Job) -> Path:
    """The file of the sessions in which a generator was taught."""
    path = this.folder / SESSIONS
    if not path.exists() and any(this.folder.rglob(CHECKPOINTS)):
        append_line(path, {"session": "begun"})  # by an earlier version, which kept no journal
    return path


def _spent(this: Job) -> Ledger:
    """What the fine-tuning took, all its sessions together."""
    spent = add_up_sessions(this.folder / SESSIONS)
    if world_size() > 1 and spent.energy_kwh is not None:  # one of several processes is metered
        spent = replace(spent, energy_kwh=None, energy_kwh_at_least=spent.energy_kwh)
    return spent


def _examples(learner: Learner, manifest: Manifest, config: Config, side_px: int) -> Captioned:
    from xraysynth.data.pixels import pixels

    images = pixels(manifest, size_px=side_px, folder=config.output / "cache")
    found = captions(learner, manifest, config.prompts)
    return Captioned(images, found, list(manifest.table["label"]))


def captions(learner: Learner, manifest: Manifest, bank: PromptBank) -> list[list[str]]:
    """Captions of every image: its own, or some from the prompt bank, by its rank in its class."""
    table, column = manifest.table, learner.caption_column
    if column is not None:
        if column not in table or table[column].fillna("").eq("").any():
            raise ConfigError(
                f"generator.{learner.name}.lora.captions={column}: the cohort has no such column, or not "
                f"for every image; name it with source.table.columns.{column}=…, or use "
                f"generator.{learner.name}.lora.captions=prompts"
            )
        return [[text] for text in table[column]]
    n = learner.captions_per_image
    ranks = table.groupby("label")["image_id"].rank(method="first").astype(int) - 1
    seed = derive_seed(0, "captions")
    return [
        [bank.prompt(label, rank * n + k, seed=seed) for k in range(n)]
        for label, rank in zip(table["label"], ranks, strict=True)
    ]
