"""LoRA layers in a Stable Diffusion pipeline: adding them, and writing them for diffusers."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from xraysynth.errors import ConfigError, format_some
from xraysynth.files import write_atomically
from xraysynth.generation.lora.folder import LORA_WEIGHT_NAME
from xraysynth.generation.lora.latents import text_encoders
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.seeds import derive_seed

TEXT_ENCODER_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]


def check_targets(unet: torch.nn.Module, targets: Sequence[str]) -> None:
    """Raise `ConfigError` for a target that no linear or convolutional layer's name ends in."""
    layers = (torch.nn.Linear, torch.nn.Conv2d)
    names = [f".{name}" for name, module in unet.named_modules() if isinstance(module, layers)]
    unknown = [t for t in targets if not any(name.endswith(f".{t}") for name in names)]
    if unknown:
        raise ConfigError(
            f"lora.targets: the UNet has no linear or convolutional layer {format_some(unknown)}; "
            f"it has {format_some(sorted({_layer_suffix(name) for name in names}), 30)}"
        )


def _layer_suffix(name: str) -> str:
    """The last part of a dotted name, with those before it where it is a number."""
    parts = name.split(".")
    start = -1
    while parts[start].isdigit():
        start -= 1
    return ".".join(parts[start:])


def trained_modules(pipeline: Any, recipe: LoraRecipe) -> dict[str, Any]:
    """The modules of the pipeline that the recipe trains, by name."""
    encoders = text_encoders(pipeline) if recipe.text_encoder else {}
    return {"unet": pipeline.unet, **encoders}


def add_adapters(pipeline: Any, recipe: LoraRecipe) -> list[torch.nn.Parameter]:
    """Add LoRA layers to a frozen pipeline; their parameters, in a fixed order.

    What they start from depends on the recipe's seed alone; the pipeline draws as before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        for name, module in trained_modules(pipeline, recipe).items():
            module.add_adapter(
                LoraConfig(
                    r=recipe.rank,
                    lora_alpha=recipe.alpha,  # type: ignore[arg-type] # any number will do
                    lora_dropout=recipe.dropout,
                    target_modules=list(recipe.targets) if name == "unet" else TEXT_ENCODER_TARGETS,
                    init_lora_weights="gaussian",
                )
            )
    modules = trained_modules(pipeline, recipe).values()
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def save_adapters(pipeline: Any, recipe: LoraRecipe, folder: Path) -> Path:
    """Write `pytorch_lora_weights.safetensors`; the same layers always give the same bytes.

    Its metadata holds the adapters' settings: without them a reader takes alpha to be the rank.
    """
    options: dict[str, object] = {}
    for name, module in trained_modules(pipeline, recipe).items():
        # In peft's names: in diffusers' own, attention is named in one way and convolutions in another,
        # and its reader then drops the attention without a word.
        layers = get_peft_model_state_dict(module)
        settings = module.peft_config["default"].to_dict()
        settings["target_modules"] = sorted(settings["target_modules"])
        options[f"{name}_lora_layers"] = layers
        options[f"{name}_lora_adapter_metadata"] = settings
    with tempfile.TemporaryDirectory() as elsewhere:
        pipeline.save_lora_weights(elsewhere, **options)
        data = (Path(elsewhere) / LORA_WEIGHT_NAME).read_bytes()
    write_atomically(folder / LORA_WEIGHT_NAME, _sort_header(data))
    return folder / LORA_WEIGHT_NAME


def _sort_header(data: bytes) -> bytes:
    """A safetensors file with its metadata, which is written in an order of chance, in order."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]
