"""Removing private data from texts and pages: paths, names of user and machine, secrets, patient ids."""

import getpass
import ipaddress
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xraysynth.errors import ConfigError, PrivacyError, format_some
from xraysynth.options import expand_path

TEXT_SUFFIXES = (".md", ".csv", ".json", ".html", ".yaml", ".txt")
"""Suffixes of the files whose text is checked."""

REDACTED = "…"
"""Text that replaces private data."""

PRIVATE_OPTIONS = ("base_url", "azure_endpoint", "azure_deployment", "entity")
"""Options whose values name servers and accounts."""

_GENERIC_NAMES = (
    *("root", "user", "admin", "ubuntu", "runner", "home", "data"),
    *("localhost", "vm", "node", "server", "worker", "gpu", "cpu"),
)
"""Names of users and machines that identify nobody, and that may be words of a report."""

_IMAGE_TAG = re.compile(r"<img\b[^>]*>")
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=]+")
_PATH_PART = r"[\w.@$%][\w.@$%+~#-]*"
_ABSOLUTE_PATH = re.compile(
    rf"(?:file://|(?<![\w/:<.*~{REDACTED}-]))(?:~/|[A-Za-z]:[\\/]|/)(?:{_PATH_PART}[\\/]+)*({_PATH_PART})[\\/]?"
)
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL")
_KEY_FORM = re.compile(
    r"\b(sk-[A-Za-z0-9_-]*(?=[A-Za-z0-9]*\d)[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,}"
    r"|gh[a-z]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,})"
)
"""Form of the keys of well-known services."""

MIN_SECRET_LENGTH = 8
"""Shorter values of variables are too likely to be words of a text."""

_MIN_ID_LENGTH = 6


