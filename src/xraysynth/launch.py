"""Running a stage through Hydra, as a single run or a multirun, and printing its result or error."""

import errno
import importlib
import json
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from xraysynth.composition import (
    compose,
    explain_hydra_error,
    require_no_key,
    validate_config,
)
from xraysynth.config_store import register_schema
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.experiment_files import name_files
from xraysynth.jobs import distributed
from xraysynth.jobs.job import ResultLine
from xraysynth.jobs.sweeps import JobOutcome, print_summary, validation_score
from xraysynth.overrides import to_hydra_overrides, to_typed_overrides


def launch(stage: str, arguments: Sequence[str]) -> int:
    """Run a stage with Hydra and print its result.

    Args:
        stage: Name of the stage's module.
        arguments: Arguments of the command line after the stage: overrides and options of Hydra.

    Returns:
        The exit code: 0, 1 after a failure, 2 for wrong options, 130 after an interruption.
    """
    import hydra

    from xraysynth.jobs import launchers

    register_schema()
    launchers.register_launchers(stage)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes exceptions on, instead of printing them
    warnings.showwarning = _show_warning
    main = hydra.main(config_path="pkg://xraysynth.conf", config_name="config", version_base="1.3")
    task = Task(stage)
    try:
        require_no_key(arguments)
        _require_single_process(stage, arguments)
        overrides = _require_right_words(arguments)
        sys.argv = [f"xraysynth {stage}", *overrides]
        main(task)()
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except launchers.ConfigAbort as abort:
        return _print_error(abort.error)
    except Exception as error:
        task.error = _to_xraysynth_error(error, arguments)
    code = _finish_task(task)
    return max(code, _print_error(task.error)) if task.error else code


def inspect_paths(arguments: Sequence[str]) -> int:
    """Run the stage `inspect`, which needs no configuration, and print its result.

    Args:
        arguments: Arguments of the command line after the stage: paths, `--all` and overrides.

    Returns:
        The exit code: 0 if a study can run, 1 if none can, 2 for wrong arguments, 130 after an
        interruption.
    """
    warnings.showwarning = _show_warning
    try:
        require_no_key(arguments)
        from xraysynth.stages import inspect

        result = inspect.run(inspect.parse_arguments(arguments))
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    except Exception as error:
        return _print_error(_to_xraysynth_error(error, []))
    print(json.dumps(_without_long_entries(result), default=str), flush=True)
    return 0 if result["can_run"] else 1


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning on stderr; one on a renamed option without the place in the code."""
    text = f"xraysynth: warning: {message}\n"
    if not issubclass(category, FutureWarning):
        text = warnings.formatwarning(message, category, filename, lineno, line)
    print(text, file=file or sys.stderr, end="")


def _require_right_words(arguments: Sequence[str]) -> list[str]:
    """Hydra's overrides; an override that is wrong by itself is reported with all other wrong options."""
    errors: list[str] = []
    overrides = to_hydra_overrides(arguments, multirun=_is_multirun(arguments), errors=errors)
    if errors:
        raise _collect_option_errors(arguments) or ConfigError(*errors)
    return overrides


def _is_multirun(arguments: Sequence[str]) -> bool:
    return bool({"-m", "--multirun"} & set(arguments))


def _require_single_process(stage: str, arguments: Sequence[str]) -> None:
    process_count = distributed.world_size()
    if not _has_several_shards(arguments):
        distributed.require_one_copy()
    if process_count > 1 and (stage == "study" or _is_multirun(arguments)):
        command = "xraysynth study" if stage == "study" else "-m"
        raise ConfigError(
            f"{command} starts jobs from one process, and torchrun has started {process_count}; give "
            "each job a torchrun of its own, without -m"
        )
    distributed.meet()


def _has_several_shards(arguments: Sequence[str]) -> bool:
    """Whether this is one shard of several, so that other processes have other work."""
    counts = [word.partition("=")[2] for word in arguments if word.startswith("shard.count=")]
    return bool(counts) and counts[-1] != "1"


SHARDED_STAGES = ("generate", "features")
"""Stages whose work can be divided into shards."""


