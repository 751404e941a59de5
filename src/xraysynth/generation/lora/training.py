"""Low-rank adaptation of Stable Diffusion to radiographs: checks, preparation and the training.

    <folder>/
        checkpoint.safetensors            weights, optimiser, averages and history after some step
        pytorch_lora_weights.safetensors  the result, as diffusers' `load_lora_weights` reads it

Latents and embeddings come from a cache, so that neither the autoencoder nor a text encoder that is
not trained runs inside the loop. All random numbers of a step derive from the seed and the number of
the step: a killed training resumes from its checkpoint and repeats the same steps, and processes that
share a batch compute the gradient that a single process would (apart from LoRA dropout).
"""

from pathlib import Path
from typing import Any

import torch

from xraysynth.errors import ConfigError
from xraysynth.generation.generators._engines import SMALL_UNET_PARAMETERS
from xraysynth.generation.lora.acceleration import prepare_accelerator
from xraysynth.generation.lora.adapters import check_targets
from xraysynth.generation.lora.denoising import noise_schedule
from xraysynth.generation.lora.embeddings import text_encoders
from xraysynth.generation.lora.examples import prepare_training_data, training_data_digest
from xraysynth.generation.lora.learner import Learner
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.generation.lora.tensor_files import tensors_digest
from xraysynth.generation.lora.training_loop import LoraResult, OnLog, OnValidation, TrainingLoop
from xraysynth.generation.schedulers import rescale_to_zero_terminal_snr
from xraysynth.records import CaptionedImages, to_json
from xraysynth.seeds import digest
from xraysynth.threads import choose_threads, torch_threads

MIN_IMAGES = 8
"""Fewest training images that a LoRA is trained on."""


def train(
    pipeline: Any,
    training: CaptionedImages,
    validation: CaptionedImages | None,
    recipe: LoraRecipe,
    *,
    folder: Path,
    cache: Path,
    on_log: OnLog | None = None,
    on_validation: OnValidation | None = None,
) -> LoraResult:
    """Adapt a Stable Diffusion pipeline to images, and leave the LoRA layers in it.

    Args:
        pipeline: `StableDiffusionPipeline` or `StableDiffusionXLPipeline` in float32. LoRA layers that
            it has are removed first. In mixed precision the UNet's frozen weights stay in the lower
            precision afterwards.
        training: Images to train on, at least `MIN_IMAGES`.
        validation: Images of the validation loss, if any.
        recipe: Settings of the training.
        folder: Folder of the checkpoint and of the result. A training resumes from its checkpoint.
        cache: Folder of encoded images and captions.
        on_log: Called by the main process with every entry of the history.
        on_validation: Called by the main process after every validation, with the pipeline as adapted
            so far and the step.

    Returns:
        The weights file and the history.

    Raises:
        ConfigError: If images, model and recipe do not fit together.
        XraysynthError: If the loss is not finite, or the checkpoint in `folder` is damaged or belongs
            to another recipe, other data or another model.
    """
    _freeze(pipeline)
    _require_trainable(pipeline, training, validation, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with prepare_accelerator(recipe) as accelerator, torch_threads(_threads(pipeline, accelerator)):
        with accelerator.main_process_first():  # the other processes find everything in the cache
            data = prepare_training_data(
                pipeline, training, validation, recipe, device=accelerator.device, cache=cache
            )
        identity = _checkpoint_identity(
            pipeline, recipe, training_data_digest(training, validation)
        )
        if recipe.zero_terminal_snr:  # samples must follow the schedule that is trained
            pipeline.scheduler = rescale_to_zero_terminal_snr(pipeline.scheduler)
        learner = Learner(accelerator, pipeline, data, recipe)
        return TrainingLoop(learner, folder, identity).fit(on_log, on_validation)


def _threads(pipeline: Any, accelerator: Any) -> int:
    """Return the number of threads by the size of the UNet; all cores beside a GPU."""
    parameters = sum(map(torch.numel, pipeline.unet.parameters()))
    on_cpu = accelerator.device.type == "cpu"
    return choose_threads(is_large=not on_cpu or parameters >= SMALL_UNET_PARAMETERS)


def _freeze(pipeline: Any) -> None:
    """Remove LoRA layers, and switch gradients and dropout of all modules off."""
    pipeline.unload_lora_weights()
    pipeline.set_progress_bar_config(disable=True)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).eval()


def _require_trainable(
    pipeline: Any, training: CaptionedImages, validation: CaptionedImages | None, recipe: LoraRecipe
) -> None:
    """Raise `ConfigError` where images, model and recipe do not fit together."""
    if len(training) < MIN_IMAGES:
        raise ConfigError(
            f"LoRA training got {len(training)} training images and needs at least "
            f"{MIN_IMAGES}; add images, or use the model without fine-tuning"
        )
    if recipe.patience and not validation:
        raise ConfigError(
            f"lora.patience={recipe.patience} needs validation images and there are none; "
            "set lora.patience=0"
        )
    divisor = pipeline.vae_scale_factor
    height, width = training.images.shape[1:]
    if height % divisor or width % divisor:
        raise ConfigError(
            f"the images are {height} x {width} px, but this model needs a height and width that are "
            f"divisible by {divisor}; set size_px of the generator to a multiple of {divisor}"
        )
    check_targets(pipeline.unet, recipe.targets)
    noise_schedule(pipeline.scheduler.config, recipe)


def _checkpoint_identity(pipeline: Any, recipe: LoraRecipe, data_digest: str) -> str:
    """Return a digest of recipe, model and data, which a resumed training must share."""
    modules = {"unet": pipeline.unet, "vae": pipeline.vae, **text_encoders(pipeline)}
    weights = {}
    for name, module in modules.items():
        weights[name] = tensors_digest(module.state_dict())
    return digest([to_json(recipe), weights, dict(pipeline.scheduler.config), data_digest])
