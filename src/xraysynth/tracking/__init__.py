"""Tracking with Weights & Biases: one run per job, in the folder of the job.

`open_run` opens the run, or gives None where tracking is disabled. Each stage logs its result with a
`log_...` function, which does nothing without a run. `export.read_runs` makes a table of all runs
without a server, and `dashboard` makes a W&B workspace and a W&B report of them.

Offline runs of a whole study can be sent later, also from a copy of the folder:

    cd outputs && wandb sync */*/wandb

A run holds no absolute path, no name of a user or machine, and no secret. Where a source is under a
data use agreement, it holds numbers only, and no image.

    >>> from xraysynth import compose
    >>> from xraysynth.jobs.job import Job
    >>> config = compose(["tracking=none"])
    >>> with open_run(config, Job("probe", {}, config.output)) as run:
    ...     log_shortcuts(run, [])
    >>> print(run)
    None
"""

from xraysynth.tracking.artifacts import (
    ArtifactRecord,
    cohort_artifact,
    lora_artifact,
    pool_artifact,
)
from xraysynth.tracking.runs import lightning_logger, open_run
from xraysynth.tracking.stage_logging import (
    WandbFinetuneLogger,
    log_cohort,
    log_evaluation,
    log_lora,
    log_pool,
    log_reader_study,
    log_report,
    log_shortcuts,
    log_training,
)

__all__ = [
    "ArtifactRecord",
    "WandbFinetuneLogger",
    "cohort_artifact",
    "lightning_logger",
    "log_cohort",
    "log_evaluation",
    "log_lora",
    "log_pool",
    "log_reader_study",
    "log_report",
    "log_shortcuts",
    "log_training",
    "lora_artifact",
    "open_run",
    "pool_artifact",
]
