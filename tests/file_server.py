"""A loopback server of files that behaves well, or as badly as it is told."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """One answer; with `cut` the connection closes after so many bytes of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = -1
    cut: int | None = None
    hold: bool = False
    """Keep the connection open after the body, until `FileServer.release`."""


@dataclass
class Request:
    path: str
    headers: Mapping[str, str]
    number: int
    """From 0, of all requests to the server."""

    @property
    def start(self) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(asked[1]) if asked else 0


def serve_file(
    data: bytes, request: Request, *, etag: str = '"1"', cut: int | None = None
) -> Reply:
    """As a well-behaved server with ranges answers; with `cut` it breaks off after so many bytes."""
    headers = {"etag": etag, "content-type": "application/zip"}
    if request.start and request.headers.get("if-range", etag) == etag:
        if request.start >= len(data):
            return Reply(b"", 416, {"content-range": f"bytes */{len(data)}"})
        headers["content-range"] = f"bytes {request.start}-{len(data) - 1}/{len(data)}"
        return Reply(data[request.start :], 206, headers, cut=cut)
    return Reply(data, 200, headers, cut=cut)


class FileServer:
    """Answers every request as `respond` says, and remembers the requests."""

    def __init__(self, respond: Callable[[Request], Reply]) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._released = threading.Event()

    def __enter__(self) -> "FileServer":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def release(self) -> None:
        """End the connections that are held."""
        self._released.set()

    def wait(self) -> None:
        self._released.wait(60)

    def answer(self, path: str, headers: Mapping[str, str]) -> Reply:
        with self._lock:
            request = Request(path, headers, len(self.requests))
            self.requests.append(request)
        return self.respond(request)


def _handler(server: FileServer) -> type:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server.answer(self.path, headers)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            length = len(reply.body) if reply.length == -1 else reply.length
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.send_header("Connection", "close")
            self.end_headers()
            body = reply.body if reply.cut is None else reply.body[: reply.cut]
            self.wfile.write(body)
            if reply.hold:
                self.wfile.flush()
                server.wait()
            self.close_connection = True

    return Handler