@dataclass(frozen=True)
class Scrubber:
    """Removes private paths and names from texts, pages and options.

    Paths below a private folder become relative, other absolute paths are reduced to their last part,
    and private names are replaced by `REDACTED`.

    Attributes:
        folders: Private folders, the longest first.
        names: Private names, of the user and of the machine.
    """

    folders: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def from_folders(cls, *folders: Path) -> "Scrubber":
        """Build a scrubber of folders, the working directory, and the names of user and machine."""
        private_folders = set()
        for folder in (*folders, Path.cwd()):
            private_folders |= {str(folder.absolute()), str(folder.resolve())}
        longest_first = sorted(private_folders - {"/"}, key=len, reverse=True)
        return cls(tuple(longest_first), tuple(sorted(_private_names())))

    def scrub_text(self, text: str) -> str:
        """Remove private paths and names from plain text."""
        return self._remove_names(self._remove_paths(text))

    def scrub_html(self, page: str) -> str:
        """Remove private paths from a page, and private names from its text; embedded images stay."""
        data_uris = _DATA_URI.findall(page)
        pieces = list(map(self._scrub_markup, _DATA_URI.split(page)))
        scrubbed = [pieces[0]]
        for data_uri, piece in zip(data_uris, pieces[1:], strict=True):
            scrubbed += [data_uri, piece]
        return "".join(scrubbed)

    def scrub_values(self, value: Any) -> Any:
        """Remove private paths and names, and the values of `PRIVATE_OPTIONS`, from a configuration."""
        if isinstance(value, Mapping):
            return {name: self.scrub_option(name, item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return list(map(self.scrub_values, value))
        if isinstance(value, str) and expand_path(value).is_absolute():
            return self._remove_names(self._scrub_path(value))
        return self.scrub_text(value) if isinstance(value, str) else value

    def scrub_option(self, name: str, value: Any) -> Any:
        """Scrub the value of one option, given its name with or without the section."""
        is_private = name.rpartition(".")[2] in PRIVATE_OPTIONS
        return REDACTED if value and is_private else self.scrub_values(value)

    def has_private_path(self, text: str) -> bool:
        """Return whether a text still names a private folder or the home folder."""
        for folder in (*self.folders, str(Path.home())):
            if len(folder) > 5 and _path_pattern(folder).search(text):
                return True
        return False

    def _remove_paths(self, text: str) -> str:
        for folder in self.folders:
            text = _path_pattern(folder).sub("", text)
        return _ABSOLUTE_PATH.sub(rf"{REDACTED}/\1", text)

    def _scrub_path(self, path: str) -> str:
        """Scrub a value that is one path as a whole, whatever characters it contains."""
        relative = self._remove_paths(path)
        name = Path(path).name
        return relative if name and relative in path else f"{REDACTED}/{name}"

    def _remove_names(self, text: str) -> str:
        for name in self.names:
            text = re.sub(rf"\b{re.escape(name)}\b", REDACTED, text)
        return text

    def _scrub_markup(self, html: str) -> str:
        """Remove private paths everywhere, and private names outside of tags."""
        scrubbed = ""
        for part in re.split(r"(<[^>]*>)", self._remove_paths(html)):
            scrubbed += part if part.startswith("<") else self._remove_names(part)
        return scrubbed


def _path_pattern(folder: str) -> "re.Pattern[str]":
    return re.compile(rf"(?<![\w.-]){re.escape(folder)}(?:/|(?![\w.-]))")


def _private_names() -> set[str]:
    host = socket.gethostname()
    names = {host, host.split(".")[0], Path.home().name}
    with suppress(OSError, KeyError):  # a container's user may have no name
        names.add(getpass.getuser())
    return {name for name in names if len(name) > 1 and name.lower() not in _GENERIC_NAMES}


def without_real_images(page: str, generators: Iterable[str]) -> str:
    """Remove all images from a page except those of the given generators.

    Only their owners may publish real radiographs: every image that is not known to be synthetic is
    removed with its description, which contains a part of its SHA-256.

    Args:
        page: The HTML page.
        generators: Names of the generators, with which the descriptions of their images begin.
    """
    names = [re.escape(name) for name in generators if name not in ("real", "simulated real")]
    synthetic = re.compile(rf'\balt="(?:{"|".join(names)}), ') if names else None

    def redact_unless_synthetic(tag: re.Match[str]) -> str:
        if synthetic is not None and synthetic.search(tag[0]):
            return tag[0]
        return '<span class="lost">not released</span>'

    return _IMAGE_TAG.sub(redact_unless_synthetic, page)


def require_no_private_data(
    folder: Path, scrubber: Scrubber, *, ids: Iterable[str], secret_variables: Iterable[str] = ()
) -> None:
    """Require that no text below a folder contains private data.

    Args:
        folder: Folder whose files are checked.
        scrubber: Its folders must not be named.
        ids: Ids of real images and patients. Short ids and plain numbers are ignored, because they may
            be words of a text.
        secret_variables: Names of environment variables whose values are secrets.

    Raises:
        PrivacyError: A file contains a secret of the environment, a private path, or an id; the message
            names the file.
    """
    identifying_ids = set(filter(_is_identifying, ids))
    secrets = environment_secrets(secret_variables)
    for path in sorted(filter(Path.is_file, folder.rglob("*"))):
        text, name = _read_text(path), path.relative_to(folder)
        if any(secret in text for secret in secrets):
            raise PrivacyError(
                f"{name} contains the value of a secret of this environment; remove it"
            )
        if scrubber.has_private_path(text):
            raise PrivacyError(f"{name} names a folder of this machine; rename or remove it")
        leaked_ids = identifying_ids & set(re.findall(r"[\w.-]+", text))
        if leaked_ids:
            raise PrivacyError(
                f"{name} names {len(leaked_ids)} real images or patients of the cohort "
                f"({format_some(sorted(leaked_ids), 3)}); remove everything that identifies them"
            )


def _is_identifying(image_or_patient_id: str) -> bool:
    """Whether an id is long enough and mixed enough not to be a word or a number of a text."""
    text = image_or_patient_id
    return len(text) >= _MIN_ID_LENGTH and not text.isdigit() and bool(re.search(r"\d", text))


def environment_secrets(variables: Iterable[str] = ()) -> list[str]:
    """Return the values of this environment's variables that are secrets, of at least 8 characters.

    Args:
        variables: Names of variables that hold secrets. Others do if their name holds a word such as
            KEY or TOKEN, or if their value has the form of a key of a well-known service.
    """
    named = set(variables)
    secrets = []
    for name, value in os.environ.items():
        is_secret = name in named or _SECRET_NAME.search(name.upper()) or has_key(value)
        if is_secret and len(value) >= MIN_SECRET_LENGTH:
            secrets.append(value)
    return secrets


def has_key(text: str) -> bool:
    """Return whether a text holds what has the form of a key of a well-known service, such as sk-…."""
    return _KEY_FORM.search(text) is not None


def iterate_texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Iterate over the texts in a configuration: the full name of the option, and the text.

    >>> list(iterate_texts({"study": {"name": "a", "seeds": [1]}, "classes": ["b"]}))
    [('study.name', 'a'), ('classes', 'b')]
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from iterate_texts(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from iterate_texts(item, name)
    elif isinstance(value, str):
        yield name, value


def key_variables(options: Mapping[str, Any]) -> list[str]:
    """Return the environment variables that options such as api_key_env name: they hold keys."""
    return [text for name, text in iterate_texts(options) if name.endswith("_env")]


def is_loopback(address: str) -> bool:
    """Return whether the server at an http(s) address runs on this machine."""
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def require_encrypted(address: str, option: str) -> None:
    """Require that a server that gets a key is on this machine or called by https.

    Args:
        address: Address of the server.
        option: What names it, for the error: an option or an environment variable.

    Raises:
        ConfigError: It is called by plain http, which everybody on the way can read.
    """
    parts = urlsplit(address)
    if parts.scheme == "https" or is_loopback(address):
        return
    raise ConfigError(
        f"{option} calls {parts.hostname} by plain http, so that everybody on the way can read keys and "
        f"prompts; use its https address, or reach it through a tunnel: ssh -N -L "
        f"8000:localhost:{parts.port or 80} {parts.hostname}, and port 8000 of 127.0.0.1 in {option}"
    )


def public_address(address: str) -> str:
    """Return an address without user, password, query and fragment, any of which may be secret.

    >>> public_address("https://me:secret@example.org:8443/v1?key=secret")
    'https://example.org:8443/v1'
    """
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _read_text(path: Path) -> str:
    """The text of a file; of weights only the header, of images nothing."""
    if path.suffix in TEXT_SUFFIXES:
        return path.read_text(encoding="utf-8")
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return json.dumps(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))
    return ""
