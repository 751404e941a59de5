"""Finds the weight files of a model folder, and checks that they are complete safetensors files."""

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path

from xraysynth.errors import DataNotFoundError

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def pipeline_files(option: str, folder: Path) -> dict[str, list[Path]]:
    """Find the weight files of each component in a diffusers folder.

    Args:
        option: Option that names the folder, for errors.
        folder: Folder with a `model_index.json`.

    Returns:
        For each component, such as `unet`, its safetensors files; all are complete.

    Raises:
        DataNotFoundError: If there are no weights, or pickles in their place, or a file is cut short.
    """
    index = folder / "model_index.json"
    try:
        model_index = json.loads(index.read_text())
    except (OSError, ValueError) as error:
        rule = f"there is no readable {index.name}"
        raise _missing_weights_error(option, folder, rule) from error
    files: dict[str, list[Path]] = {}
    for component in _COMPONENTS:
        entry = model_index.get(component)
        if isinstance(entry, list) and entry[0]:
            files[component] = list(_component_files(option, folder / component))
    for component_files in files.values():
        for file in component_files:
            count_stored_parameters(file)  # raises for a file that is not complete
    return files


def _component_files(option: str, folder: Path) -> Iterator[Path]:
    """Yield the weight file of a component, or the shards that its index lists."""
    for stem in ("diffusion_pytorch_model", "model"):
        weights = folder / f"{stem}.safetensors"
        index = folder / f"{stem}.safetensors.index.json"
        if weights.is_file():
            yield weights
            return
        if index.is_file():
            shards = json.loads(index.read_text())["weight_map"].values()
            for name in sorted(set(shards)):
                yield folder / name
            return
    raise _missing_weights_error(
        option, folder, "there is no model.safetensors or diffusion_pytorch_model.safetensors"
    )


def single_file(option: str, path: Path) -> Path:
    """Return the one safetensors file that `path` is or holds.

    Raises:
        DataNotFoundError: If there is not exactly one such file, or it is cut short.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1 or files[0].suffix != ".safetensors":
        rule = f"there must be exactly one safetensors file, but there are {len(files)}"
        raise _missing_weights_error(option, path, rule)
    count_stored_parameters(files[0])  # raises for a file that is not complete
    return files[0]


def _missing_weights_error(option: str, folder: Path, rule: str) -> DataNotFoundError:
    """Return an error that says what to do: convert a pickle if there is one, else download again."""
    candidates = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    pickle = next((path.name for path in candidates if path.suffix in PICKLE_SUFFIXES), None)
    if pickle is None:
        return DataNotFoundError(f"{option}: {rule} in {folder}; download the model again")
    return DataNotFoundError(
        f"{option}: {folder} has {pickle}, a pickle, which can run code when it is read; only "
        "safetensors are loaded. Convert it where you trust it, with diffusers: "
        "StableDiffusionPipeline.from_pretrained(folder, use_safetensors=False)"
        ".save_pretrained(new_folder), or from_single_file(file) for a single file"
    )


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
