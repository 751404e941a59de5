"""What differs when several processes train together and divide every batch (DDP)."""

from typing import Any

import torch
from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    LightningEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.utilities import rank_zero_only
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]

from xraysynth.jobs.distributed import local_world_size, rank


def process_count() -> int:
    """Returns the number of processes that train together; 1 without a process group."""
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def shard_loss_scale(image_weights: torch.Tensor) -> torch.Tensor | float:
    """Returns the factor that makes the mean over processes the weighted mean over all images.

    DDP averages the gradients of P processes, and the loss of each is a mean weighted by class:
    P w_p / Σ_q w_q, where w_p is the sum of the class weights of the images of process p.

    Args:
        image_weights: `(B,)`, the class weight of each image of this process.
    """
    if process_count() == 1:
        return 1.0
    shard_weight = image_weights.sum()
    batch_weight = shard_weight.clone()
    torch.distributed.all_reduce(batch_weight)
    return shard_weight * process_count() / batch_weight


def synchronize_batchnorm(backbone: Any) -> Any:
    """Returns the backbone with BatchNorm that counts the images of all processes; needs GPUs.

    timm's conversion is used because Lightning's loses timm's fused activations.
    """
    return convert_sync_batchnorm(backbone)  # type: ignore[no-untyped-call]


def trainer_options() -> dict[str, Any]:
    """Returns the options with which Lightning uses the processes and the group that exist already.

    Lightning is told where it runs, as it would take the tasks of an allocation of Slurm, or the
    processes of MPI, for its own.
    """
    first_process_only: Any = rank_zero_only
    first_process_only.rank = rank()  # Lightning takes the number that Slurm gives a task
    if process_count() == 1:
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    return {
        "devices": local_world_size(),
        "num_nodes": process_count() // local_world_size(),
        "strategy": "ddp",
        "plugins": [TorchElasticEnvironment()],
    }