class Task:
    """The function that Hydra calls for every job, possibly in another process.

    In a multirun its result counts as the macro-F1 on validation, for sweepers that optimise it.

    Attributes:
        stage: Name of the stage's module.
        failed: Whether a single run has ended with the state "failed".
        error: An error of a single run that the user can cause; it is stored instead of raised
            because Hydra would print a line of its own about it.
    """

    def __init__(self, stage: str) -> None:
        self.stage, self.failed = stage, False
        self.error: XraysynthError | None = None

    def __call__(self, dict_config: Any) -> JobOutcome | None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        hydra = HydraConfig.get()
        overrides = to_typed_overrides(hydra.overrides.task)
        if hydra.mode is RunMode.RUN:
            return self._run_single(dict_config, overrides, hydra)
        return self._run_in_multirun(dict_config, overrides, hydra)

    def _run_single(
        self, dict_config: Any, overrides: Sequence[str], hydra: Any
    ) -> JobOutcome | None:
        """Run the stage and print its result; None after an error, which is stored."""
        try:
            _require_multirun(self.stage, hydra.runtime.choices["hydra/launcher"])
            result = self._run_stage(dict_config, overrides)
        except XraysynthError as error:
            self.error = error
            return None
        except OSError as error:
            if not error.errno:
                raise
            self.error = _explain_os_error(error)
            return None
        self.failed = result["state"] == "failed"
        if distributed.is_main():
            print(json.dumps(_without_long_entries(result), default=str), flush=True)
        return JobOutcome(result)

    def _run_in_multirun(
        self, dict_config: Any, overrides: Sequence[str], hydra: Any
    ) -> JobOutcome:
        """Run the stage as one job of a multirun, and write its outcome into the job's folder."""
        from xraysynth.jobs import launchers

        launchers.reset_start_method()
        result = self._run_or_record_error(dict_config, overrides)
        result = {"job": hydra.job.num, "overrides": overrides, **result}
        outcome = JobOutcome(_without_long_entries(result), validation_score(result))
        outcome.write(Path(hydra.runtime.output_dir))
        return outcome

    def _run_stage(self, dict_config: Any, overrides: Sequence[str]) -> ResultLine:
        config = validate_config(dict_config, overrides=_hydra_overrides())
        if config.plan and self.stage != "study":
            raise ConfigError(
                "plan=true is for xraysynth study; remove it, as other stages would do their work"
            )
        if config.shard.count > 1 and self.stage not in SHARDED_STAGES:
            raise ConfigError(
                f"shard.count={config.shard.count} is for xraysynth {' and '.join(SHARDED_STAGES)}; "
                f"remove it from xraysynth {self.stage}, which cannot be divided into shards"
            )
        from xraysynth.stages import Workspace, job_workspace

        stage = importlib.import_module(f"xraysynth.stages.{self.stage}")
        with job_workspace(Workspace(config, overrides), _run_id()) as workspace:
            result: ResultLine = stage.run(workspace)
        return result

    def _run_or_record_error(self, dict_config: Any, overrides: Sequence[str]) -> ResultLine:
        """Run the stage; return an error as a result, so that the other jobs continue."""
        try:
            return self._run_stage(dict_config, overrides)
        except Exception as error:
            if not isinstance(error, XraysynthError):
                traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
            return {"stage": self.stage, "state": "failed", "error": message}


def _run_id() -> str:
    """What names the run of all jobs of this multirun; a single run has a name of its own."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    is_multirun = HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
    return str(HydraConfig.get().sweep.dir) if is_multirun else uuid4().hex


def _hydra_overrides() -> list[str]:
    """Hydra's overrides of the job that is running; none where Hydra has not started it."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _require_multirun(stage: str, launcher: str) -> None:
    if launcher != "basic" and stage != "study":
        raise ConfigError(
            f"hydra/launcher={launcher} runs the jobs of a multirun, and the steps of a study; "
            f"for several jobs add -m after xraysynth {stage}"
        )


def _finish_task(task: Task) -> int:
    """Print the summary of a multirun, and return the exit code."""
    from xraysynth.jobs import launchers

    monitor = launchers.MultirunCallback.stop_monitor()
    if monitor is None:
        return int(task.failed)
    if monitor.lines:
        print_summary(monitor.folder, monitor.lines)
    states = [line["state"] for line in monitor.lines]
    return int("failed" in states)


LONG_ENTRIES = (
    "history",
    "scores",
    "external",
    "probes",
    "measures",
    "diversity",
    "nearest_similarity",
    "closest",
    "faithfulness",
    "confusion_matrix",
    "tested_on",
    "appearance",
    "shortcuts",
)
"""Entries of a result that are too long to print; they are in run.json."""


def _without_long_entries(result: ResultLine) -> ResultLine:
    return {name: value for name, value in result.items() if name not in LONG_ENTRIES}


def _to_xraysynth_error(error: Exception, arguments: Sequence[str]) -> XraysynthError:
    """Convert an error that the user can cause; raise any other error unchanged."""
    from xraysynth.jobs import launchers

    if isinstance(error, XraysynthError):
        return error
    if _is_hydra_error(error):
        explained = explain_hydra_error(error)
        named = ConfigError(*name_files(explained.args, sys.argv[1:]))
        return _collect_option_errors(arguments) or named
    if isinstance(error, OSError) and error.errno:
        return _explain_os_error(error)
    if launchers.MultirunCallback.monitor is not None:
        return launchers.launcher_error(error)
    raise error


def _collect_option_errors(arguments: Sequence[str]) -> ConfigError | None:
    """The errors of all options of a single run, as Hydra itself stops at the first; None if none.

    Arguments with options of Hydra, such as -m, cannot be composed: only the defaults are checked.
    """
    has_hydra_options = any(argument.startswith("-") for argument in arguments)
    try:
        compose([] if has_hydra_options else arguments)
    except ConfigError as all_errors:
        return all_errors
    return None


def _print_error(error: XraysynthError) -> int:
    kind = "configuration" if isinstance(error, ConfigError) else type(error).__name__
    if distributed.is_main() or kind != "configuration":  # all processes share their options
        print(f"xraysynth: error ({kind}): {error}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def _explain_os_error(error: OSError) -> XraysynthError:
    remedies = {
        errno.ENOSPC: "the disk is full; free some space and run it again: finished work is kept",
        errno.EACCES: "you may not read or write it; change its permissions, or set paths.output to a "
        "folder that you can write to",
        errno.ENAMETOOLONG: "the name is too long for the file system; set paths.output to a folder with a "
        "shorter path, and names such as study.name to shorter ones",
        errno.EDQUOT: "your quota is used up; free some space and run it again: finished work is kept",
        errno.EROFS: "the file system is read-only; set paths.output to a folder that you can write to",
    }
    remedy = remedies.get(error.errno or 0, "fix it and run it again: finished work is kept")
    return XraysynthError(f"{error.filename or 'writing'}: {error.strerror}; {remedy}")


def _is_hydra_error(error: BaseException) -> bool:
    return type(error).__module__.startswith(("hydra", "omegaconf"))
