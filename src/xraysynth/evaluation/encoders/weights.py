"""Weights of encoders: given, or found on this machine, or downloaded and checked.

They are looked for in this order:

1. at the path that is given,
2. in the folder `$XRAYSYNTH_WEIGHTS`, under the name in the encoder's own documentation,
3. where earlier downloads lie: `xraysynth` in `$XDG_CACHE_HOME` or `~/.cache`, torch's hub folder
   and the Hugging Face cache,
4. on the network, unless `HF_HUB_OFFLINE` is set. Models of the Hugging Face Hub go into its cache,
   which continues after a broken connection; a single file into `$XRAYSYNTH_WEIGHTS`, else into 3.

All but what is given must have the SHA-256 of the published files.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from xraysynth.errors import DataNotFoundError
from xraysynth.evaluation.encoders.base import optional_package
from xraysynth.seeds import digest

WEIGHTS_ENV_VARIABLE = "XRAYSYNTH_WEIGHTS"
DOWNLOAD_TIMEOUT_SECONDS = 30.0
_SAFETENSORS_NAMES = {
    "pytorch_model.bin": "model.safetensors"
}  # the same weights, converted by the user


@dataclass(frozen=True, eq=False)
class PublishedWeights:
    """Files of a model as they were published, by SHA-256; no hash where none is known.

    They are a commit of a repository of the Hugging Face Hub, or a single file below the address
    `release`. `manual_instructions` says how to get what is not downloaded.
    """

    encoder: str
    files: Mapping[str, str]
    release_url: str = ""
    repository: str = ""
    revision: str = ""
    manual_instructions: str = ""

    @property
    def folder_name(self) -> str:
        """Its folder in `$XRAYSYNTH_WEIGHTS`; a single file lies there without a folder."""
        return self.repository.rpartition("/")[2]

    @property
    def name(self) -> str:
        """What to put into `$XRAYSYNTH_WEIGHTS`."""
        return self.folder_name or next(iter(self.files))

    @property
    def description(self) -> str:
        """The files and where they are from, for people."""
        source = f"{self.repository} at {self.revision}" if self.repository else self.release_url
        return self.manual_instructions or f"{', '.join(self.files)} of {source}"


def find_weights(published: PublishedWeights, weights: Path | None = None) -> Path:
    """The file, or the folder with all files, on this machine; `DataNotFoundError` otherwise."""
    if weights is not None:
        return _require_files_at(published, Path(weights).expanduser())
    for folder in _search_folders(published):
        if not _missing_files(published, folder):
            return _verify_sha256(published, folder)
    return _verify_sha256(published, _download(published))


def find_files(published: PublishedWeights, folder: Path) -> dict[str, Path]:
    """The files of it that a folder has; `model.safetensors` may stand for `pytorch_model.bin`."""
    found = {name: folder / name for name in published.files}
    converted = {name: folder / safe for name, safe in _SAFETENSORS_NAMES.items() if name in found}
    found |= {name: path for name, path in converted.items() if path.is_file()}
    return {name: path for name, path in found.items() if path.is_file()}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read once as long as it does not change."""
    stat = path.stat()
    return _cached_sha256(path, stat.st_size, stat.st_mtime_ns)


def files_digest(paths: Mapping[str, Path]) -> str:
    """One digest over named files."""
    return digest({name: file_sha256(path) for name, path in paths.items()})


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file, or of a torch file in which nothing is executed."""
    with explain_load_errors(path, "a state dict"):
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state


@contextmanager
def explain_load_errors(path: Path, expected: str) -> Iterator[None]:
    """Around what reads weights: says which file or folder it is that does not hold them."""
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
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise DataNotFoundError(
            f"{path} does not hold {expected} ({reason}); replace it"
        ) from error


def _require_files_at(published: PublishedWeights, path: Path) -> Path:
    if not published.folder_name and path.is_file():
        return path
    if missing := _missing_files(published, path):
        raise DataNotFoundError(
            f"encoder {published.encoder}: {path} "
            f"{'has no ' + ', '.join(missing) if path.is_dir() else 'is not there'}. "
            f"{_remedy(published, path if published.folder_name else path.parent)}"
        )
    return path if published.folder_name else path / published.name


def _missing_files(published: PublishedWeights, folder: Path) -> list[str]:
    found = find_files(published, folder)
    return [name for name in published.files if name not in found]


def _verify_sha256(published: PublishedWeights, folder: Path) -> Path:
    for name, path in find_files(published, folder).items():
        expected = published.files[name] if path.name == name else ""
        if expected and file_sha256(path) != expected:
            raise DataNotFoundError(
                f"{path} has SHA-256 {file_sha256(path)}, but the published file has {expected}; remove "
                f"it, or set evaluate.weights.{published.encoder} to it to use it all the same"
            )
    return folder if published.folder_name else folder / published.name


def _weights_folder() -> Path:
    chosen = os.environ.get(WEIGHTS_ENV_VARIABLE)
    return Path(chosen).expanduser() if chosen else _cache_folder()


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xraysynth"


def _search_folders(published: PublishedWeights) -> list[Path]:
    """Folders of this machine, but for the Hugging Face cache, which its own library looks into."""
    places = [
        root / published.folder_name for root in dict.fromkeys((_weights_folder(), _cache_folder()))
    ]
    return places if published.repository else [*places, Path(torch.hub.get_dir()) / "checkpoints"]


def _remedy(published: PublishedWeights, folder: Path) -> str:
    return (
        f"Put {published.description} into {folder}, under {published.name!r} into the folder "
        f"${WEIGHTS_ENV_VARIABLE}, or anywhere and set evaluate.weights.{published.encoder} to it"
    )


def _download(published: PublishedWeights) -> Path:
    """The folder of the files, fetched unless they are in the Hugging Face cache."""
    from httpx2 import HTTPError
    from huggingface_hub import constants

    if not published.repository and not published.release_url:
        reason = "they are not downloaded"
    else:
        try:
            return (
                _download_from_hub(published)
                if published.repository
                else _download_from_release(published)
            )
        except (OSError, HTTPError, ValueError) as error:  # ValueError: another hash is expected
            why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else str(error) or repr(error)
            reason = f"they could not be downloaded: {why.strip().rstrip('.')}"
    looked = ", ".join(map(str, _search_folders(published)))
    raise DataNotFoundError(
        f"encoder {published.encoder}: no weights in {looked}, and {reason}. "
        f"{_remedy(published, _weights_folder())}"
    )


def _download_from_hub(published: PublishedWeights) -> Path:
    from huggingface_hub import hf_hub_download

    repository, revision = published.repository, published.revision
    paths = [hf_hub_download(repository, name, revision=revision) for name in published.files]
    return Path(paths[0]).parent


def _download_from_release(published: PublishedWeights) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled
    with optional_package("pooch"):
        import pooch
    ((name, expected),) = published.files.items()
    path = pooch.retrieve(
        f"{published.release_url.rstrip('/')}/{name}",
        known_hash=f"sha256:{expected}",
        fname=name,
        path=_weights_folder(),
        downloader=pooch.HTTPDownloader(progressbar=True, timeout=DOWNLOAD_TIMEOUT_SECONDS),
    )
    return Path(path).parent


@cache
def _cached_sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
