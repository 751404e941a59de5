"""Adds LoRA layers to a Stable Diffusion pipeline, and saves them in diffusers' format."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError

from xraysynth.errors import ConfigError, XraysynthError, format_some
from xraysynth.files import write_atomically
from xraysynth.generation.lora.embeddings import text_encoders
from xraysynth.generation.lora.folder import LORA_WEIGHT_NAME
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.seeds import derive_seed

TEXT_ENCODER_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]
"""Attention layers of a text encoder that carry a LoRA when `LoraRecipe.text_encoder` is set."""


def check_targets(unet: torch.nn.Module, targets: Sequence[str]) -> None:
    """Check that every target of the recipe names at least one layer of the UNet.

    Args:
        unet: UNet of the pipeline.
        targets: Endings of dotted module names, such as `to_q` or `to_out.0`.

    Raises:
        ConfigError: If no linear or convolutional layer has a name that ends in one of the targets.
    """
    layer_names = []
    for name, module in unet.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            layer_names.append(f".{name}")
    unknown = []
    for target in targets:
        if not any(name.endswith(f".{target}") for name in layer_names):
            unknown.append(target)
    if unknown:
        available = sorted(set(map(_layer_suffix, layer_names)))
        raise ConfigError(
            f"lora.targets: the UNet has no linear or convolutional layer {format_some(unknown)}; "
            f"it has {format_some(available, 30)}"
        )


def _layer_suffix(name: str) -> str:
    """Return the last part of a dotted name, with the part before it where the last is a number."""
    parts = name.split(".")
    start = -1
    while parts[start].isdigit():
        start -= 1
    return ".".join(parts[start:])


def trained_modules(pipeline: Any, recipe: LoraRecipe) -> dict[str, Any]:
    """Return the modules of the pipeline that the recipe trains, by their name in the pipeline."""
    encoders = text_encoders(pipeline) if recipe.text_encoder else {}
    return {"unet": pipeline.unet, **encoders}


def add_adapters(pipeline: Any, recipe: LoraRecipe) -> list[torch.nn.Parameter]:
    """Add LoRA layers to a frozen pipeline (Hu et al., arXiv:2106.09685, equation 3).

    The initial weights depend on the recipe's seed alone. The second matrix of every LoRA starts at
    zero, so the pipeline generates the same images as before.

    Args:
        pipeline: Stable Diffusion pipeline whose parameters do not require gradients.
        recipe: Rank, alpha, dropout, targets and seed of the LoRA.

    Returns:
        The parameters of the LoRA layers, in a fixed order.
    """
    modules = trained_modules(pipeline, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        for name, module in modules.items():
            targets = list(recipe.targets) if name == "unet" else TEXT_ENCODER_TARGETS
            config = LoraConfig(
                r=recipe.rank,
                lora_alpha=recipe.alpha,  # type: ignore[arg-type] # any number will do
                lora_dropout=recipe.dropout,
                target_modules=targets,
                init_lora_weights="gaussian",
            )
            module.add_adapter(config)
    parameters: list[torch.nn.Parameter] = []
    for module in modules.values():
        parameters.extend(filter(_requires_grad, module.parameters()))
    return parameters


def _requires_grad(parameter: torch.nn.Parameter) -> bool:
    return parameter.requires_grad


def save_adapters(pipeline: Any, recipe: LoraRecipe, folder: Path) -> Path:
    """Write the LoRA layers to `pytorch_lora_weights.safetensors`, as diffusers reads it.

    Equal layers give equal bytes. The metadata of the file holds the settings of the adapters: without
    them a reader would assume that alpha equals the rank.

    Args:
        pipeline: Pipeline with LoRA layers.
        recipe: Recipe that the layers were added by.
        folder: Folder to write to.

    Returns:
        The path of the file.
    """
    options: dict[str, object] = {}
    for name, module in trained_modules(pipeline, recipe).items():
        # Names are peft's: diffusers' own names differ between attention and convolutions, and its
        # reader then silently drops the attention layers.
        layers = get_peft_model_state_dict(module)
        settings = module.peft_config["default"].to_dict()
        settings["target_modules"] = sorted(settings["target_modules"])
        settings["base_model_name_or_path"] = None  # peft writes a folder of this machine there
        options[f"{name}_lora_layers"] = layers
        options[f"{name}_lora_adapter_metadata"] = settings
    with tempfile.TemporaryDirectory() as temporary_folder:
        try:
            pipeline.save_lora_weights(temporary_folder, **options)
        except SafetensorError as error:  # its error on a full disk is no OSError
            raise XraysynthError(
                f"{temporary_folder}: the LoRA cannot be written ({error}); free some space there, or "
                "set TMPDIR to another folder, and run it again: it resumes from its last step"
            ) from error
        data = (Path(temporary_folder) / LORA_WEIGHT_NAME).read_bytes()
    write_atomically(folder / LORA_WEIGHT_NAME, _sort_header(data))
    return folder / LORA_WEIGHT_NAME


def _sort_header(data: bytes) -> bytes:
    """Sort the metadata of a safetensors file, which the library writes in random order."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]
