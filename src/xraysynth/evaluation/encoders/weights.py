"""Weights of encoders: found on this machine, or downloaded and checked.

They are looked for in this order:

1. at the path that the caller gives,
2. in the folder `$XRAYSYNTH_WEIGHTS`, under the name in the encoder's own documentation,
3. where earlier downloads lie: `xraysynth` in `$XDG_CACHE_HOME` or `~/.cache`, torch's hub folder
   and the Hugging Face cache,
4. on the network, unless `HF_HUB_OFFLINE` is set. Models of the Hugging Face Hub are stored in its
   cache, and their download continues after a broken connection. A single file is stored in
   `$XRAYSYNTH_WEIGHTS`, or where that is not set in `xraysynth` in the cache folder.

All weights but those at a path of the caller must have the SHA-256 of the published files.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from xraysynth.data.fetching.http import download_file
from xraysynth.data.fetching.recipe import RemoteFile
from xraysynth.errors import DataNotFoundError, DownloadError
from xraysynth.files import exclusive_lock
from xraysynth.options import expand_path
from xraysynth.seeds import digest

WEIGHTS_ENV_VARIABLE = "XRAYSYNTH_WEIGHTS"

_SAFETENSORS_NAMES = {"pytorch_model.bin": "model.safetensors"}
"""Files that users may have converted, and the name of the conversion."""


@dataclass(frozen=True, eq=False)
class PublishedWeights:
    """Published files of a model: a commit of a Hugging Face repository, or a single file of a release.

    Attributes:
        encoder: Name of the encoder.
        files: SHA-256 of each file by name, "" where it is unknown.
        release_url: Address of the folder of a single file.
        repository: Name of a repository of the Hugging Face Hub.
        revision: Commit of the repository.
        manual_instructions: How to get files that are not downloaded.
    """

    encoder: str
    files: Mapping[str, str]
    release_url: str = ""
    repository: str = ""
    revision: str = ""
    manual_instructions: str = ""

    @property
    def folder_name(self) -> str:
        """Name of the folder in `$XRAYSYNTH_WEIGHTS`, "" for a single file, which has none."""
        return self.repository.rpartition("/")[2]

    @property
    def name(self) -> str:
        """Name of the folder or file to put into `$XRAYSYNTH_WEIGHTS`."""
        return self.folder_name or next(iter(self.files))

    @property
    def description(self) -> str:
        """The files and their source in words, for errors."""
        if self.manual_instructions:
            return self.manual_instructions
        source = f"{self.repository} at {self.revision}" if self.repository else self.release_url
        return f"{', '.join(self.files)} of {source}"


def find_weights(published: PublishedWeights, weights: Path | None = None) -> Path:
    """Find the weights of an encoder on this machine, or download them.

    Args:
        published: The published files.
        weights: Path of a file or folder to use instead.

    Returns:
        The file, or for a model of several files their folder.

    Raises:
        DataNotFoundError: If files are missing and cannot be downloaded, or have another SHA-256.
    """
    if weights is not None:
        return _require_files_at(published, expand_path(weights))
    for folder in _search_folders(published):
        if not _missing_files(published, folder):
            return _verify_sha256(published, folder)
    return _verify_sha256(published, _download(published))


def find_files(published: PublishedWeights, folder: Path) -> dict[str, Path]:
    """Return which published files a folder has, by published name.

    `model.safetensors` may stand for `pytorch_model.bin`.
    """
    files = {}
    for name in published.files:
        converted = folder / _SAFETENSORS_NAMES.get(name, name)
        path = converted if converted.is_file() else folder / name
        if path.is_file():
            files[name] = path
    return files


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, which is read again only after it has changed."""
    stat = path.stat()
    return _cached_sha256(path, stat.st_size, stat.st_mtime_ns)


