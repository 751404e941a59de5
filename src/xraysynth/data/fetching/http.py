"""Downloading one file over https: it goes on where it stopped, and only the right bytes become the file."""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from xraysynth.data.fetching.checksums import Records, checksum_fault
from xraysynth.data.fetching.recipe import RemoteFile
from xraysynth.data.fetching.unpacking import format_bytes
from xraysynth.errors import DownloadError
from xraysynth.files import move_into_place, write_atomically
from xraysynth.privacy import is_loopback, public_address
from xraysynth.progress import progress_bar

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 6
"""How often a server is asked again in a row without a new byte of the file."""

WAIT_SECONDS = 1.0
"""Wait before the second attempt; doubled before each further one."""

TIMEOUT_SECONDS = 60.0
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)
_PAGE_STARTS = (b"<!doctype html", b"<html")


class MirrorError(Exception):
    """One server does not give the file; the next is tried."""


class _BrokenOffError(Exception):
    """The server is asked again for the rest."""


def download_file(remote: RemoteFile, target: Path, records: Records | None = None) -> None:
    """Download a file from the first of its servers that gives it; a broken download is continued.

    Args:
        remote: The file, its addresses, and its size and checksum where they are known.
        target: The path; what is there already is checked and kept.
        records: Checksums of earlier downloads, needed for files of which none is published.

    Raises:
        DownloadError: No server gives the file; the message names the reason of each.
    """
    if target.exists() and not _fault(remote, target, records):
        return
    failures = []
    for url in remote.urls:
        try:
            _download_from(url, remote, target, records)
            return
        except MirrorError as error:
            failures.append(f"{public_address(url)}: {error}")
            print(f"{failures[-1]}", file=sys.stderr, flush=True)
    reasons = "\n  ".join(failures)
    raise DownloadError(
        f"{remote.name} could not be downloaded:\n  {reasons}\nRun the same command again to go on where it "
        f"stopped, or put the file at {target} yourself"
    )


def _fault(remote: RemoteFile, path: Path, records: Records | None) -> str:
    """What is wrong with a complete file; "" if nothing is."""
    size = path.stat().st_size
    if remote.size_bytes and size != remote.size_bytes:
        return f"it has {size:,} bytes, but the published file has {remote.size_bytes:,}"
    if remote.checksum:
        return checksum_fault(path, remote.checksum)
    return records.fault(remote.name, path) if records is not None else ""


