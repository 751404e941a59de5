"""A stand-in for kagglehub 1.0.3: `dataset_download` and `competition_download` with its signatures.

Like the package it reads KAGGLEHUB_CACHE at the call, and returns a folder below it.
"""

import os
import types
from pathlib import Path


class UnauthenticatedError(Exception):
    """Named as kagglehub's."""


def build(files, error=None):
    """The package, which gives `files` (path -> bytes) or raises; `asked` holds what it was asked for."""
    package = types.ModuleType("kagglehub")
    package.asked = []

    def give(kind, handle):
        package.asked.append((kind, handle))
        if error is not None:
            raise error
        folder = Path(os.environ["KAGGLEHUB_CACHE"], kind, handle, "versions", "1")
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return str(folder)

    def dataset_download(handle, path=None, *, force_download=False, output_dir=None):
        return give("datasets", handle)

    def competition_download(handle, path=None, *, force_download=False, output_dir=None):
        return give("competitions", handle)

    package.dataset_download = dataset_download
    package.competition_download = competition_download
    return package
