"""An image whose bytes are not those that its manifest lists is used nowhere, and is named."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xraysynth import images, tracking
from xraysynth.data import leakage
from xraysynth.data.duplicates import fingerprint_files
from xraysynth.errors import ImageError
from xraysynth.evaluation.reader_study import build
from xraysynth.evaluation.reader_study.key import Case
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.evaluation.reader_study.sample import Sample, SampledImage
from xraysynth.evaluation.results import ClosestPair
from xraysynth.files import sha256_file
from xraysynth.images import encode_png
from xraysynth.manifest import ListedFile, Manifest
from xraysynth.release.images import write_images
from xraysynth.report import thumbnails

CHANGED = r"b\.png: SHA-256 differs from the manifest; restore it"


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32), np.uint8)


def write_manifest(folder: Path, *, is_synthetic: bool, split: str) -> Manifest:
    folder.mkdir(parents=True)
    rows = []
    for seed, name in enumerate("ab", 10 * is_synthetic):
        (folder / f"{name}.png").write_bytes(encode_png(noise(seed)))
        row = {"image_id": name, "path": f"{name}.png", "label": "normal", "split": split}
        row |= {"sha256": sha256_file(folder / f"{name}.png"), "is_synthetic": is_synthetic}
        rows.append(row | {"patient_id": "" if is_synthetic else name, "prompt": "a film"})
    return Manifest(pd.DataFrame(rows), folder, ("normal",))


@pytest.fixture
def real(tmp_path) -> Manifest:
    return write_manifest(tmp_path / "real", is_synthetic=False, split="test")


@pytest.fixture
def pool(tmp_path) -> Manifest:
    return write_manifest(tmp_path / "pool", is_synthetic=True, split="train")


def alter(manifest: Manifest) -> Path:
    """Another image, which can be decoded, in place of the second one."""
    path = manifest.files[1]
    path.write_bytes(encode_png(noise(99)))
    return path


@pytest.mark.parametrize("read", [images.read_image, images.read_colour, images.read_file])
def test_every_reader_compares_the_digest(pool, read):
    file = pool.listed_files[1]
    read(file.path, sha256=file.sha256)
    alter(pool)
    read(file.path)
    with pytest.raises(ImageError, match=CHANGED):
        read(file.path, sha256=file.sha256)


def test_fingerprints_are_of_the_listed_images(pool):
    assert len(fingerprint_files(pool.listed_files).hashes) == 2
    alter(pool)
    with pytest.raises(ImageError, match=CHANGED):
        fingerprint_files(pool.listed_files)


@pytest.mark.parametrize("altered", ["real", "pool"])
def test_the_contamination_check_does_not_pass_on_other_images(real, pool, tmp_path, altered):
    cache = tmp_path / "cache"
    alter(real if altered == "real" else pool)
    with pytest.raises(ImageError, match=CHANGED):
        leakage.require_no_duplicates_in_pools([real], {"noise": pool}, cache=cache)
    assert not list(cache.glob("*.passed"))


def test_a_gallery_leaves_an_altered_image_out_and_names_it(pool, capfd):
    shown = thumbnails.thumbnail_grid(pool, "normal", group_name="noise")
    assert all(thumbnail.src for thumbnail in shown)
    alter(pool)
    shown = thumbnails.thumbnail_grid(pool, "normal", group_name="noise")
    assert sorted(bool(thumbnail.src) for thumbnail in shown) == [False, True]
    assert re.search(
        rf"warning: a picture of the page is left out: .*{CHANGED}", capfd.readouterr()[1]
    )


def closest_pair(pool: Manifest, real: Manifest) -> ClosestPair:
    (_, made), (_, film) = pool.listed_files, real.listed_files
    return ClosestPair(made.path, film.path, 0.5, 1.0, True, made.sha256, film.sha256)


def test_a_pair_of_likely_copies_is_shown_with_the_measured_images_alone(pool, real):
    evaluated = SimpleNamespace(closest=[closest_pair(pool, real)], generator="noise")
    (pair,) = thumbnails.closest_pairs(evaluated)
    assert pair.synthetic.src
    alter(pool)
    (pair,) = thumbnails.closest_pairs(evaluated)
    assert not pair.synthetic.src
    assert pair.train.src
    alter(real)
    (pair,) = thumbnails.closest_pairs(evaluated)
    assert not pair.train.src


def test_a_pair_of_an_earlier_version_is_shown_as_its_files_are(pool, real):
    pair = replace(closest_pair(pool, real), synthetic_sha256="", train_sha256="")
    alter(pool)
    (shown,) = thumbnails.closest_pairs(SimpleNamespace(closest=[pair], generator="noise"))
    assert shown.synthetic.src


def test_no_kit_shows_readers_another_image(real):
    cases = []
    for image_id, file in zip(real.table["image_id"], real.listed_files, strict=True):
        case = Case("real", "", "normal", image_id, "clinic", image_id, file.sha256)
        cases.append(SampledImage(case, file.path))
    sample = Sample(cases, [])
    facts = {"pools": {}, "cohort": "", "simulated": True, "made_by": "", "secret": "00" * 32}
    recipe = ReviewRecipe(readers=["R1"], repeat_fraction=0.0)
    key = build.build_key(recipe, sample, classes=["normal"], **facts)
    files = {case_id: image.path for case_id, image in build.cases_by_id(sample).items()}
    (kit,) = key.kits
    build.build_kit_page(key, kit, files, title="t", language="en", side_px=32)
    alter(real)
    with pytest.raises(ImageError, match=CHANGED):
        build.build_kit_page(key, kit, files, title="t", language="en", side_px=32)


class Run:
    """A run of W&B that takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.config = {"credentialed": False}
        self.summary: dict = {}
        self.logged: list[str] = []

    def log(self, values: dict) -> None:
        self.logged += values


