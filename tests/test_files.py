"""What a killed writer leaves: the old file or folder whole, and leftovers that nobody takes for it."""

import errno
import fcntl
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xraysynth import files
from xraysynth.errors import XraysynthError
from xraysynth.files import (
    atomic_path,
    neutralise_formula,
    read_csv,
    remove_leftovers,
    write_atomically,
    write_csv,
)

SRC = Path(files.__file__).parents[1]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_bytes_are_written_whole(tmp_path):
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert names(tmp_path) == ["a"]


def test_another_library_writes_a_file_or_a_folder_under_the_name_it_is_given(tmp_path):
    for content in ("one", "two"):
        with atomic_path(tmp_path / "folder") as partial:
            (partial / "deep").mkdir(parents=True)
            (partial / "deep" / content).write_text(content)
            assert names(tmp_path) == (
                [partial.name] if content == "one" else [partial.name, "folder"]
            )
    assert [p.name for p in (tmp_path / "folder" / "deep").iterdir()] == ["two"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, error):
    write_atomically(tmp_path / "a", b"old")

    def broken(path, write):
        with atomic_path(path) as partial:
            write(partial)
            raise error

    def half_a_folder(partial):
        partial.mkdir()
        (partial / "half").touch()

    with pytest.raises(error):
        broken(tmp_path / "a", lambda partial: partial.write_bytes(b"ne"))
    with pytest.raises(error):
        broken(tmp_path / "new", half_a_folder)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_block_that_writes_nothing_is_an_error_and_spares_the_old_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "folder"):
        pass
    assert names(tmp_path / "folder") == ["kept"]
    assert names(tmp_path) == ["folder"]


def test_killed_in_between_the_old_file_stays_and_what_is_left_can_be_removed(tmp_path):
    target = tmp_path / "run.json"
    write_atomically(target, b"old")
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from xraysynth.files import atomic_path
        with atomic_path(Path({str(target)!r})) as partial:
            partial.write_bytes(b"ne")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    env = os.environ | {"PYTHONPATH": str(SRC)}
    assert subprocess.run([sys.executable, "-c", script], env=env).returncode == -9
    assert target.read_bytes() == b"old"
    (left,) = (path for path in tmp_path.iterdir() if path != target)
    assert left.match(".run.json.*.partial")
    write_atomically(target, b"new")  # another process: it takes another name
    assert left.exists()
    remove_leftovers(target)
    assert names(tmp_path) == ["run.json"]
    assert target.read_bytes() == b"new"


def test_only_leftovers_of_this_file_and_this_machine_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "node", lambda: "box")
    mine = [".a.box.12.partial", ".a.box.3.old"]
    others = [
        ".a.b.box.12.partial",
        ".a.other.12.partial",
        ".a.partial",
        ".a.lock",
        "a",
        "xa.box.1.partial",
    ]
    for name in [*mine, *others]:
        (tmp_path / name).touch()
    (tmp_path / ".a.box.4.partial").mkdir()
    (tmp_path / ".a.box.4.partial" / "deep").touch()
    remove_leftovers(tmp_path / "a")
    assert names(tmp_path) == sorted(others)


def test_two_machines_and_two_processes_write_under_different_names(tmp_path, monkeypatch):
    seen = set()
    for machine in ("a", "b"):
        for process in (1, 2):
            monkeypatch.setattr(files, "node", lambda machine=machine: machine)
            monkeypatch.setattr(os, "getpid", lambda process=process: process)
            with atomic_path(tmp_path / "a") as partial:
                partial.touch()
                seen.add(partial.name)
    assert seen == {f".a.{machine}.{process}.partial" for machine in "ab" for process in (1, 2)}


def test_nothing_of_this_package_replaces_files_in_another_way():
    ways = ("os.replace(", "os.rename(", ".partial", "mkstemp", "NamedTemporaryFile")
    found = {
        (path.relative_to(SRC).as_posix(), way)
        for path in (SRC / "xraysynth").rglob("*.py")
        for way in ways
        if path.name != "files.py" and way in path.read_text()
    }
    assert found == set()


FORMULAS = [
    '=HYPERLINK("http://example.org?"&A1)',
    "+1+cmd|' /C calc'!A0",
    "-1+2",
    "@SUM(A1)",
    " =1+1",
    "\t=1",
    "\r\n=1",
    "＝1+1",  # a wide form
    "'=1",
    "nodule; =1+1",
    "two\nlines\n-2+3",
]
HARMLESS = [
    "",
    "-0.5",
    "+3",
    "-1e-05",
    ".5",
    "a=b",
    "two; lines",
    "it's",
    "x-ray",
    "omission@0.25,0.5",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_in_a_csv_is_a_formula(tmp_path, text):
    table = pd.DataFrame({"comment": [text, "fine"], text: [1, 2]})
    write_csv(table, tmp_path / "a.csv")
    written = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    for cell in (written["comment"][0], written.columns[1]):
        for piece in re.split(r"[;\t\r\n]", cell):
            assert not piece.strip().startswith(("=", "+", "-", "@", "＝"))
    assert read_csv(tmp_path / "a.csv")["comment"].tolist() == [text, "fine"]


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_and_numbers_stay(text):
    assert neutralise_formula(text) == text


def test_a_table_without_formulas_is_written_byte_for_byte(tmp_path):
    table = pd.DataFrame(
        {
            "name": ["a", 'b "c", d', ""],
            "value": [-0.5, np.nan, 1e-20],
            "seed": [None, -1, 2**62],
            "object": pd.Series([-0.25, None, True], dtype=object),
            "kind": pd.Categorical(["x", "-0.5", "y"]),
        }
    )
    table.to_csv(tmp_path / "plain.csv", index=False)
    write_csv(table, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


def test_nothing_of_this_package_writes_csv_in_another_way():
    exports = "evaluation/reader_study/simulated_exports.py"  # checksums, as the kit writes them
    found = set()
    for path in (SRC / "xraysynth").rglob("*.py"):
        name = path.relative_to(SRC / "xraysynth").as_posix()
        ways = [way for way in (".to_csv(", "csv.writer", "DictWriter") if way in path.read_text()]
        if ways and name not in ("files.py", exports):
            found.add(name)
    assert found == set()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
@pytest.mark.parametrize("use", ["exclusive_lock", "is_locked"])
def test_a_file_system_that_refuses_locks_is_named(tmp_path, monkeypatch, number, use):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / ".lock"
    with pytest.raises(
        XraysynthError, match=rf"{path}: the file system refuses locks .*paths\.output"
    ):
        files.is_locked(path) if use == "is_locked" else files.exclusive_lock(path).__enter__()


def test_a_lock_that_another_holds_is_seen(tmp_path):
    path = tmp_path / ".lock"
    assert not files.is_locked(path)
    with files.exclusive_lock(path):
        assert files.is_locked(path)
    assert not files.is_locked(path)


def test_the_error_of_a_full_disk_names_the_file_whoever_writes_it(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "weights"

    def fill():
        with atomic_path(path) as partial:
            partial.symlink_to("/dev/full")
            partial.write_bytes(b"x")

    with pytest.raises(OSError, match="No space left") as full:
        fill()
    assert full.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
