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
from xraysynth.generation.lora.adapters import adapted, add_adapters
from xraysynth.generation.lora.checkpoint import LearnerState
from xraysynth.generation.lora.denoising import noise_schedule
from xraysynth.generation.lora.examples import Batch, Material
from xraysynth.generation.lora.latents import Embeddings, encode_prompts, lent, text_encoders
from xraysynth.generation.lora.recipe import LoraOptimizer, LoraRecipe
from xraysynth.seeds import derive_seed

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Learner:
    """LoRA layers in `pipeline`, trained on `material` by all processes together.

    `parameters` are float32; under mixed precision the UNet's frozen weights are not.
    """

    def __init__(
        self, accelerator: Accelerator, pipeline: Any, material: Material, recipe: LoraRecipe
    ) -> None:
        self.accelerator, self.device = accelerator, accelerator.device
        self.pipeline, self.material, self.recipe = pipeline, material, recipe
        self.schedule = noise_schedule(pipeline.scheduler.config, recipe).to(self.device)
        self.parameters = add_adapters(pipeline, recipe)
        self.modules = adapted(pipeline, recipe)
        for module in self.modules.values():
            module.to(self.device)
        self.dtype = PRECISIONS[accelerator.mixed_precision]
        for parameter in pipeline.unet.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(self.dtype)
        self.compiled: Any = torch.compile(pipeline.unet) if recipe.compile else pipeline.unet
        self.optimizer = accelerator.prepare(_optimizer(self.parameters, recipe))
        self.averages: Any = None
        if recipe.ema_decay:
            self.averages = EMAModel(self.parameters, decay=recipe.ema_decay, foreach=True)
        self._size_px = [side * pipeline.vae_scale_factor for side in material.sides]
        self._validation = material.validation.validation() if material.validation else None

    def update(self, step: int, learning_rate: float) -> Tensor:
        """Take optimiser step number `step` (from 0); loss and gradient norm before clipping."""
        for module in self.modules.values():
            module.train()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed(derive_seed(self.recipe.seed, "dropout", step, rank))
        loss = self._loss(step, slice(rank, None, world))
        self.accelerator.backward(loss)
        loss = self._mean_over_processes(loss.detach())
        limit = self.recipe.gradient_clip or math.inf
        norm = self.accelerator.clip_grad_norm_(self.parameters, limit)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.averages:
            self.averages.step(self.parameters)
        return torch.stack([loss, norm.detach().to(loss.device)])

    def _loss(self, step: int, mine: slice) -> Tensor:
        batch = self.material.training.draw(step, self.recipe)[mine]
        if self.material.prior is None:
            return self._losses(batch).mean()
        prior = self.material.prior.draw_prior(step, self.recipe)[mine]
        losses = self._losses(batch + prior)
        learned, remembered = losses[: len(batch)].mean(), losses[len(batch) :].mean()
        return learned + self.recipe.prior_weight * remembered

    def _losses(self, batch: Batch) -> Tensor:
        captions, batch = self._embedded(batch.captions), batch.to(self.device)
        noisy = self.schedule.noisy(batch.latents, batch.noise, batch.timesteps)
        # Validation has batches of other sizes, for which it would be compiled again.
        unet = self.compiled if torch.is_grad_enabled() else self.pipeline.unet
        with self.accelerator.autocast():
            prediction = unet(
                noisy.to(self.dtype),
                batch.timesteps,
                captions.states.to(self.device, self.dtype),
                added_cond_kwargs=self._added(captions),
                return_dict=False,
            )[0]
        target = self.schedule.target(batch.latents, batch.noise, batch.timesteps)
        return self.schedule.losses(prediction, target, batch.timesteps)

    def _embedded(self, captions: Tensor) -> Embeddings:
        if self.material.embeddings is not None:
            return self.material.embeddings[captions]
        prompts = [self.material.prompts[number] for number in captions.tolist()]
        with self.accelerator.autocast():
            return encode_prompts(self.pipeline, prompts, self.device)

    def _added(self, captions: Embeddings) -> dict[str, Tensor] | None:
        """What XL is told besides: pooled captions; original size, crop and target size."""
        if captions.pooled is None:
            return None
        sizes = torch.tensor([[*self._size_px, 0, 0, *self._size_px]], device=self.device)
        pooled = captions.pooled.to(self.device, self.dtype)
        return {"text_embeds": pooled, "time_ids": sizes.expand(len(pooled), -1)}

    def _mean_over_processes(self, loss: Tensor) -> Tensor:
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
        if self._validation is None:
            return math.nan
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        mine, size = self._validation[rank::world], self.recipe.batch_size
        with self.evaluating():
            parts = [self._losses(mine[i : i + size]) for i in range(0, len(mine), size)]
        total = torch.cat([torch.zeros(1, device=self.device), *parts]).sum()
        return float(self.accelerator.reduce(total, "sum")) / len(self._validation)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Have the weights that would be kept in place, without dropout."""
        if self.averages:
            self.averages.store(self.parameters)
            self.averages.copy_to(self.parameters)
        for module in self.modules.values():
            module.eval()
        try:
            yield
        finally:
            if self.averages:
                self.averages.restore(self.parameters)

    @contextmanager
    def drawing(self) -> Iterator[Any]:
        """The pipeline, fit to draw images with the weights that would be kept."""
        parts = {"vae": self.pipeline.vae, **text_encoders(self.pipeline)}
        idle = [part for name, part in parts.items() if name not in self.modules]
        with self.evaluating(), lent(idle, self.device), self.accelerator.autocast():
            yield self.pipeline

    def kept(self) -> list[Tensor]:
        """Copies of the weights that would be kept: the averages, or the last."""
        weights = self.averages.shadow_params if self.averages else self.parameters
        return [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def assign(self, weights: list[Tensor]) -> None:
        """Put weights in place."""
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)

    def state(self) -> LearnerState:
        """What going on needs."""
        tensors = {f"weight.{i}": p.detach() for i, p in enumerate(self.parameters)}
        if self.averages:
            tensors |= {f"average.{i}": p for i, p in enumerate(self.averages.shadow_params)}
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
        self.assign([tensors[f"weight.{i}"] for i in range(len(self.parameters))])
        if self.averages:
            for i, average in enumerate(self.averages.shadow_params):
                average.copy_(tensors[f"average.{i}"])
            self.averages.optimization_step = step
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
