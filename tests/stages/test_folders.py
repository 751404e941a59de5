"""Folders and files as people have them, up to the cohort: what is used, repaired, flagged and left out."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from command import xraysynth
from PIL import Image

from xraysynth import compose
from xraysynth.errors import DataNotFoundError
from xraysynth.evaluation.folders import from_folder, unify_classes
from xraysynth.images import read_image
from xraysynth.manifest import Manifest
from xraysynth.stages import Workspace, prepare

PER_CLASS = 16
CLASSES = ("normal", "pneumonia")


def chest(seed, *, is_sick=False, height=96, width=88):
    """A toy frontal radiograph, `(H, W)` uint8; all differ."""
    rng = np.random.default_rng([seed, is_sick])
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    grey = np.full((height, width), 18.0)
    grey[((x - 0.5) / 0.46) ** 2 + ((y - 0.55) / 0.52) ** 2 < 1] = 150
    for side in (0.29, 0.71):
        lung = ((x - side) / 0.15) ** 2 + ((y - 0.45) / 0.30) ** 2 < 1
        grey[lung] = 60
        if is_sick:
            spot = (x - side) ** 2 + (y - rng.uniform(0.3, 0.6)) ** 2 < rng.uniform(0.003, 0.008)
            grey[lung & spot] = 130
    grey[(abs(x - 0.5) < 0.08) & (y > 0.1)] = 215
    coarse = Image.fromarray(rng.normal(0, 22, (11, 10)).astype(np.float32))
    grey += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    grey += rng.normal(0, 4, grey.shape)
    return grey.clip(0, 255).astype(np.uint8)


def save(path: Path, picture, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    """Two folders of 16 patients each, named P0000_1.png and so on."""
    for number, label in enumerate(CLASSES):
        for index in range(PER_CLASS):
            patient = 1000 * number + index
            save(
                tmp_path / "in" / label / f"P{patient:04d}_1.png",
                chest(patient, is_sick=label == "pneumonia"),
            )
    return tmp_path / "in"


def prepared(root: Path, *more: str):
    overrides = [
        "source=folder",
        f"source.folder.root={root}",
        r"source.folder.patient=P\d+",
        "classes=[normal,pneumonia]",
        "size_px=32",
        f"paths.output={root.parent / 'outputs'}",
        *more,
    ]
    return prepare.run(Workspace(compose(overrides), overrides))


def counts(result, status):
    return result["screening"]["folder"][status]


def images_of(result) -> Manifest:
    return Manifest.read(Path(result["manifest"]), classes=list(CLASSES))


def test_nested_folders_are_of_their_class_and_laterals_are_counted(root):
    for index in range(12):
        save(
            root / "pneumonia" / "bacterial" / f"P{3000 + index}_1.png",
            chest(3000 + index, is_sick=True),
        )
        save(
            root / "pneumonia" / "P2_lateral" / f"P{4000 + index}_1.png",
            chest(4000 + index, is_sick=True),
        )
    save(root / "normal" / "P9999_1.webp", chest(9999), lossless=True)
    save(root / "normal" / "masks" / "P0000_1.png", chest(1))
    result = prepared(root)
    assert result["images"] == 2 * PER_CLASS + 12 + 1
    assert counts(result, "left_out") == {"lateral view": 12, "mask, no radiograph": 1}
    assert counts(result, "unusable") == {}


def test_folders_of_splits_are_taken_as_they_are(root):
    tree = root.parent / "tree"
    for label in CLASSES:
        for index, file in enumerate(sorted((root / label).iterdir())):
            split = "TRAIN" if index < 8 else "valid" if index < 12 else "Test"
            (tree / split / label).mkdir(parents=True, exist_ok=True)
            file.rename(tree / split / label / file.name)
    result = prepared(tree, "splits.minimum_per_class=2")
    assert result["splits"] == {
        "train": {"normal": 8, "pneumonia": 8},
        "val": {"normal": 4, "pneumonia": 4},
        "test": {"normal": 4, "pneumonia": 4},
    }


def test_blank_and_inverted_images_are_flagged_and_stop_nothing(root):
    for index, value in enumerate((0, 0, 255)):
        save(root / "normal" / f"P{7000 + index}_1.png", np.full((96, 88), value, np.uint8))
    for index in range(3):
        save(root / "pneumonia" / f"P{8000 + index}_1.png", 255 - chest(8000 + index, is_sick=True))
    result = prepared(root, "splits.drop_duplicates=true")
    assert counts(result, "flagged") == {"blank": 3, "inverted": 3}


def repaired_files(root: Path) -> dict[str, str]:
    """Adds one image of each repair to a tree; file -> repair."""
    grey = chest(500)
    lying = Image.Exif()
    lying[274] = 6
    save(root / "normal/P5000_1.png", Image.fromarray(grey).convert("RGBA"))
    save(root / "normal/P5001_1.png", Image.fromarray(chest(501)).convert("LA"))
    save(root / "normal/P5002_1.gif", chest(502))
    save(root / "normal/P5003_1.tif", chest(503).astype(np.uint16) * 7 + 400)
    rotated = Image.fromarray(chest(504)).transpose(Image.Transpose.ROTATE_90)
    save(root / "normal/P5004_1.jpg", rotated, exif=lying, quality=95)
    save(root / "normal/P5005_1.png", chest(505) > 90)
    save(root / "normal/P5006_1.jp2", chest(506))
    return {
        "P5000_1.png": "opaque alpha removed",
        "P5001_1.png": "opaque alpha removed",
        "P5002_1.gif": "palette resolved",
        "P5003_1.tif": "16 bits scaled to their range",
        "P5004_1.jpg": "turned upright",
        "P5005_1.png": "1 bit widened",
    }


def test_what_a_file_says_for_certain_is_repaired_and_counted(root):
    repairs = repaired_files(root)
    result = prepared(root)
    assert result["images"] == 2 * PER_CLASS + 7
    expected: dict[str, int] = {}
    for repair in repairs.values():
        expected[repair] = expected.get(repair, 0) + 1
    assert counts(result, "repaired") == expected
    cohort = images_of(result)
    ids = cohort.table["image_id"].astype(str)
    for number in (4, 6):
        (file,) = np.array(cohort.files)[ids.str.contains(f"P500{number}_1").to_numpy()]
        plain = save(root.parent / "plain.png", chest(500 + number))
        square = np.pad(read_image(plain), ((0, 0), (4, 4)))
        small = np.asarray(Image.fromarray(square).resize((32, 32), Image.Resampling.BICUBIC))
        assert np.abs(read_image(file).astype(int) - small).mean() < 4  # upright, not on its side


def test_borders_are_cropped_only_where_asked_for_and_give_other_keys(root):
    framed = np.full((150, 140), 250, np.uint8)
    framed[20:116, 30:118] = chest(500)
    save(root / "normal/P5000_1.png", framed)
    plain, cropped = prepared(root), prepared(root, "screening.crop_borders=true")
    assert counts(plain, "repaired") == {}
    assert counts(cropped, "repaired")["borders cropped"] >= 1
    assert plain["manifest"] != cropped["manifest"]
    assert prepared(root)["skipped"]
    assert prepared(root, "screening.crop_borders=true")["skipped"]
    picture = dict(zip(*ids_and_files(cropped), strict=True))
    original = dict(zip(*ids_and_files(plain), strict=True))
    (name,) = [name for name in picture if "P5000_1" in name]
    assert read_image(original[name])[0].max() > 200
    assert read_image(picture[name])[0].max() < 100


def ids_and_files(result):
    cohort = images_of(result)
    return list(cohort.table["image_id"].astype(str)), cohort.files


def test_dicom_files_in_folders_name_a_command_that_reads_them(tmp_path):
    folder = tmp_path / "Röntgen (1)" / "normal"
    folder.mkdir(parents=True)
    (folder / "IM1").write_bytes(bytes(128) + b"DICM" + bytes(90))
    overrides = [
        "source=folder",
        f"source.folder.root={folder.parent}",
        "classes=[normal,pneumonia]",
    ]
    with pytest.raises(DataNotFoundError, match="but 1 DICOM files") as error:
        prepare.run(Workspace(compose(overrides), overrides))
    remedy = str(error.value).partition("read them with ")[2].partition(". ")[0]
    config = compose(shlex.split(remedy))
    assert config.source["dicom"]["root"] == str(folder.parent)


def test_the_command_that_finds_a_pattern_can_be_pasted_and_so_can_what_it_prints(root):
    root.rename(root.with_name("Röntgen (1)"))
    root = root.with_name("Röntgen (1)")
    with pytest.raises(DataNotFoundError, match="path does not match") as error:
        prepared(root, "source.folder.pattern=(?P<label>x)/.+")
    command = str(error.value).partition("this finds one: ")[2].partition(". ")[0]
    words = shlex.split(command)
    assert words == ["xraysynth", "inspect", str(root)]
    ended = xraysynth(*words[1:], cwd=root.parent)
    assert ended.returncode == 0, ended.stderr
    assert "source=folder" in ended.stdout + ended.stderr


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_few_files_with_an_alpha_channel_or_a_palette_among_grey_ones_are_used(tmp_path, mode):
    data = tmp_path / "nih-chest-xrays"
    columns = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position"
    lines = [columns]
    for number, finding in enumerate(("No Finding", "Pneumonia")):
        for index in range(PER_CLASS):
            patient = 1000 * number + index + 1
            name = f"{patient:08d}_000.png"
            picture = Image.fromarray(chest(patient, is_sick=bool(number)))
            picture = picture.convert(mode) if index == 3 else picture
            save(data / "images_001" / "images" / name, picture)
            lines.append(f"{name},{finding},{patient},040Y,F,PA")
    (data / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")
    overrides = ["source=nih", f"paths.data={tmp_path}", "classes=[normal,pneumonia]", "size_px=32"]
    overrides.append(f"paths.output={tmp_path / 'outputs'}")
    result = prepare.run(Workspace(compose(overrides), overrides))
    repair = "palette resolved" if mode == "P" else "opaque alpha removed"
    assert result["screening"]["nih"]["repaired"] == {repair: 2}
    assert result["images"] == 2 * PER_CLASS


@pytest.mark.parametrize("kind", ["webp", "rgba", "jp2", "deep", "nested"])
def test_folders_are_compared_whatever_their_files_are(tmp_path, kind):
    for label in CLASSES:
        for index in range(3):
            picture = chest(index, is_sick=label == "pneumonia")
            save(tmp_path / "real" / label / f"{index}.png", picture)
            folder = tmp_path / "made" / label
            if kind == "webp":
                name = f"DALL·E 2024-03-0{index} 10.22.webp"
                save(folder / name, Image.fromarray(picture).convert("RGB"), lossless=True)
            elif kind == "rgba":
                save(folder / f"{index}.png", Image.fromarray(picture).convert("RGBA"))
            elif kind == "jp2":
                save(folder / f"{index}.jp2", picture)
            elif kind == "deep":
                save(folder / f"{index}.png", picture.astype(np.uint16) * 256)
            else:
                save(folder / "first" / "P0001" / f"{index}.png", picture)
                save(folder / "masks" / f"{index}.png", picture)
    real = from_folder(tmp_path / "real")
    if kind == "nested":
        with pytest.warns(UserWarning, match="6 of 12 images of made are left out: 6 mask"):
            made = from_folder(tmp_path / "made", is_synthetic=True)
    else:
        made = from_folder(tmp_path / "made", is_synthetic=True)
    real, made = unify_classes(real, made)
    assert made.classes == CLASSES
    assert made.table["label"].tolist() == real.table["label"].tolist()
    for left, right in zip(real.files, made.files, strict=True):
        assert np.abs(read_image(left).astype(int) - read_image(right)).max() <= 1


def test_a_flat_folder_of_generated_images_is_one_class(tmp_path):
    save(tmp_path / "made" / "2024-03-01T10:00:01.png", chest(1))
    save(tmp_path / "made" / "more" / "2.webp", chest(2))
    assert from_folder(tmp_path / "made", is_synthetic=True).classes == ("all",)


def test_the_audit_names_what_was_left_out(root):
    save(root / "pneumonia" / "lateral" / "P4000_1.png", chest(4000, is_sick=True))
    result = prepared(root)
    assert "lateral view" in json.dumps(json.loads(Path(result["audit"]).read_text()))
