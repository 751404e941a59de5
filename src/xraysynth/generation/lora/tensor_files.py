"""Writes and reads safetensors files that are checked against a digest, for caches and checkpoints."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from xraysynth.errors import DamageError
from xraysynth.files import write_atomically
from xraysynth.seeds import digest

CACHE_FORMAT = 1
"""Part of the name of every cache file; to be raised when equal inputs would give other tensors."""


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of names, dtypes, shapes and bytes of tensors, in the order of names."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def images_digest(images: np.ndarray) -> str:
    """Return the SHA-256 (hex) of dtype, shape and pixels of an array of images."""
    sha256 = hashlib.sha256(f"{images.dtype} {images.shape}".encode())
    sha256.update(np.ascontiguousarray(images).data)
    return sha256.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Any = None) -> None:
    """Write tensors and their digest to a safetensors file, atomically.

    Args:
        path: File to write; its folder is made if it is missing.
        tensors: Tensors by name, on any device.
        metadata: JSON value that is stored in the header of the file.
    """
    cpu_tensors = {}
    for name, tensor in tensors.items():
        cpu_tensors[name] = tensor.detach().cpu().contiguous()
    # A single key, since safetensors writes several keys in random order.
    header = {"digest": tensors_digest(cpu_tensors), "facts": metadata}
    if metadata is not None:
        header["facts_digest"] = digest(json.loads(json.dumps(metadata)))  # as it will be read
    data = safetensors.torch.save(cpu_tensors, {"xraysynth": json.dumps(header)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read a file of `write_tensors`.

    Args:
        path: File to read.

    Returns:
        The tensors by name, on the CPU, and the metadata.

    Raises:
        DamageError: If the file is cut short, or tensors or metadata differ from their digest.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("xraysynth", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DamageError(f"{path} is damaged ({error})") from error
    facts = header.get("facts")
    # Earlier versions wrote no digest of the facts.
    facts_digest = header.get("facts_digest", digest(facts))
    if header.get("digest") != tensors_digest(tensors) or facts_digest != digest(facts):
        raise DamageError(f"{path} is damaged: its content differs from its digest")
    return tensors, facts


def load_or_compute(path: Path, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of a cache file; compute and write them if it is missing or damaged.

    Args:
        path: Cache file, named by a digest of all that its content depends on.
        compute: Function that computes the tensors.

    Returns:
        The tensors by name, on the CPU if they come from the file.
    """
    if path.exists():
        try:
            return read_tensors(path)[0]
        except DamageError:
            pass  # the file is computed again, whatever damaged it
    tensors = compute()
    write_tensors(path, tensors)
    return tensors
