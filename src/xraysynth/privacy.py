"""What must not leave: paths of this machine, names of its user, secrets, ids of patients."""

import getpass
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xraysynth.errors import PrivacyError, format_some

TEXT_SUFFIXES = (".md", ".csv", ".json", ".html", ".yaml", ".txt")
REDACTED = "…"
PRIVATE_OPTIONS = ("base_url", "azure_endpoint", "azure_deployment", "entity")
"""Options whose values name servers and accounts."""

_GENERIC_NAMES = (
    *("root", "user", "admin", "ubuntu", "runner", "home", "data"),
    *("localhost", "vm", "node", "server", "worker", "gpu", "cpu"),
)
"""Names that tell nobody, and are words of a report."""

_IMAGE_TAG = re.compile(r"<img\b[^>]*>")
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=]+")
_PATH_PART = r"[\w.@$%][\w.@$%+~#-]*"
_ABSOLUTE_PATH = re.compile(
    rf"(?:file://|(?<![\w/:<.*~{REDACTED}-]))(?:~/|[A-Za-z]:[\\/]|/)(?:{_PATH_PART}[\\/]+)*({_PATH_PART})[\\/]?"
)
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL")
_MIN_ID_LENGTH = 6


@dataclass(frozen=True)
class Scrubber:
    """Takes out `folders`, below which paths become relative, other absolute paths, and `names`."""

    folders: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def from_folders(cls, *folders: Path) -> "Scrubber":
        """For these folders, the working directory, and the names of this user and machine."""
        places = {str(p) for f in (*folders, Path.cwd()) for p in (f.absolute(), f.resolve())}
        return cls(
            tuple(sorted(places - {"/"}, key=len, reverse=True)), tuple(sorted(_private_names()))
        )

    def scrub_text(self, text: str) -> str:
        """Plain text without them."""
        return self._remove_names(self._remove_paths(text))

    def scrub_html(self, page: str) -> str:
        """A page without them; inline data and tags stay whole."""
        kept = _DATA_URI.findall(page)
        rest = [self._scrub_markup(piece) for piece in _DATA_URI.split(page)]
        return "".join(a + b for a, b in zip(rest, [*kept, ""], strict=True))

    def scrub_values(self, value: Any) -> Any:
        """A configuration without them, and without the names of servers and accounts."""
        if isinstance(value, Mapping):
            return {name: self.scrub_option(name, item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.scrub_values(item) for item in value]
        if isinstance(value, str) and Path(value).expanduser().is_absolute():
            return self._remove_names(self._scrub_path(value))
        return self.scrub_text(value) if isinstance(value, str) else value

    def scrub_option(self, name: str, value: Any) -> Any:
        """The value of one option; `name` may be dotted."""
        private = name.rpartition(".")[2] in PRIVATE_OPTIONS
        return REDACTED if value and private else self.scrub_values(value)

    def has_private_path(self, text: str) -> bool:
        """True when a folder, or the home folder, is still named in the text."""
        home = str(Path.home())
        return any(
            _path_pattern(place).search(text) for place in (*self.folders, home) if len(place) > 5
        )

    def _remove_paths(self, text: str) -> str:
        for place in self.folders:
            text = _path_pattern(place).sub("", text)
        return _ABSOLUTE_PATH.sub(rf"{REDACTED}/\1", text)

    def _scrub_path(self, path: str) -> str:
        """A value that is one path, whatever characters are in it."""
        inner = self._remove_paths(path)
        return inner if Path(path).name and inner in path else f"{REDACTED}/{Path(path).name}"

    def _remove_names(self, text: str) -> str:
        for name in self.names:
            text = re.sub(rf"\b{re.escape(name)}\b", REDACTED, text)
        return text

    def _scrub_markup(self, html: str) -> str:
        parts = re.split(r"(<[^>]*>)", self._remove_paths(html))
        return "".join(p if p.startswith("<") else self._remove_names(p) for p in parts)


def _path_pattern(folder: str) -> "re.Pattern[str]":
    return re.compile(rf"(?<![\w.-]){re.escape(folder)}(?:/|(?![\w.-]))")


def _private_names() -> set[str]:
    found = {socket.gethostname(), socket.gethostname().split(".")[0], Path.home().name}
    with suppress(OSError, KeyError):  # a container's user may have no name
        found.add(getpass.getuser())
    return {name for name in found if len(name) > 1 and name.lower() not in _GENERIC_NAMES}


def without_real_images(page: str, generators: Iterable[str]) -> str:
    """The page with the pictures of these generators, and without any other.

    Real radiographs are their owners' to publish: what is not known to be synthetic goes, with its
    description, which holds a part of its SHA-256.
    """
    names = [re.escape(name) for name in generators if name not in ("real", "simulated real")]
    own = re.compile(rf'\balt="(?:{"|".join(names)}), ') if names else None

    def redact_unless_synthetic(tag: re.Match[str]) -> str:
        kept = own is not None and own.search(tag[0])
        return tag[0] if kept else '<span class="lost">not released</span>'

    return _IMAGE_TAG.sub(redact_unless_synthetic, page)


def require_no_private_data(folder: Path, scrubber: Scrubber, *, ids: Iterable[str]) -> None:
    """Raise `PrivacyError` if a text below the folder names what must not leave.

    `ids` are those of real images and patients. Numbers and short ones cannot be told from other
    text and are passed over.
    """
    telling = {
        i for i in ids if len(i) >= _MIN_ID_LENGTH and not i.isdigit() and re.search(r"\d", i)
    }
    secrets = [v for k, v in os.environ.items() if _SECRET_NAME.search(k.upper()) and len(v) >= 8]
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        text, name = _read_text(path), path.relative_to(folder)
        if any(secret in text for secret in secrets):
            raise PrivacyError(f"{name} holds the value of a secret of this environment; remove it")
        if scrubber.has_private_path(text):
            raise PrivacyError(f"{name} names a folder of this machine; rename it, or remove it")
        named = telling & set(re.findall(r"[\w.-]+", text))
        if named:
            raise PrivacyError(
                f"{name} names {len(named)} real images or patients of the cohort "
                f"({format_some(sorted(named), 3)}); nothing that tells one of them may be released"
            )


def _read_text(path: Path) -> str:
    """The text of a file; of weights and of images what stands beside the numbers."""
    if path.suffix in TEXT_SUFFIXES:
        return path.read_text(encoding="utf-8")
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return json.dumps(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))
    return ""
