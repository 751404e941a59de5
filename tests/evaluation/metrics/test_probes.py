"""Probes find what was planted, where it was planted, and nothing where nothing was."""

import numpy as np
import pandas as pd
import pytest
import torch

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.arm_probes import probe_arm, real_vs_synthetic_auroc
from xraysynth.evaluation.metrics.probes import (
    VIEWS,
    probe_real_vs_synthetic,
    probe_shortcuts,
    score_linear_probe,
    select_frequent_labels,
)
from xraysynth.evaluation.metrics.views import background, borders, radial_power_spectrum, thumbnail
from xraysynth.images import pad_and_resize, read_image
from xraysynth.training.classifier import XrayClassifier

QUICK = {"replicates": 200}


def noise(n=160, size_px=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size_px, size_px)).astype(np.uint8)


def halves(n=160):
    return np.where(np.arange(n) % 2, "b", "a")


def pairs(n=160):
    """Two images of each patient, of one answer each."""
    return np.array([f"p{number // 4}-{number % 2}" for number in range(n)])


def marked(images, answers, rows, columns):
    """A faint bright patch in the images of answer b."""
    images = images.astype(int)
    images[answers == "b", rows, columns] += 90
    return images.clip(0, 255).astype(np.uint8)


def rows_of(found, question):
    return {row.view: row for row in found if row.target == question}


def test_a_watermark_in_the_border_gives_the_source_away_there():
    images = marked(noise(), halves(), slice(0, 4), slice(0, 16))
    labels = np.random.default_rng(1).permutation(halves())
    found = probe_shortcuts(images, halves(), labels, pairs(), **QUICK)
    told = rows_of(found, "source")
    assert told["borders"].low > 0.8
    assert told["grain"].low < 0.75
    shuffled = rows_of(found, "class")["borders"]
    assert shuffled.low <= 0.5 <= shuffled.high
    assert [row.target for row in found] == ["source"] * 4 + ["class"] * 4
    assert {row.measure for row in found} == {"AUROC"}
    assert {row.chance for row in found} == {0.5}


def test_a_mark_beside_the_lungs_is_background_and_not_border():
    images = marked(
        noise(), halves(), slice(6, 10), slice(6, 10)
    )  # a corner of what the frame leaves
    found = rows_of(probe_shortcuts(images, ["one"] * 160, halves(), pairs(), **QUICK), "class")
    assert found["background"].low > 0.7
    assert found["borders"].low < 0.5 < found["borders"].high


def test_a_finding_in_the_lungs_is_seen_by_the_thumbnail_alone():
    images = marked(noise(), halves(), slice(24, 34), slice(16, 26))
    found = rows_of(probe_shortcuts(images, ["one"] * 160, halves(), pairs(), **QUICK), "class")
    assert found["thumbnail"].low > 0.8
    for view in ("borders", "background"):
        assert found[view].low <= 0.5 <= found[view].high


def test_smoothing_is_seen_in_the_grain_at_any_exposure():
    images = noise(80, 32).astype(float)
    smooth = images.copy()
    smooth[:, 1:] = (images[:, 1:] + images[:, :-1]) / 2
    answers = halves(80)
    mixed = np.where((answers == "b")[:, None, None], smooth, images)
    exposed = mixed * np.random.default_rng(0).uniform(0.3, 1, (80, 1, 1))
    assert (
        score_linear_probe(
            radial_power_spectrum(exposed.astype(np.uint8)), answers, pairs(80), **QUICK
        ).low
        > 0.9
    )


