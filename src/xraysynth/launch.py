"""One stage through Hydra: a single run or a multirun, and what is printed in the end."""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from xraysynth.config import checked, explained, plugin_overrides, register
from xraysynth.errors import ConfigError, XraysynthError


def launch(stage: str, arguments: Sequence[str]) -> int:
    """Run a stage with Hydra's command line arguments; the exit code."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    states = []

    def task(composed: Any) -> None:
        config = checked(composed)
        overrides = [text.removeprefix("++") for text in HydraConfig.get().overrides.task]
        result = importlib.import_module(f"xraysynth.stages.{stage}").run(config, overrides)
        states.append(result["state"])
        print(json.dumps(_headline(result), default=str), flush=True)

    register()
    # Hydra prints tracebacks of its own unless it is told to let exceptions pass.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [f"xraysynth {stage}", *plugin_overrides(arguments)]
    main = hydra.main(config_path="pkg://xraysynth.conf", config_name="config", version_base="1.3")
    try:
        main(task)()
    except XraysynthError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("interrupted; start it again to go on", file=sys.stderr)
        return 130
    except Exception as error:
        if _is_hydra(error):
            return _fail(explained(error))
        if isinstance(error, OSError) and error.errno:
            return _fail(_explained_os(error))
        raise
    return 1 if "failed" in states else 0


LONG = ("history", "scores", "fidelity", "diversity", "memorization", "appearance")
"""Entries of a result that are left to run.json."""


def _headline(result: dict[str, Any]) -> dict[str, Any]:
    """The result without long tables: those are in run.json."""
    return {k: v for k, v in result.items() if k not in LONG}


def _fail(error: XraysynthError) -> int:
    kind = "configuration" if isinstance(error, ConfigError) else type(error).__name__
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
