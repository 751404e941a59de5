"""Archives of strangers: what is unpacked, what is refused, and that nothing is written outside."""

import bz2
import doctest
import gzip
import io
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from xraysynth.data.fetching import _archive_entries, unpacking
from xraysynth.data.fetching.unpacking import is_archive, unpack
from xraysynth.errors import ArchiveError

FILES = {
    "set/normal/1.png": b"one",
    "set/pneumonia/2.png": b"two" * 1000,
    "set/table.csv": b"a,b\n",
}


def zipped(path, entries, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def tarred(path, entries, mode="w:gz", **options):
    with tarfile.open(path, mode, **options) as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_of(path, *members):
    with tarfile.open(path, "w") as archive:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def zip_of_links(path, links, files=FILES):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return path


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def refused(archive, folder, match, **options):
    before = set(folder.parent.parent.rglob("*")) - set(folder.parent.glob(".*.lock"))
    with pytest.raises(ArchiveError, match=match) as error:
        unpack(archive, folder, **options)
    assert str(archive) in str(error.value)
    assert set(folder.parent.parent.rglob("*")) - set(folder.parent.glob(".*.lock")) == before


@pytest.fixture
def out(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "out"


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.bz2", "pax", "gnu"])
def test_archives_are_unpacked_as_they_are(suffix, tmp_path, out):
    path = tmp_path / "file_downloaded"  # without a suffix, as some servers name it
    if suffix == "zip":
        zipped(path, FILES)
    elif suffix in ("pax", "gnu"):
        kind = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}[suffix]
        FILES_LONG = FILES | {"long/" + "x" * 150 + "/ü.png": b"3"}
        tarred(path, FILES_LONG, format=kind)
        unpack(path, out)
        assert contents(out) == FILES_LONG
        return
    else:
        tarred(path, FILES, {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2"}[suffix])
    unpack(path, out)
    assert contents(out) == FILES
    assert [path.name for path in out.parent.iterdir() if not path.name.endswith(".lock")] == [
        "out"
    ]


OUTSIDE = [
    "../outside.png",
    "a/../../outside.png",
    "/tmp/outside.png",
    "..\\outside.png",
    "C:\\x.png",
]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_leave_are_refused_and_nothing_is_left(make, name, tmp_path, out):
    refused(make(tmp_path / "a", {**FILES, name: b"x"}), out, "leads out of the folder")


@pytest.mark.parametrize("target", ["../../outside", "/etc/passwd", "..\\..\\x", "x/../../../y"])
def test_links_that_leave_are_refused(target, tmp_path, out):
    refused(zip_of_links(tmp_path / "a.zip", {"set/link.png": target}), out, "leads out")
    refused(tar_of(tmp_path / "a.tar", ("set/l", tarfile.SYMTYPE, target)), out, "leads out")
    refused(tar_of(tmp_path / "b.tar", ("set/l", tarfile.LNKTYPE, "../out")), out, "leads out")


def test_a_file_is_never_written_through_a_link(tmp_path, out):
    links = [("l", tarfile.SYMTYPE, "set"), ("m", tarfile.SYMTYPE, "l/../..")]
    refused(tar_of(tmp_path / "a.tar", *links), out, "leads out")
    path = tar_of(tmp_path / "b.tar", ("d", tarfile.SYMTYPE, "."), ("d/e", tarfile.SYMTYPE, "d/.."))
    unpack(path, out)  # links to folders are left out, so there is nothing to write through
    assert contents(out) == {}


def test_links_inside_become_files(tmp_path, out):
    links = {
        "set/a.png": "b.png",
        "set/b.png": "normal/1.png",
        "set/lost": "nowhere",
        "set/up": ".",
    }
    unpack(zip_of_links(tmp_path / "a.zip", links), out)
    assert contents(out) == FILES | {"set/a.png": b"one", "set/b.png": b"one"}
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_a_million_links_in_a_row_end(tmp_path, out):
    links = {f"{n:06d}": f"{n + 1:06d}" for n in range(3000)}
    unpack(zip_of_links(tmp_path / "a.zip", links, {"003000": b"x"}), out)
    assert 0 < len(contents(out)) < 3000


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(kind, tmp_path, out):
    refused(tar_of(tmp_path / "a.tar", ("dev", kind, "")), out, "device or a pipe")


def test_two_entries_of_one_name_are_refused(tmp_path, out):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("a.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", b"2")
    refused(tmp_path / "a", out, "name of another entry")
    refused(zipped(tmp_path / "b", {"a": b"1", "a/b": b"2"}), out, "exists|directory")


def test_names_that_differ_in_case_are_two_files_where_the_file_system_says_so(
    tmp_path, out, monkeypatch
):
    path = zipped(tmp_path / "a.zip", {"a.png": b"1", "A.png": b"2"})
    unpack(path, out)
    assert contents(out) == {"a.png": b"1", "A.png": b"2"}
    opened = Path.open
    monkeypatch.setattr(  # a file system that holds capital and small letters for the same
        Path,
        "open",
        lambda self, *args, **more: opened(self.with_name(self.name.lower()), *args, **more),
    )
    refused(path, out.with_name("other"), "capital and small letters")


def test_names_in_other_encodings_are_text(tmp_path, out):
    marked = zipped(tmp_path / "a.zip", {"Röntgen.png": b"1"})
    data = marked.read_bytes()
    flag = bytes([0, 8])
    unmarked = data.replace(b"PK\x01\x02\x14\x03\x14\x00" + flag, b"PK\x01\x02\x14\x03\x14\x00\0\0")
    unmarked = unmarked.replace(b"PK\x03\x04\x14\x00" + flag, b"PK\x03\x04\x14\x00\0\0")
    assert unmarked != data
    (tmp_path / "mac.zip").write_bytes(unmarked)
    unpack(tmp_path / "mac.zip", out)
    assert list(contents(out)) == ["Röntgen.png"]
    dos = unmarked.replace("ö".encode(), b"o\x94").replace(b"R", b"R")
    (tmp_path / "dos.zip").write_bytes(dos)
    unpack(tmp_path / "dos.zip", out.with_name("dos"))
    assert list(contents(out.with_name("dos"))) == ["Roöntgen.png"]
    tarred(
        tmp_path / "latin.tar",
        {"Röntgen.png": b"1"},
        "w",
        encoding="latin-1",
        format=tarfile.GNU_FORMAT,
    )
    unpack(tmp_path / "latin.tar", out.with_name("latin"))
    assert list(contents(out.with_name("latin"))) == ["Röntgen.png"]


def test_backslashes_are_folders(tmp_path, out):
    unpack(zipped(tmp_path / "a.zip", {"set\\normal\\": b"", "set\\normal\\1.png": b"1"}), out)
    assert contents(out) == {"set/normal/1.png": b"1"}


def test_bombs_are_refused_early(tmp_path, out):
    zeros = bytes(2**20)
    zipped(tmp_path / "bomb.zip", {"a": zeros * 100})
    refused(tmp_path / "bomb.zip", out, "more than 67,108,864 bytes")
    refused(tmp_path / "bomb.zip", out, "more than 1,000 bytes", max_bytes=1000)
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("a")
        info.size = 100 * 2**20
        archive.addfile(info, io.BytesIO(zeros * 100))
    refused(tmp_path / "bomb.tar.gz", out, "more than 67,108,864 bytes")
    refused(
        zipped(tmp_path / "many.zip", {str(n): b"" for n in range(30)}),
        out,
        "20 entries",
        max_files=20,
    )
    refused(
        tarred(tmp_path / "many.tar", {str(n): b"" for n in range(30)}),
        out,
        "20 entries",
        max_files=20,
    )


def test_a_directory_of_many_entries_is_refused_without_being_read(tmp_path, out):
    entry = b"PK\x01\x02" + bytes(24) + (1).to_bytes(2, "little") + bytes(16) + b"x"
    n = 100_000
    assert len(entry) == 47
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + (47 * n).to_bytes(4, "little") + bytes(6)
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + entry * n + end)
    tracemalloc.start()
    refused(tmp_path / "a.zip", out, "more than 50,000 entries", max_files=50_000)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


@pytest.mark.parametrize("is_large", [False, True])
def test_a_directory_of_gigabytes_is_not_read(is_large, tmp_path, out):
    """A hole of 8 GB that the end of the zip calls its directory."""
    size = 8 * 2**30
    large = (
        b"PK\x06\x06"
        + (44).to_bytes(8, "little")
        + bytes(28)
        + size.to_bytes(8, "little")
        + bytes(8)
    )
    large += b"PK\x06\x07" + bytes(4) + (size + 4).to_bytes(8, "little") + (1).to_bytes(4, "little")
    claimed = 1 if is_large else 3 * 2**30
    end = b"PK\x05\x06" + bytes(8) + claimed.to_bytes(4, "little") + bytes(6)
    with (tmp_path / "a.zip").open("wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(size)
        file.write(b"x" * 4 + (large if is_large else b"") + end)
    tracemalloc.start()
    refused(tmp_path / "a.zip", out, "bytes of names")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_a_large_zip_is_read(tmp_path, out):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(70_000):  # more than the end of a small zip can count
            archive.writestr(f"{number}", b"")
    assert _archive_entries._count_zip_entries(tmp_path / "a.zip", 70_000) == 70_000
    refused(tmp_path / "a.zip", out, "more than 69,999 entries", max_files=69_999)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_of_gigabytes_does_not_fill_the_memory(kind, tmp_path, out):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 2**30
    block = info.tobuf(tarfile.GNU_FORMAT)
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(block + bytes(2**22))
    tracemalloc.start()
    refused(tmp_path / "a.tar.gz", out, "is no name of a file")
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_that_breaks_off_is_refused_wherever_it_does(make, tmp_path, out):
    whole = make(tmp_path / "whole", FILES).read_bytes()
    for length in range(4, len(whole) - 1, 7):
        (tmp_path / "cut").write_bytes(whole[:length])
        refused(tmp_path / "cut", out, "download it again|no zip, tar")


def test_a_tar_that_breaks_off_between_two_files_is_refused(tmp_path, out):
    whole = tarred(tmp_path / "whole", FILES, "w").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:1024])
    refused(tmp_path / "cut", out, "breaks off")
    (tmp_path / "cut").write_bytes(whole[:1024] + b"\xff" * 512 + whole[1536:])
    refused(tmp_path / "cut", out, "breaks off or is damaged")


def test_changed_bytes_are_seen(tmp_path, out):
    whole = bytearray(zipped(tmp_path / "a", {"a": os.urandom(5000)}).read_bytes())
    whole[200] ^= 1
    (tmp_path / "a").write_bytes(whole)
    refused(tmp_path / "a", out, "download it again")


def test_encrypted_and_unknown_archives_say_what_to_do(tmp_path, out):
    whole = bytearray(zipped(tmp_path / "a", {"a": b"x"}).read_bytes())
    entry = whole.index(b"PK\x01\x02")
    whole[entry + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(whole)
    refused(tmp_path / "locked.zip", out, "is encrypted; unpack it yourself")
    whole[entry + 8], whole[entry + 10] = 0, 9
    (tmp_path / "deflate64.zip").write_bytes(whole)
    refused(tmp_path / "deflate64.zip", out, "method 9, which is not read here; unpack it yourself")
    (tmp_path / "page").write_bytes(b"<!DOCTYPE html>")
    refused(tmp_path / "page", out, "this is no zip, tar")


def test_files_that_are_there_stay(tmp_path, out):
    out.mkdir()
    (out / "mine.png").write_bytes(b"mine")
    refused(zipped(tmp_path / "a.zip", FILES), out, "holds files already; remove or rename it")
    (out / "mine.png").unlink()
    unpack(tmp_path / "a.zip", out)
    assert contents(out) == FILES


def test_nested_archives_stay_packed(tmp_path, out):
    inner = zipped(tmp_path / "inner.zip", {"../../x": b"1"}).read_bytes()
    unpack(zipped(tmp_path / "a.zip", {"inner.zip": inner}), out)
    assert contents(out) == {"inner.zip": inner}


def test_what_unpacked_programs_may_do_is_nothing(tmp_path, out):
    info = zipfile.ZipInfo("run")
    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o4777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, b"#!")
    unpack(tmp_path / "a.zip", out)
    assert (out / "run").stat().st_mode & 0o7111 == 0


def test_killed_and_started_again_it_is_whole(tmp_path, out):
    path = zipped(tmp_path / "a.zip", {f"{n}/x.png": os.urandom(20_000) for n in range(500)})
    code = (
        "import sys; from pathlib import Path; from xraysynth.data.fetching.unpacking import unpack; "
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path), str(out)])
    while process.poll() is None and not list(out.parent.glob(".out.*.partial/*/x.png")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    unpack(path, out) if not out.exists() else None
    assert len(contents(out)) == 500
    assert [p.name for p in out.parent.iterdir() if not p.name.endswith(".lock")] == ["out"]


def test_mutated_archives_are_unpacked_or_refused(tmp_path, out):
    rng = random.Random(0)
    sources = [
        zipped(tmp_path / "source", FILES).read_bytes(),
        tarred(tmp_path / "source", FILES).read_bytes(),
        tarred(tmp_path / "source", FILES, "w").read_bytes(),
        zip_of_links(tmp_path / "source", {"a": "set/normal/1.png"}).read_bytes(),
    ]
    n_refused = 0
    for _ in range(150):
        data = bytearray(rng.choice(sources))
        for _ in range(rng.randint(1, 5)):
            start = rng.randrange(len(data))
            data[start : start + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
        (tmp_path / "mutated").write_bytes(data)
        try:
            unpack(tmp_path / "mutated", out)
        except ArchiveError:
            n_refused += 1
        shutil.rmtree(out, ignore_errors=True)
        assert not [path for path in out.parent.iterdir() if not path.name.endswith(".lock")]
    assert n_refused > 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "mutated", "source"]


def test_archives_are_told_from_tables_and_arrays(tmp_path):
    assert is_archive(zipped(tmp_path / "a.zip", FILES))
    assert is_archive(tarred(tmp_path / "A.TAR.GZ", FILES))
    assert not is_archive(zipped(tmp_path / "a.xlsx", FILES))
    (tmp_path / "b.zip").write_bytes(b"text")
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(b"text"))
    (tmp_path / "d.tar.bz2").write_bytes(bz2.compress(b"text")[:9])
    for name in ("b.zip", "c.tar.gz", "d.tar.bz2", "e.zip"):
        assert not is_archive(tmp_path / name)


def test_examples():
    assert doctest.testmod(unpacking).failed == 0
    assert doctest.testmod(_archive_entries).failed == 0
