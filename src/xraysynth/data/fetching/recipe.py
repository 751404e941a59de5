"""The options that say where a public collection is downloaded from."""

import re
from dataclasses import dataclass, field
from typing import Annotated

from xraysynth.errors import ConfigError
from xraysynth.options import PathText, Rule, match_pattern

Checksum = Annotated[
    str,
    match_pattern(
        r"(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})?",
        "be sha256: or md5: and hex digits, or empty if none is published",
    ),
]
Bytes = Annotated[int, Rule("be 0 or more", lambda value: value >= 0)]
Commit = Annotated[str, match_pattern(r"([0-9a-f]{40})?", "be a 40-digit commit")]

_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?/")


def _are_encrypted(urls: list[str]) -> bool:
    return all(url.startswith("https://") or _LOOPBACK.match(url) for url in urls)


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file on the web: `urls` are addresses of the same file, which are tried in turn.

    `size_bytes` is 0 where it is not known. Where no `checksum` is published, the SHA-256 of the first
    download is recorded beside the data and later downloads must have it.
    """

    name: str
    urls: Annotated[list[str], Rule("be https addresses", _are_encrypted)]
    size_bytes: Bytes = 0
    checksum: Checksum = ""


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Where a collection is downloaded from, and the `folder` that appears when it is complete.

    The ways are tried in this order: `files` are archives, unpacked together; `hub` is a data set of the
    Hugging Face Hub at commit `revision`, of which `hub_files` says what each file (a pattern) becomes,
    with "" for archives that are unpacked; `kaggle` is a data set (owner/name) or a competition (name);
    `idc` is a collection of the Imaging Data Commons, of which the radiographs are taken. `inner` is the
    folder of the download, as a pattern, that becomes `folder`; "" for all of it. `size_bytes` and
    `unpacked_bytes` are estimates, 0 where there is none.
    """

    folder: PathText
    files: list[RemoteFile] = field(default_factory=list)
    hub: str = ""
    revision: Commit = ""
    hub_files: dict[str, str] = field(default_factory=dict)
    kaggle: str = ""
    idc: str = ""
    inner: str = ""
    size_bytes: Bytes = 0
    unpacked_bytes: Bytes = 0

    def __post_init__(self) -> None:
        if not (self.files or self.hub or self.kaggle or self.idc):
            raise ConfigError("fetch needs files, hub, kaggle or idc")
        if self.hub and not self.revision:
            raise ConfigError(
                "fetch.hub needs the commit in fetch.revision, so that it can be repeated"
            )
