"""Any two folders of images against each other."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_study import CLASSES, write_cohort

import xraysynth.evaluation as package
from xraysynth import compose
from xraysynth.errors import ConfigError, DataNotFoundError, ImageError, ManifestError
from xraysynth.evaluation import images as evaluation
from xraysynth.evaluation.encoders import build
from xraysynth.evaluation.folders import choose_common_size, from_folder, unify_classes
from xraysynth.evaluation.images import Resampling, evaluate
from xraysynth.evaluation.metrics import appearance
from xraysynth.manifest import Manifest
from xraysynth.stages import Workspace
from xraysynth.stages import evaluate as stage

QUICK = Resampling(splits=4, replicates=50, pairs_per_class=10)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Real images of four classes, others of the same kind, and noise."""
    parent = tmp_path_factory.mktemp("folders")
    for name in ("real", "others"):
        write_cohort(parent / name, per_class=26)
        (parent / name / "manifest.csv").unlink()
    rng = np.random.default_rng(5)
    for path in sorted((parent / "others").rglob("*.png")):
        pixels = np.asarray(Image.open(path)).astype(int) + rng.integers(-40, 40, (48, 48))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        noise = parent / "noise" / path.relative_to(parent / "others")
        noise.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 48)).astype(np.uint8)).save(noise)
    return parent


def overall(found, metric):
    (row,) = [r for r in found.measures if r.metric == metric and not r.label]
    return row


def measured(folders, name, tmp_path, **more):
    return evaluate(
        real=from_folder(folders / "real"),
        synthetic=from_folder(folders / name, is_synthetic=True),
        encoders=[build("embedded")],
        size_px=48,
        cache=tmp_path,
        resampling=QUICK,
        **more,
    )


def test_noise_is_farther_from_real_images_than_their_like(folders, tmp_path):
    others, noise = (
        overall(measured(folders, n, tmp_path), "FD(embedded)") for n in ("others", "noise")
    )
    assert noise.value > 5 * others.value
    assert noise.excess_low > 0
    assert noise.n == others.n == 52
    assert noise.p < 0.001


def test_every_class_is_measured_by_itself(folders, tmp_path):
    found = measured(folders, "others", tmp_path)
    assert {row.label for row in found.measures} == {"", *CLASSES}
    assert found.images == 104
    assert found.closest == []


def test_copies_of_the_training_images_are_found_and_shown(folders, tmp_path):
    train, held_out = from_folder(folders / "others"), from_folder(folders / "real")
    copies = measured(folders, "others", tmp_path, train=train, held_out=held_out)
    assert overall(copies, "memorised share").value == 1
    assert overall(copies, "AuthPct").value == 0
    pair = copies.closest[0]
    assert pair.distance == 0
    assert pair.flagged
    assert pair.synthetic.name == pair.train.name
    clean = measured(folders, "noise", tmp_path, train=train, held_out=held_out)
    assert overall(clean, "memorised share").value < 0.1


def test_every_image_says_whether_it_counts_as_a_copy(folders, tmp_path):
    train, held_out = from_folder(folders / "others"), from_folder(folders / "real")
    copies = measured(folders, "others", tmp_path, train=train, held_out=held_out)
    assert copies.flags.shape == (104,)
    assert copies.flags.all()
    assert measured(folders, "others", tmp_path).flags is None
    few = Manifest(held_out.table.iloc[::2], held_out.folder, held_out.classes)
    small = measured(folders, "others", tmp_path, train=train, held_out=few)
    assert small.flags is None


