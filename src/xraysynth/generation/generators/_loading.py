"""Weights: found, downloaded and checked before anything is loaded."""

import hashlib
import json
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from xraysynth.errors import ConfigError, DataNotFoundError, format_some
from xraysynth.seeds import digest

HUB_TIMEOUT_SECONDS = 5.0
PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_HASHED_SUFFIXES = (".safetensors", ".json", ".txt")
_COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class WeightsLocation:
    """What an option names: a folder or file, or a hub id pinned to a commit.

    `mirrors` are hub ids tried in turn, at the same commit, when the first is gone.
    """

    option: str
    name_or_path: str
    revision: str | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def local_path(self) -> Path | None:
        """The folder or file; None for a hub id."""
        path = Path(self.name_or_path).expanduser()
        looks_local = (
            self.name_or_path.startswith((".", "/", "~")) or self.name_or_path.count("/") != 1
        )
        if looks_local and not path.exists():
            raise DataNotFoundError(
                f"{self.option}: no folder {path}; give a folder that is there, or a hub id such as "
                "owner/name with a revision"
            )
        return path if path.exists() else None

    @property
    def commit(self) -> str:
        """The revision, which must be a commit."""
        if self.revision is None or len(self.revision) != 40:
            raise ConfigError(
                f"{_revision_option(self.option)} must be the 40-digit commit of hub model "
                f"{self.name_or_path!r}, so that the run can be repeated; got {self.revision!r}"
            )
        return self.revision

    def content_digest(self) -> str:
        """SHA-256 of the local weights and settings, or the pinned commit."""
        local = self.local_path
        if local is None:
            return self.commit
        found = sorted(local.rglob("*")) if local.is_dir() else [local]
        found = [path for path in found if path.suffix in _HASHED_SUFFIXES]
        stamps = tuple((p, p.stat().st_size, p.stat().st_mtime_ns) for p in found)
        return _files_digest(local, stamps)

    def fetch(
        self, download: Callable[..., str], check: Callable[[str, Path], Any], **options: Any
    ) -> Path:
        """Where the weights lie on this machine, complete; downloaded only if they are not there.

        `download` takes the id, `revision`, `local_files_only` and `options`; `check` raises for a
        folder that is not complete.
        """
        if self.local_path is not None:
            check(self.option, self.local_path)
            return self.local_path
        tried = []
        for place in (self.name_or_path, *self.mirrors):
            reasons: list[str] = []
            for find in (True, False):  # the cache first, then the hub
                try:
                    if not find:
                        _require_hub()
                    given = {"revision": self.commit, "local_files_only": find, **options}
                    path = Path(download(place, **given))
                    check(self.option, path)
                    return path
                except ConfigError:
                    raise
                except Exception as error:  # hub, httpx and diffusers raise kinds of their own
                    if not find or isinstance(error, DataNotFoundError):  # cached, but not whole
                        reasons.append((str(error).strip() or repr(error)).splitlines()[0])
            tried.append(f"{place} ({'; '.join(reasons)})")
        raise DataNotFoundError(
            f"{self.option} could not be loaded from {'; '.join(tried)}. Connect to the hub, name a "
            f"mirror, or download it elsewhere and set {self.option} to its folder"
        )


def _revision_option(option: str) -> str:
    owner, _, name = option.rpartition(".")
    return f"{owner}.revision" if name == "model" else f"{option}_revision"


def _require_hub() -> None:
    """Raise within seconds where there is no hub: its own library retries for most of a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise DataNotFoundError("not in the cache of this machine, and HF_HUB_OFFLINE is set")
    reasons: list[BaseException | None] = []

    def probe_hub() -> None:
        try:
            urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT_SECONDS).close()
            reasons.append(None)
        except (HTTPError, HTTPException):  # whatever it says, it is there
            reasons.append(None)
        except (OSError, ValueError) as error:
            certificate = isinstance(getattr(error, "reason", None), ssl.SSLError)
            reasons.append(None if certificate else error)

    # In a thread, since looking up a name knows no time limit.
    thread = Thread(target=probe_hub, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_SECONDS + 1)
    reason = reasons[0] if reasons else TimeoutError(f"no answer in {HUB_TIMEOUT_SECONDS:g} s")
    if reason is not None:
        cause = reason.reason if isinstance(reason, URLError) else reason
        raise DataNotFoundError(f"{constants.ENDPOINT} cannot be reached: {cause}")


def fetch_pipeline(weights: WeightsLocation) -> Path:
    """A complete diffusers folder."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):  # their bars and warnings would break ours
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
    options = {"use_safetensors": True, "safety_checker": None}
    return weights.fetch(diffusers.DiffusionPipeline.download, pipeline_files, **options)


