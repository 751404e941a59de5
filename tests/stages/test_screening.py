"""What prepare does with images that are not simply used: counts, examples, what stops, what does not."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from wandb_recorder import logged

from xraysynth import compose
from xraysynth.data import screening
from xraysynth.data.audit import Audit
from xraysynth.data.sources import parallel
from xraysynth.errors import ConfigError, ImageError, ManifestError
from xraysynth.files import encode_json_line, iter_json_lines, sha256_file
from xraysynth.jobs.store import JournalEntry
from xraysynth.records import from_json
from xraysynth.stages import Workspace, prepare
from xraysynth.stages._study.screening import build_cohort_screening, load_screening

PER_CLASS = 20
LABELS = ("normal", "pneumonia")


def write_image(path: Path, *, label: str, seed: int) -> None:
    """A toy frontal radiograph without any flag; pneumonia is a bright spot in one lung."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:1:80j, 0:1:80j]
    pixels = np.full((80, 80), 18.0)
    pixels[((x - 0.5) / 0.46) ** 2 + ((y - 0.55) / 0.52) ** 2 < 1] = 150
    for side in (0.29, 0.71):
        pixels[((x - side) / 0.15) ** 2 + ((y - 0.45) / 0.3) ** 2 < 1] = 60
    pixels[(abs(x - 0.5) < 0.08) & (y > 0.1)] = 215
    if label == "pneumonia":
        pixels[(x - 0.3) ** 2 + (y - 0.5) ** 2 < 0.005] = 140
    coarse = Image.fromarray(rng.normal(0, 22, (10, 10)).astype(np.float32))
    pixels += np.asarray(coarse.resize((80, 80), Image.Resampling.BICUBIC))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder with 20 images of two classes, one patient each, and a table of them."""
    folder = tmp_path / "images"
    rows = []
    for label in LABELS:
        for number in range(PER_CLASS):
            path = f"{label}/{number:03d}.png"
            write_image(folder / path, label=label, seed=len(rows))
            rows.append({"path": path, "label": label, "patient_id": f"{label}{number}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture
def run(images, tmp_path):
    """A function that prepares the images of the table."""

    def prepare_table(*more: str):
        return prepare_with(
            tmp_path, "source=table", f"source.table.path={images / 'manifest.csv'}", *more
        )

    return prepare_table


@pytest.fixture
def run_folders(images, tmp_path):
    """A function that prepares the images of the folders."""

    def prepare_folders(*more: str):
        options = (f"source.folder.root={images}", r"source.folder.patient='[a-z]+/\d+'")
        return prepare_with(tmp_path, "source=folder", *options, *more)

    return prepare_folders


def prepare_with(folder: Path, *options: str):
    overrides = [*options, "classes=[normal,pneumonia]", "size_px=32"]
    overrides = [*overrides, f"paths.output={folder / 'outputs'}"]
    return prepare.run(Workspace(compose(overrides), overrides))


def add_rows(folder: Path, *rows: dict[str, str]) -> None:
    table = pd.read_csv(folder / "manifest.csv")
    table = pd.concat([table, pd.DataFrame(rows)])
    table.to_csv(folder / "manifest.csv", index=False)


def audit_of(result) -> screening.ScreeningSummary:
    values = json.loads(Path(result["audit"]).read_text())["screening"]
    return from_json(screening.ScreeningSummary, values)


def offered_options(message: str) -> list[str]:
    """The options that an error offers, as a shell would pass them on."""
    quoted = re.findall(r"'screening\.[^']+'|screening\.\w+=\w+(?:\.\d+)?", message)
    return shlex.split(" ".join(quoted))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def test_images_that_are_all_usable_leave_no_trace(run, capfd):
    result = run()
    counts = {"used": 40, "unknown": 0}
    counts |= {"repaired": {}, "flagged": {}, "left_out": {}, "unusable": {}}
    assert result["screening"] == {"table": counts}
    assert result["screening_table"] == ""
    assert result["not_used"] == {}
    assert "screening" not in capfd.readouterr().err
    assert not audit_of(result).is_eventful


def test_a_damaged_image_is_left_out_counted_and_named(images, run, capfd):
    damage(images / "normal" / "004.png")
    result = run()
    assert result["images"] == 39
    (reason,) = result["screening"]["table"]["unusable"]
    assert result["screening"]["table"]["unusable"] == {reason: 1}
    assert "not a readable image" in reason
    assert "004" not in reason
    assert "screening of table: 39 images used; unusable, left out: " in capfd.readouterr().err
    table = pd.read_csv(result["screening_table"])
    assert table["file"].tolist() == ["normal/004.png"]
    assert table["status"].tolist() == ["unusable"]
    (example,) = audit_of(result).examples
    assert (example.file, example.label, example.thumbnail) == ("normal/004.png", "normal", "")


def reading(monkeypatch) -> list[str]:
    """The locators that are read from now on."""
    read: list[str] = []
    original = parallel._load_image
    monkeypatch.setattr(
        parallel, "_load_image", lambda *work: read.append(work[-1]) or original(*work)
    )
    return read


def test_a_file_that_cannot_be_used_is_read_again_only_when_it_has_changed(
    images, run, monkeypatch
):
    bad = images / "normal" / "004.png"
    damage(bad)
    run()
    read = reading(monkeypatch)
    assert run("splits.seed=1")["images"] == 39
    assert read == []
    write_image(bad, label="normal", seed=999)
    assert run()["images"] == 40
    assert read == ["normal/004.png#"]


def test_a_file_that_cannot_be_used_is_read_again_by_another_reader(images, run, monkeypatch):
    damage(images / "normal" / "004.png")
    run()
    read = reading(monkeypatch)
    monkeypatch.setattr("xraysynth.stages._source_reader.reader_versions", lambda: "later")
    assert run("splits.seed=1")["images"] == 39
    assert read == ["normal/004.png#"]


def test_more_unusable_files_than_the_limit_stop_and_the_offered_option_helps(images, run):
    for number in range(4):
        damage(images / "pneumonia" / f"{number:03d}.png")
    with pytest.raises(ImageError, match="4 of 40 images cannot be used") as error:
        run()
    assert "pneumonia/003.png" in str(error.value)
    (option,) = offered_options(str(error.value).split("leave them out with")[1])
    assert option == "screening.most_left_out=0.1"
    assert run(option)["images"] == 36


def test_the_policy_holds_for_finished_work_too(images, run):
    damage(images / "normal" / "004.png")
    done = run()
    with pytest.raises(ImageError, match=r"screening\.unusable=stop") as error:
        run("screening.unusable=stop")
    assert run(*offered_options(str(error.value).split("leave them out with")[1])) == {
        **done,
        "skipped": True,
    }
    with pytest.raises(ImageError, match=r"most_left_out=0\.01 allows"):
        run("screening.most_left_out=0.01")


def test_a_blank_label_is_unusable_and_one_of_no_class_left_out(images, run):
    extra = []
    for number, label in enumerate(("", "effusion", "effusion", "covid19")):
        write_image(images / f"{number}.png", label="normal", seed=500 + number)
        extra.append({"path": f"{number}.png", "label": label, "patient_id": f"X{number}"})
    add_rows(images, *extra)
    with pytest.raises(ManifestError, match="unknown label 'effusion'"):
        run()
    result = run("source.table.labels.effusion=null")
    assert result["images"] == 40
    counts = result["screening"]["table"]
    assert counts["left_out"] == {"label of no class: effusion": 2, "label of no class: covid19": 1}
    assert counts["unusable"] == {"no label": 1}
    examples = {example.file: example for example in audit_of(result).examples}
    assert set(examples) == {"0.png", "1.png", "2.png", "3.png"}
    cohorts = Path(result["manifest"]).parent
    for example in examples.values():
        assert example.thumbnail_sha256 == sha256_file(cohorts / example.thumbnail)
        with Image.open(cohorts / example.thumbnail) as picture:
            assert picture.size == (112, 112)


def test_images_that_are_not_used_change_no_key_and_are_counted_again(images, run):
    before = run()
    write_image(images / "9.png", label="normal", seed=900)
    add_rows(images, {"path": "9.png", "label": "covid19", "patient_id": "X"})
    after = run()
    assert (after["key"], after["digest"]) == (before["key"], before["digest"])
    assert not after["skipped"]
    assert after["screening"]["table"]["left_out"] == {"label of no class: covid19": 1}
    assert run()["skipped"]


def test_a_class_that_loses_too_many_images_says_why(images, run):
    table = pd.read_csv(images / "manifest.csv")
    is_lost = (table["label"] == "pneumonia") & (table.index % 2 == 0)
    table.assign(label=table["label"].mask(is_lost, "")).to_csv(
        images / "manifest.csv", index=False
    )
    with pytest.raises(ManifestError, match=r"pneumonia has 10 images.*10 images have no label"):
        run("screening.most_left_out=0.5")


def test_a_class_that_loses_too_many_damaged_images_says_why(images, run):
    for number in range(8):
        damage(images / "pneumonia" / f"{number:03d}.png")
    with pytest.raises(
        ManifestError, match=r"pneumonia has 12 images \(8 more are not used: .* \(8\)\)"
    ):
        run("screening.most_left_out=0.5")


# --- one picture under two labels ------------------------------------------------------------------


def copy_picture(images: Path, number: int) -> None:
    """Put a picture of a normal chest among those with pneumonia."""
    target = images / "pneumonia" / f"{500 + number}.png"
    shutil.copy(images / "normal" / f"{number:03d}.png", target)


def test_one_picture_under_two_labels_stops_and_each_offered_option_helps(images, run_folders):
    for number in range(3):
        copy_picture(images, number)
    with pytest.raises(
        ManifestError, match=r"3 of the pictures are there under two labels"
    ) as error:
        run_folders()
    message = str(error.value)
    assert "normal/000.png (normal) = pneumonia/500.png (pneumonia)" in message
    leave_out, precedence = offered_options(message)
    assert (leave_out, precedence) == (
        "screening.two_labels=leave_out",
        "screening.label_precedence=[normal, pneumonia]",
    )
    without = run_folders(leave_out)
    assert without["images"] == 37
    assert without["screening"]["folder"]["left_out"] == {
        "one picture under two labels: normal and pneumonia": 6
    }
    resolved = run_folders(precedence)
    assert resolved["images"] == 40
    assert resolved["screening"]["folder"]["left_out"] == {
        "one picture under two labels, of which normal holds": 3
    }
    assert resolved["key"] != without["key"]
    examples = audit_of(without).examples
    cohorts = Path(without["manifest"]).parent
    assert all((cohorts / example.thumbnail).is_file() for example in examples)


def test_the_first_of_the_listed_labels_holds(images, run_folders):
    copy_picture(images, 1)
    result = run_folders("screening.label_precedence=[pneumonia]")
    table = pd.read_parquet(result["manifest"])
    assert table["label"].value_counts().to_dict() == {"normal": 19, "pneumonia": 21}


def test_the_same_picture_in_another_format_has_two_labels_too(images, run_folders):
    with Image.open(images / "normal" / "002.png") as picture:
        picture.convert("RGB").save(images / "pneumonia" / "900.bmp")
    with pytest.raises(ManifestError, match=r"normal/002.png \(normal\) = pneumonia/900.bmp"):
        run_folders()


def test_one_picture_under_two_labels_in_two_sources_stops(images, run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(images / "normal", other / "normal")
    rows = []
    for number in range(3):
        rows.append(
            {"path": f"normal/{number:03d}.png", "label": "pneumonia", "patient_id": number}
        )
    pd.DataFrame(rows).to_csv(other / "manifest.csv", index=False)
    second = [
        "+source.second._target_=xraysynth.data.sources.table.TableSource",
        "source.second.name=second",
        f"source.second.path={other / 'manifest.csv'}",
    ]
    with pytest.raises(ManifestError, match=r"3 of the pictures are there under two labels"):
        run(*second)


def test_blank_pictures_are_not_one_picture_under_two_labels(images, run_folders):
    for label in LABELS:
        Image.new("L", (80, 80)).save(images / label / "700.png")
    result = run_folders("missing_patient_id=cluster", "source.folder.patient=")
    assert result["images"] == 42
    assert result["screening"]["folder"]["flagged"] == {"blank": 2}


def test_near_duplicates_with_two_labels_are_noted_and_do_not_stop(images, run_folders):
    with Image.open(images / "normal" / "002.png") as picture:
        pixels = np.asarray(picture).copy()
    pixels[0, :] += 40
    Image.fromarray(pixels).save(images / "pneumonia" / "900.png")
    result = run_folders()
    assert result["images"] == 41
    summary = audit_of(result)
    assert summary.near_duplicates_with_two_labels == 1
    audit = json.loads(Path(result["audit"]).read_text())
    (note,) = audit["notes"][-1:]
    assert "1 pairs of near-duplicates have different labels" in note


def test_a_label_that_is_no_class_cannot_hold(run):
    with pytest.raises(ConfigError, match="did you mean 'pneumonia'"):
        run("screening.label_precedence=[pneumona]")


# --- files that are missing ------------------------------------------------------------------------


def half_downloaded_nih(folder: Path, tmp_path: Path) -> list[str]:
    """The layout of the NIH archives, of which the second has not been downloaded."""
    base = tmp_path / "nih-chest-xrays"
    shutil.copytree(folder / "normal", base / "images_001" / "images")
    lines = [
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    ]
    for number in range(PER_CLASS):
        shutil.copy(
            folder / "pneumonia" / f"{number:03d}.png",
            base / "images_001" / "images" / f"1{number:02d}.png",
        )
    for number in range(2 * PER_CLASS + 10):
        name = f"{number:03d}" if number < PER_CLASS else f"1{number - PER_CLASS:02d}"
        is_normal = number < PER_CLASS or number % 2
        label = "No Finding" if is_normal and number < PER_CLASS else "Pneumonia"
        lines.append(f"{name}.png,{label},0,{number + 1},040Y,F,PA")
    (base / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")
    return ["source=nih", f"paths.data={tmp_path}"]


def table_of_deleted_files(folder: Path, tmp_path: Path) -> list[str]:
    """A table of 50 images, of which 10 were deleted."""
    for number in range(10):
        add_rows(
            folder, {"path": f"gone/{number}.png", "label": "normal", "patient_id": f"G{number}"}
        )
    return ["source=table", f"source.table.path={folder / 'manifest.csv'}"]


def folder_of_empty_files(folder: Path, tmp_path: Path) -> list[str]:
    """Folders of 50 files, of which 10 are empty: a copy that broke off."""
    for number in range(10):
        (folder / "normal" / f"9{number}.png").touch()
    return ["source=folder", f"source.folder.root={folder}", "missing_patient_id=cluster"]


@pytest.mark.parametrize(
    "make_input", [half_downloaded_nih, table_of_deleted_files, folder_of_empty_files]
)
def test_half_a_data_set_stops_until_that_is_said_to_be_right(images, tmp_path, make_input):
    options = make_input(images, tmp_path)
    with pytest.raises(ImageError, match="10 of 50 images cannot be used") as error:
        prepare_with(tmp_path, *options)
    (remedy,) = offered_options(str(error.value).split("leave them out with")[1])
    assert remedy == "screening.most_left_out=0.2"
    result = prepare_with(tmp_path, *options, remedy)
    assert result["images"] == 40
    (counts,) = result["screening"].values()
    assert (counts["used"], sum(counts["unusable"].values())) == (40, 10)
    assert len(counts["unusable"]) == 1


def test_a_file_that_could_not_be_opened_is_used_as_soon_as_it_can_be(images, run, monkeypatch):
    original = parallel._load_image

    def load(*work):
        if work[-1].startswith("normal/004.png"):
            return parallel.UnreadableImage("normal/004.png: Permission denied", is_final=False)
        return original(*work)

    with monkeypatch.context() as patched:
        patched.setattr(parallel, "_load_image", load)
        first = run()
        assert first["images"] == 39
        assert run()["skipped"]
    second = run()
    assert (second["key"], second["images"], second["skipped"]) == (first["key"], 40, False)
    assert run()["skipped"]


# --- what reading records ---------------------------------------------------------------------------


def test_flags_and_repairs_are_counted_and_kept_in_the_store(images, run_folders, monkeypatch):
    for number in range(2):
        path = images / "normal" / f"{number:03d}.png"
        Image.open(path).convert("RGBA").save(path)
    Image.new("L", (80, 80), 9).save(images / "normal" / "800.png")
    result = run_folders()
    counts = result["screening"]["folder"]
    assert counts["repaired"] == {"opaque alpha removed": 2}
    assert counts["flagged"] == {"blank": 1}
    read = reading(monkeypatch)
    assert run_folders("splits.seed=1")["screening"]["folder"] == counts
    assert read == []


def test_no_picture_of_a_held_out_image_is_kept_for_the_page(images, run_folders):
    for path in images.glob("*/*.png"):
        Image.open(path).convert("RGBA").save(path)
    result = run_folders()
    cohort = pd.read_parquet(result["manifest"]).set_index("path")["split"]
    examples = audit_of(result).examples
    assert len(examples) == 6
    assert [cohort[example.thumbnail] for example in examples] == ["train"] * 6
    for path in images.glob("normal/*.png"):  # now some flagged images are in no train split
        Image.open(path).convert("L").save(path)
    few = run_folders("splits.val_fraction=0.45", "splits.test_fraction=0.45")
    cohort = pd.read_parquet(few["manifest"]).set_index("path")["split"]
    shown = [example.thumbnail for example in audit_of(few).examples if example.thumbnail]
    assert 0 < len(shown) < 6
    assert {cohort[thumbnail] for thumbnail in shown} == {"train"}


def test_what_an_earlier_version_read_is_unknown_and_not_read_again(images, run, monkeypatch):
    first = run()
    (journal,) = Path(first["manifest"]).parent.glob("table-*/journal/all.jsonl")
    lines = list(iter_json_lines(journal))
    assert all(JournalEntry.from_line(line).facts for line in lines)
    journal.write_bytes(b"".join(encode_json_line({**line, "facts": {}}) for line in lines))
    read = reading(monkeypatch)
    result = run("splits.seed=1")
    assert read == []
    assert result["screening"]["table"]["unknown"] == 40
    assert result["screening"]["table"]["flagged"] == {}


def test_weights_and_biases_gets_nothing_of_images_that_are_not_used(images, run):
    damage(images / "normal" / "004.png")
    Image.fromarray(np.full((80, 80), 201, np.uint8)).save(images / "SMITH.png")
    add_rows(images, {"path": "SMITH.png", "label": "effusion", "patient_id": "Smith"})
    result = run("source.table.labels.effusion=null")
    assert any(example.thumbnail for example in audit_of(result).examples)
    folders = list(Path(result["folder"]).glob("wandb/offline-run-*"))
    assert len(folders) == 1
    sent = logged(folders[0])
    assert "cohort/counts" in sent
    for word in ("SMITH", "Smith", "screening-", "normal/004"):
        assert word not in sent
    pictures = list(Path(result["folder"]).rglob("*.png"))
    assert pictures  # of the cohort
    assert not [path for path in pictures if (np.asarray(Image.open(path)) == 201).all()]


# --- external test sets and the report --------------------------------------------------------------


@pytest.fixture
def clinic(images, tmp_path):
    """A table of other people's images, and a function that gives a workspace with both."""
    folder = tmp_path / "clinic"
    rows = []
    for number in range(30):
        label = LABELS[number % 2]
        write_image(folder / f"{number}.png", label=label, seed=700 + number)
        rows.append({"path": f"{number}.png", "label": label, "patient_id": f"C{number}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)

    def workspace(*more: str) -> Workspace:
        overrides = [
            *("source=table", f"source.table.path={images / 'manifest.csv'}"),
            *("test_source=table", f"test_source.table.path={folder / 'manifest.csv'}"),
            *("test_source.table.name=clinic", "classes=[normal,pneumonia]", "size_px=32"),
            *(f"paths.output={tmp_path / 'outputs'}", *more),
        ]
        return Workspace(compose(overrides), overrides)

    return folder, workspace


def test_external_test_sets_are_screened_by_the_same_policy(clinic):
    folder, workspace = clinic
    for number in range(4):
        damage(folder / f"{number}.png")
    with pytest.raises(ImageError, match="source clinic: 4 of 30 images") as error:
        prepare.run(workspace())
    (option,) = offered_options(str(error.value).split("leave them out with")[1])
    result = prepare.run(workspace(option))["external"]
    assert result["images"] == 26
    assert result["screening"]["clinic"]["used"] == 26
    assert len(pd.read_csv(result["screening_table"])) == 4
    with pytest.raises(ImageError, match="source clinic: 4 of 30 images"):
        prepare.run(workspace())


def test_one_picture_under_two_labels_in_an_external_test_set_stops(clinic):
    folder, workspace = clinic
    shutil.copy(folder / "0.png", folder / "1.png")
    with pytest.raises(ManifestError, match=r"0\.png \(normal\) = 1\.png \(pneumonia\)"):
        prepare.run(workspace())
    assert prepare.run(workspace("screening.two_labels=leave_out"))["external"]["images"] == 28


def test_the_report_shows_what_screening_has_found_in_all_sources(clinic, images):
    folder, workspace = clinic
    assert load_screening(workspace()).identity() == {}
    assert build_cohort_screening(workspace()) is None
    damage(folder / "3.png")
    Image.new("L", (80, 80), 9).save(images / "normal" / "003.png")
    found = workspace()
    prepare.run(found)
    assert load_screening(found).identity() != {}
    screening = build_cohort_screening(found)
    assert [(source.source, source.used) for source in screening.sources] == [
        ("table", 40),
        ("clinic (external)", 29),
    ]
    groups = [(group.source, group.status, group.images) for group in screening.groups]
    assert groups == [("table", "flagged", 1), ("clinic (external)", "unusable", 1)]
    assert re.fullmatch(r"cohorts/screening-[0-9a-f]{12}\.csv", screening.table)


def test_an_audit_of_an_earlier_version_shows_no_screening(clinic):
    workspace = clinic[1]("source.table.labels.normal=normal")
    result = prepare.run(workspace)
    audit_path = Path(result["audit"])
    values = json.loads(audit_path.read_text())
    del values["screening"]
    audit_path.write_text(json.dumps(values))
    audit = from_json(Audit, values)
    assert audit.screening is None
    vars(workspace)["audit"] = audit
    assert build_cohort_screening(workspace) is None


def test_a_source_of_which_nothing_is_used_says_why(images, run):
    table = pd.read_csv(images / "manifest.csv")
    table.assign(label="effusion").to_csv(images / "manifest.csv", index=False)
    with pytest.raises(ManifestError, match="normal has 0 images, pneumonia has 0 images"):
        run("source.table.labels.effusion=null")
    table.assign(label="").to_csv(images / "manifest.csv", index=False)
    with pytest.raises((ImageError, ManifestError), match="no label") as error:
        run()
    assert "leave them out with" not in str(error.value)
