"""Low-rank adaptation of Stable Diffusion to radiographs: the training loop and its checkpoints.

    <folder>/
        checkpoint.safetensors            weights, optimiser, averages and history at some step
        pytorch_lora_weights.safetensors  the result, as diffusers' `load_lora_weights` reads it

Latents and embeddings come from a cache, so that neither the autoencoder nor a text encoder that is
not trained runs inside the loop. All chance in a step derives from the seed and the step's number:
a run that was killed goes on from its checkpoint and repeats the same steps, and processes that
share a batch compute the gradient that one alone would (LoRA dropout, if any, differs).
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.generation.lora.acceleration import accelerator_for
from xraysynth.generation.lora.adapters import check_targets, save_adapters
from xraysynth.generation.lora.checkpoint import Checkpoint, HistoryEntry
from xraysynth.generation.lora.denoising import noise_schedule
from xraysynth.generation.lora.examples import prepare_training_data, training_data_digest
from xraysynth.generation.lora.folder import LORA_WEIGHT_NAME
from xraysynth.generation.lora.latents import tensors_digest, text_encoders
from xraysynth.generation.lora.learner import Learner
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.generation.schedulers import rescale_to_zero_terminal_snr
from xraysynth.progress import progress_bar
from xraysynth.records import CaptionedImages, to_json
from xraysynth.seeds import digest

MIN_IMAGES = 8
LOSS_SYNC_STEPS = 10
"""Steps after which a GPU is asked for its losses: asking at every step would make it wait."""

OnLog = Callable[[HistoryEntry], None]
OnValidation = Callable[[Any, int], None]


@dataclass(frozen=True)
class LoraResult:
    """The weights file, and how training went.

    `history` has an entry for every step: loss, grad_norm (before clipping), lr and seconds, and
    val_loss where it was measured. The weights are those of `kept_step`: of the best validation
    loss with early stopping, else of the last step.
    """

    weights: Path
    history: list[HistoryEntry]
    steps: int
    kept_step: int
    trained_parameters: int
    seconds: float
    seconds_per_step: float

    @property
    def val_loss(self) -> float | None:
        """Validation loss of the weights kept; None without validation images."""
        return self.history[self.kept_step - 1].get("val_loss")


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
    """Adapt a float32 `StableDiffusionPipeline` or `StableDiffusionXLPipeline`, and leave it so.

    Goes on from the checkpoint in `folder` if it is of the same recipe, data and model, and refuses
    another's. The main process calls `on_log` with every history entry and `on_validation` with the
    pipeline, adapted so far, and the step. LoRA layers that the pipeline has are taken out first.
    In mixed precision the UNet's frozen weights are left in the lower one.
    """
    _freeze(pipeline)
    _require_trainable(pipeline, training, validation, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with accelerator_for(recipe) as accelerator:
        with accelerator.main_process_first():  # the others find everything in the cache
            material = prepare_training_data(
                pipeline, training, validation, recipe, device=accelerator.device, cache=cache
            )
        identity = _checkpoint_identity(
            pipeline, recipe, training_data_digest(training, validation)
        )
        if recipe.zero_terminal_snr:  # samples must follow the schedule that is trained
            pipeline.scheduler = rescale_to_zero_terminal_snr(pipeline.scheduler)
        learner = Learner(accelerator, pipeline, material, recipe)
        return _TrainingLoop(learner, folder, identity).fit(on_log, on_validation)


def _require_trainable(
    pipeline: Any, training: CaptionedImages, validation: CaptionedImages | None, recipe: LoraRecipe
) -> None:
    if len(training) < MIN_IMAGES:
        raise ConfigError(
            f"LoRA training got {len(training)} training images and needs at least "
            f"{MIN_IMAGES}; add images, or draw with the model as it is"
        )
    if recipe.patience and not validation:
        raise ConfigError(
            f"lora.patience={recipe.patience} needs validation images and there are none; "
            "set lora.patience=0"
        )
    block, sides = pipeline.vae_scale_factor, training.images.shape[1:]
    if any(side % block for side in sides):
        raise ConfigError(f"images of {sides} px: this model needs sides divisible by {block}")
    check_targets(pipeline.unet, recipe.targets)
    noise_schedule(pipeline.scheduler.config, recipe)


def _freeze(pipeline: Any) -> None:
    pipeline.unload_lora_weights()
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()


def _checkpoint_identity(pipeline: Any, recipe: LoraRecipe, data_digest: str) -> str:
    """What a checkpoint must share with the run that goes on from it."""
    modules = {"unet": pipeline.unet, "vae": pipeline.vae, **text_encoders(pipeline)}
    weights = {name: tensors_digest(module.state_dict()) for name, module in modules.items()}
    return digest([to_json(recipe), weights, dict(pipeline.scheduler.config), data_digest])


class _TrainingLoop:
    """A training at `step`: its learner, its history and the best weights so far."""

    def __init__(self, learner: Learner, folder: Path, identity: str) -> None:
        self.learner, self.recipe, self.accelerator = learner, learner.recipe, learner.accelerator
        self.folder, self.identity = folder, identity
        self.step, self.step_seconds, self.started_at = 0, 0.0, perf_counter()
        self.history: list[HistoryEntry] = []
        self.pending_losses: list[tuple[Tensor, float]] = []
        self.best_weights: list[Tensor] = []

    @property
    def seconds(self) -> float:
        """Time of training so far, that before an interruption included."""
        return perf_counter() - self.started_at

    def fit(self, on_log: OnLog | None, on_validation: OnValidation | None) -> LoraResult:
        """Train to the end, write the weights, and leave them in the pipeline."""
        self._resume()
        main, pipeline = self.accelerator.is_main_process, self.learner.pipeline
        bar: Any = progress_bar("finetune", self.recipe.steps, "step") if main else nullcontext()
        with bar:
            if main:
                bar.update(self.step)
            while self.step < self.recipe.steps and not self._is_out_of_patience():
                self._take_step()
                self._finish_step(on_log if main else None, on_validation if main else None)
                if main:
                    bar.update()
        self.learner.set_weights(self.best_weights or self.learner.copy_weights())
        pipeline.to(self.learner.device)
        if main:
            save_adapters(pipeline, self.recipe, self.folder)
        self.accelerator.wait_for_everyone()
        return self._result()

    def _take_step(self) -> None:
        begun = perf_counter()
        rate = learning_rate(self.recipe, self.step)
        self.pending_losses.append((self.learner.training_step(self.step, rate), rate))
        self.step += 1
        self.step_seconds += perf_counter() - begun

    def _finish_step(self, on_log: OnLog | None, on_validation: OnValidation | None) -> None:
        """After a step: losses to the history, and validation and checkpoint where they are due."""
        last = self.step == self.recipe.steps
        validating = last or self.step % self.recipe.val_every_steps == 0
        saving = validating or self.step % self.recipe.checkpoint_every_steps == 0
        on_cpu = self.learner.device.type == "cpu"
        if not (saving or on_cpu or len(self.pending_losses) >= LOSS_SYNC_STEPS):
            return
        entries = self._sync_losses()
        if validating:
            self._validate(entries[-1])
        for entry in entries:
            if on_log:
                on_log(entry)
        if validating and on_validation:
            with self.learner.sampling_pipeline() as pipeline:
                on_validation(pipeline, self.step)
        if saving:
            self._save()

    def _sync_losses(self) -> list[HistoryEntry]:
        """Wait for the losses of pending steps, and add them to the history."""
        begun = perf_counter()
        rows = torch.stack([row for row, _ in self.pending_losses]).tolist()
        self.step_seconds += perf_counter() - begun
        entries = []
        first = self.step - len(rows) + 1
        for step, (loss, norm), (_, rate) in zip(
            count(first), rows, self.pending_losses, strict=False
        ):
            self._require_finite(loss, norm, step, rate)
            entry = {"step": step, "loss": loss, "grad_norm": norm, "lr": rate}
            entries.append(entry | {"seconds": self.seconds})
        self.history += entries
        self.pending_losses = []
        return entries

    def _require_finite(self, loss: float, norm: float, step: int, rate: float) -> None:
        scaled = self.accelerator.scaler is not None  # which skips steps of infinite gradients
        if math.isfinite(loss) and (scaled or math.isfinite(norm)):
            return
        raise XraysynthError(
            f"LoRA training broke down at step {step}: loss {loss}, gradient norm {norm}, learning "
            f"rate {rate:g}. Lower lora.learning_rate, or set lora.gradient_clip=1 or "
            "lora.precision=no; no checkpoint was written since"
        )

    def _validate(self, entry: HistoryEntry) -> None:
        if self.learner.data.validation is None:
            return
        earlier = [e["val_loss"] for e in self.history if "val_loss" in e]
        entry["val_loss"] = self.learner.validation_loss()
        if self.recipe.patience and entry["val_loss"] < min(earlier, default=math.inf):
            self.best_weights = self.learner.copy_weights()

    def _best_step(self) -> int:
        scored = [e for e in self.history if "val_loss" in e]
        return int(min(scored, key=lambda entry: entry["val_loss"])["step"])

    def _is_out_of_patience(self) -> bool:
        if not self.best_weights:
            return False
        since = [e for e in self.history if "val_loss" in e and e["step"] > self._best_step()]
        return len(since) >= self.recipe.patience

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        checkpoint = Checkpoint(
            identity=self.identity,
            step=self.step,
            history=self.history,
            seconds=self.seconds,
            stepping=self.step_seconds,
            learner=self.learner.state(),
            best_weights=self.best_weights,
        )
        checkpoint.write(self.folder)

    def _resume(self) -> None:
        checkpoint = Checkpoint.read(self.folder, identity=self.identity)
        if checkpoint is None:
            return
        self.learner.load_state(checkpoint.learner, checkpoint.step)
        self.step, self.history = checkpoint.step, checkpoint.history
        self.step_seconds, self.best_weights = checkpoint.stepping, list(checkpoint.best_weights)
        self.started_at = perf_counter() - checkpoint.seconds

    def _result(self) -> LoraResult:
        return LoraResult(
            weights=self.folder / LORA_WEIGHT_NAME,
            history=self.history,
            steps=self.step,
            kept_step=self._best_step() if self.best_weights else self.step,
            trained_parameters=sum(p.numel() for p in self.learner.parameters),
            seconds=self.seconds,
            seconds_per_step=self.step_seconds / self.step,
        )


def learning_rate(recipe: LoraRecipe, step: int) -> float:
    """Of step number `step` (from 0): linear warmup, then cosine to zero."""
    warmup = max(1, round(recipe.warmup_fraction * recipe.steps))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, recipe.steps - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
