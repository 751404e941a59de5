"""A Hub on the loopback: repositories, what they hold, and every request that came."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """`files` is repository -> path -> bytes; `refuse` makes the n-th commit fail."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.created: list[dict] = []
        self.tokens: set[str | None] = set()
        self.sent: list[str] = []
        self.refuse = False
        self.versions: dict[tuple[str, str], dict[str, bytes]] = {}
        self.heads: dict[str, str] = {}
        self.gated: set[str] = set()
        self.licenses: dict[str, str] = {}
        self.reads: list[str] = []
        self.alter: Callable[[str, bytes], bytes] = lambda path, data: data
        self.cuts: dict[str, int] = {}

    def publish(self, name: str, files: dict[str, bytes]) -> str:
        """Give a data set a new commit on its main branch, and return the commit."""
        stamp = repr(
            sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items())
        )
        commit = hashlib.sha1(stamp.encode()).hexdigest()
        self.versions[name, commit] = dict(files)
        self.heads[name] = commit
        return commit

    def info(self, name: str, revision: str) -> tuple[int, dict]:
        commit = self.heads.get(name, "") if revision in ("", "main") else revision
        if (name, commit) not in self.versions:
            return 404, {"error": "Repository not found"}
        siblings = [describe(path, data) for path, data in self.versions[name, commit].items()]
        card = {"license": self.licenses.get(name)}
        return 200, {"id": name, "sha": commit, "siblings": siblings, "cardData": card}

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


def describe(path: str, data: bytes) -> dict:
    """A file as the API lists it; tables and images are in Git LFS."""
    entry = {"rfilename": path, "size": len(data), "blobId": git_sha1(data)}
    if is_lfs(path):
        sha256 = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
    return entry


def is_lfs(path: str) -> bool:
    return path.endswith((".parquet", ".png", ".zip"))


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def handler(hub: Hub) -> type:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.tokens.add(self.headers.get("Authorization"))
            api = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/([^/]+))?", path)
            resolve = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            if resolve:
                self._send_file(*resolve.groups())
                return
            if api and (api[1] in hub.heads or not hub.files):
                status, body = hub.info(api[1], api[2] or "")
                self._answer(
                    status, body, {} if status == 200 else {"X-Error-Code": "RepoNotFound"}
                )
                return
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

        do_HEAD = do_GET

        def _send_file(self, name: str, commit: str, path: str) -> None:
            if name in hub.gated and not self.headers.get("Authorization"):
                self._answer(401, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
                return
            data = hub.versions[name, commit][path]
            tag = hashlib.sha256(data).hexdigest() if is_lfs(path) else git_sha1(data)
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start, data = int(asked[1]) if asked else 0, hub.alter(path, data)
            if self.command == "GET":
                hub.reads.append(f"{path}@{start}")
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{tag}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[start : hub.cuts.pop(path, None)])

        def _answer(self, status: int, body: dict, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
