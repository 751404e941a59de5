"""Finds the weight files of a model folder, and checks that they are complete safetensors files."""

import json
import re
import shlex
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from xraysynth.errors import DataNotFoundError
from xraysynth.files import explain_unreadable
from xraysynth.records import JsonObject
from xraysynth.whole_weights import pickle_conversion_command

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.(?P<of_file>\w+))?\.safetensors"
    r"(?P<index>\.index(?:\.(?P<of_index>\w+))?\.json)?"
)
"""Names of a component's weights, or of the index of its shards; some have a variant such as fp16."""


@dataclass(frozen=True)
class ComponentFiles:
    """Weight files of one component of a pipeline.

    Attributes:
        files: The safetensors files: one, or several shards.
        variant: Variant in their names, such as "fp16"; None for files without one.
    """

    files: list[Path]
    variant: str | None = None


def pipeline_files(option: str, folder: Path) -> dict[str, ComponentFiles]:
    """Find the weight files of each component in a diffusers folder.

    A component may be in another variant than the others; files without a variant are preferred.

    Args:
        option: Option that names the folder, for errors.
        folder: Folder with a `model_index.json`.

    Returns:
        For each component, such as `unet`, its safetensors files; all are complete.

    Raises:
        DataNotFoundError: If a component, or its weights, are not there, or there are pickles in their
            place, or a file is cut short.
    """
    index = read_model_index(option, folder)
    found = {}
    for component in _COMPONENTS:
        if component_class(index, component):
            found[component] = _component_files(option, folder / component)
    for component in ("unet", "vae", "text_encoder"):
        if component not in found and not (
            component == "text_encoder" and "text_encoder_2" in found
        ):
            rule = f"model_index.json names no {component}"
            raise _missing_weights_error(option, folder, rule)
    for component_files in found.values():
        for file in component_files.files:
            count_stored_parameters(file)  # raises for a file that is not complete
    return found


def read_model_index(option: str, folder: Path) -> JsonObject:
    """Read `model_index.json` of a diffusers folder; `DataNotFoundError` if there is none."""
    try:
        return dict(json.loads((folder / "model_index.json").read_text()))
    except (OSError, ValueError) as error:
        rule = "there is no readable model_index.json"
        raise _missing_weights_error(option, folder, rule) from error


def component_class(model_index: JsonObject, component: str) -> tuple[str, str] | None:
    """Return library and class of a component; None if the model has none."""
    entry = model_index.get(component)
    return (entry[0], entry[1]) if isinstance(entry, list) and entry[0] and entry[1] else None


def _component_files(option: str, folder: Path) -> ComponentFiles:
    """Return the weight file of a component, or the shards that its index lists."""
    by_variant: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        name = _WEIGHTS.fullmatch(path.name)
        if name:
            by_variant.setdefault(name["of_file"] or name["of_index"] or "", path)
    if not by_variant:
        raise _missing_weights_error(option, folder, "there are no weights (*.safetensors)")
    if "" not in by_variant and len(by_variant) > 1:
        raise DataNotFoundError(
            f"{option}: {folder} has weights in the variants {', '.join(by_variant)}, and none without; "
            "keep the files of one of them"
        )
    variant = min(by_variant)
    path = by_variant[variant]
    files = _shards(path) if path.suffix == ".json" else [path]
    return ComponentFiles(files, variant or None)


def _shards(index: Path) -> list[Path]:
    """Return the files that an index of shards lists; `DataNotFoundError` if one is not there."""
    with explain_unreadable(index, "download the model again"):
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise DataNotFoundError(
            f"{index} lists {len(names)} files of weights, of which {', '.join(missing)} are not there; "
            "download the model again"
        )
    return [index.parent / name for name in names]


def variant_of(file: Path) -> str | None:
    """Return the variant in the name of a weight file, such as "fp16"; None without one."""
    name = _WEIGHTS.fullmatch(file.name)
    return name["of_file"] if name else None


def single_file(option: str, path: Path) -> Path:
    """Return the one safetensors file that `path` is or holds.

    Raises:
        DataNotFoundError: If there is not exactly one such file, or it is cut short.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    pickles = [file for file in (files or sorted(path.glob("*"))) if file.suffix in PICKLE_SUFFIXES]
    if pickles:
        raise DataNotFoundError(
            f"{option}: {pickles[0]} is a pickle, and only safetensors are loaded; convert it: "
            f"{pickle_conversion_command(pickles[0])}"
        )
    if len(files) != 1 or files[0].suffix != ".safetensors":
        rule = f"there must be exactly one safetensors file, but there are {len(files)}"
        raise _missing_weights_error(option, path, rule)
    count_stored_parameters(files[0])  # raises for a file that is not complete
    return files[0]


def _missing_weights_error(option: str, folder: Path, rule: str) -> DataNotFoundError:
    """Return an error that says what to do: convert what is there, or else download again."""
    candidates = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    names = [path.name for path in candidates]
    if "openvino_model.xml" in names:
        return DataNotFoundError(
            f"{option}: {folder} is a model that was exported for OpenVINO; name the diffusers folder that "
            f"it was made from, and set {option.rpartition('.')[0]}.engine=openvino, which converts it "
            "when it is loaded"
        )
    if folder.is_file() and folder.suffix == ".safetensors":
        return DataNotFoundError(
            f"{option}: {folder} is a checkpoint in one file; only diffusers' folders are loaded. Convert "
            f"it: {conversion_command(folder)}"
        )
    pickle = next((path for path in candidates if path.suffix in PICKLE_SUFFIXES), None)
    if pickle is None:
        return DataNotFoundError(f"{option}: {rule} in {folder}; download the model again")
    root = folder if folder.is_file() or (folder / "model_index.json").exists() else folder.parent
    return DataNotFoundError(
        f"{option}: {folder} has {pickle.name}, a pickle, which can run code when it is read; only "
        f"safetensors are loaded. Convert it where you trust it: {conversion_command(root)}"
    )


def conversion_command(model: Path | str, revision: str = "") -> str:
    """Return the command that makes a folder of safetensors of a file, a folder of pickles, or a hub id."""
    is_file = isinstance(model, Path) and model.is_file()
    place = Path(model).absolute() if isinstance(model, Path) else Path(model.replace("/", "-"))
    target = place.with_name(f"{place.stem}-safetensors")
    options: dict[str, Any] = {"safety_checker": None} if is_file else {"use_safetensors": False}
    options |= {"revision": revision} if revision else {}
    arguments = "".join(f", {name}={value!r}" for name, value in options.items())
    code = (
        "from diffusers import StableDiffusionPipeline as P; "
        f"P.{'from_single_file' if is_file else 'from_pretrained'}({str(model)!r}{arguments})"
        f".save_pretrained({str(target)!r})"
    )
    return f"python -c {shlex.quote(code)}"


def count_stored_parameters(file: Path) -> int:
    """Count the parameters in a safetensors file from its header; `DataNotFoundError` if it is damaged."""
    return sum(map(prod, tensor_shapes(file).values()))


def tensor_shapes(file: Path) -> dict[str, list[int]]:
    """Read the shape of every tensor in a safetensors file from the file's header.

    Raises:
        DataNotFoundError: If the file is damaged or cut short.
    """
    from safetensors import safe_open

    try:
        with safe_open(file, "np") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except Exception as error:  # SafetensorError derives from nothing nearer
        raise DataNotFoundError(
            f"{file} is damaged or cut short ({error}); delete it and download it again"
        ) from error
