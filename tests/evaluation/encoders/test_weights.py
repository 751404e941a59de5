"""Where weights are looked for, and what a download leaves, against a server on this machine."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xraysynth.data.fetching import http
from xraysynth.errors import DataNotFoundError
from xraysynth.evaluation import encoders
from xraysynth.evaluation.encoders.weights import PublishedWeights, find_weights

CONTENT = bytes(range(256)) * 8000  # more than one block
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REVISION = "ab" * 20


class Server(ThreadingHTTPServer):
    """Sends `content` at any path as the Hub does; `limit` bytes of it at a time where that is set."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.limit, self.requests = CONTENT, None, []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def sent(self):
        """Requests of files; the Hub's own library asks for more."""
        return [request for request in self.requests if not request[0].startswith("/api/")]


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._start(200, len(self.server.content))

    def do_GET(self):
        range_ = self.headers.get("Range")
        self.server.requests.append((self.path, range_))
        start = int(range_.removeprefix("bytes=").rstrip("-")) if range_ else 0
        body = self.server.content[start:]
        self._start(206 if range_ else 200, len(body), start)
        self.wfile.write(body[: self.server.limit])

    def _start(self, status, length, start=0):
        self.send_response(status)
        if status == 206:
            end = start + length
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.send_header("Content-Length", str(length))
        named = self.path.encode() + self.server.content  # of equal files the Hub sends one
        self.send_header("ETag", f'"{hashlib.sha256(named).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with Server() as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def single(server):
    return PublishedWeights("inception", {"w.pth": SHA256}, release_url=server.address)


@pytest.fixture
def model():
    files = {"config.json": SHA256, "model.safetensors": SHA256}
    return PublishedWeights("dinov2", files, repository="f/dino", revision=REVISION)


def kept(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_a_download_is_checked_and_kept(server, single, tmp_path, monkeypatch):
    path = find_weights(single)
    assert path == tmp_path / "cache" / "xraysynth" / "w.pth"
    assert path.read_bytes() == CONTENT
    assert kept(tmp_path) == ["w.pth"]
    assert find_weights(single) == path
    assert server.requests == [("/w.pth", None)]
    monkeypatch.setenv("XRAYSYNTH_WEIGHTS", str(tmp_path / "mine"))
    assert find_weights(single) == path  # still found in the cache


def test_a_model_of_the_hub_is_a_folder_of_its_cache(server, model, tmp_path):
    folder = find_weights(model)
    assert folder == tmp_path / "hub" / "models--f--dino" / "snapshots" / REVISION
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert all((folder / name).read_bytes() == CONTENT for name in model.files)
    assert find_weights(model) == folder
    assert server.sent == [(f"/f/dino/resolve/{REVISION}/{name}", None) for name in model.files]


def test_a_wrong_hash_names_both_and_leaves_nothing(server, single, tmp_path):
    server.content = CONTENT[::-1]
    other = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DataNotFoundError, match=f"(?s){other}.*{SHA256}.*Put w.pth of http"):
        find_weights(single)
    assert kept(tmp_path) == []


def test_a_wrong_hash_of_a_model_of_the_hub_names_both(server, model):
    server.content = CONTENT[::-1]
    other = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DataNotFoundError, match=f"config.json has SHA-256 {other}.*{SHA256}"):
        find_weights(model)


def test_a_broken_download_is_continued(server, single, tmp_path, monkeypatch):
    monkeypatch.setattr(http, "WAIT_SECONDS", 0.0)
    server.limit = 1_500_000
    assert find_weights(single).read_bytes() == CONTENT
    assert server.requests == [("/w.pth", None), ("/w.pth", "bytes=1500000-")]
    assert kept(tmp_path) == ["w.pth"]


