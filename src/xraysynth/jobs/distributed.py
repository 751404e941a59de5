"""Processes that torchrun started together: which of them this is, and how they meet.

Rank and size are read from the environment, as torchrun and accelerate set it. Processes of one
training meet at the store of torchrun, under other names each time: a second process group under the
same names would find the addresses of the first one, which is gone.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from xraysynth.errors import ConfigError

RENDEZVOUS_TIMEOUT = timedelta(days=30)
"""How long others wait for word from the first process, which may wait for a lock itself."""

_topic_counts: Counter[str] = Counter()


def rank() -> int:
    """This process among all that were started together, from 0."""
    value = _read_env_int("RANK", 0)
    if value >= world_size():
        raise ConfigError(
            f"RANK={value} must be below WORLD_SIZE={world_size()}, as torchrun sets them; unset both "
            "to run one process"
        )
    return value


def world_size() -> int:
    """How many processes were started together; 1 for a process on its own."""
    return _read_env_int("WORLD_SIZE", 1)


def local_rank() -> int:
    """This process among those of its node, from 0: the GPU that it takes."""
    return _read_env_int("LOCAL_RANK", 0)


def is_main() -> bool:
    """Whether this is the process that reports and writes what all of them share."""
    return rank() == 0


def select_gpu() -> str:
    """The GPU of this process as a torch device, made the current one; there must be a GPU."""
    import torch

    if world_size() == 1:
        return "cuda"
    number = local_rank() % torch.cuda.device_count()
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def local_world_size() -> int:
    """How many of the processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def broadcast(topic: str, message: str) -> None:
    """Say something to all other processes, as the first of them; waits until they have heard."""
    if world_size() > 1:
        name = _unique_name(topic)
        _rendezvous_store().set(name, message)
        _rendezvous_store().wait([f"{name}/{other}" for other in range(1, world_size())])


def receive_broadcast(topic: str) -> str:
    """Wait for what the first process announces of this, once for each time it does."""
    name = _unique_name(topic)
    word: bytes = _rendezvous_store().get(name)
    _rendezvous_store().set(f"{name}/{rank()}", "heard")
    return word.decode()


@contextmanager
def process_group(accelerator: str = "auto") -> Iterator[None]:
    """All processes as one group of torch.distributed, which Lightning and Accelerate find.

    Over NCCL with a GPU each, else (or with accelerator "cpu") over gloo. One process on its own
    needs none. All have come here before any goes on, so that what the first has done to files before
    is done for the others; making a group over NCCL does not wait for them.
    """
    if world_size() == 1:
        yield
        return
    import torch
    from torch.distributed.distributed_c10d import PrefixStore

    has_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if has_gpu:
        _claim_gpu()
    _barrier()
    torch.distributed.init_process_group(
        "nccl" if has_gpu else "gloo",
        store=PrefixStore(_unique_name("group"), _rendezvous_store()),
        rank=rank(),
        world_size=world_size(),
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _read_env_int(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdigit():
        raise ConfigError(
            f"{name} must be a whole number, as torchrun sets it; got {value!r}; unset it to run "
            "one process"
        )
    return int(value)


def _barrier() -> None:
    if is_main():
        broadcast("met", "here")
    else:
        receive_broadcast("met")


def _claim_gpu() -> None:
    import torch

    here, found = local_world_size(), torch.cuda.device_count()
    if here > found:
        raise ConfigError(
            f"torchrun has started {here} processes on this machine, which has {found} GPUs; start it "
            f"with --nproc_per_node {found}, a process for each"
        )
    torch.cuda.set_device(local_rank())


def _unique_name(topic: str) -> str:
    _topic_counts[topic] += 1
    return f"xraysynth/{topic}/{_topic_counts[topic]}"


@cache
def _rendezvous_store() -> Any:
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", rank(), world_size(), timeout=RENDEZVOUS_TIMEOUT))
    return store
