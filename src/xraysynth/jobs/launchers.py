"""Where jobs run: Hydra's launchers and sweepers, and calls that are submitted to a launcher."""

import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf

from xraysynth.environment import hidden_variables
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.jobs.sweeps import JobOutcome, SweepMonitor

PLUGIN_PACKAGES = {
    "hydra/launcher=joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "hydra/launcher=submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "hydra/launcher=slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "hydra/launcher=ray": ("ray", "ray"),
    "hydra/sweeper=optuna": ("hydra_plugins.hydra_optuna_sweeper", "optuna"),
}
"""By choice of a launcher or sweeper, the module that it needs and the extra that installs it."""

BASIC_LAUNCHER = "basic"


def register_launchers(stage: str) -> None:
    """Registers the Ray launcher with Hydra, and lets conf/hydra/ configure every plug-in.

    Args:
        stage: The stage of this command, which `MultirunCallback` checks.
    """
    from hydra_plugins.xraysynth_ray import RayLauncher

    Plugins.instance().register(RayLauncher)  # Hydra does not see it in an editable installation
    groups = ConfigStore.instance().repo["hydra"]
    # conf/hydra/ configures each of these; a plug-in's own file of the same name makes Hydra warn.
    for choice in PLUGIN_PACKAGES:
        group, name = choice.removeprefix("hydra/").split("=")
        groups[group].pop(f"{name}.yaml", None)
    MultirunCallback.stage = stage


class ConfigAbort(BaseException):
    """Carries a `ConfigError` out of a callback of Hydra's, which turns an `Exception` into a warning.

    Attributes:
        error: The error to report.
    """

    def __init__(self, error: ConfigError) -> None:
        super().__init__(str(error))
        self.error = error


class MultirunCallback(Callback):
    """Checks a multirun before it starts, and monitors it; conf/config.yaml names it for Hydra.

    Attributes:
        stage: The stage whose jobs run.
        monitor: Prints the results of the multirun that is running.
        hidden: Puts variables back that are hidden while it runs.
    """

    stage: ClassVar[str] = ""
    monitor: ClassVar[SweepMonitor | None] = None
    hidden: ClassVar[ExitStack] = ExitStack()

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Checks launcher and sweeper, and starts the monitor; called once, before the jobs start."""
        choices = config.hydra.runtime.choices
        try:
            require_packages(choices)
            _require_validation_score(choices["hydra/sweeper"], MultirunCallback.stage)
        except ConfigError as error:
            raise ConfigAbort(error) from error
        # Unresolved: what an override interpolates has another value in every job.
        overrides: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        if choices["hydra/launcher"] == "slurm":
            MultirunCallback.hidden.enter_context(outside_allocation())
        MultirunCallback.monitor = SweepMonitor(Path(config.hydra.sweep.dir), overrides)

    @classmethod
    def stop_monitor(cls) -> SweepMonitor | None:
        """Stops the monitor of a multirun that has ended, once everything is printed.

        Returns:
            The monitor; None if this is no multirun.
        """
        monitor = cls.monitor
        cls.monitor = None
        cls.hidden.close()
        if monitor is not None:
            monitor.stop()
        return monitor


def require_packages(choices: Any) -> None:
    """Raises `ConfigError` naming the extra to install for the launcher or sweeper that was chosen."""
    for group in ("hydra/launcher", "hydra/sweeper"):
        choice = f"{group}={choices[group]}"
        package, extra = PLUGIN_PACKAGES.get(choice, ("", ""))
        if package and not _is_installed(package):
            raise ConfigError(
                f"{choice} needs a package that is not installed; run pip install 'xraysynth[{extra}]'"
            )


def _require_validation_score(sweeper: str, stage: str) -> None:
    if sweeper == "optuna" and stage != "train":
        raise ConfigError(
            "hydra/sweeper=optuna maximises macro-F1 on validation, which only xraysynth train "
            f"has; got xraysynth {stage}"
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the parent package hydra_plugins is missing
        return False


def outside_allocation() -> AbstractContextManager[None]:
    """Hides the allocation of Slurm in which this process runs from the jobs that it submits.

    sbatch passes the variables on, and the limits, masks and numbers of one job are wrong in another.
    """
    return hidden_variables("SLURM_", keep=("SLURM_CONF", "SLURM_CLUSTERS"))


def reset_start_method() -> None:
    """Lets a process that joblib started start others, which do not know joblib's method "loky"."""
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        multiprocessing.set_start_method("spawn", force=True)


def launcher_name() -> str:
    """Returns the launcher of a single run; `basic` in a multirun, whose jobs Hydra launches."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.RUN:
        return BASIC_LAUNCHER
    return str(HydraConfig.get().runtime.choices["hydra/launcher"])


@dataclass(frozen=True)
class _TaskFunction:
    """Runs the call of the job's number; returns the text of an `XraysynthError`, "" without one."""

    calls: Sequence[Callable[[], Any]]

    def __call__(self, _: Any) -> str:
        reset_start_method()
        try:
            self.calls[HydraConfig.get().job.num]()
        except XraysynthError as error:
            return str(error) or type(error).__name__
        return ""


def submit(calls: Sequence[Callable[[], Any]]) -> list[str]:
    """Runs every call as a job of the chosen launcher.

    Returns:
        One text per call, in order: "", or the message of the `XraysynthError` it raised.

    Raises:
        XraysynthError: The process of a job ended before the job.
        ConfigError: The launcher is not installed.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import HydraContext

    hydra = HydraConfig.get()
    require_packages(hydra.runtime.choices)
    loader = GlobalHydra.instance().config_loader()
    overrides = list(hydra.overrides.task)
    config = loader.load_configuration(
        "config", overrides=[*hydra.overrides.hydra, *overrides], run_mode=RunMode.MULTIRUN
    )
    config.hydra.sweep.dir = config.hydra.sweep.dir  # resolves the time in it, once for all jobs
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
        task_function=_TaskFunction(calls),
        config=config,
    )
    try:
        with outside_allocation():
            returned = launcher.launch([overrides] * len(calls), initial_job_idx=0)
    except Exception as error:
        raise launcher_error(error) from error
    return [_error_message(job.return_value) for job in returned]


def _error_message(value: str | JobOutcome) -> str:
    return value if isinstance(value, str) else str(value.line["error"])


def launcher_error(error: BaseException) -> XraysynthError:
    """Returns the error to report when a launcher raises, mostly because a process was killed."""
    first_line = (str(error).strip() or "no message").splitlines()[0]
    return XraysynthError(
        f"not all jobs have ended ({type(error).__name__}: {first_line}). If a process was killed, "
        "it may have run out of memory: run fewer jobs at once. Run the command again; finished "
        "jobs are kept"
    )