@dataclass
class _Part:
    """The bytes that have come so far, and which version of which file they belong to."""

    path: Path
    url: str = ""
    validator: str = ""

    @classmethod
    def open(cls, target: Path) -> "_Part":
        part = cls(target.with_name(f"{target.name}.part"))
        with suppress(OSError, ValueError, TypeError):
            known = json.loads(part._state_path.read_text())
            part.url, part.validator = str(known["url"]), str(known["validator"])
        return part

    @property
    def _state_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def restart(self, url: str = "", validator: str = "") -> None:
        """Forget all bytes; the file is emptied first, so that no byte gets the name of another version."""
        self.path.write_bytes(b"")
        self.url, self.validator = url, validator
        state = {"url": url, "validator": validator}
        write_atomically(self._state_path, json.dumps(state).encode())

    def discard(self) -> None:
        """Delete all bytes."""
        self.path.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Give the complete file its name."""
        move_into_place(self.path, target)
        self._state_path.unlink(missing_ok=True)


def _download_from(url: str, remote: RemoteFile, target: Path, records: Records | None) -> None:
    """Download a file from one server.

    Raises:
        MirrorError: It cannot be had from there.
    """
    part = _Part.open(target)
    was_resumed = part.size > 0
    for _ in range(2):
        _receive_all(url, remote, part)
        fault = _fault(remote, part.path, records)
        if not fault:
            if records is not None:
                records.add(remote.name, part.path, public_address(url))
            part.finish(target)
            return
        part.discard()
        if not was_resumed:
            break
        was_resumed = False  # parts of two versions may have met: once more from the start
    raise MirrorError(fault)


def _receive_all(url: str, remote: RemoteFile, part: _Part) -> None:
    """Ask for the rest until all of it is there."""
    import httpx2

    most_bytes, attempt = part.size, 0
    with _open_client(url) as client:
        while True:
            try:
                _receive(client, url, remote, part)
                return
            except (
                httpx2.UnsupportedProtocol,
                httpx2.InvalidURL,
                httpx2.TooManyRedirects,
            ) as error:
                raise MirrorError(str(error)) from error
            except (httpx2.TransportError, _BrokenOffError) as error:
                attempt = 0 if part.size > most_bytes else attempt + 1
                most_bytes = max(most_bytes, part.size)
                reason = str(error) or type(error).__name__
                is_unreachable = isinstance(error, httpx2.ConnectError) and not part.size
                if attempt >= ATTEMPTS or is_unreachable:
                    raise MirrorError(reason) from error
            time.sleep(WAIT_SECONDS * 2**attempt)


def _open_client(url: str) -> "httpx2.Client":
    import httpx2

    from xraysynth import __version__

    return httpx2.Client(
        follow_redirects=True,
        timeout=httpx2.Timeout(TIMEOUT_SECONDS),
        headers={"Accept-Encoding": "identity", "User-Agent": f"xraysynth/{__version__}"},
        event_hooks={"request": [_redirect_check(url)]},
        trust_env=not is_loopback(url),
    )


def _redirect_check(url: str) -> Callable[["httpx2.Request"], None]:
    """A check that a redirection stays encrypted, and does not lead to servers of this machine."""
    from_here = is_loopback(url)

    def require_safe(request: "httpx2.Request") -> None:
        address = str(request.url)
        is_safe = is_loopback(address) if from_here else request.url.scheme == "https"
        if not is_safe or is_loopback(address) != from_here:
            raise MirrorError(f"it redirects to {public_address(address)}, which is not https")

    return require_safe


def _receive(client: "httpx2.Client", url: str, remote: RemoteFile, part: _Part) -> None:
    """Ask once for what is missing, and append what comes."""
    with client.stream("GET", url, headers=_range_headers(url, remote, part)) as response:
        _require_status(response, url, part)
        _require_no_page(response)
        total = _total_size(response, part)
        if remote.size_bytes and total not in (None, remote.size_bytes):
            raise MirrorError(f"it offers {total:,} bytes, but the file has {remote.size_bytes:,}")
        _require_room(part, (total or 0) - part.size)
        if response.status_code == 200:
            part.restart(url, _validator(response))
        try:
            _append(response, part, total or remote.size_bytes or None)
        except MirrorError:
            part.discard()
            raise
        if total is not None and part.size != total:
            raise _BrokenOffError(f"it broke off after {part.size:,} of {total:,} bytes")


def _range_headers(url: str, remote: RemoteFile, part: _Part) -> dict[str, str]:
    """The headers that ask for the rest, if it is certain to be the rest of the same file."""
    is_same = part.url == url and part.validator
    if not part.size or not (is_same or remote.checksum):
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    if is_same:
        headers["If-Range"] = part.validator
    return headers


def _require_status(response: "httpx2.Response", url: str, part: _Part) -> None:
    status = response.status_code
    if status == 206:
        start = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
        changed = part.url == url and _validator(response) not in ("", part.validator)
        if start and int(start[1]) == part.size and not changed:
            return
    elif status == 200:
        return
    if status in (206, 416):  # not the rest of what is there
        part.restart()
        raise _BrokenOffError("it has another version of the file")
    if status in _RETRIED_STATUS:
        raise _BrokenOffError(f"it answers with status {status}")
    needs_login = " (it asks for a login)" if status in (401, 403) else ""
    raise MirrorError(f"it answers with status {status}{needs_login}")


def _require_no_page(response: "httpx2.Response") -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise MirrorError("it sends a page instead of the file: a login, or a notice of the server")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise MirrorError("it sends the file in another encoding than asked for")


def _require_room(part: _Part, missing_bytes: int) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if missing_bytes > free:
        raise DownloadError(
            f"{part.path}: {format_bytes(missing_bytes)} are missing, but {format_bytes(free)} are free on "
            "this disk; make room, and run the same command again to go on where it stopped"
        )


def _validator(response: "httpx2.Response") -> str:
    """What tells a version of the file: a strong ETag, or else the time of its last change."""
    tag: str = response.headers.get("etag", "")
    if tag and not tag.startswith("W/"):
        return tag
    changed: str = response.headers.get("last-modified", "")
    return changed


def _total_size(response: "httpx2.Response", part: _Part) -> int | None:
    """The size of the whole file as the server says it, None if it does not."""
    total = re.search(r"/(\d+)$", response.headers.get("content-range", ""))
    if response.status_code == 206:
        return int(total[1]) if total else None
    length: str = response.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def _append(response: "httpx2.Response", part: _Part, limit: int | None) -> None:
    size = part.size
    name = part.path.name.removesuffix(".part")
    bar: Any
    with part.path.open("ab") as file, progress_bar(name, limit, "byte") as bar:
        bar.n = bar.initial = size  # so that the rate is that of what comes now
        for block in response.iter_raw():
            if not size and block.lstrip()[:16].lower().startswith(_PAGE_STARTS):
                raise MirrorError(
                    "it sends a page instead of the file: a login, or a notice of the server"
                )
            size += len(block)
            if limit is not None and size > limit:
                raise MirrorError(f"it sends more than the {limit:,} bytes of the file")
            file.write(block)
            bar.update(len(block))


def server_names(remote: RemoteFile) -> list[str]:
    """Return the names of the servers that have a file, in the order in which they are tried."""
    return [urlsplit(url).hostname or url for url in remote.urls]
