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

from xraysynth.errors import PrivacyError, some

TEXT = (".md", ".csv", ".json", ".html", ".yaml", ".txt")
GONE = "…"
PRIVATE_KEYS = ("base_url", "azure_endpoint", "azure_deployment", "entity")
"""Options whose values name servers and accounts."""

_NOBODY = (
    *("root", "user", "admin", "ubuntu", "runner", "home", "data"),
    *("localhost", "vm", "node", "server", "worker", "gpu", "cpu"),
)
"""Names that tell nobody, and are words of a report."""

_IMAGE = re.compile(r"<img\b[^>]*>")
_INLINE = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=]+")
_PART = r"[\w.@$%][\w.@$%+~#-]*"
_ABSOLUTE = re.compile(
    rf"(?:file://|(?<![\w/:<.*~{GONE}-]))(?:~/|[A-Za-z]:[\\/]|/)(?:{_PART}[\\/]+)*({_PART})[\\/]?"
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL")
_SHORTEST = 6


@dataclass(frozen=True)
class Scrubber:
    """Takes out `folders`, below which paths become relative, other absolute paths, and `names`."""

    folders: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, *folders: Path) -> "Scrubber":
        """For these folders, the working directory, and the names of this user and machine."""
        places = {str(p) for f in (*folders, Path.cwd()) for p in (f.absolute(), f.resolve())}
        return cls(tuple(sorted(places - {"/"}, key=len, reverse=True)), tuple(sorted(_names())))

    def text(self, text: str) -> str:
        """Plain text without them."""
        return self._nameless(self._pathless(text))

    def html(self, page: str) -> str:
        """A page without them; inline data and tags stay whole."""
        kept = _INLINE.findall(page)
        rest = [self._markup(piece) for piece in _INLINE.split(page)]
        return "".join(a + b for a, b in zip(rest, [*kept, ""], strict=True))

    def values(self, value: Any) -> Any:
        """A configuration without them, and without the names of servers and accounts."""
        if isinstance(value, Mapping):
            return {name: self.option(name, item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.values(item) for item in value]
        if isinstance(value, str) and Path(value).expanduser().is_absolute():
            return self._nameless(self._whole(value))
        return self.text(value) if isinstance(value, str) else value

    def option(self, name: str, value: Any) -> Any:
        """The value of one option; `name` may be dotted."""
        private = name.rpartition(".")[2] in PRIVATE_KEYS
        return GONE if value and private else self.values(value)

    def left(self, text: str) -> bool:
        """True when a folder, or the home folder, is still named in the text."""
        home = str(Path.home())
        return any(_below(place).search(text) for place in (*self.folders, home) if len(place) > 5)

    def _pathless(self, text: str) -> str:
        for place in self.folders:
            text = _below(place).sub("", text)
        return _ABSOLUTE.sub(rf"{GONE}/\1", text)

    def _whole(self, path: str) -> str:
        """A value that is one path, whatever characters are in it."""
        inner = self._pathless(path)
        return inner if Path(path).name and inner in path else f"{GONE}/{Path(path).name}"

    def _nameless(self, text: str) -> str:
        for name in self.names:
            text = re.sub(rf"\b{re.escape(name)}\b", GONE, text)
        return text

    def _markup(self, piece: str) -> str:
        parts = re.split(r"(<[^>]*>)", self._pathless(piece))
        return "".join(p if p.startswith("<") else self._nameless(p) for p in parts)


def _below(place: str) -> "re.Pattern[str]":
    return re.compile(rf"(?<![\w.-]){re.escape(place)}(?:/|(?![\w.-]))")


def _names() -> set[str]:
    found = {socket.gethostname(), socket.gethostname().split(".")[0], Path.home().name}
    with suppress(OSError, KeyError):  # a container's user may have no name
        found.add(getpass.getuser())
    return {name for name in found if len(name) > 1 and name.lower() not in _NOBODY}


def without_real(page: str, generators: Iterable[str]) -> str:
    """The page with the pictures of these generators, and without any other.

    Real radiographs are their owners' to publish: what is not known to be synthetic goes, with its
    description, which holds a part of its SHA-256.
    """
    names = [re.escape(name) for name in generators if name not in ("real", "simulated real")]
    own = re.compile(rf'\balt="(?:{"|".join(names)}), ') if names else None

    def shown(tag: re.Match[str]) -> str:
        kept = own is not None and own.search(tag[0])
        return tag[0] if kept else '<span class="lost">not released</span>'

    return _IMAGE.sub(shown, page)


def require_clean(folder: Path, scrubber: Scrubber, *, ids: Iterable[str]) -> None:
    """Raise `PrivacyError` if a text below the folder names what must not leave.

    `ids` are those of real images and patients. Numbers and short ones cannot be told from other
    text and are passed over.
    """
    telling = {i for i in ids if len(i) >= _SHORTEST and not i.isdigit() and re.search(r"\d", i)}
    secrets = [v for k, v in os.environ.items() if _SECRET.search(k.upper()) and len(v) >= 8]
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        text, name = _readable(path), path.relative_to(folder)
        if any(secret in text for secret in secrets):
            raise PrivacyError(f"{name} holds the value of a secret of this environment; remove it")
        if scrubber.left(text):
            raise PrivacyError(f"{name} names a folder of this machine; rename it, or remove it")
        named = telling & set(re.findall(r"[\w.-]+", text))
        if named:
            raise PrivacyError(
                f"{name} names {len(named)} real images or patients of the cohort "
                f"({some(sorted(named), 3)}); nothing that tells one of them may be released"
            )


def _readable(path: Path) -> str:
    """The text of a file; of weights and of images what stands beside the numbers."""
    if path.suffix in TEXT:
        return path.read_text(encoding="utf-8")
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return json.dumps(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))
    return ""