def test_means_of_all_classes_are_in_the_mix_of_the_real_images(folders, tmp_path):
    """Half of the pool is noise, all of one class; among the real images that class is rare."""
    real, train = from_folder(folders / "real"), from_folder(folders / "others")
    rare = real.table["label"] == CLASSES[0]
    kept = ~rare | (rare.cumsum() <= 2)
    real = Manifest(real.table[kept], real.folder, real.classes)
    made = tmp_path / "made"
    for label in CLASSES:
        origin = "noise" if label == CLASSES[0] else "others"
        shutil.copytree(folders / origin / label, made / label)
    synthetic = from_folder(made, is_synthetic=True)
    options = {"encoders": [build("embedded")], "size_px": 48, "resampling": QUICK}
    found = evaluate(
        real=real, synthetic=synthetic, train=train, held_out=real, cache=tmp_path, **options
    )
    (grain,) = [row for row in found.appearance if row.measure == "fine_grain"]
    rows = synthetic.table["label"].to_numpy()
    looks = [
        appearance.measure_appearance(np.asarray(Image.open(f)))["fine_grain"]
        for f in synthetic.files
    ]
    by_class = {label: np.mean(np.array(looks)[rows == label]) for label in CLASSES}
    mix = real.table["label"].value_counts(normalize=True)
    expected = sum(mix[label] * by_class[label] for label in CLASSES)
    assert grain.value == pytest.approx(expected)
    assert grain.value < np.mean(looks)
    (similar,) = [row for row in found.nearest_similarity if row.metric == "SSIM"]
    assert similar.value > 0.9  # unweighted 0.75: noise is like nothing


def test_a_class_that_the_pool_lacks_is_in_no_real_value_either(folders, tmp_path):
    made, few = tmp_path / "made", CLASSES[1:]
    for label in few:
        shutil.copytree(folders / "others" / label, made / label)
    pool = from_folder(made, is_synthetic=True)
    pool = Manifest(pool.table, pool.folder, tuple(sorted(CLASSES)))
    real, train = from_folder(folders / "real"), from_folder(folders / "others")
    options = {"encoders": [build("embedded")], "size_px": 48, "resampling": QUICK}
    whole, part = (
        evaluate(real=one, synthetic=pool, train=train, held_out=one, cache=tmp_path, **options)
        for one in (real, real.where(real.table["label"].isin(few)))
    )
    for name in ("nearest_similarity", "appearance"):
        assert [row.real for row in getattr(whole, name)] == pytest.approx(
            [row.real for row in getattr(part, name)]
        )
    assert whole.flags is None  # of 104 held-out images 78 are of these classes


def test_patients_who_are_one_person_count_as_one(folders, tmp_path, monkeypatch):
    """Of two ids with the same images one would be in each half, or one drawn twice in one."""
    real = from_folder(folders / "real")
    keys = [
        f"{source}/{patient}"
        for source, patient in zip(real.table["source"], real.table["patient_id"], strict=True)
    ]
    linked = [sorted(pair) for pair in zip(keys[::2], keys[1::2], strict=True)]
    patients = []
    for name in ("measure_sets", "measure_copying"):
        monkeypatch.setattr(
            f"xraysynth.evaluation.images.{name}",
            lambda **given: patients.append(list(given["patients"])) or [],
        )
    original = evaluation.diversity.intra_class_similarity
    monkeypatch.setattr(
        evaluation.diversity,
        "intra_class_similarity",
        lambda *images, **given: (
            patients.append(list(given.get("patients", []))) or original(*images, **given)
        ),
    )
    train = from_folder(folders / "others")
    measured(folders, "others", tmp_path, train=train, held_out=real, linked=linked)
    (sets, copies, _, variety) = patients
    for seen in (sets, copies, variety):
        assert len(set(seen)) == len(keys) // 2
        assert seen[0] == seen[1] == linked[0][0]


def test_images_differ_by_size_in_the_cache(folders, tmp_path):
    real = from_folder(folders / "real")
    arguments = {
        "real": real,
        "encoders": [build("embedded")],
        "cache": tmp_path,
        "resampling": QUICK,
    }
    synthetic = from_folder(folders / "others", is_synthetic=True)
    large, small = (evaluate(synthetic=synthetic, size_px=px, **arguments) for px in (48, 16))
    assert overall(large, "FD(embedded)").value != overall(small, "FD(embedded)").value


def test_a_manifest_beside_the_images_gives_labels_and_patients(folders, tmp_path):
    shutil.copytree(folders / "real", tmp_path / "real")
    paths = sorted(p.name for p in (tmp_path / "real" / "normal").glob("*.png"))
    table = pd.DataFrame({"path": [f"normal/{n}" for n in paths], "label": "healthy"})
    table.assign(patient_id="one").to_csv(tmp_path / "real" / "manifest.csv", index=False)
    found = from_folder(tmp_path / "real")
    assert found.classes == ("healthy",)
    assert set(found.table["patient_id"]) == {"one"}
    table.assign(path="../outside.png").to_csv(tmp_path / "real" / "manifest.csv", index=False)
    with pytest.raises(ManifestError, match="stay inside"):
        from_folder(tmp_path / "real")


