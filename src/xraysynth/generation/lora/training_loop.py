"""The loop of a fine-tuning: steps, losses, validation, early stopping and checkpoints."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from xraysynth.errors import XraysynthError
from xraysynth.generation.lora.adapters import save_adapters
from xraysynth.generation.lora.checkpoint import Checkpoint
from xraysynth.generation.lora.folder import LORA_WEIGHT_NAME
from xraysynth.generation.lora.history import (
    HistoryEntry,
    best_step,
    count_validations_after,
    lowest_validation_loss,
)
from xraysynth.generation.lora.learner import Learner
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.progress import progress_bar

LOSS_SYNC_STEPS = 10
"""Number of steps after which a GPU is asked for its losses: asking after every step makes it wait."""

OnLog = Callable[[HistoryEntry], None]
OnValidation = Callable[[Any, int], None]


@dataclass(frozen=True)
class LoraResult:
    """Result of a fine-tuning.

    Attributes:
        weights: File with the LoRA weights.
        history: One entry per step: loss, grad_norm (before clipping), lr and seconds, and val_loss
            where it was measured.
        steps: Number of steps taken.
        kept_step: Step whose weights were kept: with early stopping the step with the lowest
            validation loss, else the last step.
        trained_parameters: Number of parameters of the LoRA layers.
        seconds: Duration of the training, time before an interruption included.
        seconds_per_step: Mean duration of an optimiser step.
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


