"""The weights of a fine-tuned generator, with their settings and a model card."""

import json
import shutil
from pathlib import Path
from typing import Any

from xraysynth.errors import PoolError
from xraysynth.generation.generators.stable_diffusion import SCHEDULERS
from xraysynth.generation.lora.folder import BASE
from xraysynth.records import JsonObject, sha256_bytes
from xraysynth.release.cards import (
    TAGS,
    ModelCard,
    Subject,
    WeightFile,
    licence_header,
    write_card,
)
from xraysynth.release.inputs import Background, Made, weight_files
from xraysynth.release.origin import EMBEDDED, adapter_settings

SETTINGS = "adapter_config.json"


def write_model(folder: Path, about: Background, made: Made, *, prompt: str) -> None:
    """The weights as they were taught, their settings, and a model card."""
    assert made.weights is not None
    generator: Any = made.generator
    files = [_copy(name, path, folder) for name, path in weight_files(made.weights).items()]
    recipe = _copy_recipe(made.weights, folder)
    subject = Subject.of(about, made)
    scheduler, scheduler_options = SCHEDULERS[generator.scheduler]
    header = {
        **licence_header(subject.licence),
        **({"base_model": subject.origin.model} if subject.origin.on_hub else {}),
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["lora", "peft", "diffusers", *TAGS],
    }
    card = ModelCard(
        subject=subject,
        key=made.key,
        embedded=subject.origin.model == EMBEDDED,
        files=files,
        prompt=prompt,
        scale=generator.scale,
        steps=generator.steps,
        guidance=generator.guidance,
        scheduler=scheduler,
        scheduler_options=scheduler_options,
        with_zero_terminal_snr=bool(recipe.get("zero_terminal_snr")),
        recipe=recipe,
        finetuning=made.taught,
        seen=made.seen_digest,
        trained=about.trained,
    )
    write_card(folder, header, card)


def _copy_recipe(weights: Path, folder: Path) -> JsonObject:
    """Copy the file by which xraysynth knows the model that the LoRA belongs to; its options."""
    if not (weights / BASE).is_file():
        return {}
    shutil.copyfile(weights / BASE, folder / BASE)
    recipe: JsonObject = json.loads((weights / BASE).read_text()).get("recipe", {})
    return recipe


def _copy(name: str, path: Path, folder: Path) -> WeightFile:
    """Copy a file and compare it, and write its adapter settings beside it."""
    target, data = folder / name, path.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    sha256 = sha256_bytes(data)
    if sha256_bytes(target.read_bytes()) != sha256:
        raise PoolError(f"{target} differs from {path}; the disk may be damaged")
    settings = target.with_name(SETTINGS)
    settings.write_text(json.dumps(adapter_settings(path), indent=1) + "\n", encoding="utf-8")
    return WeightFile(name, settings.relative_to(folder).as_posix(), sha256)
