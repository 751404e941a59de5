"""Processes that torchrun started together: rank, world size, messages and process groups.

Rank and world size are read from the environment, as torchrun and accelerate set it. Processes meet
at torchrun's rendezvous store, under a new name each time: a second process group under the name of
the first would find the addresses of the first, which has ended.
"""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from xraysynth.errors import ConfigError

RENDEZVOUS_TIMEOUT = timedelta(days=30)
"""How long processes wait for a message of the first one, which may itself wait for a lock."""

JOIN_TIMEOUT = timedelta(minutes=10)
"""How long processes wait for each other at their start; torchrun has brought them together before."""

COPIES = {
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "MV2_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
}
"""Variables that count the processes in which a program was started, and the command that starts them."""

_topic_counts: Counter[str] = Counter()


def rank() -> int:
    """Returns the number of this process among all that were started together, from 0.

    Raises:
        ConfigError: RANK is not a whole number below WORLD_SIZE.
    """
    value = _read_env_int("RANK", 0)
    if value >= world_size():
        raise ConfigError(
            f"RANK={value} must be below WORLD_SIZE={world_size()}; start the processes with "
            "torchrun, which sets them, or unset both to run one process"
        )
    return value


def world_size() -> int:
    """Returns how many processes were started together; 1 for a process on its own."""
    return _read_env_int("WORLD_SIZE", 1)


def require_one_copy() -> None:
    """Refuses to be one of several processes that srun or mpirun started, which would all do the same.

    An allocation with several tasks is no such case, as long as this is not one of its tasks.

    Raises:
        ConfigError: There are several, and torchrun has not told them apart.
    """
    if world_size() > 1 or (
        sys.stdin is not None and sys.stdin.isatty()
    ):  # a shell in one of the tasks
        return
    for variable, command in COPIES.items():
        count = os.environ.get(variable, "1")
        if count.isdigit() and int(count) > 1:
            one = f"{command} {'--ntasks=1' if command == 'srun' else '-n 1'}"
            own = shlex.join(["xraysynth", *sys.argv[1:]])
            raise ConfigError(
                f"{command} has started this command {count} times ({variable}={count}), and all would do "
                f"the same work; start it once: {one} {own} (or divide a training or a generation: {one} "
                f"torchrun --nproc_per_node {count} --no-python {own}); where every task has options of "
                f"its own, say so by: env -u {variable} {own}"
            )


def meet() -> None:
    """Waits for the other processes that were started together, if there are any.

    Raises:
        ConfigError: They do not come, or nothing says where to meet them.
    """
    if world_size() > 1:
        _rendezvous_store()


def local_rank() -> int:
    """Returns the number of this process on its machine, from 0: the number of its GPU."""
    return _read_env_int("LOCAL_RANK", 0)


def is_main() -> bool:
    """Returns whether this is the first process, which reports and writes for all of them."""
    return rank() == 0


def select_gpu() -> str:
    """Makes the GPU of this process the current one, and returns its torch device.

    There must be a GPU; more processes than GPUs share them.
    """
    import torch

    if world_size() == 1:
        return "cuda"
    number = local_rank() % torch.cuda.device_count()
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def local_world_size() -> int:
    """Returns how many of the processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def broadcast(topic: str, message: str) -> None:
    """Sends a message from the first process to all others, and waits until they have received it.

    Args:
        topic: Names the message; the n-th `receive_broadcast` of a topic gets its n-th message.
        message: The text.
    """
    if world_size() == 1:
        return
    name = _unique_name(topic)
    _rendezvous_store().set(name, message)
    _rendezvous_store().wait([f"{name}/{receiver}" for receiver in range(1, world_size())])


def receive_broadcast(topic: str) -> str:
    """Waits for the next message of the first process on a topic, and returns it."""
    name = _unique_name(topic)
    message: bytes = _rendezvous_store().get(name)
    _rendezvous_store().set(f"{name}/{rank()}", "received")
    return message.decode()


@contextmanager
def process_group(accelerator: str = "auto") -> Iterator[None]:
    """Makes all processes one group of torch.distributed, which Lightning and Accelerate find.

    The group communicates over NCCL, with one GPU per process, or over gloo without GPUs. A process
    on its own makes no group. All processes wait here for each other, so that files which the first
    one has written before are there for the others; making a group over NCCL does not wait.

    Args:
        accelerator: "cpu" takes gloo even where there are GPUs.

    Raises:
        ConfigError: There are more processes than GPUs on this machine.
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
            f"{name} must be a whole number, as torchrun sets it; got {value!r}; unset {name} to "
            "run one process"
        )
    return int(value)


def _barrier() -> None:
    if is_main():
        broadcast("barrier", "reached")
    else:
        receive_broadcast("barrier")


def _claim_gpu() -> None:
    import torch

    n_processes, n_gpus = local_world_size(), torch.cuda.device_count()
    if n_processes > n_gpus:
        raise ConfigError(
            f"torchrun has started {n_processes} processes on this machine, which has {n_gpus} GPUs; "
            f"start torchrun with --nproc_per_node {n_gpus}, one process per GPU"
        )
    torch.cuda.set_device(local_rank())


def _unique_name(topic: str) -> str:
    """Names the next message of a topic; all processes count messages in the same order."""
    _topic_counts[topic] += 1
    return f"xraysynth/{topic}/{_topic_counts[topic]}"


@cache
def _rendezvous_store() -> Any:
    from torch.distributed.rendezvous import rendezvous

    if "TORCHELASTIC_RUN_ID" not in os.environ:
        text = f"waiting for the other {world_size() - 1} processes (WORLD_SIZE={world_size()})"
        print(text, file=sys.stderr, flush=True)
    try:
        store, _, _ = next(rendezvous("env://", rank(), world_size(), timeout=JOIN_TIMEOUT))
    except (RuntimeError, ValueError) as error:  # torch's DistError is a RuntimeError
        raise ConfigError(
            f"WORLD_SIZE={world_size()} says that {world_size()} processes were started together, but "
            f"they have not met ({str(error).splitlines()[0]}); start them with torchrun, or, to run one "
            "process, run: unset WORLD_SIZE RANK LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT"
        ) from error
    store.set_timeout(RENDEZVOUS_TIMEOUT)
    return store