class TrainingLoop:
    """A training after `step` steps.

    Attributes:
        learner: LoRA layers and optimiser.
        recipe: Settings of the training.
        accelerator: Processes of the training.
        folder: Folder of the checkpoint and of the result.
        identity: Digest of recipe, data and model, which the checkpoint carries.
        step: Number of steps taken.
        step_seconds: Duration of the steps alone.
        started_at: Time at which the training would have started without an interruption.
        history: Entries of all steps but those in `pending_losses`.
        pending_losses: Loss and gradient norm `(2,)` on the device, and the learning rate, of the steps
            since the last synchronisation.
        best_weights: Weights with the lowest validation loss; empty without early stopping.
    """

    def __init__(self, learner: Learner, folder: Path, identity: str) -> None:
        self.learner = learner
        self.recipe = learner.recipe
        self.accelerator = learner.accelerator
        self.folder = folder
        self.identity = identity
        self.step = 0
        self.step_seconds = 0.0
        self.started_at = perf_counter()
        self.history: list[HistoryEntry] = []
        self.pending_losses: list[tuple[Tensor, float]] = []
        self.best_weights: list[Tensor] = []

    @property
    def seconds(self) -> float:
        """Duration of the training so far, time before an interruption included."""
        return perf_counter() - self.started_at

    def fit(self, on_log: OnLog | None, on_validation: OnValidation | None) -> LoraResult:
        """Train to the end, write the weights, and leave them in the pipeline."""
        self._resume()
        is_main = self.accelerator.is_main_process
        if not is_main:
            on_log, on_validation = None, None
        with _step_progress(self.recipe.steps, self.step, is_shown=is_main) as advance:
            while self.step < self.recipe.steps and not self._is_out_of_patience():
                self._take_step()
                self._finish_step(on_log, on_validation)
                advance()
        self.learner.set_weights(self.best_weights or self.learner.copy_weights())
        pipeline = self.learner.pipeline
        pipeline.to(self.learner.device)
        if is_main:
            save_adapters(pipeline, self.recipe, self.folder)
        self.accelerator.wait_for_everyone()
        return self._result()

    def _take_step(self) -> None:
        started = perf_counter()
        rate = learning_rate(self.recipe, self.step)
        losses = self.learner.training_step(self.step, rate)
        self.pending_losses.append((losses, rate))
        self.step += 1
        self.step_seconds += perf_counter() - started

    def _finish_step(self, on_log: OnLog | None, on_validation: OnValidation | None) -> None:
        """Extend the history, and validate and save a checkpoint if they are due after this step."""
        on_cpu = self.learner.device.type == "cpu"
        must_sync = on_cpu or len(self.pending_losses) >= LOSS_SYNC_STEPS
        if not (must_sync or self._must_save()):
            return
        entries = self._sync_losses()
        if self._must_validate():
            self._validate(entries[-1])
        if on_log:
            for entry in entries:
                on_log(entry)
        if self._must_validate() and on_validation:
            with self.learner.sampling_pipeline() as pipeline:
                on_validation(pipeline, self.step)
        if self._must_save():
            self._save()

    def _must_validate(self) -> bool:
        is_last = self.step == self.recipe.steps
        return is_last or self.step % self.recipe.val_every_steps == 0

    def _must_save(self) -> bool:
        return self._must_validate() or self.step % self.recipe.checkpoint_every_steps == 0

    def _sync_losses(self) -> list[HistoryEntry]:
        """Wait for the losses of pending steps, add them to the history and return their entries."""
        started = perf_counter()
        losses = torch.stack([tensor for tensor, _ in self.pending_losses]).tolist()
        self.step_seconds += perf_counter() - started
        rates = [rate for _, rate in self.pending_losses]
        entries: list[HistoryEntry] = []
        step = self.step - len(losses)
        for (loss, norm), rate in zip(losses, rates, strict=True):
            step += 1
            self._require_finite(loss, norm, step, rate)
            entry = {"step": step, "loss": loss, "grad_norm": norm, "lr": rate}
            entries.append(entry | {"seconds": self.seconds})
        self.history += entries
        self.pending_losses = []
        return entries

    def _require_finite(self, loss: float, norm: float, step: int, rate: float) -> None:
        # The gradient scaler of fp16 skips steps with infinite gradients by itself.
        has_scaler = self.accelerator.scaler is not None
        if math.isfinite(loss) and (has_scaler or math.isfinite(norm)):
            return
        raise XraysynthError(
            f"LoRA training diverged at step {step}: loss {loss}, gradient norm {norm}, learning "
            f"rate {rate:g}. Lower lora.learning_rate, or set lora.gradient_clip=1 or "
            "lora.precision=no; the last checkpoint is from before that step"
        )

    def _validate(self, entry: HistoryEntry) -> None:
        """Add the validation loss to the entry, and keep the weights if it is the lowest so far."""
        if self.learner.data.validation is None:
            return
        lowest = lowest_validation_loss(self.history)
        entry["val_loss"] = self.learner.validation_loss()
        if self.recipe.patience and entry["val_loss"] < lowest:
            self.best_weights = self.learner.copy_weights()

    def _is_out_of_patience(self) -> bool:
        if not self.best_weights:
            return False
        validations = count_validations_after(self.history, best_step(self.history))
        return validations >= self.recipe.patience

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        checkpoint = Checkpoint(
            identity=self.identity,
            step=self.step,
            history=self.history,
            seconds=self.seconds,
            step_seconds=self.step_seconds,
            learner=self.learner.state(),
            best_weights=self.best_weights,
        )
        checkpoint.write(self.folder)

    def _resume(self) -> None:
        checkpoint = Checkpoint.read(self.folder, identity=self.identity)
        if checkpoint is None:
            return
        self.learner.load_state(checkpoint.learner, checkpoint.step)
        self.step = checkpoint.step
        self.history = checkpoint.history
        self.step_seconds = checkpoint.step_seconds
        self.best_weights = list(checkpoint.best_weights)
        self.started_at = perf_counter() - checkpoint.seconds

    def _result(self) -> LoraResult:
        return LoraResult(
            weights=self.folder / LORA_WEIGHT_NAME,
            history=self.history,
            steps=self.step,
            kept_step=best_step(self.history) if self.best_weights else self.step,
            trained_parameters=sum(map(torch.numel, self.learner.parameters)),
            seconds=self.seconds,
            seconds_per_step=self.step_seconds / self.step,
        )


@contextmanager
def _step_progress(steps: int, done: int, *, is_shown: bool) -> Iterator[Callable[[], None]]:
    """Show a progress bar from `done` to `steps`, and provide the function that advances it."""
    if not is_shown:
        yield lambda: None
        return
    with progress_bar("finetune", steps, "step") as bar:
        bar.update(done)
        yield bar.update


def learning_rate(recipe: LoraRecipe, step: int) -> float:
    """Return the learning rate of a step: linear warmup, then a cosine to zero.

    Args:
        recipe: Its `learning_rate` is the peak; its `warmup_fraction` of `steps` are the warmup.
        step: Number of the step, from 0.
    """
    warmup = max(1, round(recipe.warmup_fraction * recipe.steps))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, recipe.steps - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
