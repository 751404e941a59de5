"""Weights of encoders: given, or found on this machine, or downloaded and checked.

They are looked for in this order:

1. at the path that is given,
2. in the folder `$XRAYSYNTH_WEIGHTS`, under the name in the encoder's own documentation,
3. where earlier downloads lie: `xraysynth` in `$XDG_CACHE_HOME` or `~/.cache`, torch's hub folder
   and the Hugging Face cache,
4. on the network, unless `HF_HUB_OFFLINE` is set; downloads go to `$XRAYSYNTH_WEIGHTS`, else to 3.

All but what is given must have the SHA-256 of the published files.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from xraysynth.errors import DataNotFoundError, XraysynthError
from xraysynth.files import exclusive
from xraysynth.progress import progress
from xraysynth.seeds import digest

FOLDER_VARIABLE = "XRAYSYNTH_WEIGHTS"
TIMEOUT_SECONDS = 30.0
BLOCK = 10**6
_SAFE = {"pytorch_model.bin": "model.safetensors"}  # the same weights, converted by the user


@dataclass(frozen=True, eq=False)
class Published:
    """Files of a model as they were published, by SHA-256; no hash where none is known.

    They come from `release`, the start of an address, or from a commit of a repository of the
    Hugging Face Hub. `by_hand` says what to do where they cannot be downloaded.
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
    def address(self) -> str:
        """Where the files are on the network; empty where they are to be given by hand."""
        from huggingface_hub import constants

        if self.release or not self.revision:
            return self.release
        return f"{constants.ENDPOINT}/{self.repository}/resolve/{self.revision}"

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
    reason = _why_not_downloaded(published)
    if reason:
        looked = ", ".join(map(str, _places(published)))
        raise DataNotFoundError(
            f"encoder {published.encoder}: no weights in {looked}, and {reason}. "
            f"{_remedy(published, _home())}"
        )
    folder = _home() / published.folder
    download(published, folder)
    return _checked(published, folder)


def download(published: Published, folder: Path) -> None:
    """Fetch the files that are not in the folder yet; each is seen whole and checked or not at all.

    What an interrupted download has got is kept beside as `.<name>.partial` and continued.
    """
    for name, expected in published.files.items():
        if not (folder / name).exists():
            _download(f"{published.address.rstrip('/')}/{name}", folder / name, expected)


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
    places = [root / published.folder for root in dict.fromkeys((_home(), _cache()))]
    if not published.repository:
        return [*places, Path(torch.hub.get_dir()) / "checkpoints"]
    from huggingface_hub import try_to_load_from_cache

    first = next(iter(published.files))
    cached = try_to_load_from_cache(published.repository, first, revision=published.revision)
    return [*places, Path(cached).parent] if isinstance(cached, str) else places


def _why_not_downloaded(published: Published) -> str:
    from huggingface_hub import constants

    if not published.address:
        return "they are not downloaded"
    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""


def _remedy(published: Published, folder: Path) -> str:
    return (
        f"Put {published.description} into {folder}, under {published.name!r} into the folder "
        f"${FOLDER_VARIABLE}, or anywhere and set evaluate.weights.{published.encoder} to it"
    )


def _download(address: str, path: Path, expected: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with exclusive(path.with_name(f".{path.name}.lock")):
        if path.exists():  # another process was faster
            return
        _append(address, partial)
        if (found := sha256(partial)) != expected:
            partial.unlink()
            raise XraysynthError(
                f"{address} came with SHA-256 {found}, but {expected} was published; nothing of it "
                "was kept. Try again, or download it elsewhere"
            )
        os.replace(partial, path)


def _append(address: str, partial: Path) -> None:
    """Continue a partial file to its end; what has come stays when the connection breaks."""
    start = partial.stat().st_size if partial.exists() else 0
    request = Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            start = start if answer.status == 206 else 0
            total = start + int(answer.headers.get("Content-Length") or 0)
            with (
                partial.open("ab" if start else "wb") as file,
                progress(partial.name.strip("."), -(-total // BLOCK), "megabyte") as bar,
            ):
                bar.initial = bar.n = bar.last_print_n = start // BLOCK
                while block := answer.read(BLOCK):
                    file.write(block)
                    bar.update()
        if partial.stat().st_size < total:
            raise ConnectionError(f"{partial.stat().st_size} of {total} bytes came")
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError) and error.code == 416:  # nothing is left to be sent
            return
        raise DataNotFoundError(
            f"{address} could not be downloaded ({error}); the next call continues it"
        ) from error


@cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
