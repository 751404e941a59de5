"""One Weights & Biases run per job, inside the job's folder, closed whatever happens.

`open_run` opens it, and gives None where tracking is disabled; what the job of each stage tells its run
are `log_...` functions, which are silent without one. `export.read_runs` makes a table of all runs
without asking a server, and `dashboard` a workspace and a report of them.

Offline runs of a whole study are sent later, also from a copy of the folder, by

    cd outputs && wandb sync */*/wandb

What is sent holds no absolute path, no name of user or machine, and no secret. Where a source is
under a data use agreement it holds numbers alone, and no image.

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