def files_digest(paths: Mapping[str, Path]) -> str:
    """Compute one digest over the names and contents of several files."""
    hashes = {name: file_sha256(path) for name, path in paths.items()}
    return digest(hashes)


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Load the tensors of a safetensors file, or of a torch file without executing code in it.

    Raises:
        DataNotFoundError: If the file does not hold a state dict.
    """
    with explain_load_errors(path, "a state dict"):
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state


@contextmanager
def explain_load_errors(path: Path, expected: str) -> Iterator[None]:
    """Turn the errors of a library that reads weights into one that names the file or folder.

    Args:
        path: The file or folder that is read.
        expected: Description of the content, such as "a state dict".

    Raises:
        DataNotFoundError: If `path` does not hold what is expected.
    """
    try:
        yield
    except (
        AttributeError,
        KeyError,
        OSError,
        RuntimeError,
        SafetensorError,
        TypeError,
        UnpicklingError,
        ValueError,
    ) as error:
        reason = " ".join((str(error).strip() or repr(error)).split())[
            :300
        ]  # torch's has many lines
        raise DataNotFoundError(
            f"{path} does not hold {expected} ({reason}); replace it"
        ) from error


def _require_files_at(published: PublishedWeights, path: Path) -> Path:
    """Return the file or folder at a path of the caller, or raise where files are missing."""
    is_single_file = not published.folder_name
    if is_single_file and path.is_file():
        return path
    missing = _missing_files(published, path)
    if missing:
        problem = f"has no {', '.join(missing)}" if path.is_dir() else "is not there"
        folder = path.parent if is_single_file else path
        raise DataNotFoundError(
            f"encoder {published.encoder}: {path} {problem}. {_remedy(published, folder)}"
        )
    return path / published.name if is_single_file else path


def _missing_files(published: PublishedWeights, folder: Path) -> list[str]:
    files = find_files(published, folder)
    return [name for name in published.files if name not in files]


def _verify_sha256(published: PublishedWeights, folder: Path) -> Path:
    """Return the file or folder, or raise where a file is not the published one."""
    for name, path in find_files(published, folder).items():
        expected = published.files[name] if path.name == name else ""
        if expected and file_sha256(path) != expected:
            raise DataNotFoundError(
                f"{path} has SHA-256 {file_sha256(path)}, but the published file has {expected}; remove "
                f"it, or set evaluate.weights.{published.encoder} to its path to use it all the same"
            )
    return folder if published.folder_name else folder / published.name


def _weights_folder() -> Path:
    folder = os.environ.get(WEIGHTS_ENV_VARIABLE)
    return expand_path(folder) if folder else _cache_folder()


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xraysynth"


def _search_folders(published: PublishedWeights) -> list[Path]:
    """Return the folders to search, without the Hugging Face cache, which its own library searches."""
    roots = dict.fromkeys((_weights_folder(), _cache_folder()))
    folders = [root / published.folder_name for root in roots]
    if not published.repository:
        folders.append(Path(torch.hub.get_dir()) / "checkpoints")
    return folders


def _remedy(published: PublishedWeights, folder: Path) -> str:
    """Return the sentence that says where to put the published files."""
    return (
        f"Put {published.description} into {folder}, under {published.name!r} into the folder "
        f"${WEIGHTS_ENV_VARIABLE}, or anywhere and set evaluate.weights.{published.encoder} to its path"
    )


def _download(published: PublishedWeights) -> Path:
    """Return the folder of the files, downloaded unless they are in the Hugging Face cache."""
    from httpx2 import HTTPError

    try:
        if published.repository:
            return _download_from_hub(published)
        if published.release_url:
            return _download_from_release(published)
        reason = "they are not downloaded"
    except (OSError, HTTPError, ValueError, DownloadError) as error:
        reason = _download_failure(error)
    folders = ", ".join(map(str, _search_folders(published)))
    raise DataNotFoundError(
        f"encoder {published.encoder}: no weights in {folders}, and {reason}. "
        f"{_remedy(published, _weights_folder())}"
    )


def _download_failure(error: Exception) -> str:
    """Return the reason of a failed download as a clause."""
    from huggingface_hub import constants

    cause = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else str(error) or repr(error)
    return f"they could not be downloaded: {cause.strip().rstrip('.')}"


def _download_from_hub(published: PublishedWeights) -> Path:
    """Return the folder of a commit in the Hugging Face cache, downloaded unless it is there."""
    from huggingface_hub import hf_hub_download

    download = partial(hf_hub_download, published.repository, revision=published.revision)
    paths = list(map(download, published.files))
    return Path(paths[0]).parent


def _download_from_release(published: PublishedWeights) -> Path:
    """Download a single file, check its SHA-256, and return its folder."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled
    ((name, expected),) = published.files.items()
    address = f"{published.release_url.rstrip('/')}/{name}"
    remote = RemoteFile(name=name, urls=[address], checksum=f"sha256:{expected}")
    folder = _weights_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / f".{name}.lock"):
        download_file(remote, folder / name)
    return folder


@cache
def _cached_sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
