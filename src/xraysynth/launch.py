"""One stage through Hydra: a single run or a multirun, and what is printed in the end."""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xraysynth.composition import (
    compose,
    explain_hydra_error,
    register_schema,
    to_hydra_overrides,
    validate_config,
)
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.jobs import distributed
from xraysynth.jobs.job import ResultLine
from xraysynth.jobs.sweeps import JobOutcome, print_summary, validation_score


def launch(stage: str, arguments: Sequence[str]) -> int:
    """Run a stage with Hydra's command line arguments; the exit code."""
    import hydra

    from xraysynth.jobs import launchers

    register_schema()
    launchers.register_launchers(stage)
    # Hydra prints tracebacks of its own unless it is told to let exceptions pass.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [
        f"xraysynth {stage}",
        *to_hydra_overrides(arguments, multirun=_is_multirun(arguments)),
    ]
    main = hydra.main(config_path="pkg://xraysynth.conf", config_name="config", version_base="1.3")
    task = Task(stage)
    try:
        _require_single_process(stage, arguments)
        main(task)()
    except KeyboardInterrupt:
        print("interrupted; start it again to go on", file=sys.stderr)
        return 130
    except launchers.ConfigAbort as refused:
        return _print_error(refused.error)
    except Exception as error:
        task.error = _to_xraysynth_error(error, arguments)
    code = _finish_task(task)
    return max(code, _print_error(task.error)) if task.error else code


def _is_multirun(arguments: Sequence[str]) -> bool:
    return bool({"-m", "--multirun"} & set(arguments))


def _require_single_process(stage: str, arguments: Sequence[str]) -> None:
    started = distributed.world_size()
    if started > 1 and (stage == "study" or _is_multirun(arguments)):
        what = "xraysynth study" if stage == "study" else "-m"
        raise ConfigError(
            f"{what} starts jobs from one process, and torchrun has started {started}; give each job a "
            "torchrun of its own, without -m"
        )


SHARDED_STAGES = ("generate", "features")
"""Stages whose work can be done in parts."""


class Task:
    """What Hydra calls for every job, in whichever process; an error that was foreseen is kept.

    Hydra would print a line of its own about it. The value of a job of a multirun counts as the
    macro-F1 on validation, for sweepers that optimise it.
    """

    def __init__(self, stage: str) -> None:
        self.stage, self.failed = stage, False
        self.error: XraysynthError | None = None

    def __call__(self, dict_config: Any) -> JobOutcome | None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from xraysynth.jobs import launchers

        hydra = HydraConfig.get()
        overrides = [text.removeprefix("++") for text in hydra.overrides.task]
        if hydra.mode is RunMode.RUN:
            try:
                _require_multirun(self.stage, hydra.runtime.choices["hydra/launcher"])
                result = self._run_stage(dict_config, overrides)
            except XraysynthError as error:
                self.error = error
                return None
            self.failed = result["state"] == "failed"
            if distributed.is_main():
                print(json.dumps(_without_long_entries(result), default=str), flush=True)
            return JobOutcome(result)
        launchers.reset_start_method()
        result = {"job": hydra.job.num, "overrides": overrides} | self._run_or_record_error(
            dict_config, overrides
        )
        outcome = JobOutcome(_without_long_entries(result), validation_score(result))
        outcome.write(Path(hydra.runtime.output_dir))
        return outcome

    def _run_stage(self, dict_config: Any, overrides: Sequence[str]) -> ResultLine:
        config = validate_config(dict_config)
        if config.plan and self.stage != "study":
            raise ConfigError("plan=true is for xraysynth study; other stages would do their work")
        if config.shard.count > 1 and self.stage not in SHARDED_STAGES:
            raise ConfigError(
                f"shard.count={config.shard.count} is for xraysynth {' and '.join(SHARDED_STAGES)}; "
                f"leave it out of xraysynth {self.stage}, which does all of its work"
            )
        from xraysynth.stages import Workspace

        stage = importlib.import_module(f"xraysynth.stages.{self.stage}")
        result: ResultLine = stage.run(Workspace(config, overrides))
        return result

    def _run_or_record_error(self, dict_config: Any, overrides: Sequence[str]) -> ResultLine:
        """The result, also where it is an error: the other jobs go on."""
        try:
            return self._run_stage(dict_config, overrides)
        except Exception as error:
            if not isinstance(error, XraysynthError):
                traceback.print_exc()
            why = f"{type(error).__name__}: {error}"
            return {"stage": self.stage, "state": "failed", "error": why}


def _require_multirun(stage: str, launcher: str) -> None:
    if launcher != "basic" and stage != "study":
        raise ConfigError(
            f"hydra/launcher={launcher} runs the jobs of a multirun, and the steps of a study; "
            f"for several jobs add -m: xraysynth {stage} -m …"
        )


def _finish_task(task: Task) -> int:
    """The exit code, after the results of a multirun have been printed."""
    from xraysynth.jobs import launchers

    follower = launchers.MultirunCallback.stop_monitor()
    if follower is None:
        return int(task.failed)
    if follower.lines:
        print_summary(follower.folder, follower.lines)
    return int(any(line["state"] == "failed" for line in follower.lines))


LONG_ENTRIES = (
    *("history", "scores", "external", "probes", "measures", "diversity", "nearest_similarity"),
    *("closest", "faithfulness", "confusion_matrix", "tested_on", "appearance", "shortcuts"),
)
"""Entries of a result that are left to run.json."""


def _without_long_entries(result: ResultLine) -> ResultLine:
    """The result without long tables: those are in run.json."""
    return {k: v for k, v in result.items() if k not in LONG_ENTRIES}


def _to_xraysynth_error(error: Exception, arguments: Sequence[str]) -> XraysynthError:
    """The error as one of ours; one that nobody foresaw is raised as it is."""
    from xraysynth.jobs import launchers

    if isinstance(error, XraysynthError):
        return error
    if _is_hydra_error(error):
        return _collect_option_errors(arguments) or explain_hydra_error(error)
    if isinstance(error, OSError) and error.errno:
        return _explain_os_error(error)
    if launchers.MultirunCallback.monitor is not None:
        return launchers.launcher_error(error)
    raise error


def _collect_option_errors(arguments: Sequence[str]) -> ConfigError | None:
    """All that is wrong in a single run: Hydra itself stops at the first."""
    try:
        compose([] if any(word.startswith("-") for word in arguments) else arguments)
    except ConfigError as every:
        return every
    return None


def _print_error(error: XraysynthError) -> int:
    kind = "configuration" if isinstance(error, ConfigError) else type(error).__name__
    if distributed.is_main() or kind != "configuration":  # which all of several processes share
        print(f"xraysynth: error ({kind}): {error}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def _explain_os_error(error: OSError) -> XraysynthError:
    remedies = {
        28: "the disk is full; free some space and start again: what is done is kept",
        13: "no permission to write there; set paths.output to a folder that can be written",
        30: "the file system is read-only; set paths.output to a folder that can be written",
    }
    remedy = remedies.get(error.errno or 0, "start again when it is mended: what is done is kept")
    return XraysynthError(f"{error.filename or 'writing'}: {error.strerror}; {remedy}")


def _is_hydra_error(error: BaseException) -> bool:
    return type(error).__module__.startswith(("hydra", "omegaconf"))
