"""Fine-tune generators on the real train split, and on nothing else.

Writes the weights below paths.output/finetune, and next to them a record of every image and patient
that they were fine-tuned on, by which later stages refuse to test on any of these. A run that is
killed at any step continues from its last checkpoint. Validation images only measure the loss.
Selected generators that need no fine-tuning are skipped.
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
"""File next to the weights, with the time and energy of each session of the fine-tuning."""

OUTPUT_PATTERNS = ("*.safetensors", "*/*.safetensors", "*.json", SESSIONS_FILE)
"""Files of a fine-tuned model, with a folder per class if each class has its own."""

CHECKPOINT_PATTERN = "checkpoint.*"

SECTIONS = ("classes", "generator", "lora", "prompts", "tracking")
"""The options that this stage reads, besides those of prepare."""


def run(workspace: Workspace) -> ResultLine:
    """Fine-tune every selected generator that needs it, unless it is fine-tuned.

    All processes that torchrun starts fine-tune together; the first one writes the record.

    Returns:
        The result of each generator's job under "generators", by the generator's name.

    Raises:
        ConfigError: If no selected generator needs fine-tuning, or images lack captions.
    """
    if not workspace.generators_to_finetune:
        raise ConfigError(
            "generator names none that is fine-tuned; choose one, for example generator=sd_lora"
        )
    results = {}
    for name, generator in workspace.generators_to_finetune.items():
        job = build_job(workspace, name)
        results[name] = workspace.run_job(
            job,
            partial(work, workspace, generator, job),
            on_other_ranks=partial(_finetune, workspace, generator, job, None),
        )
    return {"stage": "finetune", "state": "done", "generators": results}


def jobs(workspace: Workspace) -> list[Job]:
    """List one job per selected generator that needs fine-tuning."""
    return [build_job(workspace, name) for name in workspace.generators_to_finetune]


def build_job(workspace: Workspace, name: str) -> Job:
    """Build the job that fine-tunes a generator on the cohort's train split.

    Its key, which depends on the generator's recipe, the images and the prompts, also names the pool of
    the fine-tuned generator.
    """
    config, cohort = workspace.config, workspace.cohort
    identity = {
        "learner": workspace.generators_to_finetune[name].finetune_identity(),
        "train": cohort.split("train").digest(),
        "val": cohort.split("val").digest(),
        "prompts": config.prompts.digest(config.classes),
    }
    return Job(
        "finetune",
        identity,
        config.output,
        outputs=(LEARNING_RECORD_FILE,),
        further_outputs=OUTPUT_PATTERNS,
    )


def require_finetuned(workspace: Workspace) -> None:
    """Check that every selected generator has the weights it needs.

    Raises:
        XraysynthError: If one is not fine-tuned yet; the message has the command that does it.
    """
    for job in jobs(workspace):
        job.require_done(workspace.command("finetune"))


def work(workspace: Workspace, generator: FinetunableGenerator, job: Job) -> FineTuning:
    """Fine-tune one generator, and write the learning record of its images and patients.

    Args:
        workspace: The configuration and its cohort.
        generator: The generator without fine-tuned weights.
        job: The job whose folder takes checkpoints, weights, ledger and learning record.

    Returns:
        What the generator reports of its fine-tuning, with the numbers of images and patients, and the
        time and energy of all sessions.
    """
    train_split = workspace.cohort.split("train")
    learning_record = build_learning_record(train_split)
    with tracking.open_run(workspace.config, job) as run:
        with measure_session(_sessions_path(job)):
            finetuning = _finetune(workspace, generator, job, run)
        result = replace(
            finetuning,
            weights=str(job.folder),
            images=len(train_split),
            patients=len(learning_record.patients),
            processes=world_size(),
            ledger=_total_ledger(job),
        )
        tracking.log_lora(run, result, job=job, cohort=workspace.cohort)
    # The record is written last, because the weights count as done once it is there.
    learning_record.write(job.folder / LEARNING_RECORD_FILE)
    return result


def _finetune(
    workspace: Workspace, generator: FinetunableGenerator, job: Job, run: Any
) -> FineTuning:
    """Fine-tune together with the other processes; resume from a checkpoint in the job's folder."""
    load_examples = partial(_load_examples, workspace, generator)
    logger = tracking.WandbFinetuneLogger(run)
    with process_group():
        return generator.finetune(
            load_examples, folder=job.folder, cache=workspace.cache, logger=logger
        )


def _sessions_path(job: Job) -> Path:
    """Return the file that lists the sessions of a fine-tuning."""
    path = job.folder / SESSIONS_FILE
    has_checkpoint = any(job.folder.rglob(CHECKPOINT_PATTERN))
    if has_checkpoint and not path.exists():
        # A session of an earlier version, which wrote no such file.
        append_json_line(path, {"session": "begun"})
    return path


def _total_ledger(job: Job) -> Ledger:
    """Return the time and energy of all sessions of a fine-tuning together."""
    ledger = aggregate_sessions(job.folder / SESSIONS_FILE)
    # Only one of several processes measures its energy, so that the sum is a lower bound.
    if world_size() > 1 and ledger.energy_kwh is not None:
        return replace(ledger, energy_kwh=None, energy_kwh_at_least=ledger.energy_kwh)
    return ledger


def _load_examples(
    workspace: Workspace, generator: FinetunableGenerator, side_px: int
) -> tuple[CaptionedImages, CaptionedImages]:
    """Load the images and captions of the train and the val split, at `side_px` pixels a side."""
    train = _load_split(workspace, generator, "train", side_px)
    val = _load_split(workspace, generator, "val", side_px)
    return train, val


def _load_split(
    workspace: Workspace, generator: FinetunableGenerator, split: str, side_px: int
) -> CaptionedImages:
    """Load the images, captions and labels of one split."""
    from xraysynth.data.pixels import load_cached_pixels

    manifest = workspace.cohort.split(split)
    images = load_cached_pixels(manifest, size_px=side_px, folder=workspace.cache)
    captions = build_captions(generator, manifest, workspace.config.prompts)
    return CaptionedImages(images, captions, list(manifest.table["label"]))


def build_captions(
    generator: FinetunableGenerator, manifest: Manifest, bank: PromptBank
) -> list[list[str]]:
    """Return the captions of every image of a manifest.

    Args:
        generator: Names the manifest's column of captions, or how many prompts each image gets.
        manifest: The images.
        bank: The prompt bank; an image gets prompts of its class by its rank within the class.

    Raises:
        ConfigError: If the manifest lacks the column of captions, or a caption of an image.
    """
    table, column = manifest.table, generator.caption_column
    if column is not None:
        if column not in table or table[column].fillna("").eq("").any():
            raise ConfigError(
                f"generator.{generator.name}.lora.captions={column}: the cohort has no such column, or not "
                f"for every image; name it in source.table.columns.{column}, or set "
                f"generator.{generator.name}.lora.captions=prompts"
            )
        return [[text] for text in table[column]]
    per_image = generator.captions_per_image
    ranks = table.groupby("label")["image_id"].rank(method="first").astype(int) - 1
    seed = derive_seed(0, "captions")
    captions = []
    for label, rank in zip(table["label"], ranks, strict=True):
        first = rank * per_image
        indices = range(first, first + per_image)
        captions.append([bank.prompt(label, index, seed=seed) for index in indices])
    return captions
