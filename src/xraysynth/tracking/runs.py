"""A W&B run: how it is opened, the configuration that it is given, and what stays private."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from xraysynth.config import Config, TrackingMode, with_current_names
from xraysynth.environment import hidden_variables
from xraysynth.jobs.job import Job
from xraysynth.jobs.provenance import collect_environment
from xraysynth.privacy import (
    REDACTED,
    Scrubber,
    environment_secrets,
    key_variables,
    require_encrypted,
)
from xraysynth.records import JsonObject, from_json, to_json
from xraysynth.training.recipe import Control, DataRecipe, MixMode

WANDB_URL = "https://api.wandb.ai"

WANDB_VARIABLES = (
    *("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_IDENTITY_TOKEN_FILE"),
    *("WANDB_CREDENTIALS_FILE", "WANDB_INSECURE_DISABLE_SSL", "WANDB_HTTP_TIMEOUT"),
    *("WANDB_INIT_TIMEOUT", "WANDB__SERVICE_WAIT", "WANDB_X_SERVICE_WAIT"),
    *("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"),
    *("WANDB_SILENT", "WANDB_ERROR_REPORTING", "WANDB_DEBUG", "WANDB_CORE_DEBUG"),
)
"""Variables that W&B reads here: who sends, to which server, how long to wait, and where files go.

All others belong to somebody's run, sweep or project: WANDB_RUN_ID would make every job the same run.
"""


@contextmanager
def open_run(config: Config, job: Job) -> Iterator[Any]:
    """Opens the W&B run of a job, in the group of its study; None where tracking is disabled.

    All files stay below the folder of the job. The run is finished even if the job fails: otherwise
    the jobs of a multirun would become one run.
    """
    if config.tracking.mode is TrackingMode.disabled:
        yield None
        return
    redirect_wandb_files(job.folder / "wandb")
    mode = resolve_mode(config.tracking.mode)
    if mode is TrackingMode.online:
        require_encrypted_server()
    with hidden_variables("WANDB_", keep=WANDB_VARIABLES):
        run = _start_run(config, job, mode)
    if run.offline:
        _make_portable(run, config.output)
    failed = True
    try:
        yield run
        failed = False
    finally:
        run.finish(exit_code=int(failed))


def resolve_mode(mode: TrackingMode) -> TrackingMode:
    """Returns the mode of a run: offline instead of online where a variable of W&B's forbids to send."""
    is_off = os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on")
    variable = "WANDB_DISABLED" if is_off else "WANDB_MODE"
    value = os.environ.get(variable, "")
    if mode is not TrackingMode.online or not (
        is_off or value in ("offline", "dryrun", "disabled")
    ):
        return mode
    print(
        f"tracking: {variable}={value} is set, so this run is kept offline; unset {variable} to send it",
        file=sys.stderr,
        flush=True,
    )
    return TrackingMode.offline


