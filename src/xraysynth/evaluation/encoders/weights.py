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

FOLDER_VARIABLE = "XRAYSYNTH_WEIGHTS"
TIMEOUT_SECONDS = 30.0
_SAFE = {"pytorch_model.bin": "model.safetensors"}  # the same weights, converted by the user


@dataclass(frozen=True, eq=False)
class Published:
    """Files of a model as they were published, by SHA-256; no hash where none is known.

    They are a commit of a repository of the Hugging Face Hub, or a single file below the address
    `release`. `by_hand` says how to get what is not downloaded.
    """

    encoder: str
    files: Mapping[str, str]
    release: str = ""
    repository: str = ""
    revision: str = ""
    by_hand: str = ""

    @property
    def folder(self) -> str:
        """Its folder in `$XRAYSYNTH_WEIGHTS`; a single file lies there without a folder."""
        return self.repository.rpartition("/")[2]

    @property
    def name(self) -> str:
        """What to put into `$XRAYSYNTH_WEIGHTS`."""
        return self.folder or next(iter(self.files))

    @property
    def description(self) -> str:
        """The files and where they are from, for people."""
        source = f"{self.repository} at {self.revision}" if self.repository else self.release
        return self.by_hand or f"{', '.join(self.files)} of {source}"


def find(published: Published, given: Path | None = None) -> Path:
    """The file, or the folder with all files, on this machine; `DataNotFoundError` otherwise."""
    if given is not None:
        return _given(published, Path(given).expanduser())
    for folder in _places(published):
        if not _missing(published, folder):
            return _checked(published, folder)
    return _checked(published, _download(published))


def files(published: Published, folder: Path) -> dict[str, Path]:
    """The files of it that a folder has; `model.safetensors` may stand for `pytorch_model.bin`."""
    found = {name: folder / name for name in published.files}
    converted = {name: folder / safe for name, safe in _SAFE.items() if name in found}
    found |= {name: path for name, path in converted.items() if path.is_file()}
    return {name: path for name, path in found.items() if path.is_file()}


def sha256(path: Path) -> str:
    """SHA-256 of a file, read once as long as it does not change."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def content_digest(paths: Mapping[str, Path]) -> str:
    """One digest over named files."""
    return digest({name: sha256(path) for name, path in paths.items()})


def state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file, or of a torch file in which nothing is executed."""
    with readable(path, "a state dict"):
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
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
        raise DataNotFoundError(f"{path} does not hold {what} ({reason}); replace it") from error


def _given(published: Published, path: Path) -> Path:
    if not published.folder and path.is_file():
        return path
    if missing := _missing(published, path):
        raise DataNotFoundError(
            f"encoder {published.encoder}: {path} "
            f"{'has no ' + ', '.join(missing) if path.is_dir() else 'is not there'}. "
            f"{_remedy(published, path if published.folder else path.parent)}"
        )
    return path if published.folder else path / published.name


def _missing(published: Published, folder: Path) -> list[str]:
    found = files(published, folder)
    return [name for name in published.files if name not in found]


def _checked(published: Published, folder: Path) -> Path:
    for name, path in files(published, folder).items():
        expected = published.files[name] if path.name == name else ""
        if expected and sha256(path) != expected:
            raise DataNotFoundError(
                f"{path} has SHA-256 {sha256(path)}, but the published file has {expected}; remove "
                f"it, or set evaluate.weights.{published.encoder} to it to use it all the same"
            )
    return folder if published.folder else folder / published.name


def _home() -> Path:
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else _cache()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xraysynth"


def _places(published: Published) -> list[Path]:
    """Folders of this machine, but for the Hugging Face cache, which its own library looks into."""
    places = [root / published.folder for root in dict.fromkeys((_home(), _cache()))]
    return places if published.repository else [*places, Path(torch.hub.get_dir()) / "checkpoints"]


def _remedy(published: Published, folder: Path) -> str:
    return (
        f"Put {published.description} into {folder}, under {published.name!r} into the folder "
        f"${FOLDER_VARIABLE}, or anywhere and set evaluate.weights.{published.encoder} to it"
    )


def _download(published: Published) -> Path:
    """The folder of the files, fetched unless they are in the Hugging Face cache."""
    from httpx2 import HTTPError
    from huggingface_hub import constants

    if not published.repository and not published.release:
        reason = "they are not downloaded"
    else:
        try:
            return _from_hub(published) if published.repository else _from_release(published)
        except (OSError, HTTPError, ValueError) as error:  # ValueError: another hash is expected
            why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else str(error) or repr(error)
            reason = f"they could not be downloaded: {why.strip().rstrip('.')}"
    looked = ", ".join(map(str, _places(published)))
    raise DataNotFoundError(
        f"encoder {published.encoder}: no weights in {looked}, and {reason}. "
        f"{_remedy(published, _home())}"
    )


def _from_hub(published: Published) -> Path:
    from huggingface_hub import hf_hub_download

    repository, revision = published.repository, published.revision
    paths = [hf_hub_download(repository, name, revision=revision) for name in published.files]
    return Path(paths[0]).parent


def _from_release(published: Published) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled
    with optional_package("pooch"):
        import pooch
    ((name, expected),) = published.files.items()
    path = pooch.retrieve(
        f"{published.release.rstrip('/')}/{name}",
        known_hash=f"sha256:{expected}",
        fname=name,
        path=_home(),
        downloader=pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT_SECONDS),
    )
    return Path(path).parent


@cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
