"""`xraysynth inspect`: from any path to a page and to a command that runs as it is printed."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import xraysynth
from dicom_writer import toy_chest, write_dicom
from image_trees import N_IMAGES, save_classes, save_image, save_table
from PIL import Image

from xraysynth.cli import parse_command
from xraysynth.composition import compose
from xraysynth.stages import inspect, prepare
from xraysynth.stages._inspect import gathering
from xraysynth.stages._workspace import Workspace


def inspected(*paths, cwd, code=0, words=()):
    """The result of an inspection, with what it printed and its page."""
    ended = xraysynth("inspect", *map(str, paths), *words, cwd=cwd)
    assert ended.returncode == code, ended.stderr or ended.stdout
    result = json.loads(ended.stdout.splitlines()[-1])
    page = (cwd / result["page"]).read_text()
    summary = json.loads((cwd / result["page"]).with_name("summary.json").read_text())
    problems = pd.read_csv((cwd / result["page"]).with_name("problems.csv"))
    return {**result, **summary, "printed": ended.stdout, "html": page, "problems_csv": problems}


def prepared(command, folder):
    """The cohort that the printed command prepares, word for word as a shell passes it on."""
    stage, overrides = parse_command(shlex.split(command)[1:])
    assert stage == "study"
    overrides = [*overrides, f"paths.output={folder}"]
    return prepare.run(Workspace(compose(overrides), overrides))


def test_a_folder_per_class_becomes_a_study(tmp_path):
    save_classes(tmp_path / "Röntgen (Klinik 1)")
    found = inspected(tmp_path / "Röntgen (Klinik 1)", cwd=tmp_path)
    assert found["classes"] == {"normal": N_IMAGES, "pneumonia": N_IMAGES}
    assert "a folder per class" in found["contents"][0]
    assert found["facts"]["Patients"].startswith(f"{2 * N_IMAGES}, by the file names")
    result = prepared(found["command"], tmp_path / "out")
    assert result["images"] == found["used"] == 2 * N_IMAGES
    assert result["patients"] == 2 * N_IMAGES


def test_the_printed_command_is_the_one_of_the_page_and_can_be_pasted(tmp_path):
    folder = tmp_path / 'it\'s $HOME, "x" & `y`'
    save_classes(folder)
    found = inspected(folder, cwd=tmp_path)
    printed = [line.strip() for line in found["printed"].splitlines() if "first_look" in line]
    assert printed[0] == found["command"]
    echoed = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {found['command']}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert echoed.stdout.splitlines() == shlex.split(found["command"])
    assert prepared(found["command"], tmp_path / "out")["images"] == 2 * N_IMAGES


def test_a_table_with_labels_of_any_text_becomes_a_study(tmp_path):
    labels = ("unauffällig", "COVID-19, ARDS")
    save_table(tmp_path / "site", labels, columns={"label": "Befund", "patient_id": "Patient ID"})
    found = inspected(tmp_path / "site", cwd=tmp_path)
    assert set(found["classes"]) == {"normal", "COVID-19, ARDS"}  # the first is a word for normal
    assert "prompts.findings" in found["printed"]
    result = prepared(found["command"], tmp_path / "out")
    assert result["images"] == 2 * N_IMAGES


def test_a_table_itself_can_be_named(tmp_path):
    table = save_table(tmp_path / "site", name="list.csv")
    found = inspected(table, cwd=tmp_path)
    assert found["classes"] == {"normal": N_IMAGES, "pneumonia": N_IMAGES}
    assert f"source.table.path={table}" in found["command"]


def test_splits_that_are_given_are_kept(tmp_path):
    for split, n_images in (("train", 12), ("valid", 8), ("test", 8)):
        save_classes(tmp_path / "tree" / split, n_images=n_images, name="{label}/{number}.png")
        for file in (tmp_path / "tree" / split).glob("*/*.png"):
            save_image(file, hash_of(split, file))
    found = inspected(tmp_path / "tree", cwd=tmp_path)
    assert "folders of splits" in found["contents"][0]
    assert "train" in found["facts"]["Splits"]
    assert prepared(found["command"], tmp_path / "out")["splits"]["test"] == {
        "normal": 8,
        "pneumonia": 8,
    }


def hash_of(split, file):
    return 10_000 * ("train", "valid", "test").index(split) + int(file.stem)


def test_dicom_folders_become_a_study(tmp_path):
    for position, label in enumerate(("normal", "pneumonia")):
        for index in range(N_IMAGES):
            number = 100 * position + index
            file = tmp_path / "cd" / label / f"IM{number:06d}"
            write_dicom(file, toy_chest(number), PatientID=f"P{number}")
    (tmp_path / "cd" / "README").write_text("viewer 1.0")
    found = inspected(tmp_path / "cd", cwd=tmp_path)
    assert "DICOM files" in found["contents"][0]
    assert found["classes"] == {"normal": N_IMAGES, "pneumonia": N_IMAGES}
    assert "PatientID" in found["facts"]["Patients"]
    assert "MONOCHROME2" in found["html"]
    assert prepared(found["command"], tmp_path / "out")["images"] == 2 * N_IMAGES


def test_few_dicom_files_without_labels_are_named_and_make_no_study(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / "cd" / f"{number}.dcm", toy_chest(number))
    ended = xraysynth("inspect", str(tmp_path / "cd"), cwd=tmp_path)
    assert ended.returncode == 1
    assert "DICOM files (3)" in ended.stdout
    assert "No study can run" in ended.stdout
    assert "3 images are too few" in ended.stdout
    page = json.loads(ended.stdout.splitlines()[-1])["page"]
    assert '<b>no label</b> <span class="muted">3 of 3</span>' in (tmp_path / page).read_text()


def medmnist_file(path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 30), ("val", 20), ("test", 20)):
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, 28, 28)).astype(np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def test_a_medmnist_file_becomes_a_study_in_its_splits(tmp_path):
    file = medmnist_file(tmp_path / "medmnist" / "pneumoniamnist.npz")
    found = inspected(file, cwd=tmp_path)
    assert "PneumoniaMNIST" in found["contents"][0]
    assert found["classes"] == {"normal": 35, "pneumonia": 35}
    result = prepared(found["command"], tmp_path / "out")
    assert sum(result["splits"]["train"].values()) == 30


def test_archives_are_unpacked_below_the_output_and_once(tmp_path):
    save_classes(tmp_path / "tree")
    archive = shutil.make_archive(str(tmp_path / "my scans"), "zip", tmp_path / "tree")
    shutil.rmtree(tmp_path / "tree")
    found = inspected(archive, cwd=tmp_path)
    assert found["used"] == 2 * N_IMAGES
    assert "/outputs/inspections/" in found["command"]
    assert inspected(archive, cwd=tmp_path)["used"] == 2 * N_IMAGES
    assert prepared(found["command"], tmp_path / "out")["images"] == 2 * N_IMAGES


def test_an_archive_that_would_leave_its_folder_writes_nothing_there(tmp_path):
    archive = tmp_path / "sly.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("../../../../escaped.png", b"x")
        made.writestr("normal/1.png", b"x")
    ended = xraysynth("inspect", str(archive), cwd=tmp_path)
    assert ended.returncode == 1
    assert "escaped.png" in ended.stderr
    assert not list(tmp_path.rglob("escaped.png"))


def test_one_class_is_said_with_the_command_that_joins_it(tmp_path):
    save_table(tmp_path / "one", ("covid19",))
    save_table(tmp_path / "other folder", ("normal", "covid19"))
    save_table(tmp_path / "further", ("normal", "pneumonia"))
    found = inspected(tmp_path / "one", cwd=tmp_path, code=1)
    assert "all images are of one class, covid19" in found["obstacles"][0]
    assert not found["can_run"]
    words = shlex.split(found["command"])
    assert words == ["xraysynth", "inspect", str(tmp_path / "one"), str(tmp_path / "other folder")]


def test_two_paths_are_joined_into_one_study(tmp_path):
    save_table(tmp_path / "one", ("covid19", "normal"))
    save_table(tmp_path / "two", ("normal", "covid19"))
    for file in (tmp_path / "two").rglob("*.png"):
        save_image(file, 5000 + int(file.stem))
    found = inspected(tmp_path / "one", tmp_path / "two", cwd=tmp_path)
    assert found["used"] == 4 * N_IMAGES
    result = prepared(found["command"], tmp_path / "out")
    assert result["images"] == 4 * N_IMAGES
    manifest = pd.read_parquet(result["manifest"])
    assert set(manifest["source"]) == {"table", "two"}


def test_needs_are_in_the_command_and_in_words_above_it(tmp_path):
    save_classes(tmp_path / "tree", name="{label}/{index}.png")
    for number in range(6):
        (tmp_path / "tree" / "normal" / f"broken{number}.png").write_bytes(b"no picture")
    found = inspected(tmp_path / "tree", cwd=tmp_path)
    for option in ("missing_patient_id=cluster", "screening.most_left_out=0.15"):
        name = option.partition("=")[0]
        assert option in found["command"]
        assert f"  {name}: " in found["printed"]
        assert f"<code>{name}</code>" in found["html"]
    assert (found["problems_csv"]["status"] == "unusable").sum() == 6
    assert prepared(found["command"], tmp_path / "out")["images"] == 2 * N_IMAGES


def test_rare_classes_are_left_out_and_named(tmp_path):
    save_classes(tmp_path / "tree")
    save_classes(tmp_path / "tree", ("Effusion",), n_images=3, name="{label}/Q{number:04d}_1.png")
    found = inspected(tmp_path / "tree", cwd=tmp_path)
    assert "left out: Effusion 3" in found["facts"]["Classes"]
    assert prepared(found["command"], tmp_path / "out")["images"] == 2 * N_IMAGES


def test_copies_blank_and_damaged_images_are_shown(tmp_path):
    save_classes(tmp_path / "tree")
    normal = tmp_path / "tree" / "normal"
    shutil.copy(normal / "P0000_1.png", normal / "P0500_1.png")
    Image.new("L", (64, 64)).save(normal / "P0501_1.png")
    (normal / "P0502_1.png").write_bytes(b"")
    found = inspected(tmp_path / "tree", cwd=tmp_path)
    statuses = found["problems_csv"].groupby("status").size().to_dict()
    assert statuses == {"copy": 2, "flagged": 1, "unusable": 1}
    assert found["problems"]["flagged: blank"] == 1
    assert "P0501_1.png" in found["html"]
    assert "no picture" in found["html"]


def test_files_that_come_while_others_are_looked_at_are_not_counted(tmp_path, monkeypatch):
    save_classes(tmp_path / "tree")

    def gather_slowly(*arguments, **options):
        save_image(tmp_path / "tree" / "normal" / "P0900_1.png", 900)
        return gathering.gather(*arguments, **options)

    monkeypatch.setattr(inspect, "gather", gather_slowly)
    found = inspected(tmp_path / "tree", cwd=tmp_path)
    assert found["used"] == found["images"] == 2 * N_IMAGES


def test_results_do_not_lie_among_the_images(tmp_path):
    save_classes(tmp_path / "films")
    found = inspected(".", cwd=tmp_path / "films")
    assert f"paths.output={tmp_path / 'films_outputs'}" in found["command"]
    assert "  paths.output: " in found["printed"]
    assert not (tmp_path / "films" / "outputs").exists()
    assert (tmp_path / "films_outputs" / "inspections").is_dir()


def test_options_of_the_user_go_on_to_the_study(tmp_path):
    save_classes(tmp_path / "tree", ("a", "b", "c"))
    found = inspected(tmp_path / "tree", cwd=tmp_path, words=["classes=[a, c]", "size_px=32"])
    assert found["classes"] == {"a": N_IMAGES, "c": N_IMAGES}
    assert found["command"].count("classes=") == 1
    assert "size_px=32" in found["command"]
    assert prepared(found["command"], tmp_path / "out")["images"] == 2 * N_IMAGES


def test_the_page_loads_nothing_and_runs_nothing(tmp_path):
    save_classes(tmp_path / "<script>alert(1)</script>")
    html = inspected(tmp_path / "<script>alert(1)</script>", cwd=tmp_path)["html"]
    assert "default-src 'none'" in html
    assert "<script" not in html
    assert not re.search(r"(?:src|href)=\"(?!data:image/jpeg|#)", html)
    assert html.count("<img") == 16


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "name what to inspect"),
        (["gone"], 1, "there is nothing at"),
        (["--fast", "."], 2, "no switch --fast"),
        (["empty"], 1, "no visible file"),
        (["notes.txt"], 1, "notes.txt"),
        (["unlabelled"], 1, "put each into a folder named after its class"),
        (["tree", "sizepx=3"], 2, "sizepx"),
    ],
)
def test_what_cannot_be_inspected_is_said_with_what_to_do(tmp_path, words, code, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("nothing\n")
    save_image(tmp_path / "unlabelled" / "1.png", 1)
    save_classes(tmp_path / "tree", n_images=1)
    ended = xraysynth("inspect", *words, cwd=tmp_path)
    assert ended.returncode == code
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_word_with_an_equals_sign_is_a_path_if_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("site=A").mkdir()
    request = inspect.parse_arguments(["site=A", "seed=1", "--all"])
    assert request.paths == [Path("site=A")]
    assert request.overrides == ["seed=1"]
    assert request.everything


def test_an_inspection_imports_no_torch(tmp_path):
    save_classes(tmp_path / "tree", n_images=2)
    code = (
        "import sys; from xraysynth.launch import inspect_paths; "
        f"inspect_paths([{str(tmp_path / 'tree')!r}]); "
        "print(sorted({'torch', 'torchvision', 'transformers', 'wandb'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cxr-mini", {"normal": 199, "pneumonia": 198, "covid19": 185}),
        ("tb-nlm128", {"normal": 316, "tuberculosis": 304}),
    ],
)
def test_real_collections_are_named_rightly(shared_data, tmp_path, name, expected):
    found = inspected(shared_data / name, cwd=tmp_path)
    assert found["classes"] == expected
    is_confounded = "acknowledge_confounding=true" in found["command"]
    assert is_confounded == (name == "cxr-mini")


def test_a_real_collection_of_one_class_is_joined_to_its_neighbour(shared_data, tmp_path):
    found = inspected(shared_data / "covid-cxnet", cwd=tmp_path, code=1)
    assert shlex.split(found["command"])[2:] == [
        str(shared_data / "covid-cxnet"),
        str(shared_data / "cxr-mini"),
    ]
