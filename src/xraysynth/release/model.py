"""The model part of a release: the weights of a fine-tuned generator and a model card."""

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
"""peft's name of the file with an adapter's settings."""


def write_model(
    folder: Path, study_info: StudyInfo, released: ReleasedGenerator, *, prompt: str
) -> None:
    """Writes the weights without changing a byte, their settings, and a model card.

    Args:
        folder: Folder of this part.
        study_info: Facts about the study.
        released: The generator, whose `weights` must not be None.
        prompt: Example of a prompt for the card.
    """
    assert released.weights is not None
    generator: Any = released.generator
    files = []
    for name, path in weight_files(released.weights).items():
        files.append(_copy_weights(name, path, folder))
    recipe = _copy_recipe(released.weights, folder)
    summary = GeneratorSummary.from_generator(study_info, released)
    scheduler, scheduler_options = SCHEDULERS[generator.scheduler]
    card = ModelCard(
        summary=summary,
        key=released.key,
        embedded=summary.origin.model == EMBEDDED,
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
    write_card(folder, _build_header(summary), card)


def _build_header(summary: GeneratorSummary) -> JsonObject:
    """Returns the fields that the Hub reads from the head of a model card."""
    base_model = {"base_model": summary.origin.model} if summary.origin.on_hub else {}
    return {
        **licence_header(summary.licence),
        **base_model,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["lora", "peft", "diffusers", *TAGS],
    }


def _copy_recipe(weights: Path, folder: Path) -> JsonObject:
    """Copies the identity of the fine-tuning, if there is one, and returns its options.

    By this file xraysynth recognises which base model the LoRA belongs to.
    """
    source = weights / FINETUNE_IDENTITY_FILE
    if not source.is_file():
        return {}
    shutil.copyfile(source, folder / FINETUNE_IDENTITY_FILE)
    recipe: JsonObject = json.loads(source.read_text()).get("recipe", {})
    return recipe


def _copy_weights(name: str, path: Path, folder: Path) -> WeightFile:
    """Copies a file of weights, compares the copy, and writes the adapter's settings beside it."""
    target = folder / name
    data = path.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    sha256 = sha256_bytes(data)
    if sha256_bytes(target.read_bytes()) != sha256:
        raise PoolError(f"the copy {target} differs from {path}; the disk may be damaged")
    config_file = target.with_name(ADAPTER_CONFIG)
    settings = json.dumps(read_adapter_settings(path), indent=1)
    config_file.write_text(settings + "\n", encoding="utf-8")
    return WeightFile(name, config_file.relative_to(folder).as_posix(), sha256)
