"""A W&B run: what it is told about a job, and what it keeps to itself."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xraysynth.config import Config, TrackingMode, with_current_names
from xraysynth.jobs.job import Job
from xraysynth.jobs.provenance import collect_environment
from xraysynth.privacy import REDACTED, Scrubber
from xraysynth.records import JsonObject, from_json, to_json
from xraysynth.training.recipe import Control, DataRecipe, MixMode

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL")


@contextmanager
def open_run(config: Config, job: Job) -> Iterator[Any]:
    """The W&B run of a job, grouped by study; None where tracking is disabled.

    All files stay below the job's folder. The run is closed in any case, or the jobs of a multirun
    become one run.
    """
    if config.tracking.mode is TrackingMode.disabled:
        yield None
        return
    redirect_wandb_files(job.folder / "wandb")
    import wandb

    run = wandb.init(
        mode=config.tracking.mode.value,
        project=config.tracking.project,
        entity=config.tracking.entity,
        group=config.study.name,
        job_type=job.stage,
        name=f"{job.stage}-{job.key}",
        tags=build_tags(job.stage, config.to_dict()),
        config=dict(build_run_config(config, job)),
        dir=str(job.folder),
        settings=_wandb_settings(),
    )
    if run.offline:
        _make_portable(run, config.output)
    failed = True
    try:
        yield run
        failed = False
    finally:
        run.finish(exit_code=int(failed))


def redirect_wandb_files(folder: Path) -> None:
    """Make W&B write below this folder, and report nothing but runs.

    Left alone, images of offline tables land in the home folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("DATA", "CACHE", "CONFIG"):
        os.environ[f"WANDB_{name}_DIR"] = str(folder / name.lower())
    os.environ["WANDB_SILENT"] = "true"  # its address and hints would mix with the progress
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # its reports to W&B hold paths of this machine


def _wandb_settings() -> Any:
    """Settings that leave out what W&B would find out about the machine, and the time that takes."""
    import wandb

    return wandb.Settings(
        console="off",
        save_code=False,
        symlink=False,  # a copy that follows links would hold every run twice
        host="",
        disable_git=True,  # its address may hold a token; the commit is known already
        git_commit=collect_environment().git.removesuffix("-dirty") or None,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def _make_portable(run: Any, output: Path) -> None:
    """Artifacts of offline runs name their files from `output`, so that they survive a move."""
    log = run._log_artifact

    def log_artifact(artifact: Any, *args: Any, **options: Any) -> Any:
        for entry in artifact.manifest.entries.values():
            if entry.local_path:
                entry.local_path = os.path.relpath(entry.local_path, output)
        return log(artifact, *args, **options)

    run._log_artifact = log_artifact


def build_run_config(config: Config, job: Job) -> JsonObject:
    """The configuration as it may be sent, with the arm it describes and what it runs on."""
    plain = config.to_dict()
    options: JsonObject = redact_secrets(
        Scrubber.from_folders(config.output.absolute().parent).scrub_values(plain)
    )
    sources = (*config.sources(), *config.test_sources())
    facts = {
        "job": job.key,
        "environment": to_json(collect_environment()),
        "credentialed": any(source.credentialed for source in sources),
    }
    described_arm = {"arm": asdict(arm_from_options(plain))} if job.stage == "train" else {}
    return {**options, **facts, **described_arm}


@dataclass(frozen=True)
class Arm:
    """What tells the arms of a study apart; those of a `series` differ by fraction and seed alone.

    The fields are columns of the W&B dashboard. `share` is the former name of `synthetic_fraction`.
    """

    series: str
    generator: str
    synthetic_fraction: float
    share: float
    mode: str
    control: str
    real_fraction: float
    left_out: str
    seed: int


def arm_from_options(options: JsonObject) -> Arm:
    """The arm that a training is, from its configuration as plain values, also of an earlier version."""
    data = from_json(DataRecipe, with_current_names(options["data"], "data", warn=False))
    images = "+".join(options["generator"]) if data.synthetic_fraction else "real only"
    images = "duplicate real" if data.control is Control.duplicate else images
    mixed = 0 < data.synthetic_fraction < 1 and data.mode is not MixMode.replace
    matched = data.control is Control.size_matched
    notes = {
        data.mode.value: mixed,
        "labels permuted": data.control is Control.permuted,
        f"{data.real_fraction:.0%} of the real images": data.real_fraction < 1,
        f"{'size-matched to leaving out' if matched else 'without'} {data.leave_out}": data.leave_out,
    }
    return Arm(
        series=", ".join([images, *(note for note, holds in notes.items() if holds)]),
        generator=images,
        synthetic_fraction=data.synthetic_fraction,
        share=data.synthetic_fraction,
        mode=data.mode.value,
        control=data.control.value,
        real_fraction=data.real_fraction,
        left_out=data.leave_out,
        seed=options["seed"],
    )


def build_tags(stage: str, options: JsonObject) -> list[str]:
    """The stage, the sources and generators it worked with, and those of tracking.tags."""
    generators = [arm_from_options(options).generator] if stage == "train" else options["generator"]
    names = [stage, *options["source"], *generators, *options["tracking"]["tags"]]
    return list(dict.fromkeys(name[:64] for name in names))  # W&B takes no longer ones


def redact_secrets(value: Any) -> Any:
    """A configuration without the values of this environment's secrets."""
    secrets = [v for k, v in os.environ.items() if _SECRET.search(k.upper()) and len(v) >= 8]
    text = json.dumps(value)
    for secret in secrets:
        text = text.replace(json.dumps(secret)[1:-1], REDACTED)
    return json.loads(text)


def lightning_logger(run: Any) -> Any:
    """The run as a Lightning logger, for the curves of training."""
    if run is None:
        return None
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(experiment=run)