def _start_run(config: Config, job: Job, mode: TrackingMode) -> Any:
    """Starts a run of its own, also inside the run of another program or in a notebook that has one."""
    import wandb

    return wandb.init(
        mode=mode.value,
        id=uuid4().hex[:12],
        reinit="create_new",
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


def redirect_wandb_files(folder: Path) -> None:
    """Makes W&B write below this folder, and send nothing but runs.

    By default, W&B writes the images of offline tables to the home folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("DATA", "CACHE", "CONFIG"):
        os.environ[f"WANDB_{name}_DIR"] = str(folder / name.lower())
    os.environ["WANDB_SILENT"] = "true"  # addresses and hints would disturb the progress bar
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # error reports hold paths of this machine


def require_encrypted_server() -> None:
    """Requires that W&B's key is not sent by plain http to another machine."""
    require_encrypted(os.environ.get("WANDB_BASE_URL") or WANDB_URL, "WANDB_BASE_URL")


def _wandb_settings() -> Any:
    """Settings by which W&B does not collect facts about the machine, which also saves time."""
    import wandb

    return wandb.Settings(
        console="off",
        save_code=False,
        symlink=False,  # a copy that follows links would hold every run twice
        host="",
        disable_git=True,  # the remote's address may hold a token
        git_commit=collect_environment().git.removesuffix("-dirty") or None,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def _make_portable(run: Any, output: Path) -> None:
    """Makes the artifacts of an offline run name their files relative to `output`.

    So the folder can be moved before the run is sent.
    """
    log = run._log_artifact

    def log_artifact(artifact: Any, *args: Any, **options: Any) -> Any:
        for entry in artifact.manifest.entries.values():
            if entry.local_path:
                entry.local_path = os.path.relpath(entry.local_path, output)
        return log(artifact, *args, **options)

    run._log_artifact = log_artifact


def build_run_config(config: Config, job: Job) -> JsonObject:
    """Returns the configuration that W&B may store: without secrets, absolute paths and names.

    The key of the job, its environment, whether a source is `credentialed`, and the arm that a
    training belongs to are added.
    """
    options = config.to_dict()
    scrubber = Scrubber.from_folders(config.output.absolute().parent)
    run_config: dict[str, Any] = redact_secrets(
        scrubber.scrub_values(options), key_variables(options)
    )
    run_config["job"] = job.key
    run_config["environment"] = to_json(collect_environment())
    sources = (*config.sources(), *config.test_sources())
    run_config["credentialed"] = any(source.credentialed for source in sources)
    if job.stage == "train":
        run_config["arm"] = asdict(arm_from_options(options))
    return run_config


@dataclass(frozen=True)
class Arm:
    """How an arm differs from the other arms of its study; the fields are columns in W&B.

    Attributes:
        series: Name of the arms that differ from this one in synthetic fraction and seed only.
        generator: Generators, joined by "+"; "real only" or "duplicate real" without any.
        synthetic_fraction: Synthetic images per training image.
        share: Former name of `synthetic_fraction`, with the same value.
        mode: How synthetic images come in.
        control: Which control arm it is; "none" for an arm of interest.
        real_fraction: Fraction of the real train split that is used.
        left_out: Data set that is neither trained nor validated on.
        seed: Seed of the training.
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
    """Returns the arm of a training.

    Args:
        options: The configuration as plain values, also of an earlier version.
    """
    data = from_json(DataRecipe, with_current_names(options["data"], "data", warn=False))
    generator = _generator_name(data, options["generator"])
    return Arm(
        series=_series_name(data, generator),
        generator=generator,
        synthetic_fraction=data.synthetic_fraction,
        share=data.synthetic_fraction,
        mode=data.mode.value,
        control=data.control.value,
        real_fraction=data.real_fraction,
        left_out=data.leave_out,
        seed=options["seed"],
    )


def _generator_name(data: DataRecipe, generators: Iterable[str]) -> str:
    """Names the origin of the images that are mixed in."""
    if data.control is Control.duplicate:
        return "duplicate real"
    return "+".join(generators) if data.synthetic_fraction else "real only"


def _series_name(data: DataRecipe, generator: str) -> str:
    """Names an arm by its options that are not the default, except fraction and seed."""
    notes = [generator]
    if 0 < data.synthetic_fraction < 1 and data.mode is not MixMode.replace:
        notes.append(data.mode.value)
    if data.control is Control.permuted:
        notes.append("labels permuted")
    if data.real_fraction < 1:
        notes.append(f"{data.real_fraction:.0%} of the real images")
    if data.leave_out and data.control is Control.size_matched:
        notes.append(f"size-matched to leaving out {data.leave_out}")
    elif data.leave_out:
        notes.append(f"without {data.leave_out}")
    return ", ".join(notes)


def build_tags(stage: str, options: JsonObject) -> list[str]:
    """Returns the tags of a run: stage, sources, generators, and those of tracking.tags."""
    generators = options["generator"]
    if stage == "train":
        generators = [arm_from_options(options).generator]
    names = [stage, *options["source"], *generators, *options["tracking"]["tags"]]
    return list(dict.fromkeys(name[:64] for name in names))  # the most that W&B takes


def redact_secrets(value: Any, secret_variables: Iterable[str] = ()) -> Any:
    """Returns a configuration without the values of this environment's secrets.

    Args:
        value: The configuration.
        secret_variables: Names of variables that hold secrets, besides those that
            `privacy.environment_secrets` recognises.
    """
    text = json.dumps(value)
    for secret in environment_secrets(secret_variables):
        text = text.replace(json.dumps(secret)[1:-1], REDACTED)
    return json.loads(text)


def lightning_logger(run: Any) -> Any:
    """Returns a Lightning logger that logs the curves of a training to the run; None without one."""
    if run is None:
        return None
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(experiment=run)
