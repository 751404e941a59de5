import pandas as pd
import pytest
from small_study import write_image

from xraysynth.errors import DataNotFoundError, ImageError, ManifestError
from xraysynth.generation.generators.archive import Archive
from xraysynth.records import Request

IDENTITIES = {"m.csv": "1e08692e4c34", "m.parquet": "1e08692e4c34"}
"""Archives of earlier versions have these identities, on which the names of their pools hang."""


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
    with pytest.raises(ManifestError, match="no column holds known labels; add a column 'label'"):
        ask(make(tmp_path, [{"path": "0.png"}]))
    with pytest.raises(ManifestError, match="listed only once"):
        ask(make(tmp_path, [{"path": "0.png", "label": label} for label in ("normal", "tb")]))
    with pytest.raises(DataNotFoundError, match=r"none of the 1 files .*'9\.png'"):
        ask(make(tmp_path, [{"path": "9.png", "label": "normal"}]))
    with pytest.raises(ImageError, match="SHA-256 differs"):
        ask(make(tmp_path, [{"path": "0.png", "label": "normal", "sha256": "0"}]))


def test_rows_that_cannot_be_used_are_left_out_and_counted(tmp_path):
    rows = [{"path": f"{n}.png", "label": "normal"} for n in (0, 1, 7)] + [{"path": "2.png"}]
    results = ask(make(tmp_path, rows), count=3)
    assert [r.outcome for r in results] == ["image", "image", "empty"]
    assert (
        "holds 2 images of normal; not used: 1 the file is missing, 1 no label" in results[2].reason
    )


def test_the_identity_of_an_archive_is_that_of_earlier_versions(tmp_path):
    table = pd.DataFrame(
        {
            "path": ["1.png", "0.png"],
            "label": ["Normal", "tb"],
            "prompt": ["a, b", None],
            "seed": [1, None],
        }
    )
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes(name.encode())
    table.to_csv(tmp_path / "m.csv", index=False)
    table.to_parquet(tmp_path / "m.parquet")
    for manifest in ("m.csv", "m.parquet"):
        archive = Archive(str(tmp_path), manifest=manifest, labels={"Normal": "normal"})
        assert archive.content_digest()[:12] == IDENTITIES[manifest]


def test_a_manifest_from_a_spreadsheet_is_read_as_its_owner_means_it(tmp_path):
    make(tmp_path, [{"path": "0.png", "label": "normal"}])
    (tmp_path / "manifest.csv").write_text("File Name;Finding\r\n.\\0.PNG;Normal\r\n", "utf-8-sig")
    assert [r.outcome for r in ask(Archive(str(tmp_path)))] == ["image"]


def test_a_link_that_leaves_the_folder_is_not_read(tmp_path):
    (tmp_path / "archive").mkdir()
    archive = make(tmp_path / "archive", [{"path": "0.png", "label": "normal"}])
    (tmp_path / "archive" / "0.png").rename(tmp_path / "outside.png")
    (tmp_path / "archive" / "0.png").symlink_to(tmp_path / "outside.png")
    for read in (archive.content_digest, lambda: ask(archive)):
        with pytest.raises(ManifestError, match=r"is a link to .*outside\.png, outside.*'0\.png'"):
            read()
