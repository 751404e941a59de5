"""Folders and their tables as people have them, compared with each other."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_study import CLASSES, write_cohort, write_image

from xraysynth import compose
from xraysynth.errors import DataNotFoundError, ImageError, ManifestError
from xraysynth.evaluation.folders import from_folder, read_image_folder
from xraysynth.stages import Workspace
from xraysynth.stages import evaluate as stage


def folder_with_table(folder, change, **saving):
    """40 images in two classes, whose table `change` has changed."""
    rows = []
    for number in range(40):
        label = CLASSES[number % 2]
        write_image(folder / "img" / f"{number:03d}.png", label=label, seed=number)
        rows.append({"path": f"img/{number:03d}.png", "label": label})
    change(rows)
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False, **saving)
    return folder


def blank_path(rows):
    rows[5]["path"] = ""


def blank_label(rows):
    rows[5]["label"] = ""


def missing_file(rows):
    rows[5]["path"] = "img/999.png"


@pytest.mark.parametrize(
    ("change", "reason"),
    [(blank_path, "no path"), (blank_label, "no label"), (missing_file, "the file is missing")],
)
def test_a_row_that_cannot_be_used_is_left_out_counted_and_said(tmp_path, change, reason):
    folder_with_table(tmp_path / "real", change)
    read = read_image_folder(tmp_path / "real")
    assert len(read.manifest) == 39
    assert read.note() == f"1 of 40 images of real are left out: 1 {reason}."
    with pytest.warns(UserWarning, match=reason):
        from_folder(tmp_path / "real")


def backslashes(rows):
    for row in rows:
        row["path"] = row["path"].replace("/", "\\")


def folder_in_front(rows):
    for row in rows:
        row["path"] = f"real/{row['path']}"


def other_names(rows):
    for row in rows:
        row["File Name"], row["Finding"] = row.pop("path"), row.pop("label").upper()


@pytest.mark.parametrize("change", [backslashes, folder_in_front, other_names])
@pytest.mark.parametrize("saving", [{}, {"sep": ";", "encoding": "utf-8-sig"}])
def test_a_table_as_its_owner_has_it_is_read_whole(tmp_path, change, saving):
    folder = folder_with_table(tmp_path / "real", change, **saving)
    read = read_image_folder(folder)
    assert not read.not_used
    assert [path.name for path in read.manifest.files] == [f"{n:03d}.png" for n in range(40)]
    assert all(map(Path.is_file, read.manifest.files))


def test_an_empty_table_is_named_with_what_to_do(tmp_path):
    write_image(tmp_path / "normal" / "1.png", label="normal", seed=1)
    (tmp_path / "manifest.csv").write_text("")
    with pytest.raises(ManifestError, match=r"manifest\.csv: .*empty.*or remove the file"):
        from_folder(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    assert len(from_folder(tmp_path)) == 1


def test_a_table_without_any_row_of_use_is_refused(tmp_path):
    rows = [{"path": "1.png", "label": ""}]
    write_image(tmp_path / "1.png", label="normal", seed=1)
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(DataNotFoundError, match="no row can be used"):
        from_folder(tmp_path)


def save_as(kind, path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "webp":
        Image.fromarray(pixels).convert("RGB").save(path.with_suffix(".webp"), lossless=True)
    elif kind == "opaque alpha":
        Image.fromarray(pixels).convert("RGBA").save(path)
    else:
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("kind", ["webp", "opaque alpha", "colon"])
def test_images_as_generators_save_them_are_listed_and_intact(tmp_path, kind):
    rng = np.random.default_rng(3)
    for number in range(4):
        name = f"DALL·E 2024-03-01T10:22:{number:02d}.png" if kind == "colon" else f"{number}.png"
        save_as(kind, tmp_path / "made" / name, rng.integers(0, 255, (32, 32)).astype(np.uint8))
    read = read_image_folder(tmp_path / "made", is_synthetic=True).without_damaged()
    assert len(read.manifest) == 4
    assert not read.not_used


def run_stage(folder, *more):
    overrides = [
        f"real={folder / 'real'}",
        f"synthetic={folder / 'made'}",
        f"paths.output={folder / 'out'}",
        "evaluate.baseline_splits=3",
        "evaluate.replicates=50",
        *more,
    ]
    return stage.run(Workspace(compose(overrides), overrides))


def test_a_damaged_image_is_left_out_of_a_comparison_and_many_stop_it(tmp_path):
    for name in ("real", "made"):
        write_cohort(tmp_path / name, per_class=26)
        (tmp_path / name / "manifest.csv").unlink()
    images = sorted((tmp_path / "made").rglob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:900])
    page = Path(run_stage(tmp_path)["page"]).read_text()
    assert re.search(r"1 of 104 images of made\s+are left out", page)
    for image in images[:8]:
        image.write_bytes(b"no image")
    with pytest.raises(
        ImageError, match=r"8 of 104 images.*screening\.most_left_out=0\.08"
    ) as error:
        run_stage(tmp_path)
    option = re.search(r"screening\.most_left_out=0\.08", str(error.value))[0]
    assert "8 of 104" in Path(run_stage(tmp_path, option)["page"]).read_text()


def test_folders_of_splits_and_masks_are_no_classes(tmp_path):
    for split in ("train", "test"):
        for number, label in enumerate(CLASSES[:2]):
            write_image(tmp_path / split / label / f"{number}.png", label=label, seed=number)
    write_image(tmp_path / "train" / "normal" / "masks" / "0.png", label="normal", seed=9)
    read = read_image_folder(tmp_path)
    assert read.manifest.classes == CLASSES[:2]
    assert len(read.manifest) == 4
    assert "1 mask, no radiograph" in read.note()
