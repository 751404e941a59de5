"""Trains LoRA layers in a pipeline: what one optimiser step does, and the state between two steps."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor

from xraysynth.errors import DataNotFoundError
from xraysynth.generation.lora.acceleration import on_device
from xraysynth.generation.lora.adapters import add_adapters, trained_modules
from xraysynth.generation.lora.checkpoint import LearnerState
from xraysynth.generation.lora.denoising import noise_schedule
from xraysynth.generation.lora.embeddings import Embeddings, encode_prompts, text_encoders
from xraysynth.generation.lora.examples import TrainingBatch, TrainingData
from xraysynth.generation.lora.recipe import LoraOptimizer, LoraRecipe
from xraysynth.seeds import derive_seed

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Number format of the UNet's frozen weights, by accelerate's name of the precision."""


class Learner:
    """LoRA layers in a pipeline, with the optimiser that trains them.

    Attributes:
        accelerator: Processes and number format of the training.
        device: Device of this process.
        pipeline: Pipeline that carries the LoRA layers. Under mixed precision the frozen weights of
            its UNet are kept in the lower precision.
        data: Encoded images and captions.
        recipe: Settings of the training.
        schedule: Noise levels and weights of the loss.
        parameters: Weights of the LoRA layers, float32.
        modules: Modules of the pipeline that carry LoRA layers, by name.
        dtype: Number format of the UNet's frozen weights.
        compiled_unet: UNet that takes the training steps; compiled if `recipe.compile` is set.
        optimizer: Optimiser of `parameters`, prepared by accelerate.
        ema: Moving averages of the weights (`EMAModel` of diffusers); None if `recipe.ema_decay` is 0.
    """

    def __init__(
        self, accelerator: Accelerator, pipeline: Any, data: TrainingData, recipe: LoraRecipe
    ) -> None:
        """Add LoRA layers to a frozen pipeline, and move the trained modules to the device."""
        self.accelerator = accelerator
        self.device = accelerator.device
        self.pipeline = pipeline
        self.data = data
        self.recipe = recipe
        self.schedule = noise_schedule(pipeline.scheduler.config, recipe).to(self.device)
        self.parameters = add_adapters(pipeline, recipe)
        self.modules = trained_modules(pipeline, recipe)
        for module in self.modules.values():
            module.to(self.device)
        self.dtype = PRECISIONS[accelerator.mixed_precision]
        _cast_frozen_weights(pipeline.unet, self.dtype)
        self.compiled_unet: Any = torch.compile(pipeline.unet) if recipe.compile else pipeline.unet
        self.optimizer = accelerator.prepare(_optimizer(self.parameters, recipe))
        self.ema: Any = None
        if recipe.ema_decay:
            self.ema = EMAModel(self.parameters, decay=recipe.ema_decay, foreach=True)
        height, width = data.latent_size
        self._height_px = height * pipeline.vae_scale_factor
        self._width_px = width * pipeline.vae_scale_factor
        self._validation_batch = data.validation.draw_validation() if data.validation else None

    def training_step(self, step: int, learning_rate: float) -> Tensor:
        """Take one optimiser step, on this process's slice of the batch.

        Args:
            step: Number of the step, from 0.
            learning_rate: Learning rate of the step.

        Returns:
            Loss and norm of the gradient before clipping, over all processes: `(2,)` on the device.
        """
        for module in self.modules.values():
            if not module.training:  # setting the mode of every layer takes a while
                module.train()
        rank = self.accelerator.process_index
        torch.manual_seed(derive_seed(self.recipe.seed, "dropout", step, rank))
        loss = self._step_loss(step, slice(rank, None, self.accelerator.num_processes))
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
        """Return the loss of this process's images, with prior preservation if the recipe asks for it."""
        batch = self.data.training.draw(step, self.recipe)[rank_slice]
        if self.data.prior is None:
            return self._image_losses(batch).mean()
        prior = self.data.prior.draw_prior(step, self.recipe)[rank_slice]
        losses = self._image_losses(batch + prior)
        instance_loss = losses[: len(batch)].mean()
        prior_loss = losses[len(batch) :].mean()
        return instance_loss + self.recipe.prior_weight * prior_loss

    def _image_losses(self, batch: TrainingBatch) -> Tensor:
        """Return the weighted loss of each image, `(B,)`."""
        captions = self._embed_captions(batch.caption_ids)
        batch = batch.to(self.device)
        noisy = self.schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
        # Validation batches have other sizes, for which the UNet would be compiled again.
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

    def _embed_captions(self, caption_ids: Tensor) -> Embeddings:
        """Return cached embeddings, or compute them where the text encoder is trained too."""
        if self.data.embeddings is not None:
            return self.data.embeddings[caption_ids]
        prompts = [self.data.prompts[caption_id] for caption_id in caption_ids.tolist()]
        with self.accelerator.autocast():
            return encode_prompts(self.pipeline, prompts, self.device)

    def _added_conditions(self, captions: Embeddings) -> dict[str, Tensor] | None:
        """Return the additional conditions of XL: pooled captions, and the sizes of the image.

        The sizes are height and width of the original, offset of the crop, and height and width of the
        target (Podell et al., arXiv:2307.01952, section 2.2). None for other models.
        """
        if captions.pooled is None:
            return None
        size = [self._height_px, self._width_px]
        time_ids = torch.tensor([[*size, 0, 0, *size]], device=self.device)
        pooled = captions.pooled.to(self.device, self.dtype)
        return {"text_embeds": pooled, "time_ids": time_ids.expand(len(pooled), -1)}

    def _average_over_processes(self, loss: Tensor) -> Tensor:
        """Average the gradients in place, and return the average loss.

        All values travel in one message: LoRA layers are so small that overlapping the communication
        with the backward pass would gain nothing.
        """
        if self.accelerator.num_processes == 1:
            return loss
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        values = [loss.view(1), *map(torch.flatten, gradients)]
        mean: Tensor = self.accelerator.reduce(torch.cat(values), "mean")
        averages = torch.split(mean[1:], list(map(torch.numel, gradients)))
        for gradient, average in zip(gradients, averages, strict=True):
            gradient.copy_(average.view_as(gradient))
        return mean[0]

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Compute the mean loss over the validation batch, with the weights that would be kept.

        Returns:
            The loss over all processes; NaN without validation images.
        """
        if self._validation_batch is None:
            return math.nan
        rank, num_processes = self.accelerator.process_index, self.accelerator.num_processes
        rank_batch = self._validation_batch[rank::num_processes]
        losses = [torch.zeros(1, device=self.device)]
        with self.evaluation_mode():
            for start in range(0, len(rank_batch), self.recipe.batch_size):
                batch = rank_batch[start : start + self.recipe.batch_size]
                losses.append(self._image_losses(batch))
        total = self.accelerator.reduce(torch.cat(losses).sum(), "sum")
        return float(total) / len(self._validation_batch)

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Switch dropout off and put the weights that would be kept in place, within the context."""
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
        """Provide the pipeline, on the device, ready to generate with the weights that would be kept."""
        untrained = [self.pipeline.vae]
        for name, encoder in text_encoders(self.pipeline).items():
            if name not in self.modules:
                untrained.append(encoder)
        with (
            self.evaluation_mode(),
            on_device(untrained, self.device),
            self.accelerator.autocast(),
        ):
            yield self.pipeline

    def copy_weights(self) -> list[Tensor]:
        """Copy the weights that would be kept: the moving averages if there are any, else the last."""
        weights = self.ema.shadow_params if self.ema else self.parameters
        return [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def set_weights(self, weights: list[Tensor]) -> None:
        """Overwrite the LoRA weights with `weights`, in the order of `parameters`."""
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)

    def state(self) -> LearnerState:
        """Return what a training needs to resume: weights, averages, optimiser and gradient scaler."""
        tensors: dict[str, Tensor] = {}
        for number, parameter in enumerate(self.parameters):
            tensors[f"weight.{number}"] = parameter.detach()
        if self.ema:
            for number, average in enumerate(self.ema.shadow_params):
                tensors[f"average.{number}"] = average
        numbers: dict[str, float] = {}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                values = tensors if isinstance(value, Tensor) else numbers
                values[f"optimizer.{index}.{name}"] = value
        scaler = self.accelerator.scaler
        return LearnerState(tensors, numbers, scaler.state_dict() if scaler else None)

    def load_state(self, state: LearnerState, step: int) -> None:
        """Restore a state of `state()`.

        Args:
            state: State of a learner with the same recipe, data and model.
            step: Number of steps after which the state was taken.
        """
        tensors = state.tensors
        self.set_weights([tensors[f"weight.{i}"] for i in range(len(self.parameters))])
        if self.ema:
            for number, average in enumerate(self.ema.shadow_params):
                average.copy_(tensors[f"average.{number}"])
            self.ema.optimization_step = step
        slots = _optimizer_slots({**tensors, **state.optimizer})
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": slots})
        if self.accelerator.scaler and state.scaler:
            self.accelerator.scaler.load_state_dict(dict(state.scaler))


def _optimizer_slots(values: dict[str, Tensor | float]) -> dict[int, dict[str, Tensor | float]]:
    """Group values named `optimizer.<index>.<name>` by the index of the parameter, then by name."""
    slots: dict[int, dict[str, Tensor | float]] = {}
    for key, value in values.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            slots.setdefault(int(index), {})[name] = value
    return slots


def _cast_frozen_weights(unet: torch.nn.Module, dtype: torch.dtype) -> None:
    for parameter in unet.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def _optimizer(parameters: list[torch.nn.Parameter], recipe: LoraRecipe) -> torch.optim.Optimizer:
    """Build AdamW with 32-bit or 8-bit states; `DataNotFoundError` if bitsandbytes is missing."""
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
