"""Generators that learn are fine-tuned on the real train split, and on nothing else.

Writes the weights below paths.output/finetune, beside a record of every image and patient they have
seen, by which later stages refuse to test on any of them. Killed at any step, it goes on from its
last checkpoint. Validation images only measure the loss. Generators that do not learn are passed by.
Over several processes or GPUs: torchrun --nproc_per_node 2 --no-python xraysynth finetune …
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xraysynth import tracking
from xraysynth.data.leakage import build_learning_record
from xraysynth.errors import ConfigError
from xraysynth.files import append_json_line
from xraysynth.generation.generators.base import FinetunableGenerator, FineTuning
from xraysynth.generation.ledger import Ledger, aggregate_sessions
from xraysynth.generation.metering import measure_session
from xraysynth.generation.prompts import PromptBank
from xraysynth.jobs.distributed import process_group, world_size
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.records import LEARNING_RECORD_FILE, CaptionedImages
from xraysynth.seeds import derive_seed
from xraysynth.stages._workspace import Workspace

SESSIONS_FILE = "ledger.jsonl"
"""File beside the weights: what each session of the fine-tuning took."""

CHECKPOINT_PATTERN = "checkpoint.*"

SECTIONS = ("classes", "generator", "lora", "prompts", "tracking")
"""The options that this stage reads, besides those of prepare."""


def run(workspace: Workspace) -> ResultLine:
    """Fine-tune every selected generator that learns, or find it done."""
    if not workspace.generators_to_finetune:
        raise ConfigError("generator names none that is fine-tuned; for example generator=sd_lora")
    results = {}
    for name, learner in workspace.generators_to_finetune.items():
        this = build_job(workspace, name)
        results[name] = workspace.run_job(
            this,
            partial(work, workspace, learner, this),
            on_other_ranks=partial(_finetune, workspace, learner, this, None),
        )
    return {"stage": "finetune", "state": "done", "generators": results}


def jobs(workspace: Workspace) -> list[Job]:
    """The jobs of all selected generators that learn."""
    return [build_job(workspace, name) for name in workspace.generators_to_finetune]


def build_job(workspace: Workspace, name: str) -> Job:
    """The job that teaches a generator on the cohort's train split."""
    config, cohort = workspace.config, workspace.cohort
    decides = {
        "learner": workspace.generators_to_finetune[name].finetune_identity(),
        "train": cohort.split("train").digest(),
        "val": cohort.split("val").digest(),
        "prompts": config.prompts.digest(config.classes),
    }
    return Job("finetune", decides, config.output, outputs=(LEARNING_RECORD_FILE,))


def require_finetuned(workspace: Workspace) -> None:
    """An error that says what to run, if a generator has not learned yet."""
    for this in jobs(workspace):
        this.require_done(workspace.command("finetune"))


def _finetune(
    workspace: Workspace, learner: FinetunableGenerator, job: Job, run: Any
) -> FineTuning:
    def examples(side_px: int) -> tuple[CaptionedImages, CaptionedImages]:
        train, val = (_examples(workspace, learner, name, side_px) for name in ("train", "val"))
        return train, val

    listener = tracking.WandbFinetuneLogger(run)
    with process_group():
        return learner.finetune(examples, folder=job.folder, cache=workspace.cache, logger=listener)


def work(workspace: Workspace, learner: FinetunableGenerator, job: Job) -> FineTuning:
    """Fine-tune one generator; the record of what it has seen comes last."""
    cohort = workspace.cohort
    record = build_learning_record(cohort.split("train"))
    with tracking.open_run(workspace.config, job) as run:
        with measure_session(_session_log(job)):
            taught = _finetune(workspace, learner, job, run)
        summary = replace(
            taught,
            weights=str(job.folder),
            images=len(cohort.split("train")),
            patients=len(record.patients),
            processes=world_size(),
            ledger=_total_ledger(job),
        )
        tracking.log_lora(run, summary, job=job, cohort=cohort)
    # Last: with it the weights count as there.
    record.write(job.folder / LEARNING_RECORD_FILE)
    return summary


def _session_log(job: Job) -> Path:
    """The file of the sessions in which a generator was taught."""
    path = job.folder / SESSIONS_FILE
    if not path.exists() and any(job.folder.rglob(CHECKPOINT_PATTERN)):
        append_json_line(path, {"session": "begun"})  # by an earlier version, which kept no journal
    return path


def _total_ledger(job: Job) -> Ledger:
    """What the fine-tuning took, all its sessions together."""
    spent = aggregate_sessions(job.folder / SESSIONS_FILE)
    if world_size() > 1 and spent.energy_kwh is not None:  # one of several processes is metered
        spent = replace(spent, energy_kwh=None, energy_kwh_at_least=spent.energy_kwh)
    return spent


def _examples(
    workspace: Workspace, learner: FinetunableGenerator, split: str, side_px: int
) -> CaptionedImages:
    from xraysynth.data.pixels import load_cached_pixels

    manifest = workspace.cohort.split(split)
    images = load_cached_pixels(manifest, size_px=side_px, folder=workspace.cache)
    found = build_captions(learner, manifest, workspace.config.prompts)
    return CaptionedImages(images, found, list(manifest.table["label"]))


def build_captions(
    learner: FinetunableGenerator, manifest: Manifest, bank: PromptBank
) -> list[list[str]]:
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
