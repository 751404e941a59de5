import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from itertools import count
from multiprocessing import get_context

import numpy as np
import pytest

from xraysynth.errors import ConfigError, DamageError, PoolError, XraysynthError
from xraysynth.files import (
    iter_json_lines,
    read_json_lines,
    truncate_partial_line,
    write_atomically,
)
from xraysynth.images import encode_png
from xraysynth.jobs import store as module
from xraysynth.jobs.store import ImageStore, verify_checksums

PNG = encode_png(np.arange(256, dtype=np.uint8).reshape(16, 16))
COLUMNS = {"label": "normal", "is_synthetic": True}


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path, "pool", {"steps": 20})


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "/tmp/x", "-x", "a\n"])
def test_no_name_of_any_plugin_leaves_the_parent(tmp_path, name):
    with pytest.raises(ConfigError, match=r"must be usable as a folder name.*choose another name"):
        ImageStore(tmp_path, name, {"steps": 20})


def test_the_folder_is_named_by_what_made_it(tmp_path, store):
    other = ImageStore(tmp_path, "pool", {"steps": 21})
    assert store.folder != other.folder
    assert store.folder.name == f"pool-{store.key}"


def test_what_was_added_is_in_the_manifest(store):
    with store.writer() as writer:
        writer.add("b", PNG, columns=COLUMNS, facts={"seconds": 1.5})
        writer.add("a", PNG, columns=COLUMNS)
        writer.add("c", None, outcome="refused", columns=COLUMNS)
    table = store.manifest().table
    assert table["image_id"].tolist() == ["a", "b"]
    assert store.entries()["c"].outcome == "refused"
    assert json.loads((store.folder / "store.json").read_text()) == {"steps": 20}


def test_a_half_written_line_is_cut_off_and_its_image_made_again(store):
    with store.writer() as writer:
        writer.add("a", PNG, columns=COLUMNS)
    journal = store.folder / "journal" / "all.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"image_id": "b", "outco')
    assert set(store.entries()) == {"a"}
    with store.writer() as writer:
        writer.add("b", PNG, columns=COLUMNS)
    assert set(store.entries()) == {"a", "b"}


def test_a_failure_can_be_mended_and_an_image_is_never_lost_again(store):
    with store.writer() as writer:
        writer.add("a", None, outcome="failed", columns=COLUMNS)
        writer.add("a", PNG, columns=COLUMNS)
        writer.add("a", None, outcome="failed", columns=COLUMNS)
    assert store.entries()["a"].outcome == "image"


@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_a_damaged_image_is_named(store, damage):
    with store.writer() as writer:
        writer.add("a", PNG, columns=COLUMNS)
        writer.add("b", PNG, columns=COLUMNS)
    verify_checksums(store.manifest(), remedy="make it again")
    path = store.folder / "images" / "b.png"
    if damage == "flip":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(PoolError, match=r"1 of 2 images.*b\.png.*make it again"):
        verify_checksums(store.manifest(), remedy="make it again")


@pytest.mark.parametrize("name", ["../a", "a/b", "", "ä"])
def test_an_id_that_is_no_file_name_is_refused(store, name):
    with pytest.raises(XraysynthError, match="image id"), store.writer() as writer:
        writer.add(name, PNG, columns=COLUMNS)


def test_nothing_half_written_stays_when_writing_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "a.png", PNG)
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_waits_for_the_first(store):
    script = textwrap.dedent(f"""
        from pathlib import Path
        from xraysynth.jobs.store import ImageStore
        with ImageStore(Path({str(store.parent)!r}), "pool", {{"steps": 20}}).writer():
            print("in", flush=True)
    """)
    with store.writer():
        other = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert "waiting for another process" in other.stderr.readline()
        assert other.poll() is None
    out, _ = other.communicate()
    assert out.strip() == "in"


def fill(folder, *, dies_at=None, replaced=False):
    """400 images; the process kills itself at some write, before or after the file is in place."""
    written, replace = count(), os.replace

    def dying(source, target):
        dies = next(written) == dies_at
        if dies and not replaced:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = dying
    store = ImageStore(folder, "pool", {})
    with store.writer() as writer:
        done = store.entries()
        for n in range(400):
            if f"i{n:03d}" not in done:
                pixels = np.random.default_rng(n).integers(0, 255, (64, 64)).astype(np.uint8)
                writer.add(f"i{n:03d}", encode_png(pixels), columns=COLUMNS)
    store.write_manifest()


