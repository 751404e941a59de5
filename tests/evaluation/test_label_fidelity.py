"""Label fidelity, usable images and classifiers of real images on a pool, against numbers by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from xraysynth.evaluation.classifier_evaluation import ClassifierTest
from xraysynth.evaluation.label_fidelity import measure_label_fidelity, scores_on_pool, usable_share
from xraysynth.evaluation.metrics.statistics import Interval


def fidelity_of(counts, *, per_class=(0.9, 0.5), judged=(0.9, 0.5)):
    """Of a pool with these numbers of each class, a set share of which is seen as its class."""
    targets = np.repeat(np.arange(2), counts)
    right = np.concatenate(
        [np.arange(n) < round(share * n) for n, share in zip(counts, per_class, strict=True)]
    )
    table = pd.DataFrame({"image_id": [f"i{n}" for n in range(len(targets))]})
    images = SimpleNamespace(table=table, targets=targets, classes=("a", "b"))
    scores = {
        f"recall/{name}": Interval(value, max(0, value - 0.1), min(1, value + 0.1), 50)
        for name, value in zip(("a", "b"), judged, strict=True)
    }
    mean = sum(judged) / 2
    scores["balanced_accuracy"] = Interval(mean, mean, mean, 100)
    judge = SimpleNamespace(scores=scores)
    seen = np.eye(2)[np.where(right, targets, 1 - targets)]
    return measure_label_fidelity(images, seen, judge, replicates=50)


def test_label_fidelity_of_all_classes_does_not_depend_on_their_mix():
    """With the same recalls, shares of all images would be 84 % of real ones but 70 % of a pool with
    equally many of each class."""
    for counts in ((100, 100), (170, 30)):
        whole = fidelity_of(counts)[0]
        assert whole.value == pytest.approx(0.7)
        assert whole.real == pytest.approx(0.7)
    whole = fidelity_of((100, 0))[0]
    assert (whole.value, whole.real) == (pytest.approx(0.9), pytest.approx(0.9))


def test_label_fidelity_of_all_and_none_is_not_told_exactly():
    """A judge that always sees class a: 50 % of both classes is chance, by some few images."""
    whole = fidelity_of((40, 40), per_class=(1.0, 0.0), judged=(1.0, 0.0))[0]
    assert whole.value == whole.real == 0.5
    assert whole.low < 0.49
    assert whole.high > 0.51
    assert whole.real_low < 0.49
    assert whole.real_high > 0.51
    targets = np.repeat([0, 1], 40)
    found = usable_share(np.eye(2)[np.zeros(80, int)], targets, None, 200)
    assert found.low < 0.49
    assert found.high > 0.51


TEST = ClassifierTest(("a", "b"), replicates=50, size_px=8, cache=Path("cache"))


def test_real_classifiers_are_tested_on_a_pool_in_the_mix_of_the_real_test_images(monkeypatch):
    """Right in all of class a and in half of class b: 90 % of a cohort with a fifth of b."""
    targets = np.repeat([0, 1], [20, 20])
    right = np.arange(40) < 30
    seen = np.eye(2)[np.where(right, targets, 1 - targets)]
    monkeypatch.setattr(ClassifierTest, "predict", lambda *given: seen)
    table = pd.DataFrame({"image_id": [f"i{n}" for n in range(40)]})
    made = SimpleNamespace(table=table, targets=targets)
    test_images = SimpleNamespace(targets=np.repeat([0, 1], [80, 20]))
    found = scores_on_pool(TEST, made, test_images, [Path("weights")])
    assert found["accuracy"].value == pytest.approx(0.9)
    assert found["seeds"] == 1
    assert "without" not in found


def test_real_classifiers_are_tested_on_the_classes_that_a_pool_has(monkeypatch):
    """A pool of a alone, nine in ten right, beside real images of a, eight in ten right."""
    kinds = {"made": np.zeros(40, int), "real": np.repeat([0, 1], [80, 20])}
    wrong = {"made": np.arange(40) < 4, "real": np.arange(100) < 16}
    images = {}
    for name, targets in kinds.items():
        table = pd.DataFrame({"image_id": [f"i{n}" for n in range(len(targets))], "source": "s"})
        images[name] = SimpleNamespace(
            table=table.assign(patient_id=table["image_id"]), targets=targets
        )
    seen = {
        id(images[name]): np.eye(2)[np.where(wrong[name], 1 - targets, targets)]
        for name, targets in kinds.items()
    }
    monkeypatch.setattr(ClassifierTest, "predict", lambda tester, images, weights: seen[id(images)])
    found = scores_on_pool(TEST, images["made"], images["real"], [Path("weights")])
    assert found["accuracy"].value == pytest.approx(0.9)
    assert found["accuracy of real images"].value == pytest.approx(0.8)
    assert found["without"] == ["b"]
    assert "macro_f1" not in found
    only_b = SimpleNamespace(table=images["real"].table[80:], targets=np.ones(20, int))
    assert scores_on_pool(TEST, only_b, images["made"], [Path("weights")]) == {}


def test_usable_images_are_of_their_class_and_no_copies():
    """By hand: 2 of 4 in one class and 9 of 10 in the other, one of these a copy."""
    targets = np.repeat([0, 1], [4, 10])
    seen = np.eye(2)[np.concatenate([[0, 0, 1, 1], [1] * 9, [0]])]
    copied = np.arange(14) == 5
    found = usable_share(seen, targets, copied, 200)
    assert found.value == pytest.approx((2 / 4 + 8 / 10) / 2)
    assert found.low < found.value < found.high
    assert (found.n, found.copies_looked_for) == (14, True)
    unlooked = usable_share(seen, targets, None, 200)
    assert unlooked.value == pytest.approx((2 / 4 + 9 / 10) / 2)
    assert unlooked.copies_looked_for is False
    all_of_them = usable_share(np.eye(2)[targets], targets, None, 200)
    assert (all_of_them.value, all_of_them.high) == (1, 1)
    assert 0.6 < all_of_them.low < 0.9
