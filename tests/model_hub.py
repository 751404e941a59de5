"""A Hub on the loopback from which models are downloaded, each at one commit."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


class ModelHub:
    """`folders` is repository -> folder with its files; `sent` are the paths that were downloaded."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders, self.sent = folders, []

    def __enter__(self) -> "ModelHub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, repo: str) -> dict[str, bytes]:
        folder = self.folders[repo]
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _handler(hub: ModelHub) -> type:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            info = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/[^/]+", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
            if info and info[1] in hub.folders:
                self._answer(json.dumps(self._listing(*info.groups())).encode())
            elif file and file[2] in hub.files(file[1]):
                self._answer(hub.files(file[1])[file[2]])
                if self.command == "GET":
                    hub.sent.append(file[2])
            else:
                code = "EntryNotFound" if file else "RepoNotFound"
                self._answer(b"{}", 404, {"X-Error-Code": code})

        def _listing(self, repo: str, kind: str) -> object:
            files = hub.files(repo)
            if kind == "revision":
                siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
                return {"id": repo, "sha": COMMIT, "siblings": siblings}
            return [
                {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}
                for name, data in files.items()
            ]

        def _answer(self, data: bytes, status: int = 200, headers: dict | None = None) -> None:
            self.send_response(status)
            facts = {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(data)}"'} | (headers or {})
            for name, value in (facts | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    return Handler


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