def test_a_link_out_of_a_folder_with_a_table_is_not_read(tmp_path):
    (tmp_path / "real").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "outside.png")
    (tmp_path / "real" / "1.png").symlink_to(tmp_path / "outside.png")
    table = pd.DataFrame({"path": ["1.png"], "label": ["normal"]})
    table.to_csv(tmp_path / "real" / "manifest.csv", index=False)
    with pytest.raises(ManifestError, match=r"is a link to .*outside\.png, outside.*'1\.png'"):
        from_folder(tmp_path / "real")


def test_a_damaged_image_stops_the_run_by_name(folders, tmp_path):
    shutil.copytree(folders / "others", tmp_path / "others")
    (tmp_path / "others" / "normal" / "000.png").write_bytes(b"no image")
    shutil.copytree(folders / "real", tmp_path / "real")
    with pytest.raises(ImageError, match=r"normal/000\.png"):
        measured(tmp_path, "others", tmp_path / "cache")


def test_a_folder_without_images_and_one_that_is_not_there_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataNotFoundError, match="no images"):
        from_folder(tmp_path / "empty")
    with pytest.raises(DataNotFoundError, match="is not a folder"):
        from_folder(tmp_path / "gone")


def test_classes_count_only_where_all_folders_have_them(folders, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (folders / "noise" / "normal").glob("*.png"):
        shutil.copy(path, flat)
    one, other = unify_classes(from_folder(folders / "real"), from_folder(flat, is_synthetic=True))
    assert one.classes == other.classes == ("all",)
    part = tmp_path / "part"
    shutil.copytree(folders / "noise" / "normal", part / "normal")
    with pytest.raises(ManifestError, match="different classes"):
        unify_classes(from_folder(folders / "real"), from_folder(part))


def test_no_image_is_enlarged_to_be_compared(folders, tmp_path):
    large = tmp_path / "large"
    large.mkdir()
    Image.new("L", (900, 700), 90).save(large / "a.png")
    assert choose_common_size(from_folder(large)) == 512
    assert choose_common_size(from_folder(large), from_folder(folders / "real")) == 48


def run_stage(folders, tmp_path, *more):
    overrides = [
        f"real={folders / 'real'}",
        f"synthetic={folders / 'noise'}",
        f"paths.output={tmp_path}",
        "evaluate.baseline_splits=3",
        "evaluate.replicates=50",
        *more,
    ]
    return stage.run(Workspace(compose(overrides), overrides))


def test_the_stage_compares_two_folders_without_a_study(folders, tmp_path):
    result = run_stage(folders, tmp_path, f"trained_on={folders / 'others'}")
    page = Path(result["page"]).read_text()
    assert "noise" in page
    assert "FD(embedded)" in page
    assert "https://" not in page.replace("https://www.w3.org", "")
    table = pd.read_csv(result["table"])
    assert {"FD(embedded)", "memorised share", "C_T"} <= set(table["metric"])
    assert result["size_px"] == 48
    assert not (tmp_path / "cohorts").exists()
    json.dumps(result)
    assert run_stage(folders, tmp_path, f"trained_on={folders / 'others'}")["skipped"]


def test_the_stage_says_what_is_missing(folders, tmp_path):
    overrides = [f"real={folders / 'real'}", f"paths.output={tmp_path}"]
    with pytest.raises(ConfigError, match="real and synthetic must both be given"):
        stage.run(Workspace(compose(overrides), overrides))
    with pytest.raises(ConfigError, match="needs a classifier for two folders"):
        run_stage(folders, tmp_path, "evaluate.encoders=[classifier]")


def test_the_call_of_the_readme_is_found_without_loading_anything_before():
    code = "import sys, xraysynth.evaluation; print({'torch', 'pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
    assert package.evaluate is evaluate
    assert package.from_folder is from_folder
    assert not hasattr(package, "nothing")
