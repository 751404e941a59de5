"""Bad input: a clear error, and nothing lost."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_study import write_cohort, write_image

from xraysynth import compose
from xraysynth.data.sources import parallel
from xraysynth.errors import (
    ConfoundingError,
    ImageError,
    LeakageError,
    ManifestError,
    XraysynthError,
)
from xraysynth.stages import Workspace, _external_test_sets, prepare


@pytest.fixture
def cohort(tmp_path):
    """The folder of a good cohort, and a function that prepares it."""
    write_cohort(tmp_path / "cohort")

    def run(*more: str):
        overrides = [
            "source=table",
            f"source.table.path={tmp_path / 'cohort' / 'manifest.csv'}",
            f"paths.output={tmp_path / 'outputs'}",
            "size_px=32",
            *more,
        ]
        return prepare.run(Workspace(compose(overrides), overrides))

    return tmp_path / "cohort", run


def edit(folder: Path, change):
    table = pd.read_csv(folder / "manifest.csv")
    change(table).to_csv(folder / "manifest.csv", index=False)


def write(kind: str, path: Path) -> None:
    grey = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64)
    if kind == "corrupt":
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "zero-byte":
        path.write_bytes(b"")
    elif kind == "half-transparent":
        picture = Image.fromarray((grey % 251).astype(np.uint8))
        picture.putalpha(Image.fromarray((grey // 16).astype(np.uint8)))
        picture.save(path)
    else:
        Image.new("L", (10000, 10000)).save(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("corrupt", "not a readable image"),
        ("zero-byte", "0 bytes"),
        ("half-transparent", "parts of the picture are transparent"),
        ("100-megapixel", "100 megapixels"),
    ],
)
def test_an_unusable_image_is_named_and_the_others_are_kept(cohort, monkeypatch, kind, message):
    folder, run = cohort
    bad = folder / "covid19" / "003.png"
    write(kind, bad)
    with pytest.raises(ImageError, match=message) as error:
        run("screening.unusable=stop")
    assert "covid19/003.png" in str(error.value)
    assert "1 of 96" in str(error.value)
    write_image(bad, label="covid19", seed=999)
    read = []
    original = parallel._load_image
    monkeypatch.setattr(
        parallel, "_load_image", lambda *work: read.append(work[-1]) or original(*work)
    )
    assert run()["images"] == 96
    assert read == ["covid19/003.png#"]


def first_path(table, value):
    table.loc[0, "path"] = value
    return table


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: first_path(t, "../outside.png"), ManifestError, "stay inside"),
        (lambda t: first_path(t, "/etc/hostname"), ManifestError, "stay inside"),
        (lambda t: t.assign(image_id="same"), ManifestError, "image ids must be unique"),
        (
            lambda t: t.replace({"label": {"normal": "nromal"}}),
            ManifestError,
            "unknown label 'nromal'",
        ),
        (
            lambda t: t.assign(label=t["label"].where(t.index > 7)),
            ImageError,
            "8 of 96 images cannot be used",
        ),
        (lambda t: t[t["label"] != "covid19"], ManifestError, "covid19 has 0 images"),
        (lambda t: t.drop(columns="label"), XraysynthError, "label"),
        (lambda t: t.assign(patient_id=""), ManifestError, "missing_patient_id=cluster"),
    ],
)
def test_a_bad_table_is_refused(cohort, change, error, message):
    folder, run = cohort
    edit(folder, change)
    with pytest.raises(error, match=message):
        run()


def test_images_without_a_patient_are_grouped_by_likeness_when_asked(cohort):
    folder, run = cohort
    copy = folder / "normal" / "copy.png"
    copy.write_bytes((folder / "normal" / "000.png").read_bytes())
    row = {"path": "normal/copy.png", "label": "normal", "patient_id": ""}
    edit(folder, lambda t: pd.concat([t.assign(patient_id=""), pd.DataFrame([row])]))
    table = pd.read_parquet(run("missing_patient_id=cluster")["manifest"])
    twins = table[table["sha256"].duplicated(keep=False)]
    assert len(twins) == 2
    assert twins["patient_id"].nunique() == twins["split"].nunique() == 1
    assert table["patient_id"].nunique() == 96


def test_duplicates_of_two_patients_stay_in_one_split(cohort):
    folder, run = cohort
    for number in range(12, 24):  # every second patient has another patient's image
        source = folder / "normal" / f"{number - 12:03d}.png"
        (folder / "normal" / f"{number:03d}.png").write_bytes(source.read_bytes())
    result = run()
    assert result["near_duplicates"] == 12
    table = pd.read_parquet(result["manifest"])
    assert table.groupby("sha256")["split"].nunique().max() == 1


def test_leakage_in_a_sources_own_splits_stops(cohort):
    folder, run = cohort
    places = np.tile(["train", "val", "test", "train"], 24)
    edit(folder, lambda t: t.assign(split=places))
    (folder / "normal" / "000.png").write_bytes((folder / "normal" / "001.png").read_bytes())
    with pytest.raises(LeakageError, match=r"splits\.official=false"):
        run()
    assert run("splits.official=false")["images"] == 96
    assert run("splits.drop_duplicates=true")["images"] == 95


@pytest.mark.parametrize(
    "words",
    [("TRAIN", "VAL", "TEST"), ("training", "valid", "hold-out"), ("tr", "dev", "Test set")],
)
def test_splits_are_known_by_their_usual_words(cohort, words):
    folder, run = cohort
    places = np.array(words)[np.tile([0, 0, 1, 2], 24)]
    edit(folder, lambda t: t.assign(split=places))
    counts = {split: sum(classes.values()) for split, classes in run()["splits"].items()}
    assert counts == {"train": 48, "val": 24, "test": 24}


def test_an_unknown_word_for_a_split_stops_until_splits_are_made_anew(cohort):
    folder, run = cohort
    edit(folder, lambda t: t.assign(split=np.tile(["train", "val", "test", "fold 3"], 24)))
    with pytest.raises(ManifestError, match=r"'fold 3'.*splits\.official=false"):
        run()
    assert run("splits.official=false")["images"] == 96


def test_the_audit_says_how_a_table_was_read(cohort):
    folder, run = cohort
    table = pd.read_csv(folder / "manifest.csv").rename(columns={"label": "Finding"})
    table = table.assign(
        path=table["path"].str.replace("/", "\\"), Finding=table["Finding"].str.upper()
    )
    table.to_csv(folder / "manifest.csv", index=False, sep=";", encoding="utf-16")
    result = run()
    assert result["images"] == 96
    notes = " ".join(json.loads(Path(result["audit"]).read_text())["notes"])
    for part in ("utf-16", "semicolons", "'Finding' is read as label"):
        assert part in notes


def test_duplicates_are_dropped_with_all_images_of_their_patient(cohort):
    folder, run = cohort
    number = np.arange(96)
    places = np.array(["train", "val", "test", "train", "train", "test"])[number // 2 % 6]
    patients = [f"p{n // 2}" for n in number]  # two images each
    edit(folder, lambda t: t.assign(split=places, patient_id=patients))
    # An image of the train patient p0 is one of the test patient p2; p3, of train, has another of p0's.
    image = (folder / "normal" / "004.png").read_bytes()
    (folder / "normal" / "000.png").write_bytes(image)
    (folder / "normal" / "006.png").write_bytes((folder / "normal" / "001.png").read_bytes())
    with pytest.raises(LeakageError, match="1 pairs of near-duplicate images, of 2 patients"):
        run("tracking=none")
    result = run("tracking=none", "splits.drop_duplicates=true")
    table = pd.read_parquet(result["manifest"])
    assert not table["patient_id"].isin(["p0", "p3"]).any()
    assert {"p1", "p2", "p4"} < set(table["patient_id"])
    assert (result["images"], result["dropped"], result["dropped_patients"]) == (92, 4, 2)
    (note,) = json.loads(Path(result["audit"]).read_text())["notes"]
    assert note.startswith("4 images of 2 patients are dropped")


def test_an_image_without_a_patient_is_of_the_patient_it_looks_like(cohort):
    folder, run = cohort
    row = {"label": "normal", "patient_id": "", "source_dataset": ""}
    for name, other in {"again": "normal/000.png", "elsewhere": "normal/001.png"}.items():
        (folder / "normal" / f"{name}.png").write_bytes((folder / other).read_bytes())
    more = [row | {"path": "normal/again.png"}, row | {"path": "normal/elsewhere.png"}]
    more[1]["source_dataset"] = "clinic"  # where an id of another source says nothing
    edit(folder, lambda t: pd.concat([t.assign(source_dataset=""), pd.DataFrame(more)]))
    result = run("tracking=none", "missing_patient_id=cluster")
    table = pd.read_parquet(result["manifest"]).set_index("path")
    ids = {path.rsplit("/")[-1].rsplit("-", 1)[0]: row for path, row in table.iterrows()}
    again, elsewhere = (
        next(row for name, row in ids.items() if word in name) for word in ("again", "elsewhere")
    )
    assert again["patient_id"] == "normal0"
    assert elsewhere["patient_id"].startswith("cluster-")
    assert table.groupby("sha256")["split"].nunique().max() == 1
    report = json.loads(Path(result["audit"]).read_text())
    assert report["linked_patients"] == [[f"clinic/{elsewhere['patient_id']}", "table/normal1"]]
    assert "2 patients share near-duplicate images with others" in report["notes"][0]


def test_images_without_an_official_split_follow_those_of_their_person(cohort):
    folder, run = cohort
    number = np.arange(96)
    places = np.array(["train", "val", "test", ""])[number % 4]
    patients = [f"p{n // 24}-{n % 24 // 4 * 3 + min(n % 4, 2)}" for n in number]
    # Every fourth image has no split: half of them are of the test patient before, half look like
    # an image of the val patient before that.
    alone = number % 8 == 7
    patients = [f"alone{n}" if alone[n] else patients[n] for n in number]
    for n in number[alone]:
        label = ("normal", "pneumonia", "covid19", "tuberculosis")[n // 24]
        image = (folder / label / f"{n % 24 - 2:03d}.png").read_bytes()
        (folder / label / f"{n % 24:03d}.png").write_bytes(image)
    edit(folder, lambda t: t.assign(split=places, patient_id=patients))
    result = run("tracking=none")
    table = pd.read_parquet(result["manifest"])
    assert result["images"] == 96
    assert table["split"].value_counts().to_dict() == {"val": 36, "test": 36, "train": 24}
    lone = table["patient_id"].str.startswith("alone")
    assert set(table.loc[lone, "split"]) == {"val"}


def test_only_cohorts_that_the_rule_of_persons_can_change_have_another_key(cohort, tmp_path):
    folder, _ = cohort

    def linked(*more: str) -> bool:
        path = f"source.table.path={folder / 'manifest.csv'}"
        overrides = ["source=table", path, f"paths.output={tmp_path / 'outputs'}", *more]
        return "linked" in prepare.build_job(Workspace(compose(overrides))).identity

    drop, cluster = "splits.drop_duplicates=true", "missing_patient_id=cluster"
    assert not linked()
    assert not linked(drop)
    assert not linked(cluster)
    edit(folder, lambda t: t.assign(split=np.tile(["train", "val", "test", "train"], 24)))
    assert not linked()
    assert linked(drop)
    assert not linked(drop, "splits.official=false")
    edit(folder, lambda t: t.assign(split=t["split"].where(t.index > 0)))
    assert linked()
    assert not linked("splits.official=false")
    edit(folder, lambda t: t.drop(columns="split").assign(patient_id=""))
    assert not linked(cluster)
    edit(folder, lambda t: t.assign(patient_id=["a", *[""] * 95]))
    assert linked(cluster)
    assert not linked()


def test_a_patient_in_two_of_the_sources_own_splits_stops(cohort):
    folder, run = cohort
    places = np.tile(["train", "val", "test", "train"], 24)
    edit(folder, lambda t: t.assign(split=places, patient_id=[f"p{n // 4}" for n in range(96)]))
    with pytest.raises(ManifestError, match="no patient is in two splits"):
        run()


def test_confounding_stops_until_it_is_acknowledged_and_is_then_recorded(cohort):
    folder, run = cohort
    edit(
        folder,
        lambda t: t.assign(source_dataset=np.where(t["label"] == "covid19", "clinic", "web")),
    )
    with pytest.raises(ConfoundingError, match="predicts covid19 with 100% accuracy"):
        run()
    result = run("acknowledge_confounding=true")
    assert "covid19" in result["confounding"][0]
    assert json.loads(Path(result["audit"]).read_text())["acknowledged"] == result["confounding"]


def test_classes_are_a_choice(cohort):
    _, run = cohort
    result = run("classes=[covid19,normal]")
    assert result["images"] == 48
    assert list(result["splits"]["train"]) == ["covid19", "normal"]


def test_labels_can_be_mapped(cohort):
    folder, run = cohort
    edit(folder, lambda t: t.replace({"label": {"normal": "No Finding"}}))
    result = run("source.table.labels={No Finding: normal}")
    assert result["splits"]["train"]["normal"] > 0


@pytest.fixture
def outside(cohort, tmp_path):
    """A collection of other people, and a function that prepares it as an external test set."""
    _, prepared = cohort
    folder = tmp_path / "outside"
    rows = []
    for label in ("normal", "covid19"):
        for number in range(4):
            write_image(folder / f"{label}-{number}.png", label=label, seed=500 + len(rows))
            rows.append(
                {"path": f"{label}-{number}.png", "label": label, "patient_id": f"p{number}"}
            )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)

    def run(*more: str):
        overrides = [
            *("source=table", f"source.table.path={tmp_path / 'cohort' / 'manifest.csv'}"),
            *("test_source=table", f"test_source.table.path={folder / 'manifest.csv'}"),
            *(
                "test_source.table.name=clinic",
                f"paths.output={tmp_path / 'outputs'}",
                "size_px=32",
            ),
            *more,
        ]
        config = compose(overrides)
        return Workspace(config, overrides).external_test_set, config, overrides

    prepared()
    return folder, run


def test_an_external_test_set_stands_beside_the_cohort(outside):
    _, run = outside
    found, config, overrides = run()
    assert set(found.table["split"]) == {"test"}
    assert set(found.table["source"]) == {"clinic"}
    assert found.class_counts() == {"normal": 4, "pneumonia": 0, "covid19": 4, "tuberculosis": 0}
    assert all(path.exists() for path in found.files)
    result = prepare.run(Workspace(config, overrides))
    assert result["images"] == 96
    assert result["external"]["skipped"]
    assert result["external"]["counts"] == {"clinic": {"normal": 4, "covid19": 4}}
    this = _external_test_sets.build_job(Workspace(config, overrides))
    assert this.done
    assert this.outputs[0].name == f"external-{this.key}.parquet"


def test_without_a_test_source_there_is_none(cohort):
    _, run = cohort
    assert "external" not in run()
    assert Workspace(compose(), []).external_test_set is None


def test_an_external_image_that_is_in_the_cohort_stops_or_is_left_out(outside, tmp_path):
    folder, run = outside
    with Image.open(tmp_path / "cohort" / "normal" / "002.png") as image:
        image.save(folder / "normal-1.png", quality=90)
    with pytest.raises(
        LeakageError, match=r"1 pairs .*external-clinic-.* ~ table-.*drop_duplicates"
    ):
        run()
    with pytest.raises(LeakageError, match="drop all 2 external images of these 1 patients"):
        run()
    found, config, overrides = run("splits.drop_duplicates=true")
    assert set(found.table["patient_id"]) == {"p0", "p2", "p3"}  # p1 had another image too
    assert found.class_counts() == {"normal": 3, "pneumonia": 0, "covid19": 3, "tuberculosis": 0}
    result = prepare.run(Workspace(config, overrides))["external"]
    assert (result["dropped"], result["dropped_patients"]) == (2, 1)


def test_an_external_image_of_a_person_of_the_cohort_is_found_over_other_external_patients(
    outside, tmp_path
):
    folder, run = outside
    with Image.open(tmp_path / "cohort" / "normal" / "002.png") as image:
        image.save(folder / "normal-1.png", quality=90)  # p1 is a patient of the cohort,
    with Image.open(folder / "covid19-1.png") as image:
        image.save(folder / "covid19-2.png", quality=90)  # and p2 has an image of p1
    found, config, overrides = run("splits.drop_duplicates=true", "tracking=none")
    assert sorted(found.table["patient_id"]) == ["p0", "p0", "p3", "p3"]
    assert prepare.run(Workspace(config, overrides))["external"]["dropped_patients"] == 2


def test_an_external_patient_of_the_cohort_stops_or_is_left_out(outside):
    folder, run = outside
    same = "test_source.table.name=table"
    run(same)  # of the same collection, but other people
    edit(folder, lambda t: t.assign(patient_id=[f"normal{n}" for n in range(8)]))
    run()  # ids that mean something else in another collection
    with pytest.raises(
        LeakageError, match=r"8 patients are in both: table/normal0.*another name: test_source"
    ):
        run(same)
    edit(folder, lambda t: t.assign(patient_id=["normal0", *(f"new{n}" for n in range(7))]))
    found, *_ = run(same, "splits.drop_duplicates=true")
    assert len(found) == 7
    edit(folder, lambda t: t.assign(patient_id="normal0"))
    with pytest.raises(LeakageError, match="every external test image is left out"):
        run(same, "splits.drop_duplicates=true")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.replace({"label": {"normal": "nromal"}}), ManifestError, "unknown label"),
        (lambda t: t.assign(patient_id=""), ManifestError, "missing_patient_id=cluster"),
        (lambda t: t.assign(image_id="same"), ManifestError, "image ids must be unique"),
    ],
)
def test_a_bad_external_table_is_refused(outside, change, error, message):
    folder, run = outside
    edit(folder, change)
    with pytest.raises(error, match=message):
        run()


def test_external_images_without_a_patient_are_grouped_by_likeness_when_asked(outside):
    folder, run = outside
    edit(folder, lambda t: t.assign(patient_id=""))
    found, *_ = run("missing_patient_id=cluster")
    assert found.table["patient_id"].nunique() == 8


def test_an_unusable_external_image_is_named(outside):
    folder, run = outside
    write("zero-byte", folder / "covid19-0.png")
    with pytest.raises(ImageError, match=r"source clinic: 1 of 8 .*\n.*covid19-0\.png"):
        run()


def test_the_real_mini_cohort_stops_on_rare_classes_then_on_confounding(shared_data, tmp_path):
    def run(*more: str):
        path = shared_data / "cxr-mini" / "manifest.csv"
        base = [
            "source=table",
            f"source.table.path={path}",
            f"paths.output={tmp_path}",
            "size_px=32",
        ]
        return prepare.run(Workspace(compose([*base, *more]), more))

    with pytest.raises(ManifestError, match=r"tuberculosis has 3 images.*classes=\["):
        run()
    three = "classes=[normal,pneumonia,covid19]"
    with pytest.raises(ConfoundingError, match=r"covid19 .* 95%"):
        run(three)
    result = run(three, "acknowledge_confounding=true")
    assert result["images"] == 582


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB, and a function that enlarges it."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield (
        place,
        lambda *options: subprocess.run(
            ["mount", "-o", ",".join(["remount", *options]), str(place)], check=True
        ),
    )
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing(cohort, small_disk):
    import sys

    folder, _ = cohort
    place, remount = small_disk
    command = [
        *[
            sys.executable,
            "-c",
            "from xraysynth.cli import main; main()",
            "prepare",
            "source=table",
        ],
        *[f"source.table.path={folder / 'manifest.csv'}", f"paths.output={place}", "size_px=64"],
        "tracking=none",
    ]
    full = subprocess.run(command, capture_output=True, text=True)
    assert full.returncode == 1
    assert "disk is full" in full.stderr
    assert "Traceback" not in full.stderr
    kept = {p: p.read_bytes() for p in place.rglob("*.png")}
    assert 5 < len(kept) < 96
    remount("size=20m")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 96
    assert f"/{96 - len(kept)}" in done.stderr  # only the rest was read
    assert all(path.read_bytes() == data for path, data in kept.items())
    assert not list(place.rglob("*.partial"))
    remount("ro")
    again = subprocess.run([*command, "size_px=48"], capture_output=True, text=True)
    assert again.returncode == 1
    assert "read-only" in again.stderr
