"""A pipeline that learns: adapters, optimiser and averages, and what one training step does."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor

from xraysynth.errors import DataNotFoundError
from xraysynth.generation.lora.adapters import add_adapters, trained_modules
from xraysynth.generation.lora.checkpoint import LearnerState
from xraysynth.generation.lora.denoising import noise_schedule
from xraysynth.generation.lora.examples import TrainingBatch, TrainingData
from xraysynth.generation.lora.latents import Embeddings, encode_prompts, on_device, text_encoders
from xraysynth.generation.lora.recipe import LoraOptimizer, LoraRecipe
from xraysynth.seeds import derive_seed

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Learner:
    """LoRA layers in `pipeline`, trained on `material` by all processes together.

    `parameters` are float32; under mixed precision the UNet's frozen weights are not.
    """

    def __init__(
        self, accelerator: Accelerator, pipeline: Any, data: TrainingData, recipe: LoraRecipe
    ) -> None:
        self.accelerator, self.device = accelerator, accelerator.device
        self.pipeline, self.data, self.recipe = pipeline, data, recipe
        self.schedule = noise_schedule(pipeline.scheduler.config, recipe).to(self.device)
        self.parameters = add_adapters(pipeline, recipe)
        self.modules = trained_modules(pipeline, recipe)
        for module in self.modules.values():
            module.to(self.device)
        self.dtype = PRECISIONS[accelerator.mixed_precision]
        for parameter in pipeline.unet.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(self.dtype)
        self.compiled_unet: Any = torch.compile(pipeline.unet) if recipe.compile else pipeline.unet
        self.optimizer = accelerator.prepare(_optimizer(self.parameters, recipe))
        self.ema: Any = None
        if recipe.ema_decay:
            self.ema = EMAModel(self.parameters, decay=recipe.ema_decay, foreach=True)
        self._size_px = [side * pipeline.vae_scale_factor for side in data.latent_size]
        self._validation_batch = data.validation.draw_validation() if data.validation else None

    def training_step(self, step: int, learning_rate: float) -> Tensor:
        """Take optimiser step number `step` (from 0); loss and gradient norm before clipping."""
        for module in self.modules.values():
            module.train()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed(derive_seed(self.recipe.seed, "dropout", step, rank))
        loss = self._step_loss(step, slice(rank, None, world))
        self.accelerator.backward(loss)
        loss = self._average_over_processes(loss.detach())
        limit = self.recipe.gradient_clip or math.inf
        norm = self.accelerator.clip_grad_norm_(self.parameters, limit)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.step(self.parameters)
        return torch.stack([loss, norm.detach().to(loss.device)])

    def _step_loss(self, step: int, rank_slice: slice) -> Tensor:
        batch = self.data.training.draw(step, self.recipe)[rank_slice]
        if self.data.prior is None:
            return self._image_losses(batch).mean()
        prior = self.data.prior.draw_prior(step, self.recipe)[rank_slice]
        losses = self._image_losses(batch + prior)
        learned, remembered = losses[: len(batch)].mean(), losses[len(batch) :].mean()
        return learned + self.recipe.prior_weight * remembered

    def _image_losses(self, batch: TrainingBatch) -> Tensor:
        captions, batch = self._embed_captions(batch.caption_ids), batch.to(self.device)
        noisy = self.schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
        # Validation has batches of other sizes, for which it would be compiled again.
        unet = self.compiled_unet if torch.is_grad_enabled() else self.pipeline.unet
        with self.accelerator.autocast():
            prediction = unet(
                noisy.to(self.dtype),
                batch.timesteps,
                captions.hidden_states.to(self.device, self.dtype),
                added_cond_kwargs=self._added_conditions(captions),
                return_dict=False,
            )[0]
        target = self.schedule.target(batch.latents, batch.noise, batch.timesteps)
        return self.schedule.losses(prediction, target, batch.timesteps)

    def _embed_captions(self, captions: Tensor) -> Embeddings:
        if self.data.embeddings is not None:
            return self.data.embeddings[captions]
        prompts = [self.data.prompts[number] for number in captions.tolist()]
        with self.accelerator.autocast():
            return encode_prompts(self.pipeline, prompts, self.device)

    def _added_conditions(self, captions: Embeddings) -> dict[str, Tensor] | None:
        """What XL is told besides: pooled captions; original size, crop and target size."""
        if captions.pooled is None:
            return None
        sizes = torch.tensor([[*self._size_px, 0, 0, *self._size_px]], device=self.device)
        pooled = captions.pooled.to(self.device, self.dtype)
        return {"text_embeds": pooled, "time_ids": sizes.expand(len(pooled), -1)}

    def _average_over_processes(self, loss: Tensor) -> Tensor:
        """Average gradients and loss in one message; the layers are small and need no overlap."""
        if self.accelerator.num_processes == 1:
            return loss
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([loss.view(1), *(g.flatten() for g in gradients)])
        mean: Tensor = self.accelerator.reduce(flat, "mean")
        parts = torch.split(mean[1:], [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return mean[0]

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean loss of the weights that would be kept, over draws that never change."""
        if self._validation_batch is None:
            return math.nan
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        mine, size = self._validation_batch[rank::world], self.recipe.batch_size
        with self.evaluation_mode():
            parts = [self._image_losses(mine[i : i + size]) for i in range(0, len(mine), size)]
        total = torch.cat([torch.zeros(1, device=self.device), *parts]).sum()
        return float(self.accelerator.reduce(total, "sum")) / len(self._validation_batch)

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Have the weights that would be kept in place, without dropout."""
        if self.ema:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)
        for module in self.modules.values():
            module.eval()
        try:
            yield
        finally:
            if self.ema:
                self.ema.restore(self.parameters)

    @contextmanager
    def sampling_pipeline(self) -> Iterator[Any]:
        """The pipeline, fit to draw images with the weights that would be kept."""
        parts = {"vae": self.pipeline.vae, **text_encoders(self.pipeline)}
        idle = [part for name, part in parts.items() if name not in self.modules]
        with self.evaluation_mode(), on_device(idle, self.device), self.accelerator.autocast():
            yield self.pipeline

    def copy_weights(self) -> list[Tensor]:
        """Copies of the weights that would be kept: the averages, or the last."""
        weights = self.ema.shadow_params if self.ema else self.parameters
        return [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def set_weights(self, weights: list[Tensor]) -> None:
        """Put weights in place."""
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)

    def state(self) -> LearnerState:
        """What going on needs."""
        tensors = {f"weight.{i}": p.detach() for i, p in enumerate(self.parameters)}
        if self.ema:
            tensors |= {f"average.{i}": p for i, p in enumerate(self.ema.shadow_params)}
        numbers: dict[str, float] = {}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value
                else:
                    numbers[f"optimizer.{index}.{name}"] = value
        scaler = self.accelerator.scaler
        return LearnerState(tensors, numbers, scaler.state_dict() if scaler else None)

    def load_state(self, state: LearnerState, step: int) -> None:
        """Take the state of `state` back, as it was after `step` steps."""
        tensors = state.tensors
        self.set_weights([tensors[f"weight.{i}"] for i in range(len(self.parameters))])
        if self.ema:
            for i, average in enumerate(self.ema.shadow_params):
                average.copy_(tensors[f"average.{i}"])
            self.ema.optimization_step = step
        slots: dict[int, dict[str, Tensor | float]] = {}
        values: dict[str, Tensor | float] = {**tensors, **state.optimizer}
        for key, value in values.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                slots.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": slots})
        if self.accelerator.scaler and state.scaler:
            self.accelerator.scaler.load_state_dict(dict(state.scaler))


def _optimizer(parameters: list[torch.nn.Parameter], recipe: LoraRecipe) -> torch.optim.Optimizer:
    lr, weight_decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer is LoraOptimizer.adamw:
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise DataNotFoundError(
            "lora.optimizer=adamw8bit needs the package bitsandbytes; install it, "
            "or set lora.optimizer=adamw"
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, lr=lr, weight_decay=weight_decay)
    return optimizer
