"""Locates the weights that an option names: a local folder or file, or a pinned model of the hub."""

import hashlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.options import expand_path
from xraysynth.seeds import digest

HUB_TIMEOUT_SECONDS = 5.0
_HASHED_SUFFIXES = (".safetensors", ".json", ".txt")


@dataclass(frozen=True)
class WeightsLocation:
    """Location of weights: a folder or file, or a hub id pinned to a commit.

    Attributes:
        option: Option that names the weights, for errors.
        name_or_path: Path, or hub id `owner/name`.
        revision: Commit of a hub id, 40 hex digits.
        mirrors: Hub ids with the same commit, which are tried in turn when the first fails.
    """

    option: str
    name_or_path: str
    revision: str | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def local_path(self) -> Path | None:
        """Folder or file; None for a hub id; `DataNotFoundError` for a path that does not exist."""
        path = expand_path(self.name_or_path)
        if path.exists():
            return path
        looks_local = (
            self.name_or_path.startswith((".", "/", "~")) or self.name_or_path.count("/") != 1
        )
        if looks_local:
            raise DataNotFoundError(
                f"{self.option}: there is no folder {path}; give a folder that exists, or a hub id such as "
                "owner/name with a revision"
            )
        return None

    @property
    def commit(self) -> str:
        """The revision; `ConfigError` unless it is a whole commit."""
        if self.revision is None or len(self.revision) != 40:
            raise ConfigError(
                f"{_revision_option(self.option)} must be the 40-digit commit of hub model "
                f"{self.name_or_path!r}, so that the run can be repeated; got {self.revision!r}"
            )
        return self.revision

    def content_digest(self) -> str:
        """Return the SHA-256 (hex) of local weights and settings, or the pinned commit."""
        local = self.local_path
        if local is None:
            return self.commit
        candidates = sorted(local.rglob("*")) if local.is_dir() else [local]
        stamps = []
        for path in candidates:
            if path.suffix in _HASHED_SUFFIXES:
                stat = path.stat()
                stamps.append((path, stat.st_size, stat.st_mtime_ns))
        return _files_digest(local, tuple(stamps))

    def fetch(
        self, download: Callable[..., str], check: Callable[[str, Path], Any], **options: Any
    ) -> Path:
        """Return the path of complete weights on this machine; download them if they are missing.

        Args:
            download: Function of the hub's library: takes a hub id, `revision`, `local_files_only` and
                `options`, and returns the path of the download.
            check: Takes the option and a path, and raises an error for incomplete weights.
            **options: Further arguments of `download`.

        Raises:
            ConfigError: If the revision of a hub id is not a commit.
            DataNotFoundError: If local weights are incomplete, or none of the hub ids can be loaded.
        """
        if self.local_path is not None:
            check(self.option, self.local_path)
            return self.local_path
        options["revision"] = self.commit
        failures = []
        for repo_id in (self.name_or_path, *self.mirrors):
            reasons = []
            for load in (_load_from_cache, _load_from_hub):
                try:
                    path = load(download, repo_id, options)
                    check(self.option, path)
                    return path
                except ConfigError:
                    raise
                except Exception as error:  # hub, httpx and diffusers raise classes of their own
                    is_incomplete = isinstance(error, DataNotFoundError)
                    if load is _load_from_cache and not is_incomplete:
                        continue  # the model is not in the cache, which needs no report
                    reasons.append(_first_line(error))
                    if isinstance(error, PermissionError):
                        raise _unwritable_cache_error(self.option, error) from error
            failures.append(f"{repo_id} ({'; '.join(reasons)})")
        raise DataNotFoundError(
            f"{self.option} could not be loaded from {'; '.join(failures)}. Connect to the hub, name a "
            f"mirror, or download it elsewhere and set {self.option} to its folder"
        )


def _unwritable_cache_error(option: str, error: PermissionError) -> DataNotFoundError:
    return DataNotFoundError(
        f"{option} cannot be downloaded: {error.filename} may not be written; set the variable HF_HOME to a "
        "folder that you can write to (export HF_HOME=…)"
    )


def _load_from_cache(
    download: Callable[..., str], repo_id: str, options: Mapping[str, object]
) -> Path:
    return Path(download(repo_id, local_files_only=True, **options))


def _load_from_hub(
    download: Callable[..., str], repo_id: str, options: Mapping[str, object]
) -> Path:
    _require_hub()
    return Path(download(repo_id, local_files_only=False, **options))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


def _revision_option(option: str) -> str:
    owner, _, name = option.rpartition(".")
    return f"{owner}.revision" if name == "model" else f"{option}_revision"


def _require_hub() -> None:
    """Raise `DataNotFoundError` within seconds if the hub cannot be reached.

    The hub's own library would retry for most of a minute.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise DataNotFoundError("not in the cache of this machine, and HF_HUB_OFFLINE is set")
    outcomes: list[BaseException | None] = []

    def probe_hub() -> None:
        outcomes.append(_connection_error(constants.ENDPOINT))

    # In a thread, since the lookup of a host name has no time limit.
    thread = Thread(target=probe_hub, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_SECONDS + 1)
    timeout = TimeoutError(f"no answer in {HUB_TIMEOUT_SECONDS:g} s")
    error = outcomes[0] if outcomes else timeout
    if error is not None:
        reason = error.reason if isinstance(error, URLError) else error
        raise DataNotFoundError(f"{constants.ENDPOINT} cannot be reached: {reason}")


def _connection_error(endpoint: str) -> BaseException | None:
    """Return why an endpoint cannot be reached; None if it answers, whatever the answer."""
    try:
        urlopen(Request(endpoint, method="HEAD"), timeout=HUB_TIMEOUT_SECONDS).close()
    except (HTTPError, HTTPException):
        return None
    except (OSError, ValueError) as error:
        # The hub's library may trust a certificate that urllib does not know.
        has_certificate_error = isinstance(getattr(error, "reason", None), ssl.SSLError)
        return None if has_certificate_error else error
    return None


@cache
def _files_digest(folder: Path, stamps: tuple[tuple[Path, int, int], ...]) -> str:
    """Return one digest of names and contents of files.

    Sizes and times in `stamps` are keys of the cache, so that gigabytes are not read twice.
    """
    root = folder if folder.is_dir() else folder.parent
    return digest([[str(path.relative_to(root)), _sha256(path)] for path, _, _ in stamps])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
