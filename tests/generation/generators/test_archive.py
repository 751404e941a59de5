import pandas as pd
import pytest
from small_study import write_image

from xraysynth.errors import DataNotFoundError, ImageError, ManifestError
from xraysynth.generation.generators.archive import Archive
from xraysynth.records import Request


def make(folder, rows, images=3):
    for number in range(images):
        write_image(folder / f"{number}.png", label="normal", seed=number)
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return Archive(str(folder))


def ask(archive, count=1, label="normal"):
    return list(archive.generate([Request(label, n, "asked", "", 1) for n in range(count)]))


def test_images_come_by_path_with_their_own_prompt_and_then_run_out(tmp_path):
    rows = [{"path": f"{n}.png", "label": "Normal", "prompt": f"p{n}", "seed": n} for n in (1, 0)]
    make(tmp_path, rows)
    results = ask(Archive(str(tmp_path), labels={"Normal": "normal"}), count=3)
    assert [r.outcome for r in results] == ["image", "image", "empty"]
    assert [r.request.prompt for r in results[:2]] == ["p0", "p1"]
    assert [r.request.seed for r in results[:2]] == [0, 1]


def test_its_identity_follows_the_files(tmp_path):
    archive = make(tmp_path, [{"path": "0.png", "label": "normal"}])
    before = archive.content_digest()
    write_image(tmp_path / "0.png", label="normal", seed=99)
    assert Archive(str(tmp_path)).content_digest() != before


def test_bad_archives_are_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match="no manifest"):
        ask(Archive(str(tmp_path)))
    with pytest.raises(ManifestError, match="stay inside"):
        ask(make(tmp_path, [{"path": "../0.png", "label": "normal"}]))
    with pytest.raises(ManifestError, match="columns path and label"):
        ask(make(tmp_path, [{"path": "0.png"}]))
    with pytest.raises(ManifestError, match="a path of its own"):
        ask(make(tmp_path, [{"path": "0.png", "label": "normal"}] * 2))
    with pytest.raises(ImageError, match="No such file"):
        ask(make(tmp_path, [{"path": "9.png", "label": "normal"}]))
    with pytest.raises(ImageError, match="SHA-256 differs"):
        ask(make(tmp_path, [{"path": "0.png", "label": "normal", "sha256": "0"}]))


def test_a_link_that_leaves_the_folder_is_not_read(tmp_path):
    (tmp_path / "archive").mkdir()
    archive = make(tmp_path / "archive", [{"path": "0.png", "label": "normal"}])
    (tmp_path / "archive" / "0.png").rename(tmp_path / "outside.png")
    (tmp_path / "archive" / "0.png").symlink_to(tmp_path / "outside.png")
    for read in (archive.content_digest, lambda: ask(archive)):
        with pytest.raises(ManifestError, match=r"'0\.png'.* is a link to .*outside\.png, outside"):
            read()
