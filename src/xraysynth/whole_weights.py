"""Weights are loaded whole or not at all.

Libraries fill the weights that a file lacks with random numbers, drop those that they do not know, and say
so in a log. A model that is half random draws and classifies all the same.
"""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xraysynth.errors import DataNotFoundError, XraysynthError, format_some

BUFFERS = ("position_ids",)
"""Ends of the names of tensors that earlier versions of transformers saved, and that hold no weights."""


def require_whole(
    path: Path | str,
    loading_info: Mapping[str, Iterable[Any]],
    *,
    expected: str,
    remedy: str,
    may_lack: tuple[str, ...] = (),
    error: type[XraysynthError] = DataNotFoundError,
) -> None:
    """Raise an error if a library has loaded only a part of the weights.

    Args:
        path: The file or folder, after the option that names it, for the error.
        loading_info: `missing_keys`, `unexpected_keys` and `mismatched_keys`, as diffusers and
            transformers return them (`output_loading_info=True`); what is not there is not checked.
        expected: What the file should hold, such as "a UNet2DConditionModel".
        remedy: What to do about it.
        may_lack: How the names of weights begin that are trained anew, such as a classifier's head.
        error: Class of the error.
    """
    missing = [key for key in _names(loading_info, "missing_keys") if not key.startswith(may_lack)]
    problems = []
    for keys, problem in [
        (missing, "are missing"),
        (_names(loading_info, "mismatched_keys"), "have another shape"),
        (_names(loading_info, "unexpected_keys"), "belong to another model"),
    ]:
        if keys:
            problems.append(f"{len(keys)} weights {problem} ({format_some(keys, limit=3)})")
    if problems:
        raise error(f"{path} does not hold {expected}: {', '.join(problems)}; {remedy}")


def load_whole(
    module: Any,
    state: Mapping[str, Any],
    path: Path,
    *,
    expected: str,
    remedy: str,
    error: type[XraysynthError] = DataNotFoundError,
) -> None:
    """Load a state dict into a torch module; raise an error if it is not exactly the module's.

    The module keeps its weights if they do not fit. The arguments are those of `require_whole`.
    """
    own = module.state_dict()
    shared = [name for name in state if name in own]
    info = {
        "missing_keys": own.keys() - state.keys(),
        "unexpected_keys": state.keys() - own.keys(),
        "mismatched_keys": [name for name in shared if own[name].shape != state[name].shape],
    }
    require_whole(path, info, expected=expected, remedy=remedy, error=error)
    module.load_state_dict(dict(state))


def pickle_conversion_command(path: Path) -> str:
    """Return the command that makes a safetensors file of a pickled state dict; it runs no code in it."""
    source, target = str(path.absolute()), str(path.absolute().with_suffix(".safetensors"))
    code = (
        "import torch; from safetensors.torch import save_file; "
        f"save_file(torch.load({source!r}, weights_only=True), {target!r})"
    )
    return f"python -c {shlex.quote(code)}"


def _names(loading_info: Mapping[str, Iterable[Any]], kind: str) -> list[str]:
    """Return the sorted names of one kind; transformers gives a mismatch as (name, shape, shape)."""
    names = []
    for entry in loading_info.get(kind, ()):
        name = entry if isinstance(entry, str) else entry[0]
        if not name.endswith(BUFFERS):
            names.append(name)
    return sorted(names)