def test_the_grain_of_an_image_does_not_depend_on_its_exposure():
    bright = radial_power_spectrum(noise(2))
    np.testing.assert_allclose(radial_power_spectrum(noise(2) // 2), bright, atol=0.05)
    assert np.isfinite(radial_power_spectrum(np.zeros((1, 32, 32), np.uint8))).all()


def test_views_show_what_they_say():
    one = np.zeros((1, 100, 100), np.uint8)
    assert thumbnail(one).shape == (1, 1024)
    assert thumbnail(one, size_px=16).shape == (1, 256)
    assert radial_power_spectrum(one).shape == (1, 50)
    centre = one.copy()
    centre[:, 20:80, 20:80] = 255
    frame = one.copy()
    frame[:, :4] = 255
    for view in (borders, background):
        assert view(centre).max() == 0
        assert view(frame).max() > 0.9
    assert thumbnail(centre).max() == 1


def test_patients_in_both_folds_would_be_told_by_their_own_look():
    """The answer says nothing about the image, but each patient looks like nobody else."""
    rng = np.random.default_rng(0)
    looks, answers = rng.normal(size=(40, 30)), rng.integers(2, size=40)
    features = np.repeat(looks, 8, axis=0) + rng.normal(size=(320, 30)) * 0.2
    answers, patients = np.repeat(answers, 8), np.repeat(np.arange(40), 8)
    honest = score_linear_probe(features, answers, patients, **QUICK)
    leaky = score_linear_probe(features, answers, np.arange(320), **QUICK)
    assert honest.low <= 0.5 <= honest.high
    assert leaky.low > 0.8


def test_answers_with_too_few_images_or_patients_are_left_out_and_named():
    answers = np.array(["a"] * 30 + ["b"] * 30 + ["rare"] * 3 + ["one patient"] * 30)
    patients = np.array([f"p{number}" for number in range(63)] + ["same"] * 30)
    kept, left_out = select_frequent_labels(answers, patients)
    assert left_out == ["one patient", "rare"]
    assert set(answers[kept]) == {"a", "b"}
    found = probe_shortcuts(noise(93, 32), answers, ["one"] * 93, patients, **QUICK)
    assert {row.target for row in found} == {"source"}  # one class is no question
    assert {row.n for row in found} == {60}
    assert all("one patient, rare" in row.note for row in found)


def test_nothing_to_tell_is_an_error():
    with pytest.raises(XraysynthError, match="two labels with at least 10 images of 5 patients"):
        score_linear_probe(np.zeros((20, 3)), ["a"] * 17 + ["b"] * 3, np.arange(20))


def test_three_answers_are_scored_by_balanced_accuracy():
    answers = np.array(["a", "b", "c"] * 40)
    features = np.random.default_rng(0).normal(size=(120, 5))
    features[answers == "c", 0] += 50  # one of three is told, the others are guessed
    found = score_linear_probe(features, answers, np.arange(120), **QUICK)
    assert 0.55 < found.value < 0.8
    row = probe_shortcuts(noise(120, 32), answers, ["x"] * 120, np.arange(120), **QUICK)[0]
    assert row.measure == "balanced accuracy"
    assert row.chance == pytest.approx(1 / 3)


def test_sets_of_one_distribution_cannot_be_told():
    covered, values = 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        real, made = rng.normal(size=(90, 40)), rng.normal(size=(90, 40))
        found = probe_real_vs_synthetic(real, made, np.arange(90) // 2, seed=seed, replicates=200)
        covered += found.low <= 0.5 <= found.high
        values.append(found.value)
    assert covered >= 17
    assert np.mean(values) == pytest.approx(0.5, abs=0.04)


def test_a_shift_of_the_features_is_told():
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(90, 40)), rng.normal(size=(60, 40)) + 0.6
    found = probe_real_vs_synthetic(real, made, np.arange(90) // 2, **QUICK)
    assert found.low > 0.8
    assert found.n == 150


def test_large_sets_are_cut_and_the_cut_depends_on_the_seed_alone(monkeypatch):
    monkeypatch.setattr("xraysynth.evaluation.metrics.probes.MAX_IMAGES", 60)
    images = noise(160, 32)
    runs = [
        probe_shortcuts(images, halves(), ["x"] * 160, pairs(), seed=seed, **QUICK)
        for seed in (0, 0, 1)
    ]
    assert {row.n for row in runs[0]} == {60}
    assert runs[0] == runs[1] != runs[2]
    rng = np.random.default_rng(0)
    sides = rng.normal(size=(2, 200, 4))
    assert probe_real_vs_synthetic(*sides, np.arange(200), **QUICK).n == 60


@pytest.fixture(scope="module")
def module():
    torch.set_num_threads(1)
    return XrayClassifier(classes=["a", "b"], recipe={"backbone": "test_resnet"}, max_steps=1)


def test_a_watermark_of_synthetic_images_reaches_the_features(module):
    real = noise(60, 32)
    marks = np.repeat(["b"], 60)
    patients = np.arange(60)
    told = real_vs_synthetic_auroc(
        module, real, marked(noise(60, 32, 1), marks, slice(0, 8), slice(0, 16)), patients, **QUICK
    )
    clean = real_vs_synthetic_auroc(module, real, noise(60, 32, 1), patients, **QUICK)
    assert told.low > 0.8
    assert clean.low <= 0.5 <= clean.high


def test_an_arm_is_asked_only_what_it_has_images_for(module):
    boxes = [[[0.2, 0.2, 0.8, 0.8]], *[[]] * 29]
    test = (noise(30, 32), np.zeros(30, int), boxes, np.arange(30))
    nothing = np.empty((0, 32, 32), np.uint8)
    found = probe_arm(module, noise(40, 32), nothing, np.arange(40), *test, **QUICK)
    assert found.real_vs_synthetic_auroc is None
    assert found.pointing_game.n == 1
    without = (noise(30, 32), np.zeros(30, int), [[]] * 30, np.arange(30))
    hybrid = probe_arm(module, noise(40, 32), noise(20, 32, 1), np.arange(40), *without, **QUICK)
    assert hybrid.real_vs_synthetic_auroc.n == 60
    assert hybrid.pointing_game is None
    one_patient = probe_arm(module, noise(40, 32), noise(20, 32, 1), ["p"] * 40, *without, **QUICK)
    assert one_patient.real_vs_synthetic_auroc is None


def test_real_collections_are_told_apart_by_their_borders(shared_data):
    folder = shared_data / "cxr-mini"
    table = pd.read_csv(folder / "manifest.csv").iloc[::2]
    table = table[table["patient_id"].notna()]
    images = np.stack([pad_and_resize(read_image(folder / path), 64) for path in table["path"]])
    patients = table["source_dataset"] + "/" + table["patient_id"].astype(str)
    found = probe_shortcuts(images, table["source_dataset"], table["label"], patients, **QUICK)
    told = rows_of(found, "source")
    assert told.keys() == VIEWS.keys()
    assert told["borders"].low > 2 * told["borders"].chance
    assert rows_of(found, "class")["borders"].low > 1 / 3
    assert "tuberculosis" in rows_of(found, "class")["borders"].note
