"""Downloads of one file from servers that break off, lie, change the file, or send something else."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from file_server import FileServer, Reply, serve_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from xraysynth.data.fetching import http
from xraysynth.data.fetching.checksums import Records
from xraysynth.data.fetching.http import download_file
from xraysynth.data.fetching.recipe import Fetch, RemoteFile
from xraysynth.errors import ConfigError, DownloadError
from xraysynth.options import from_options

DATA = bytes(range(256)) * 400
SHA256 = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(http, "WAIT_SECONDS", 0.0)


def remote_file(*urls, **options):
    return from_options(RemoteFile, {"name": "a.zip", "urls": list(urls), **options})


def download(tmp_path, *servers, **options):
    """The bytes of the file after a download."""
    urls = [f"{server.url}/a.zip" for server in servers]
    target = tmp_path / "a.zip"
    download_file(remote_file(*urls, **options), target, Records(tmp_path / "downloads.json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "downloads.json"]
    return target.read_bytes()


def refused(tmp_path, match, *servers, **options):
    with pytest.raises(DownloadError, match=match):
        download(tmp_path, *servers, **options)
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("checksum", ["", SHA256, f"md5:{hashlib.md5(DATA).hexdigest()}"])
def test_a_file_comes_whole_and_is_recorded(checksum, tmp_path):
    with FileServer(lambda request: serve_file(DATA, request)) as server:
        assert download(tmp_path, server, checksum=checksum, size_bytes=len(DATA)) == DATA
        assert download(tmp_path, server, checksum=checksum) == DATA
    assert len(server.requests) == 1
    record = json.loads((tmp_path / "downloads.json").read_text())["a.zip"]
    assert record["sha256"] == SHA256.removeprefix("sha256:")
    assert (record["size_bytes"], record["url"]) == (len(DATA), f"{server.url}/a.zip")


def test_a_server_that_breaks_off_is_asked_for_the_rest(tmp_path):
    with FileServer(lambda request: serve_file(DATA, request, cut=30_000)) as server:
        assert download(tmp_path, server) == DATA
    assert [request.start for request in server.requests] == [0, 30_000, 60_000, 90_000]
    assert {request.headers.get("if-range") for request in server.requests[1:]} == {'"1"'}


def test_a_server_that_ignores_ranges_starts_again(tmp_path):
    def respond(request):
        return Reply(DATA, headers={"etag": '"1"'}, cut=50_000 if request.number == 0 else None)

    with FileServer(respond) as server:
        assert download(tmp_path, server) == DATA
    assert server.requests[1].start == 50_000


def test_a_server_that_never_gets_further_is_left(tmp_path):
    with FileServer(lambda request: Reply(DATA, cut=50_000)) as server:
        refused(tmp_path, "broke off|closed|incomplete", server)
    assert len(server.requests) == http.ATTEMPTS + 1


def test_without_a_validator_nothing_is_continued(tmp_path):
    def respond(request):
        reply = serve_file(DATA, request, cut=50_000 if request.number == 0 else None)
        reply.headers.pop("etag")
        return reply

    with FileServer(respond) as server:
        assert download(tmp_path, server) == DATA
        assert [request.start for request in server.requests] == [0, 0]


OTHER = bytes(reversed(DATA))


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("checksum", [f"sha256:{hashlib.sha256(OTHER).hexdigest()}", ""])
def test_a_file_that_changes_between_two_parts_is_not_mixed(heeds_if_range, checksum, tmp_path):
    def respond(request):
        if request.number == 0:
            return serve_file(DATA, request, etag='"old"', cut=50_000)
        if not heeds_if_range:
            request.headers.pop("if-range", None)
        return serve_file(OTHER, request, etag='"new"')

    with FileServer(respond) as server:
        assert download(tmp_path, server, checksum=checksum) == OTHER


def test_a_part_of_another_file_is_found_by_the_checksum(tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"x" * 50_000)
    with FileServer(lambda request: serve_file(DATA, request)) as server:
        assert download(tmp_path, server, checksum=SHA256) == DATA
    assert [request.start for request in server.requests] == [50_000, 0]


@pytest.mark.parametrize("length", [len(DATA) - 1000, len(DATA) + 1000, None])
def test_a_server_that_lies_about_the_length_is_refused_or_seen_through(length, tmp_path):
    def lying(request):
        return Reply(DATA, headers={"etag": '"1"'}, length=length)

    with FileServer(lying) as server, FileServer(lambda r: serve_file(DATA, r)) as honest:
        assert download(tmp_path, server, honest, size_bytes=len(DATA), checksum=SHA256) == DATA
        asked = len(honest.requests)
    assert asked == (0 if length is None else 1)


def test_more_bytes_than_the_file_has_are_refused(tmp_path):
    with FileServer(lambda request: Reply(DATA + b"more", length=None)) as server:
        refused(tmp_path, "sends more than the 102,400 bytes", server, size_bytes=len(DATA))
    assert not list(tmp_path.iterdir())


PAGE = b"  <!DOCTYPE html><title>Log in</title>"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(PAGE, headers={"content-type": "text/html; charset=utf-8"}),
        Reply(PAGE, headers={"content-type": "application/zip"}),
        Reply(b"{}", 403),
        Reply(b"", 404),
        Reply(DATA, headers={"content-encoding": "gzip"}),
        Reply(b"", 302, {"location": "http://192.0.2.1/a.zip"}),
        Reply(b"", 302, {"location": "ftp://127.0.0.1/a.zip"}),
        Reply(b"", 302, {"location": "/a.zip"}),
    ],
)
def test_what_is_not_the_file_is_refused_and_the_next_mirror_tried(reply, tmp_path, capsys):
    with FileServer(lambda _: reply) as bad, FileServer(lambda r: serve_file(DATA, r)) as good:
        assert download(tmp_path, bad, good) == DATA
        (tmp_path / "a.zip").unlink()
        (tmp_path / "downloads.json").unlink()
        refused(tmp_path, "page instead|status 40|another encoding|redirect|protocol", bad)
    assert bad.url in capsys.readouterr().err


def test_a_redirection_from_outside_never_reaches_this_machine():
    check = http._redirect_check("https://example.org/a.zip")
    with pytest.raises(http.MirrorError, match="redirects to"):
        check(_request("https://127.0.0.1/a.zip"))
    with pytest.raises(http.MirrorError, match="not https"):
        check(_request("http://example.com/a.zip"))
    check(_request("https://example.com/a.zip"))


def _request(url):
    import httpx2

    return httpx2.Request("GET", url)


def test_a_redirection_to_the_file_is_followed_with_the_range(tmp_path):
    def respond(request):
        if request.path == "/a.zip":
            return Reply(b"", 302, {"location": "/b.zip"})
        return serve_file(DATA, request, cut=60_000)

    with FileServer(respond) as server:
        assert download(tmp_path, server) == DATA
    assert [r.start for r in server.requests if r.path == "/b.zip"] == [0, 60_000]


def test_a_busy_server_is_asked_again_and_a_silent_one_left(tmp_path, monkeypatch):
    def busy(request):
        return Reply(b"", 503) if request.number < 3 else serve_file(DATA, request)

    with FileServer(busy) as server:
        assert download(tmp_path, server) == DATA
    monkeypatch.setattr(http, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(http, "ATTEMPTS", 1)

    def silent(_):
        time.sleep(0.3)
        return Reply(DATA)

    (tmp_path / "a.zip").unlink()
    with FileServer(silent) as server:
        refused(tmp_path, "timed out|Timeout", server)


def test_damaged_bytes_are_refused_and_not_kept(tmp_path):
    with FileServer(lambda request: serve_file(OTHER, request)) as server:
        refused(tmp_path, "its sha256 is .*, but the published file has", server, checksum=SHA256)
        refused(tmp_path, "offers 102,400 bytes, but the file has 7", server, size_bytes=7)
    assert not list(tmp_path.iterdir())


def test_the_first_download_is_trusted_and_another_is_not(tmp_path):
    with FileServer(lambda request: serve_file(DATA, request)) as server:
        download(tmp_path, server)
        (tmp_path / "a.zip").unlink()
        server.respond = lambda request: serve_file(OTHER, request)
        refused(tmp_path, "was downloaded from .* to accept it, remove .*downloads.json", server)
        (tmp_path / "downloads.json").unlink()
        assert download(tmp_path, server) == OTHER


SCRIPT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
from pathlib import Path
from xraysynth.data.fetching.checksums import Records
from xraysynth.data.fetching.http import download_file
from xraysynth.data.fetching.recipe import RemoteFile
target = Path(sys.argv[2])
download_file(RemoteFile(name="a.zip", urls=[sys.argv[1]]), target, Records(target.with_suffix(".json")))
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_started_again_it_goes_on(stop, tmp_path):
    """The first process gets 40,000 bytes and waits for more until it is killed."""
    data, target = os.urandom(200_000), tmp_path / "a.zip"

    def respond(request):
        if request.number == 0:
            return Reply(data[:40_000], headers={"etag": '"1"'}, length=len(data), hold=True)
        return serve_file(data, request)

    with FileServer(respond) as server:
        arguments = [sys.executable, "-c", SCRIPT, f"{server.url}/a.zip", str(target)]
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        part = tmp_path / "a.zip.part"
        while process.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.01)
        process.send_signal(stop)
        process.wait()
        assert not target.exists()
        got = part.stat().st_size
        server.release()
        subprocess.run(arguments, check=True, stderr=subprocess.DEVNULL)
    assert target.read_bytes() == data
    assert server.requests[1].start == got


@pytest.mark.parametrize("length", [0, 1, 49_999, len(DATA) - 1, len(DATA)])
def test_a_part_of_any_length_is_completed_to_the_same_bytes(length, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(DATA[:length])
    with FileServer(lambda request: serve_file(DATA, request)) as server:
        state = {"url": f"{server.url}/a.zip", "validator": '"1"'}
        (tmp_path / "a.zip.part.json").write_text(json.dumps(state))
        assert download(tmp_path, server) == DATA


def test_addresses_must_be_encrypted_and_checksums_whole():
    for options in ({"urls": ["http://example.org/a"]}, {"urls": ["file:///etc/passwd"]}):
        with pytest.raises(ConfigError, match="urls must be https addresses"):
            from_options(RemoteFile, {"name": "a", **options}, "source.x.fetch")
    with pytest.raises(ConfigError, match="checksum must be sha256: or md5:"):
        remote_file("https://a.org/b", checksum="1234")
    with pytest.raises(ConfigError, match=r"fetch\.revision"):
        Fetch(folder="a", hub="a/b")
    with pytest.raises(ConfigError, match="needs files, hub, kaggle or idc"):
        Fetch(folder="a")


def test_a_server_that_is_not_there_is_left_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(http, "WAIT_SECONDS", 1e6)
    with FileServer(lambda request: serve_file(DATA, request)) as server:
        urls = ["http://127.0.0.1:9/a.zip", f"{server.url}/a.zip"]
        download_file(remote_file(*urls), tmp_path / "a.zip", Records(tmp_path / "downloads.json"))
    assert (tmp_path / "a.zip").read_bytes() == DATA


VERSIONS = {'"1"': DATA, '"2"': OTHER}
ANSWERS = st.fixed_dictionaries(
    {
        "etag": st.sampled_from(sorted(VERSIONS)),
        "cut": st.none() | st.integers(0, len(DATA)),
        "heeds": st.sampled_from(["both", "range", "neither"]),
        "status": st.sampled_from([200, 200, 200, 503]),
    }
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(ANSWERS, max_size=5), start=st.integers(0, len(DATA)))
def test_whatever_servers_do_the_bytes_are_those_of_one_version(
    answers, start, tmp_path, monkeypatch
):
    """Servers that break off anywhere, change the file, ignore headers or fail: no bytes are mixed."""
    monkeypatch.setattr(http, "progress_bar", lambda *_: tqdm(disable=True))
    for path in tmp_path.iterdir():
        path.unlink()
    left = list(answers)

    def respond(request):
        answer = (
            left.pop(0) if left else {"etag": '"2"', "cut": None, "heeds": "both", "status": 200}
        )
        if answer["status"] == 503:
            return Reply(b"", 503)
        for name in {"both": (), "range": ("if-range",), "neither": ("range",)}[answer["heeds"]]:
            request.headers.pop(name, None)
        data = VERSIONS[answer["etag"]]
        return serve_file(data, request, etag=answer["etag"], cut=answer["cut"])

    target = tmp_path / "a.zip"
    (tmp_path / "a.zip.part").write_bytes(DATA[:start])
    with FileServer(respond) as server:
        state = {"url": f"{server.url}/a.zip", "validator": '"1"'}
        (tmp_path / "a.zip.part.json").write_text(json.dumps(state))
        download_file(remote_file(f"{server.url}/a.zip"), target, Records(tmp_path / "r.json"))
    assert target.read_bytes() in (DATA, OTHER)