@pytest.fixture
def run(monkeypatch) -> Run:
    monkeypatch.setattr("xraysynth.tracking.artifacts.log_artifact", lambda run, record: None)
    monkeypatch.setattr("xraysynth.tracking.artifacts.use_artifact", lambda run, record: None)
    return Run()


def test_no_other_image_of_a_cohort_is_logged(real, run):
    tracking.log_cohort(run, real, patients=2, near_duplicates=0)
    alter(real)
    with pytest.raises(ImageError, match=CHANGED):
        tracking.log_cohort(run, real, patients=2, near_duplicates=0)
    assert run.logged.count("cohort/samples") == 1


def test_no_other_image_of_a_pool_is_logged(pool, run):
    from xraysynth.tracking.media import sample_images, to_wandb_image

    files = [file for file, _ in sample_images(pool)]
    assert sorted(files) == sorted(pool.listed_files)
    image = to_wandb_image(pool.listed_files[1])
    with Image.open(pool.files[1]) as expected:
        assert image.image.tobytes() == expected.tobytes()
    alter(pool)
    with pytest.raises(ImageError, match=CHANGED):
        to_wandb_image(pool.listed_files[1])


def test_no_other_image_is_logged_as_the_nearest(pool, real, run):
    from xraysynth.tracking.stage_logging import _log_closest_pairs

    pair = closest_pair(pool, real)
    _log_closest_pairs(run, [pair], pool)
    assert run.logged == ["closest"]
    alter(real)
    with pytest.raises(ImageError, match=CHANGED):
        _log_closest_pairs(run, [pair], pool)


def test_no_other_image_is_released(pool, tmp_path):
    alter(pool)
    with pytest.raises(ImageError, match=CHANGED):
        write_images(pool, {}, tmp_path / "release")


def test_files_without_a_digest_in_the_manifest_are_read_as_they_are(pool):
    without = replace(pool, table=pool.table.assign(sha256=""))
    alter(pool)
    assert without.listed_files == [ListedFile(path) for path in pool.files]
    assert len(fingerprint_files(without.listed_files).hashes) == 2
