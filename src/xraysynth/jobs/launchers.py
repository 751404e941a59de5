"""Where jobs run: the launchers and sweepers that Hydra is told of, and jobs handed to a launcher."""

import multiprocessing
from collections.abc import Callable, Sequence
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

from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.jobs.sweeps import JobOutcome, SweepMonitor

PLUGIN_PACKAGES = {
    "hydra/launcher=joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "hydra/launcher=submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "hydra/launcher=slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "hydra/launcher=ray": ("ray", "ray"),
    "hydra/sweeper=optuna": ("hydra_plugins.hydra_optuna_sweeper", "optuna"),
}
"""Choice -> the package that it needs, and the extra that brings it."""

BASIC_LAUNCHER = "basic"


def register_launchers(stage: str) -> None:
    """Make the package's own launcher known to Hydra, and the stage to what watches multiruns."""
    from hydra_plugins.xraysynth_ray import RayLauncher

    Plugins.instance().register(RayLauncher)  # Hydra does not see it in an editable installation
    groups = ConfigStore.instance().repo["hydra"]
    for choice in PLUGIN_PACKAGES:  # conf/hydra/ has them; beside it Hydra warns of these
        group, name = choice.removeprefix("hydra/").split("=")
        groups[group].pop(f"{name}.yaml", None)
    MultirunCallback.stage = stage


class ConfigAbort(BaseException):
    """Carries a `ConfigError` out of a callback, where Hydra makes a warning of any `Exception`."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(str(error))
        self.error = error


class MultirunCallback(Callback):
    """Checks a multirun before it starts, and follows it; Hydra finds it in conf/config.yaml."""

    stage: ClassVar[str] = ""
    monitor: ClassVar[SweepMonitor | None] = None

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Once, in the process that starts the jobs."""
        choices = config.hydra.runtime.choices
        try:
            require_packages(choices)
            _require_validation_score(choices["hydra/sweeper"], MultirunCallback.stage)
        except ConfigError as error:
            raise ConfigAbort(error) from error
        # As they were given: what they interpolate is another value for every job.
        given: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        MultirunCallback.monitor = SweepMonitor(Path(config.hydra.sweep.dir), given)

    @classmethod
    def stop_monitor(cls) -> SweepMonitor | None:
        """The follower of the multirun that has ended, and everything printed; None without one."""
        follower, cls.monitor = cls.monitor, None
        if follower is not None:
            follower.stop()
        return follower


def require_packages(choices: Any) -> None:
    """Raise `ConfigError` naming the extra that a chosen launcher or sweeper lacks."""
    for group in ("hydra/launcher", "hydra/sweeper"):
        choice = f"{group}={choices[group]}"
        package, extra = PLUGIN_PACKAGES.get(choice, ("", ""))
        if package and not _is_installed(package):
            raise ConfigError(
                f"{choice} needs packages that are not there; pip install 'xraysynth[{extra}]'"
            )


def _require_validation_score(sweeper: str, stage: str) -> None:
    if sweeper == "optuna" and stage != "train":
        raise ConfigError(
            "hydra/sweeper=optuna looks for the highest macro-F1 on validation, which only "
            f"xraysynth train has; got xraysynth {stage}"
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # hydra_plugins itself, where there is no plugin at all
        return False


def reset_start_method() -> None:
    """Let a process that joblib started start others: they do not know its start method, "loky"."""
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        multiprocessing.set_start_method("spawn", force=True)


def launcher_name() -> str:
    """The launcher of a single run; `basic` in a multirun, whose jobs are handed out already."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.RUN:
        return BASIC_LAUNCHER
    return str(HydraConfig.get().runtime.choices["hydra/launcher"])


@dataclass(frozen=True)
class _TaskFunction:
    """The job of each number; an error that was foreseen is its value, as text."""

    calls: Sequence[Callable[[], Any]]

    def __call__(self, _: Any) -> str:
        reset_start_method()
        try:
            self.calls[HydraConfig.get().job.num]()
        except XraysynthError as error:
            return str(error) or type(error).__name__
        return ""


def submit(calls: Sequence[Callable[[], Any]]) -> list[str]:
    """Run every call as a job of the chosen launcher; "" or the error of each, in order.

    Raises `XraysynthError` when a job's process ended before its result.
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
    config.hydra.sweep.dir = config.hydra.sweep.dir  # its time, once for all jobs
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
        task_function=_TaskFunction(calls),
        config=config,
    )
    try:
        returned = launcher.launch([overrides] * len(calls), initial_job_idx=0)
    except Exception as error:
        raise launcher_error(error) from error
    return [_error_message(job.return_value) for job in returned]


def _error_message(value: str | JobOutcome) -> str:
    return value if isinstance(value, str) else str(value.line["error"])


def launcher_error(error: BaseException) -> XraysynthError:
    """For what a launcher or sweeper raises, most often as a process of its was killed."""
    first = (str(error).strip() or "no message").splitlines()[0]
    return XraysynthError(
        f"not all jobs came to an end ({type(error).__name__}: {first}). If a process was killed, "
        "perhaps for want of memory, run fewer at once; start again: what is done is kept"
    )