def test_an_interrupted_download_does_not_count(server, single, tmp_path, monkeypatch):
    monkeypatch.setattr(http, "WAIT_SECONDS", 0.0)
    server.limit = 0
    with pytest.raises(DataNotFoundError, match=r"(?s)could not be downloaded: .*w\.pth: "):
        find_weights(single)
    assert "w.pth" not in kept(tmp_path)
    server.limit = None
    assert find_weights(single).read_bytes() == CONTENT
    assert kept(tmp_path) == ["w.pth"]


def test_a_broken_connection_to_the_hub_is_continued(server, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    server.limit = 1_500_000
    folder = find_weights(model)
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert [range_ for _, range_ in server.sent] == [None, "bytes=1500000-"] * 2


def test_a_server_that_is_not_there_is_an_error(server, single):
    gone = replace(single, release_url="http://127.0.0.1:9")
    with pytest.raises(
        DataNotFoundError, match=r"(?s)could not be downloaded: .*127\.0\.0\.1:9.*Put w\.pth of"
    ):
        find_weights(gone)


def test_nothing_is_downloaded_offline(server, single, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataNotFoundError, match=r"HF_HUB_OFFLINE is set\. Put w\.pth of http"):
        find_weights(single)
    assert server.requests == []


def test_what_is_given_is_taken_as_it_is(server, single, model, tmp_path):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"other")
    assert find_weights(single, mine) == mine
    (tmp_path / "w.pth").write_bytes(b"other")
    assert find_weights(single, tmp_path) == tmp_path / "w.pth"
    for name in model.files:
        (tmp_path / name).write_bytes(b"other")
    assert find_weights(model, tmp_path) == tmp_path
    assert server.requests == []


@pytest.mark.parametrize("place", ["XRAYSYNTH_WEIGHTS", "XDG_CACHE_HOME", "TORCH_HOME"])
def test_weights_in_the_usual_places_are_found_and_checked(
    place, server, single, tmp_path, monkeypatch
):
    below = {"XDG_CACHE_HOME": "xraysynth", "TORCH_HOME": "hub/checkpoints"}.get(place, "")
    monkeypatch.setenv(place, str(tmp_path))
    path = tmp_path / below / "w.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    assert find_weights(single) == path
    path.write_bytes(b"other")
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(DataNotFoundError, match=f"{path}.*{other}.*{SHA256}.*weights.inception"):
        find_weights(single)
    assert server.requests == []


def test_the_hugging_face_cache_counts_at_the_pinned_commit(server, model, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for commit, found in (("cd" * 20, False), (REVISION, True)):
        folder = tmp_path / "hub" / "models--f--dino" / "snapshots" / commit
        folder.mkdir(parents=True)
        for name in model.files:
            (folder / name).write_bytes(CONTENT)
        if found:
            assert find_weights(model) == folder
        else:
            with pytest.raises(DataNotFoundError, match=r"HF_HUB_OFFLINE is set\. Put config.json"):
                find_weights(model)
    assert server.requests == []


def test_a_folder_of_ones_own_counts_before_the_hub(server, model, tmp_path, monkeypatch):
    monkeypatch.setenv("XRAYSYNTH_WEIGHTS", str(tmp_path / "mine"))
    folder = tmp_path / "mine" / "dino"
    folder.mkdir(parents=True)
    for name in model.files:
        (folder / name).write_bytes(CONTENT)
    assert find_weights(model) == folder
    assert server.requests == []


@pytest.mark.parametrize("name", ["inception", "rad_dino", "dinov2", "clip"])
def test_what_is_published_is_pinned(name):
    from importlib import import_module

    published = import_module(f"xraysynth.evaluation.encoders.{name}").PUBLISHED
    assert published.encoder == name in encoders.NAMES
    assert all(len(bytes.fromhex(sha)) == 32 for sha in published.files.values())
    if published.repository:
        assert len(bytes.fromhex(published.revision)) == 20
    else:
        assert published.release_url.startswith("https://")
        ((file, sha),) = published.files.items()
        assert sha[:8] in file  # its name has the first digits
