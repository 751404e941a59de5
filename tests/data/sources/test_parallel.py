"""Images are the same whether one process decodes them or several."""

import math
from concurrent.futures import ProcessPoolExecutor

import pytest
from small_study import write_image

from xraysynth.data.sources import parallel
from xraysynth.data.sources.folder import FolderSource

SIZE_PX = 32


class Recorded(ProcessPoolExecutor):
    started = 0

    def __init__(self, *arguments, **options):
        type(self).started += 1
        super().__init__(*arguments, **options)


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """A function that decodes 40 images, one of which is none, and counts starts of processes."""
    for number in range(40):
        write_image(tmp_path / "normal" / f"{number:02d}.png", label="normal", seed=number)
    (tmp_path / "normal" / "20.png").write_bytes(b"no image")
    source = FolderSource(name="small", root=str(tmp_path))
    locators = list(source.rows()["locator"])
    monkeypatch.setattr(parallel, "available_cores", lambda: 2)
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", Recorded)

    def run():
        Recorded.started = 0
        return list(parallel.load_images(source, locators, SIZE_PX)), Recorded.started

    return run


def test_several_processes_decode_what_one_does(decoded, monkeypatch):
    monkeypatch.setattr(parallel, "STARTUP_SECONDS", math.inf)
    alone, started = decoded()
    assert started == 0
    monkeypatch.setattr(parallel, "STARTUP_SECONDS", 0)
    together, started = decoded()
    assert started == 1
    for found in (alone, together):
        assert "20.png: this is not a readable image" in found.pop(20).reason
    assert together == alone


def test_fewer_images_than_a_sample_start_no_process(decoded, monkeypatch):
    monkeypatch.setattr(parallel, "STARTUP_SECONDS", 0)
    monkeypatch.setattr(parallel, "SAMPLE_SIZE", 40)
    assert decoded()[1] == 0


def test_only_what_a_file_holds_is_a_final_reason(tmp_path):
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "1.png").write_bytes(b"no image")
    write_image(tmp_path / "normal" / "2.png", label="normal", seed=1)
    half = (tmp_path / "normal" / "2.png").read_bytes()[:300]
    (tmp_path / "normal" / "2.png").write_bytes(half)
    source = FolderSource(name="small", root=str(tmp_path))
    locators = ["normal/1.png", "normal/2.png", "normal/gone.png"]
    found = list(parallel.load_images(source, locators, SIZE_PX))
    assert [image.is_final for image in found] == [True, True, False]
