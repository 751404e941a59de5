"""A W&B server on the loopback, as far as `wandb sync` and saved views need one, that keeps what it gets."""

import json
import os
import re
import subprocess
import sys
import threading
from collections import defaultdict
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

KEY = "0123456789" * 4
PROJECT = {
    "id": "p",
    "internalId": "p",
    "name": "xraysynth",
    "entityName": "someone",
    "createdAt": "2026-01-01T00:00:00",
    "isBenchmark": False,
    "user": None,
}


@cache
def logged(run: Path) -> str:
    """Everything that the file of an offline run holds, a JSON record a line."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def environment(url: str, home: Path) -> dict[str, str]:
    """That of a process which talks to the recorder alone."""
    given = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "HOME": str(home)}
    return {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | given


class Recorder:
    """`runs` are the last state of each by id, `history` its rows, `files` what was uploaded.

    `artifacts` maps (type, name, digest) to how it was made and used. Artifacts of the same digest are
    one, as W&B has it. Everything that came is also in `requests`, for what must never come.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict] = {}
        self.history: dict[str, list[dict]] = defaultdict(list)
        self.summary: dict[str, dict] = defaultdict(dict)
        self.exits: dict[str, int] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: dict[tuple[str, str, str], dict] = {}
        self.views: list[dict] = []
        self.requests: list[bytes] = []
        self.keys: set[str | None] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> "Recorder":
        self._server = _Quiet(("127.0.0.1", 0), handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, query: str, given: dict) -> dict:
        name = re.search(r"(?:query|mutation)\s+(\w+)", query)
        with self._lock:
            return getattr(self, f"on_{name[1].lower()}", lambda _: {})(given)

    def on_upsertbucket(self, given: dict) -> dict:
        run = self.runs.setdefault(given["name"], {})
        run |= {key: value for key, value in given.items() if value is not None}
        project = {"name": given["project"], "entity": {"name": "someone"}}
        bucket = {"id": given["name"], "name": given["name"], "displayName": "", "project": project}
        return {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": True}}

    def on_createrunfiles(self, given: dict) -> dict:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/upload/run/{given['run']}/{name}"}
            for name in given["files"]
        ]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def on_createartifact(self, given: dict) -> dict:
        asked = given["input"]
        key = (asked["artifactTypeName"], asked["artifactCollectionName"], asked["digest"])
        fresh = key not in self.artifacts
        found = self.artifacts.setdefault(
            key, {"id": f"artifact-{len(self.artifacts)}", "made_by": [], "used_by": []}
        )
        if asked.get("runName"):
            found["made_by"].append(asked["runName"])
        state = "PENDING" if fresh else "COMMITTED"
        latest = {"latestArtifact": None if fresh else {"id": found["id"]}}
        return {
            "createArtifact": {
                "artifact": {"id": found["id"], "state": state, "artifactSequence": latest}
            }
        }

    def on_useartifact(self, given: dict) -> dict:
        asked = given.get("input", given)
        for found in self.artifacts.values():
            if found["id"] == asked["artifactID"]:
                found["used_by"].append(asked["runName"])
        return {"useArtifact": {"artifact": {"id": asked["artifactID"]}}}

    def on_createartifactmanifest(self, given: dict) -> dict:
        file = {"id": "f", "name": "m", "displayName": "m", "uploadHeaders": []}
        file["uploadUrl"] = f"{self.url}/upload/manifest/{given['artifactID']}"
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def on_createartifactfiles(self, given: dict) -> dict:
        nodes = [
            {
                "uploadUrl": f"{self.url}/upload/artifact/{spec['artifactID']}/{spec['name']}",
                "uploadHeaders": [],
                "storagePath": None,
                "uploadMultipartUrls": None,
                "artifact": {"id": spec["artifactID"]},
            }
            for spec in given["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def on_commitartifact(self, given: dict) -> dict:
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "d"}}}

    def on_viewer(self, _: dict) -> dict:
        return {"viewer": {"id": "u", "username": "someone", "entity": "someone", "flags": "{}"}}

    on_getdefaultentity = on_viewer

    def on_artifacttype(self, _: dict) -> dict:
        return {"project": None}

    def on_getprojects(self, _: dict) -> dict:
        page = {"hasNextPage": False, "endCursor": None}
        return {"models": {"edges": [{"node": PROJECT, "cursor": "c"}], "pageInfo": page}}

    def on_upsertview(self, given: dict) -> dict:
        found = next((v for v in self.views if v["id"] == given.get("id")), None)
        if found is None:
            found = {"id": f"view-{len(self.views)}"}
            self.views.append(found)
        found |= {key: value for key, value in given.items() if key != "id"}
        view = found | {"project": PROJECT, "updatedAt": "2026-01-01T00:00:00"}
        return {"upsertView": {"view": view, "inserted": True}}

    on_upsertview2 = on_upsertview

    def stream(self, run: str, sent: dict) -> None:
        with self._lock:
            files = sent.get("files", {})
            rows = files.get("wandb-history.jsonl", {}).get("content", [])
            self.history[run] += [json.loads(row) for row in rows]
            for row in files.get("wandb-summary.json", {}).get("content", []):
                self.summary[run] |= json.loads(row)
            if "exitcode" in sent:
                self.exits[run] = sent["exitcode"]


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients drop their connections when they are done."""


def handler(recorder: Recorder) -> type:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer({})

        def do_PUT(self) -> None:
            recorder.files[unquote(self.path.removeprefix("/upload/"))] = self._body()
            self._answer({})

        def do_POST(self) -> None:
            data = self._body()
            recorder.requests.append(data)
            recorder.keys.add(self.headers.get("Authorization"))
            sent = json.loads(data) if data else {}
            if self.path == "/graphql":
                found = recorder.answer(sent["query"], sent.get("variables") or {})
                self._answer({"data": found})
                return
            if self.path.endswith("/file_stream"):
                recorder.stream(self.path.split("/")[-2], sent)
            self._answer({})

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _answer(self, body: dict) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
