"""A launcher of Hydra's that runs the jobs of a multirun as Ray tasks.

It lies in this package because Hydra takes launchers from nowhere else, and imports little because
Hydra imports it at every start.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf, open_dict


class RayLauncher(Launcher):
    """Connects to `address`, or starts a Ray of its own; `remote` is what a job asks for.

    A job whose process is killed fails alone: Ray neither repeats it nor stops the others.
    """

    def __init__(
        self, address: str | None, num_cpus: int | None, remote: Mapping[str, Any]
    ) -> None:
        own = {} if address else {"num_cpus": num_cpus, "include_dashboard": False}
        self._init: dict[str, Any] = {"address": address or "local", **own}
        asked: Any = OmegaConf.to_container(OmegaConf.create(dict(remote)))
        self._remote: dict[str, Any] = {"max_retries": 0, **asked}

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Hydra hands over what its jobs need."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """One task per job; in the order of the jobs, also where some failed."""
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        started = not ray.is_initialized()
        if started:
            ray.init(**self._init)
        try:
            task = ray.remote(**self._remote)(_run)
            configs = [
                self._job(overrides, initial_job_idx + number)
                for number, overrides in enumerate(job_overrides)
            ]
            state, home = Singleton.get_state(), os.getcwd()
            waiting = [task.remote(self._context, self._task, c, state, home) for c in configs]
            return [_got(ray, job, c) for job, c in zip(waiting, configs, strict=True)]
        finally:
            if started:
                ray.shutdown()

    def _job(self, overrides: Sequence[str], number: int) -> Any:
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"ray-{number}", number
        return config


def _run(context: Any, task: Any, config: Any, state: Any, home: str) -> JobReturn:
    os.chdir(home)  # relative paths mean the same on every node
    setup_globals()
    Singleton.set_state(state)
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=context,
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _got(ray: Any, job: Any, config: Any) -> JobReturn:
    """What a job returned; of one that was lost on its way, that it failed."""
    try:
        returned: JobReturn = ray.get(job)
    except ray.exceptions.RayError as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        return _failed(config, f"the job's process ended ({type(error).__name__}: {first})")
    return returned


def _failed(config: Any, why: str) -> JobReturn:
    from xraysynth.jobs.sweeps import JobOutcome

    overrides = list(config.hydra.overrides.task)
    number = config.hydra.job.num
    line = {"job": number, "overrides": overrides, "state": "failed", "error": why}
    outcome = JobOutcome(line)
    outcome.write(Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir))
    return JobReturn(
        overrides=overrides, cfg=config, status=JobStatus.COMPLETED, _return_value=outcome
    )
