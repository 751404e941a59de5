"""Sets up the processes, the device and the number format of a fine-tuning, with accelerate."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from xraysynth.environment import MPI, STARTED_TOGETHER, hidden_variables
from xraysynth.errors import ConfigError
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.jobs.distributed import world_size


@contextmanager
def prepare_accelerator(recipe: LoraRecipe) -> Iterator[Accelerator]:
    """Provide an `Accelerator` over the launched processes, and clean up after the training.

    Afterwards torch's random generators are as before. The process group and accelerate's shared state
    are removed if this call has set them up.

    Args:
        recipe: Its `precision` is the number format; its `batch_size` is shared by all processes.

    Yields:
        The accelerator, on the GPU of this process or on the CPU.

    Raises:
        ConfigError: If the batch size is not divisible by the number of processes, or fp16 is set
            without a GPU.
    """
    had_process_group = torch.distributed.is_initialized()
    had_process_state = bool(PartialState._shared_state)
    had_settings = bool(AcceleratorState._shared_state)
    with _own_variables():
        accelerator = Accelerator(
            mixed_precision=_resolve_precision(recipe.precision), cpu=not torch.cuda.is_available()
        )
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    try:
        _require_divisible_batch(recipe, accelerator.num_processes)
        with torch.random.fork_rng(devices):
            yield accelerator
    finally:
        if not had_process_group and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if not had_settings:  # else a later run in this process could not choose another precision
            GradientState._reset_state()
            AcceleratorState._reset_state(reset_partial_state=not had_process_state)


def _own_variables() -> AbstractContextManager[None]:
    """Hides what would make accelerate wait for processes that are not there, or train otherwise."""
    started_together = () if world_size() > 1 else STARTED_TOGETHER
    return hidden_variables("ACCELERATE_", "FSDP_", "FORK_LAUNCHED", *MPI, *started_together)


def _require_divisible_batch(recipe: LoraRecipe, num_processes: int) -> None:
    if recipe.batch_size % num_processes:
        raise ConfigError(
            f"lora.batch_size={recipe.batch_size} must be divisible by the number of processes, "
            f"{num_processes}"
        )


def _resolve_precision(precision: str) -> str:
    """Return accelerate's name of the number format; `auto` is bf16 on a GPU, float32 on a CPU."""
    has_gpu = torch.cuda.is_available()
    if precision == "fp16" and not has_gpu:
        raise ConfigError("lora.precision=fp16 needs a GPU; set lora.precision=auto")
    if precision == "auto":
        return "bf16" if has_gpu else "no"
    return precision


@contextmanager
def on_device(modules: Sequence[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """Move modules to a device, and back to the CPU afterwards: a GPU's memory is for the UNet."""
    for module in modules:
        module.to(device)
    try:
        yield
    finally:
        for module in modules:
            module.to("cpu")
