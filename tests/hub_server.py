"""A Hub on the loopback: repositories, what they hold, and every request that came."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Hub:
    """`files` is repository -> path -> bytes; `refuse` makes the n-th commit fail."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.created: list[dict] = []
        self.tokens: set[str | None] = set()
        self.sent: list[str] = []
        self.refuse = False

    def create(self, asked: dict) -> tuple[int, dict]:
        name = f"{asked['organization']}/{asked['name']}"
        kind = {"dataset": "datasets", "model": "models"}[asked.get("type", "model")]
        self.created.append(asked)
        known = f"{kind}/{name}" in self.files
        self.files.setdefault(f"{kind}/{name}", {})
        return (409 if known else 200), {"url": f"{self.url}/{name}", "name": name}

    def preupload(self, repo: str, asked: dict) -> tuple[int, dict]:
        held = self.files[repo]
        found = [
            {
                "path": file["path"],
                "uploadMode": "regular",
                "shouldIgnore": False,
                "oid": git_sha1(held[file["path"]]) if file["path"] in held else None,
            }
            for file in asked["files"]
        ]
        return 200, {"files": found}

    def commit(self, repo: str, lines: list[dict]) -> tuple[int, dict]:
        if self.refuse:
            return 403, {"error": "no write access"}
        for line in lines:
            if line["key"] == "file":
                path = line["value"]["path"]
                self.sent.append(f"{repo}/{path}")
                self.files[repo][path] = base64.b64decode(line["value"]["content"])
        return 200, {"commitUrl": f"{self.url}/{repo}/commit/0", "commitOid": "0" * 40}

    def __enter__(self) -> "Hub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def handler(hub: Hub) -> type:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(200, {"sha": "0" * 40, "siblings": [], "xetEnabled": False, "id": "a/b"})

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.tokens.add(self.headers.get("Authorization"))
            path = urlsplit(self.path).path
            found = re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)/(\w+)/main", path)
            if path == "/api/repos/create":
                self._answer(*hub.create(json.loads(data)))
            elif path == "/api/validate-yaml":
                self._answer(200, {"errors": [], "warnings": []})
            elif found and found[2] == "preupload":
                self._answer(*hub.preupload(found[1], json.loads(data)))
            elif found and found[2] == "commit":
                self._answer(*hub.commit(found[1], [json.loads(x) for x in data.splitlines()]))
            else:
                self._answer(404, {"error": path})

        def _answer(self, status: int, body: dict) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
