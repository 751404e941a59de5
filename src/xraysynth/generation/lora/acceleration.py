"""The processes and the number format of a fine-tuning, by accelerate."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from xraysynth.errors import ConfigError
from xraysynth.generation.lora.recipe import LoraRecipe


@contextmanager
def accelerator_for(recipe: LoraRecipe) -> Iterator[Accelerator]:
    """Accelerate over the processes that were launched; what is set up here is undone at the end.

    So is what is drawn from torch's global generators.
    """
    own_group = not torch.distributed.is_initialized()
    own_state, own_settings = not PartialState._shared_state, not AcceleratorState._shared_state
    accelerator = Accelerator(
        mixed_precision=_resolve_precision(recipe.precision), cpu=not torch.cuda.is_available()
    )
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    try:
        if recipe.batch_size % accelerator.num_processes:
            raise ConfigError(
                f"lora.batch_size={recipe.batch_size} must be divisible by the number of "
                f"processes, {accelerator.num_processes}"
            )
        with torch.random.fork_rng(devices):
            yield accelerator
    finally:
        if own_group and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if own_settings:  # else a later run in this process could not choose another precision
            GradientState._reset_state()
            AcceleratorState._reset_state(reset_partial_state=own_state)


def _resolve_precision(precision: str) -> str:
    cuda = torch.cuda.is_available()
    if precision == "fp16" and not cuda:
        raise ConfigError("lora.precision=fp16 needs a GPU; set lora.precision=auto")
    if precision == "auto":
        return "bf16" if cuda else "no"
    return precision
