"""A Hydra launcher that runs the jobs of a multirun as Ray tasks.

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
    """Runs each job of a multirun as a Ray task.

    A job whose process is killed fails alone: Ray neither repeats it nor stops the others.

    Args:
        address: Address of a Ray cluster; None starts Ray on this machine.
        num_cpus: Processor cores that a Ray on this machine may use; None is all of them.
        remote: Options of each task, as `ray.remote` takes them: `num_cpus`, `num_gpus`, ….
    """

    def __init__(
        self, address: str | None, num_cpus: int | None, remote: Mapping[str, Any]
    ) -> None:
        self._init_options: dict[str, Any] = {"address": address or "local"}
        if not address:
            self._init_options |= {"num_cpus": num_cpus, "include_dashboard": False}
        task_options: Any = OmegaConf.to_container(OmegaConf.create(dict(remote)))
        self._task_options: dict[str, Any] = {"max_retries": 0, **task_options}

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keeps what the jobs need; Hydra calls this once, before `launch`."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """Runs one task per job.

        Returns:
            One result per job, in the order of the jobs, also of jobs that failed.
        """
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        starts_ray = not ray.is_initialized()
        if starts_ray:
            ray.init(**self._init_options)
        try:
            configs = []
            for number, overrides in enumerate(job_overrides, start=initial_job_idx):
                configs.append(self._job_config(overrides, number))
            remote_run = ray.remote(**self._task_options)(_run)
            state, folder = Singleton.get_state(), os.getcwd()
            tasks = []
            for config in configs:
                task = remote_run.remote(self._context, self._task, config, state, folder)
                tasks.append((task, config))
            return [_wait_for(ray, task, config) for task, config in tasks]
        finally:
            if starts_ray:
                ray.shutdown()

    def _job_config(self, overrides: Sequence[str], number: int) -> Any:
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = f"ray-{number}"
            config.hydra.job.num = number
        return config


def _run(context: Any, task: Any, config: Any, state: Any, folder: str) -> JobReturn:
    """Runs one job, in a process of Ray's."""
    os.chdir(folder)  # relative paths mean the same on every node
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


def _wait_for(ray: Any, task: Any, config: Any) -> JobReturn:
    """Returns the result of a task, or a failed one if its process has ended before it."""
    try:
        result: JobReturn = ray.get(task)
    except ray.exceptions.RayError as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        reason = f"the job's process ended ({type(error).__name__}: {first_line})"
        return _failed_result(config, reason)
    return result


def _failed_result(config: Any, reason: str) -> JobReturn:
    """Writes the line of a failed job for the monitor of the multirun, and returns its result."""
    from xraysynth.jobs.sweeps import JobOutcome

    overrides = list(config.hydra.overrides.task)
    number = config.hydra.job.num
    line = {"job": number, "overrides": overrides, "state": "failed", "error": reason}
    outcome = JobOutcome(line)
    outcome.write(Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir))
    return JobReturn(
        overrides=overrides, cfg=config, status=JobStatus.COMPLETED, _return_value=outcome
    )