def test_killed_without_warning_it_goes_on_and_gives_the_same_bytes(tmp_path):
    def run(name, **options):
        process = get_context("fork").Process(target=fill, args=(tmp_path / name,), kwargs=options)
        process.start()
        process.join()
        return process.exitcode

    for dies_at, replaced in ((30, False), (30, True), (1, False), (100, True)):
        assert run("killed", dies_at=dies_at, replaced=replaced) == -signal.SIGKILL
    assert run("killed") == run("whole") == 0
    killed, whole = (ImageStore(tmp_path / name, "pool", {}) for name in ("killed", "whole"))
    lines = [line for p in killed.folder.rglob("*.jsonl") for line in p.read_text().splitlines()]
    assert len(lines) == len(killed.entries()) == 400  # none repeated, none lost
    for path in sorted(whole.folder.rglob("*")):
        if path.suffix in (".png", ".parquet"):
            assert (
                killed.folder / path.relative_to(whole.folder)
            ).read_bytes() == path.read_bytes()


def add(store, *names, part="all", **options):
    with store.writer(part) as writer:
        for name in names:
            writer.add(name, PNG, columns=COLUMNS | options)


def test_a_sealed_store_is_read_without_its_journal_until_something_is_added(store, monkeypatch):
    add(store, "b", "a")
    store.write_manifest()
    journaled = store.manifest()

    def unread(path):
        raise AssertionError(f"{path} was read")

    with monkeypatch.context() as patch:
        patch.setattr(module, "iter_json_lines", unread)
        assert store.manifest().table.equals(journaled.table)
        store.write_manifest()  # nothing to do
    add(store, "c")
    assert store.manifest().table["image_id"].tolist() == ["a", "b", "c"]
    store.write_manifest()
    add(store, "d", part="other")
    assert len(store.manifest()) == 4


def test_killed_while_sealing_it_reads_the_journal(store, monkeypatch):
    add(store, "a")
    store.write_manifest()
    add(store, "b")
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", lambda *_: (_ for _ in ()).throw(OSError("cut")))
        with pytest.raises(OSError, match="cut"):
            store.write_manifest()
    (store.folder / "manifest.parquet").write_bytes(b"half")
    assert len(store.manifest()) == 2
    (store.folder / "manifest.parquet").unlink()
    assert len(store.manifest()) == 2


def test_what_is_added_while_a_store_is_sealed_is_not_missed(store, monkeypatch):
    add(store, "a")
    table = ImageStore.table

    def late(self):
        found = table(self)
        add(self, "b", part="other")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ImageStore, "table", late)
        store.write_manifest()
    assert len(store.manifest()) == 2


def test_of_an_image_made_twice_the_first_counts_in_manifest_and_entries(store):
    add(store, "a", part="one", prompt="first")
    add(store, "a", part="two", prompt="second")
    assert store.manifest().table["prompt"].tolist() == ["first"]
    assert store.entries()["a"].columns["prompt"] == "first"
    assert store.map_entries(lambda entry: entry.columns["prompt"]) == {"a": "first"}


def test_the_blocks_of_a_journal_make_one_table(store, monkeypatch):
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", 2)
    add(store, "e", "d", "c")
    add(store, "b", "a", age=50)
    found = store.manifest().table
    assert found["image_id"].tolist() == list("abcde")
    assert found["age"].fillna(0).tolist() == [50, 50, 0, 0, 0]
    assert store.table()["path"].tolist() == [f"images/{name}.png" for name in "abcde"]


def test_an_empty_store_has_an_empty_manifest(store):
    with store.writer() as writer:
        writer.add("a", None, outcome="refused", columns=COLUMNS)
    store.write_manifest()
    assert len(store.manifest()) == 0


def test_lines_of_a_long_journal_come_one_by_one_and_a_torn_one_does_not(tmp_path):
    path = tmp_path / "long.jsonl"
    lines = [{"n": n, "text": "x" * 1000} for n in range(3000)]  # three blocks
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"n": 3000')
    assert read_json_lines(path) == lines
    assert read_json_lines(tmp_path / "none.jsonl") == []
    path.write_text('{"n": 1}')
    assert read_json_lines(path) == []