def read_pipeline(option: str, folder: Path, dtype: Any) -> Any:
    """The pipeline of a diffusers folder, on the CPU, without its safety checker."""
    import diffusers

    kind: Any = diffusers.DiffusionPipeline
    options = {"dtype": dtype, "safety_checker": None, "use_safetensors": True}
    try:
        pipeline = kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataNotFoundError(
            f"{option}: {folder} cannot be loaded ({reason}); download the model again"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def fuse_adapter(pipeline: Any, weights: WeightsLocation) -> Path:
    """Put a LoRA into the pipeline's own weights, so that it costs no time; its file."""
    file = _fetch_file(weights)
    try:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    except Exception as error:  # peft and torch raise different kinds
        raise ConfigError(
            f"{weights.option}: {file} is no LoRA for this model ({str(error).splitlines()[0]}); "
            "name one that was made for it"
        ) from error
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    return file


def use_tiny_vae(pipeline: Any, weights: WeightsLocation) -> Path:
    """Put a small autoencoder in the place of the pipeline's own; its file."""
    import diffusers

    file = _fetch_file(weights)
    kind: Any = diffusers.AutoencoderTiny
    vae, loaded = kind.from_pretrained(file.parent, use_safetensors=True, output_loading_info=True)
    _require_all_weights(weights.option, file, loaded)
    pipeline.vae = vae
    return file


def _require_all_weights(option: str, file: Path, loaded: Mapping[str, Iterable[str]]) -> None:
    """Refuse a file that leaves weights of the model unset: diffusers says nothing of them."""
    unset, unknown = sorted(loaded["missing_keys"]), sorted(loaded["unexpected_keys"])
    if unset or unknown:
        raise ConfigError(
            f"{option}: {file} is no small autoencoder (AutoencoderTiny): {len(unset)} of its weights "
            f"are missing, and {len(unknown)} are another model's "
            f"({format_some([*unset, *unknown])}); name a "
            "TAESD that diffusers reads"
        )


def _fetch_file(weights: WeightsLocation) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "config.json"]
    path = weights.fetch(snapshot_download, single_file, allow_patterns=patterns)
    return single_file(weights.option, path)


def pipeline_files(option: str, folder: Path) -> dict[str, list[Path]]:
    """Component -> its weights in a diffusers folder, every file whole.

    Raises `DataNotFoundError` for a folder without them, with pickles instead, or with a file that
    is cut short.
    """
    index = folder / "model_index.json"
    try:
        listed = json.loads(index.read_text())
    except (OSError, ValueError) as error:
        raise _missing_weights_error(option, folder, f"no readable {index.name}") from error
    names = [n for n in _COMPONENTS if isinstance(listed.get(n), list) and listed[n][0]]
    files = {name: list(_component_files(option, folder / name)) for name in names}
    for file in (file for group in files.values() for file in group):
        count_stored_parameters(file)  # raises for one that is not whole
    return files


def _component_files(option: str, folder: Path) -> Iterator[Path]:
    for stem in ("diffusion_pytorch_model", "model"):
        whole = folder / f"{stem}.safetensors"
        index = folder / f"{stem}.safetensors.index.json"
        if whole.is_file():
            yield whole
            return
        if index.is_file():
            shards = json.loads(index.read_text())["weight_map"].values()
            yield from (folder / name for name in sorted(set(shards)))
            return
    raise _missing_weights_error(
        option, folder, "no model.safetensors or diffusion_pytorch_model.safetensors"
    )


def single_file(option: str, path: Path) -> Path:
    """The one safetensors file that `path` is or holds, whole."""
    found = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(found) != 1 or found[0].suffix != ".safetensors":
        raise _missing_weights_error(
            option, path, f"needs exactly one safetensors file, found {len(found)}"
        )
    count_stored_parameters(found[0])  # raises for one that is not whole
    return found[0]


def _missing_weights_error(option: str, folder: Path, rule: str) -> DataNotFoundError:
    candidates = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    pickles = [p.name for p in candidates if p.suffix in PICKLE_SUFFIXES]
    if not pickles:
        return DataNotFoundError(f"{option}: {rule} in {folder}; download the model again")
    return DataNotFoundError(
        f"{option}: {folder} has {pickles[0]}, a pickle, which can run code when it is read; only "
        "safetensors are loaded. Convert it where you trust it, with diffusers: "
        "StableDiffusionPipeline.from_pretrained(folder, use_safetensors=False)"
        ".save_pretrained(new_folder), or from_single_file(file) for a single file"
    )


def count_stored_parameters(file: Path) -> int:
    """Number of parameters in a safetensors file, from its header; a damaged file raises."""
    from math import prod

    return sum(prod(shape) for shape in tensor_shapes(file).values())


def tensor_shapes(file: Path) -> dict[str, list[int]]:
    """Tensor -> shape in a safetensors file, from its header; a damaged file raises."""
    from safetensors import safe_open

    try:
        with safe_open(file, "np") as opened:
            return {key: opened.get_slice(key).get_shape() for key in opened.keys()}  # noqa: SIM118
    except Exception as error:  # SafetensorError derives from nothing nearer
        raise DataNotFoundError(
            f"{file} is damaged or cut short ({error}); delete it and download it again"
        ) from error


@cache
def _files_digest(folder: Path, stamps: tuple[tuple[Path, int, int], ...]) -> str:
    """One digest over names and contents; the stamps keep gigabytes from being read again."""
    root = folder if folder.is_dir() else folder.parent
    return digest([[str(path.relative_to(root)), _sha256(path)] for path, _, _ in stamps])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
