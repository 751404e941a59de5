"""The weights of a fine-tuned generator, with their settings and a model card."""

import json
import shutil
from pathlib import Path
from typing import Any

from xraysynth.errors import PoolError
from xraysynth.generation.generators.stable_diffusion import SCHEDULERS
from xraysynth.generation.lora.folder import FINETUNE_IDENTITY_FILE
from xraysynth.records import JsonObject, sha256_bytes
from xraysynth.release.cards import (
    TAGS,
    GeneratorSummary,
    ModelCard,
    WeightFile,
    licence_header,
    write_card,
)
from xraysynth.release.inputs import ReleasedGenerator, StudyInfo, weight_files
from xraysynth.release.origin import EMBEDDED, read_adapter_settings

ADAPTER_CONFIG = "adapter_config.json"


def write_model(
    folder: Path, study_info: StudyInfo, released: ReleasedGenerator, *, prompt: str
) -> None:
    """The weights as they were taught, their settings, and a model card."""
    assert released.weights is not None
    generator: Any = released.generator
    files = [
        _copy_weights(name, path, folder) for name, path in weight_files(released.weights).items()
    ]
    recipe = _copy_recipe(released.weights, folder)
    subject = GeneratorSummary.from_generator(study_info, released)
    scheduler, scheduler_options = SCHEDULERS[generator.scheduler]
    header = {
        **licence_header(subject.licence),
        **({"base_model": subject.origin.model} if subject.origin.on_hub else {}),
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["lora", "peft", "diffusers", *TAGS],
    }
    card = ModelCard(
        summary=subject,
        key=released.key,
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
        finetuning=released.finetuning,
        training_digest=released.training_digest,
        train_split=study_info.train_split,
    )
    write_card(folder, header, card)


def _copy_recipe(weights: Path, folder: Path) -> JsonObject:
    """Copy the file by which xraysynth knows the model that the LoRA belongs to; its options."""
    if not (weights / FINETUNE_IDENTITY_FILE).is_file():
        return {}
    shutil.copyfile(weights / FINETUNE_IDENTITY_FILE, folder / FINETUNE_IDENTITY_FILE)
    recipe: JsonObject = json.loads((weights / FINETUNE_IDENTITY_FILE).read_text()).get(
        "recipe", {}
    )
    return recipe


def _copy_weights(name: str, path: Path, folder: Path) -> WeightFile:
    """Copy a file and compare it, and write its adapter settings beside it."""
    target, data = folder / name, path.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    sha256 = sha256_bytes(data)
    if sha256_bytes(target.read_bytes()) != sha256:
        raise PoolError(f"{target} differs from {path}; the disk may be damaged")
    settings = target.with_name(ADAPTER_CONFIG)
    settings.write_text(json.dumps(read_adapter_settings(path), indent=1) + "\n", encoding="utf-8")
    return WeightFile(name, settings.relative_to(folder).as_posix(), sha256)