def test_a_line_that_is_finished_while_others_are_read_waits_for_the_next_reading(tmp_path):
    path = tmp_path / "growing.jsonl"
    path.write_text('{"n": 1}\n{"n"')
    lines = iter_json_lines(path)
    assert next(lines) == {"n": 1}
    with path.open("a") as file:
        file.write(": 2}\n")
    assert list(lines) == []
    assert len(read_json_lines(path)) == 2


@pytest.mark.parametrize("half", ["", "x", "x" * 200_000])
@pytest.mark.parametrize("whole", ["", "a\n", "a\n" + "b" * 100_000 + "\n"])
def test_only_what_follows_the_last_line_end_is_cut(tmp_path, whole, half):
    path = tmp_path / "journal"
    path.write_text(whole + half)
    truncate_partial_line(path)
    assert path.read_text() == whole
    truncate_partial_line(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_every_damaged_image_is_found_whichever_thread_has_it(store, monkeypatch):
    monkeypatch.setattr(module, "FILES_PER_CHUNK", 2)
    add(store, *"abcde")
    for name in "ae":
        (store.folder / "images" / f"{name}.png").write_bytes(b"other")
    with pytest.raises(PoolError, match=r"2 of 5 images.*a\.png \(changed\).*e\.png \(changed\)"):
        verify_checksums(store.manifest(), remedy="make it again")


def damaged_line(store, change):
    """Changes the second line of a journal of three."""
    add(store, "a", "b", "c")
    path = store.folder / "journal" / "all.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = change(lines[1])
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b"normal", b"abnorm"),
        lambda line: line.replace(b'"image_id": "b"', b'"image_id": "x"'),
        lambda line: line.replace(b"{", b"[", 1),
        lambda line: line[:40] + b"\n",
        lambda line: b"\0" * (len(line) - 1) + b"\n",
        lambda line: b"null\n",
        lambda line: b"\n",
    ],
)
def test_a_damaged_line_of_a_journal_is_named_and_its_removal_mends_the_store(store, change):
    damaged_line(store, change)
    for use in (store.entries, store.manifest, store.write_manifest):
        with pytest.raises(DamageError, match="line 2 is damaged") as refused:
            use()
    remedy = re.search(r"sed -i 2d \S+(?=;)", str(refused.value)).group()
    subprocess.run(remedy, shell=True, check=True)
    assert set(store.entries()) == {"a", "c"}
    add(store, "b")
    assert store.manifest().table["image_id"].tolist() == ["a", "b", "c"]


def test_lines_without_a_checksum_are_those_of_earlier_versions(store):
    add(store, "a")
    path = store.folder / "journal" / "all.jsonl"
    line = json.loads(path.read_text())
    del line["checksum"]
    path.write_text(json.dumps(line) + "\n")
    assert store.entries()["a"].columns == COLUMNS


@pytest.mark.parametrize("name", ["manifest.parquet", "journal/sealed.json"])
@pytest.mark.parametrize("data", [b"", b"\0" * 900, b"[1]", b"null", None])
def test_a_damaged_manifest_is_read_from_the_journal_and_written_again(store, name, data):
    add(store, "a", "b")
    store.write_manifest()
    path = store.folder / name
    original = path.read_bytes()
    flipped = bytearray(original)
    flipped[len(original) // 2] ^= 1
    path.write_bytes(flipped if data is None else data)
    assert store.manifest().table["image_id"].tolist() == ["a", "b"]
    store.write_manifest()
    assert path.read_bytes() == original


def test_a_manifest_of_an_earlier_version_is_current_without_a_digest(store, monkeypatch):
    add(store, "a")
    store.write_manifest()
    path = store.folder / "journal" / "sealed.json"
    state = json.loads(path.read_text())
    del state["manifest.parquet"]
    path.write_text(json.dumps(state))
    monkeypatch.setattr(module, "iter_json_lines", None)
    assert len(store.manifest()) == 1


def test_a_journal_that_cannot_be_read_is_named(store):
    add(store, "a")
    path = store.folder / "journal" / "all.jsonl"
    path.unlink()
    path.mkdir()  # root may read every file
    with pytest.raises(DamageError, match=rf"{path} cannot be read .*restore it"):
        store.entries()
    with pytest.raises(DamageError, match=rf"{path} cannot be read .*restore it"):
        add(store, "b")
