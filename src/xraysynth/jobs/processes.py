"""Which of several processes this is, as torchrun and accelerate say it in the environment."""

import os

from xraysynth.errors import ConfigError


def rank() -> int:
    """This process among all that were started together, from 0."""
    value = _number("RANK", 0)
    if value >= world_size():
        raise ConfigError(
            f"RANK={value} must be below WORLD_SIZE={world_size()}, as torchrun sets them; unset both "
            "to run one process"
        )
    return value


def world_size() -> int:
    """How many processes were started together; 1 for a process on its own."""
    return _number("WORLD_SIZE", 1)


def local_rank() -> int:
    """This process among those of its node, from 0: the GPU that it takes."""
    return _number("LOCAL_RANK", 0)


def is_main() -> bool:
    """Whether this is the process that reports and writes what all of them share."""
    return rank() == 0


def gpu() -> str:
    """The GPU of this process as a torch device, made the current one; there must be a GPU."""
    import torch

    if world_size() == 1:
        return "cuda"
    number = local_rank() % torch.cuda.device_count()
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def _number(name: str, alone: int) -> int:
    value = os.environ.get(name, str(alone))
    if not value.isdigit():
        raise ConfigError(
            f"{name} must be a whole number, as torchrun sets it; got {value!r}; unset it to run "
            "one process"
        )
    return int(value)
