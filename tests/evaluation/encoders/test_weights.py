"""Where weights are looked for, and what a download leaves, against a server on this machine."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xraysynth.errors import DataNotFoundError, XraysynthError
from xraysynth.evaluation import encoders
from xraysynth.evaluation.encoders.weights import Published, find

CONTENT = bytes(range(256)) * 8000  # more than one block
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Sends `content` at any path, and only `limit` bytes of it where that is set."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.limit, self.requests = CONTENT, None, []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        range_ = self.headers.get("Range")
        self.server.requests.append((self.path, range_))
        start = int(range_.removeprefix("bytes=").rstrip("-")) if range_ else 0
        if start and start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if range_ else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def single(server):
    return Published("inception", {"w.pth": SHA256}, release=server.address)


@pytest.fixture
def model(server):
    files = {"config.json": SHA256, "model.safetensors": SHA256}
    return Published("dinov2", files, release=server.address, repository="f/dino", revision="abc")


def kept(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_a_download_is_checked_and_kept(server, single, tmp_path, monkeypatch):
    path = find(single)
    assert path == tmp_path / "cache" / "xraysynth" / "w.pth"
    assert path.read_bytes() == CONTENT
    assert kept(tmp_path) == ["w.pth"]
    assert find(single) == path
    assert server.requests == [("/w.pth", None)]
    monkeypatch.setenv("XRAYSYNTH_WEIGHTS", str(tmp_path / "mine"))
    assert find(single) == path  # still found in the cache


def test_a_model_of_several_files_is_a_folder(server, model, tmp_path, monkeypatch):
    monkeypatch.setenv("XRAYSYNTH_WEIGHTS", str(tmp_path / "mine"))
    folder = find(model)
    assert folder == tmp_path / "mine" / "dino"
    assert kept(folder) == ["config.json", "model.safetensors"]
    (folder / "config.json").unlink()
    assert find(model) == folder
    assert [path for path, _ in server.requests][2:] == ["/config.json"]


def test_a_wrong_hash_names_both_and_leaves_nothing(server, single, tmp_path):
    server.content = CONTENT[::-1]
    other = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(XraysynthError, match=f"{other}.*{SHA256}"):
        find(single)
    assert kept(tmp_path) == []


def test_an_interrupted_download_does_not_count_and_is_continued(server, single, tmp_path):
    server.limit = 1_500_000
    with pytest.raises(DataNotFoundError, match=r"1500000 of 2048000 bytes.*continues"):
        find(single)
    assert kept(tmp_path) == [".w.pth.partial"]
    server.limit = None
    assert find(single).read_bytes() == CONTENT
    assert server.requests[-1] == ("/w.pth", "bytes=1500000-")
    assert kept(tmp_path) == ["w.pth"]


def test_a_download_that_was_whole_but_not_yet_checked_is_checked(server, single, tmp_path):
    partial = tmp_path / "cache" / "xraysynth" / ".w.pth.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT)
    assert find(single).read_bytes() == CONTENT
    partial.write_bytes(CONTENT[::-1])
    find(single).unlink()
    with pytest.raises(XraysynthError, match="SHA-256"):
        find(single)
    assert kept(tmp_path) == []


def test_a_server_that_is_not_there_is_an_error(server, single):
    gone = replace(single, release="http://127.0.0.1:9")
    with pytest.raises(DataNotFoundError, match=r"127.0.0.1:9/w\.pth could not be downloaded"):
        find(gone)


def test_nothing_is_downloaded_offline(server, single, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataNotFoundError, match=r"HF_HUB_OFFLINE is set\. Put w\.pth of http"):
        find(single)
    assert server.requests == []


def test_what_is_given_is_taken_as_it_is(server, single, model, tmp_path):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"other")
    assert find(single, mine) == mine
    (tmp_path / "w.pth").write_bytes(b"other")
    assert find(single, tmp_path) == tmp_path / "w.pth"
    for name in model.files:
        (tmp_path / name).write_bytes(b"other")
    assert find(model, tmp_path) == tmp_path
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
    assert find(single) == path
    path.write_bytes(b"other")
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(DataNotFoundError, match=f"{path}.*{other}.*{SHA256}.*weights.inception"):
        find(single)
    assert server.requests == []


def test_the_hugging_face_cache_counts_at_the_pinned_commit(server, model, tmp_path):
    for commit, found in (("def", False), ("abc", True)):
        folder = tmp_path / "hub" / "models--f--dino" / "snapshots" / commit
        folder.mkdir(parents=True)
        for name in model.files:
            (folder / name).write_bytes(CONTENT)
        if found:
            assert find(model) == folder
        else:
            server.limit = 5
            with pytest.raises(DataNotFoundError, match="5 of"):
                find(model)


@pytest.mark.parametrize("name", ["inception", "rad_dino", "dinov2", "clip"])
def test_what_is_published_is_pinned(name):
    from importlib import import_module

    published = import_module(f"xraysynth.evaluation.encoders.{name}").PUBLISHED
    assert published.encoder == name in encoders.NAMES
    assert published.address.startswith("https://")
    assert all(len(bytes.fromhex(sha)) == 32 for sha in published.files.values())
    if published.repository:
        assert len(bytes.fromhex(published.revision)) == 20
        assert published.address.endswith(f"{published.repository}/resolve/{published.revision}")
    else:
        ((file, sha),) = published.files.items()
        assert sha[:8] in file  # its name has the first digits
