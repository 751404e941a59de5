"""One stage through Hydra: a single run or a multirun, and what is printed in the end."""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xraysynth.composition import checked, compose, explained, hydra_words, register
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.jobs import distributed
from xraysynth.jobs.job import Line
from xraysynth.jobs.sweeps import Outcome, announce, score


def launch(stage: str, arguments: Sequence[str]) -> int:
    """Run a stage with Hydra's command line arguments; the exit code."""
    import hydra

    from xraysynth.jobs import launchers

    register()
    launchers.register(stage)
    # Hydra prints tracebacks of its own unless it is told to let exceptions pass.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [f"xraysynth {stage}", *hydra_words(arguments, multirun=_is_multirun(arguments))]
    main = hydra.main(config_path="pkg://xraysynth.conf", config_name="config", version_base="1.3")
    task = Task(stage)
    try:
        _require_one_starter(stage, arguments)
        main(task)()
    except KeyboardInterrupt:
        print("interrupted; start it again to go on", file=sys.stderr)
        return 130
    except launchers.Refused as refused:
        return _fail(refused.error)
    except Exception as error:
        task.error = _understood(error, arguments)
    code = _ended(task)
    return max(code, _fail(task.error)) if task.error else code


def _is_multirun(arguments: Sequence[str]) -> bool:
    return bool({"-m", "--multirun"} & set(arguments))


def _require_one_starter(stage: str, arguments: Sequence[str]) -> None:
    started = distributed.world_size()
    if started > 1 and (stage == "study" or _is_multirun(arguments)):
        what = "xraysynth study" if stage == "study" else "-m"
        raise ConfigError(
            f"{what} starts jobs from one process, and torchrun has started {started}; give each job a "
            "torchrun of its own, without -m"
        )


SHARDED = ("generate", "features")
"""Stages whose work can be done in parts."""


class Task:
    """What Hydra calls for every job, in whichever process; an error that was foreseen is kept.

    Hydra would print a line of its own about it. The value of a job of a multirun counts as the
    macro-F1 on validation, for sweepers that optimise it.
    """

    def __init__(self, stage: str) -> None:
        self.stage, self.failed = stage, False
        self.error: XraysynthError | None = None

    def __call__(self, composed: Any) -> Outcome | None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from xraysynth.jobs import launchers

        hydra = HydraConfig.get()
        overrides = [text.removeprefix("++") for text in hydra.overrides.task]
        if hydra.mode is RunMode.RUN:
            try:
                _require_multirun(self.stage, hydra.runtime.choices["hydra/launcher"])
                result = self._result(composed, overrides)
            except XraysynthError as error:
                self.error = error
                return None
            self.failed = result["state"] == "failed"
            if distributed.is_main():
                print(json.dumps(_headline(result), default=str), flush=True)
            return Outcome(result)
        launchers.mend_start_method()
        result = {"job": hydra.job.num, "overrides": overrides} | self._kept(composed, overrides)
        outcome = Outcome(_headline(result), score(result))
        outcome.leave(Path(hydra.runtime.output_dir))
        return outcome

    def _result(self, composed: Any, overrides: Sequence[str]) -> Line:
        config = checked(composed)
        if config.plan and self.stage != "study":
            raise ConfigError("plan=true is for xraysynth study; other stages would do their work")
        if config.shard.count > 1 and self.stage not in SHARDED:
            raise ConfigError(
                f"shard.count={config.shard.count} is for xraysynth {' and '.join(SHARDED)}; "
                f"leave it out of xraysynth {self.stage}, which does all of its work"
            )
        from xraysynth.stages import Workspace

        stage = importlib.import_module(f"xraysynth.stages.{self.stage}")
        result: Line = stage.run(Workspace(config, overrides))
        return result

    def _kept(self, composed: Any, overrides: Sequence[str]) -> Line:
        """The result, also where it is an error: the other jobs go on."""
        try:
            return self._result(composed, overrides)
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


def _ended(task: Task) -> int:
    """The exit code, after the results of a multirun have been printed."""
    from xraysynth.jobs import launchers

    follower = launchers.Watch.end()
    if follower is None:
        return int(task.failed)
    if follower.lines:
        announce(follower.folder, follower.lines)
    return int(any(line["state"] == "failed" for line in follower.lines))


LONG = (
    *("history", "scores", "external", "probes", "measures", "diversity", "nearest_similarity"),
    *("closest", "faithfulness", "seen", "tested_on", "appearance", "shortcuts"),
)
"""Entries of a result that are left to run.json."""


def _headline(result: Line) -> Line:
    """The result without long tables: those are in run.json."""
    return {k: v for k, v in result.items() if k not in LONG}


def _understood(error: Exception, arguments: Sequence[str]) -> XraysynthError:
    """The error as one of ours; one that nobody foresaw is raised as it is."""
    from xraysynth.jobs import launchers

    if isinstance(error, XraysynthError):
        return error
    if _is_hydra(error):
        return _every_wrong_option(arguments) or explained(error)
    if isinstance(error, OSError) and error.errno:
        return _explained_os(error)
    if launchers.Watch.follower is not None:
        return launchers.stopped(error)
    raise error


def _every_wrong_option(arguments: Sequence[str]) -> ConfigError | None:
    """All that is wrong in a single run: Hydra itself stops at the first."""
    try:
        compose([] if any(word.startswith("-") for word in arguments) else arguments)
    except ConfigError as every:
        return every
    return None


def _fail(error: XraysynthError) -> int:
    kind = "configuration" if isinstance(error, ConfigError) else type(error).__name__
    if distributed.is_main() or kind != "configuration":  # which all of several processes share
        print(f"xraysynth: error ({kind}): {error}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def _explained_os(error: OSError) -> XraysynthError:
    remedies = {
        28: "the disk is full; free some space and start again: what is done is kept",
        13: "no permission to write there; set paths.output to a folder that can be written",
        30: "the file system is read-only; set paths.output to a folder that can be written",
    }
    remedy = remedies.get(error.errno or 0, "start again when it is mended: what is done is kept")
    return XraysynthError(f"{error.filename or 'writing'}: {error.strerror}; {remedy}")


def _is_hydra(error: BaseException) -> bool:
    return type(error).__module__.startswith(("hydra", "omegaconf"))
