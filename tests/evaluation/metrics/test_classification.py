import time
from dataclasses import asdict

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.classification import (
    BootstrapScores,
    compare_arms,
    score_arm,
    score_run,
)
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.scores import (
    confusion_matrix,
    pr_band,
    pr_curve,
    replicate_scores,
)

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")


def arm_replicates(*given, **options):
    arm = BootstrapScores.from_runs(*given, **options)
    return {name: arm.replicates(name) for name in arm.means_and_deviations}


def predictions(n=120, seed=0, decimals=None, skill=1.0):
    """Probabilities with some skill, rounded on request so that scores tie, and targets."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    logits = rng.normal(size=(n, 4)) + skill * np.eye(4)[targets]
    if decimals is not None:
        logits = np.round(logits, decimals)
    probabilities = np.exp(logits)
    return probabilities / probabilities.sum(1, keepdims=True), targets


def reference(probabilities, targets, weights):
    """The same scores by scikit-learn."""
    predicted = probabilities.argmax(1)
    given = {"sample_weight": weights}
    scores = {
        "accuracy": sk.accuracy_score(targets, predicted, **given),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted, **given),
    }
    each = sk.precision_recall_fscore_support(
        targets, predicted, labels=range(4), zero_division=0, **given
    )
    for name, values in zip(("precision", "recall", "f1"), each[:3], strict=True):
        scores |= {f"{name}/{c}": v for c, v in zip(CLASSES, values, strict=True)}
        scores[f"macro_{name}"] = values.mean()
    one_hot = np.eye(4)[targets]
    for name, function in (("auroc", sk.roc_auc_score), ("auprc", sk.average_precision_score)):
        values = [function(one_hot[:, c], probabilities[:, c], **given) for c in range(4)]
        scores |= {f"{name}/{c}": v for c, v in zip(CLASSES, values, strict=True)}
        scores[f"macro_{name}"] = np.mean(values)
    squares = ((probabilities - one_hot) ** 2).sum(1)
    scores["brier"] = np.average(squares, weights=weights)
    return scores


@pytest.mark.parametrize("decimals", [None, 0])
def test_scores_equal_scikit_learn_on_every_replicate(decimals):
    probabilities, targets = predictions(decimals=decimals)
    if decimals is not None:  # the case tests ties only if there are many
        assert len(np.unique(probabilities[:, 0])) < 80
    weights = cluster_bootstrap_weights(np.arange(120) // 2, 6, 1, targets=targets)
    weights[0] = 1
    found = replicate_scores(probabilities, targets, weights, classes=CLASSES)
    for row, drawn in enumerate(weights):
        expected = reference(probabilities, targets, drawn)
        assert {name: found[name][row] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert found.keys() == expected.keys() | {"ece"}


def test_point_values_of_evaluate_equal_scikit_learn_and_lie_in_their_intervals():
    probabilities, targets = predictions()
    found = score_run(probabilities, targets, np.arange(120), classes=CLASSES, replicates=200)
    expected = reference(probabilities, targets, np.ones(120))
    assert {name: found[name].value for name in expected} == pytest.approx(expected)
    for name in expected:
        assert found[name].low <= found[name].value <= found[name].high
        assert found[name].low < found[name].high
    assert found["accuracy"].n == 120
    assert found["recall/covid19"].n == np.sum(targets == 2)


def test_calibration_error_equals_torchmetrics():
    probabilities, targets = predictions(skill=2)
    found = replicate_scores(probabilities, targets, np.ones((1, 120)), classes=CLASSES)["ece"]
    expected = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(targets), num_classes=4, n_bins=15
    )
    assert found == pytest.approx([float(expected)], abs=1e-6)


def test_calibration_error_weights_count_images():
    probabilities, targets = predictions()
    weights = cluster_bootstrap_weights(np.arange(120), 1, 0)
    rows = np.repeat(np.arange(120), weights[0])
    weighted = replicate_scores(probabilities, targets, weights, classes=CLASSES)
    repeated = replicate_scores(
        probabilities[rows], targets[rows], np.ones((1, len(rows))), classes=CLASSES
    )
    for name in weighted:
        assert weighted[name] == pytest.approx(repeated[name]), name


def test_confusion_equals_scikit_learn():
    probabilities, targets = predictions()
    weights = cluster_bootstrap_weights(np.arange(120), 3, 0)
    predicted = probabilities.argmax(1)
    assert (
        confusion_matrix(probabilities, targets) == sk.confusion_matrix(targets, predicted)
    ).all()
    for cells, drawn in zip(
        confusion_matrix(probabilities, targets, weights), weights, strict=True
    ):
        assert (cells == sk.confusion_matrix(targets, predicted, sample_weight=drawn)).all()


def test_undefined_scores_follow_the_stated_conventions():
    probabilities, targets = predictions()
    probabilities = probabilities[targets != 3] * [1, 1, 1, 1e-6]
    probabilities /= probabilities.sum(1, keepdims=True)
    targets = targets[targets != 3]
    found = score_run(
        probabilities, targets, np.arange(len(targets)), classes=CLASSES, replicates=9
    )
    for name in ("precision", "recall", "f1"):
        assert found[f"{name}/tuberculosis"].value == 0
    for name in ("auroc", "auprc"):
        assert np.isnan(found[f"{name}/tuberculosis"].value)
        assert np.isnan(found[f"{name}/tuberculosis"].low)
        defined = [found[f"{name}/{c}"].value for c in CLASSES[:3]]
        assert found[f"macro_{name}"].value == pytest.approx(np.mean(defined))
    predicted = probabilities.argmax(1)
    expected = sk.balanced_accuracy_score(targets, predicted)
    assert found["balanced_accuracy"].value == pytest.approx(expected)
    assert found["auroc/tuberculosis"].n == 0


def test_one_class_alone_has_no_auroc():
    probabilities = np.full((5, 4), 0.25)
    weights = np.ones((1, 5))
    found = replicate_scores(probabilities, np.zeros(5, int), weights, classes=CLASSES)
    assert np.isnan(found["auroc/normal"][0])
    assert np.isnan(found["macro_auroc"][0])
    assert found["auprc/normal"][0] == 1


def test_shuffled_order_gives_the_same_scores():
    probabilities, targets = predictions(decimals=0)
    patients = np.arange(120) // 2
    order = np.random.default_rng(5).permutation(120)
    first = score_run(probabilities, targets, patients, classes=CLASSES, replicates=50)
    second = score_run(
        probabilities[order], targets[order], patients[order], classes=CLASSES, replicates=50
    )
    for name in first:
        assert asdict(second[name]) == pytest.approx(asdict(first[name])), name


def test_more_images_of_the_same_patients_do_not_narrow_the_interval():
    probabilities, targets = predictions()
    patients = np.arange(120)
    once = score_run(probabilities, targets, patients, classes=CLASSES)["accuracy"]
    copies = [np.repeat(values, 4, axis=0) for values in (probabilities, targets, patients)]
    clustered = score_run(*copies, classes=CLASSES)["accuracy"]
    naive = score_run(*copies[:2], np.arange(480), classes=CLASSES)["accuracy"]
    assert clustered.high - clustered.low == pytest.approx(once.high - once.low)
    assert naive.high - naive.low < 0.7 * (once.high - once.low)


def test_an_arm_is_the_mean_of_its_runs_and_wider_for_their_spread():
    targets = predictions()[1]
    good = 0.7 * np.eye(4)[targets] + 0.075
    runs = [predictions(skill=2, seed=0)[0], good, np.roll(good, 1, axis=1)]
    patients = np.arange(120)
    arm = score_arm(runs, targets, patients, classes=CLASSES, replicates=300)
    single = [score_run(r, targets, patients, classes=CLASSES, replicates=300) for r in runs]
    for name in ("accuracy", "macro_f1", "auroc/covid19", "ece"):
        assert arm[name].value == pytest.approx(np.mean([one[name].value for one in single]))
    assert arm["accuracy"].low < 0.1  # three runs as different as these say almost nothing
    assert arm["accuracy"].high > 0.9


def test_replicates_spread_between_runs_as_student_t_does():
    """Runs that are right on all images of so many patients; the patients themselves are all alike."""
    targets = np.zeros(400, int)
    runs = []
    for right in (300, 320, 380):
        rows = np.full((400, 4), [0.1, 0.7, 0.1, 0.1])
        rows[:right] = [0.7, 0.1, 0.1, 0.1]
        runs.append(rows)
    drawn = arm_replicates(runs, targets, np.zeros(400), classes=CLASSES, replicates=20_000)
    accuracy = drawn["accuracy"]
    assert accuracy[0] == pytest.approx(1000 / 1200)
    error = np.std([0.75, 0.8, 0.95], ddof=1) / np.sqrt(3)
    quartile, tail = 0.8165, 4.3027  # of t with 2 degrees of freedom, at 75 % and 97.5 %
    found = (np.quantile(accuracy[1:], [0.75, 0.975]) - accuracy[0]) / error
    assert found == pytest.approx([quartile, tail], rel=0.05)


def test_one_run_has_no_spread_between_runs():
    probabilities, targets = predictions()
    weights = cluster_bootstrap_weights(np.arange(120), 30, 0, targets=targets)
    found = arm_replicates([probabilities], targets, np.arange(120), classes=CLASSES, replicates=30)
    expected = replicate_scores(probabilities, targets, weights, classes=CLASSES)
    for name in expected:
        assert found[name][1:] == pytest.approx(expected[name]), name


def test_an_arm_against_itself_differs_by_exactly_nothing():
    _, targets = predictions()
    runs = [predictions(skill=s)[0] for s in (1, 2, 3)]
    options = {"classes": CLASSES, "replicates": 50}
    arm = BootstrapScores.from_runs(runs, targets, np.arange(120), **options)
    assert all((d.value, d.low, d.high) == (0, 0, 0) for d in arm.difference_to(arm).values())
    apart = compare_arms(runs, runs, targets, np.arange(120), **options)
    assert all(d.value == 0 and d.low <= 0 <= d.high for d in apart.values())


def test_pairing_narrows_the_interval_of_a_difference():
    better, targets = predictions(n=300, skill=1.5)
    worse = better.copy()
    spoilt = np.flatnonzero(better.argmax(1) == targets)[:15]
    worse[spoilt] = np.roll(worse[spoilt], 1, axis=1)
    patients = np.arange(300)
    found = compare_arms([better], [worse], targets, patients, classes=CLASSES)["accuracy"]
    alone = score_run(better, targets, patients, classes=CLASSES)["accuracy"]
    assert found.value == pytest.approx(15 / 300)
    assert found.low > 0
    assert found.high - found.low < 0.6 * (alone.high - alone.low)


def test_arms_of_different_numbers_of_runs_are_compared():
    _, targets = predictions()
    runs = [predictions(skill=s)[0] for s in (1, 2, 3)]
    given = (targets, np.arange(120))
    options = {"classes": CLASSES, "replicates": 200}
    found = compare_arms(runs, runs[:2], *given, **options)["macro_f1"]
    arm = BootstrapScores.from_runs(runs, *given, **options)
    fewer = arm.select_runs([0, 1])
    direct = BootstrapScores.from_runs(runs[:2], *given, **options)
    assert fewer.intervals() == direct.intervals()
    assert found.value == pytest.approx(
        arm.run_values("macro_f1").mean() - fewer.run_values("macro_f1").mean()
    )
    assert found.low < 0 < found.high
    others = BootstrapScores.from_runs(runs, *given, classes=CLASSES, replicates=20)
    with pytest.raises(XraysynthError, match="score both with the same weights"):
        arm.difference_to(others)


def test_a_p_value_agrees_with_the_interval_and_one_run_has_none():
    targets = np.arange(300) % 4
    rng = np.random.default_rng(0)

    def arm(skill):
        logits = rng.normal(size=(4, 300, 4)) + skill * np.eye(4)[targets]
        runs = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
        options = {"classes": CLASSES, "replicates": 400}
        return BootstrapScores.from_runs(list(runs), targets, np.arange(300), **options)

    weak, strong = arm(0.5), arm(2.0)
    assert strong.difference_to(weak)["macro_f1"].low > 0
    assert strong.p_value(weak, "macro_f1") < 0.01
    assert weak.p_value(weak, "macro_f1") == 1
    one = strong.select_runs([0])
    assert one.p_value(weak.select_runs([0]), "macro_f1") is None
    assert one.difference_to(weak.select_runs([0]))["macro_f1"].low > 0  # over patients alone


def test_a_class_of_one_patient_widens_what_it_enters():
    """Recall on five images of the one patient of a class: 0.8, about which hardly anything is known."""
    targets = np.array([0] * 60 + [1] * 60 + [2] * 5)
    patients = np.array([*(f"p{n}" for n in range(120)), *["only"] * 5])
    chosen = targets.copy()
    chosen[[3, 70, 124]] = [1, 0, 0]
    probabilities = np.eye(3)[chosen] * 0.97 + 0.01
    found = score_run(probabilities, targets, patients, classes=CLASSES[:3], replicates=200)
    recall = found[f"recall/{CLASSES[2]}"]
    assert recall.value == pytest.approx(0.8)
    assert recall.low < 0.2
    assert recall.high > 0.95
    assert found["balanced_accuracy"].high - found["balanced_accuracy"].low > 0.2
    assert found["accuracy"].high - found["accuracy"].low < 0.1
    many = np.array([f"p{n}" for n in range(125)])
    apart = score_run(probabilities, targets, many[: len(targets)], classes=CLASSES[:3])
    assert apart["balanced_accuracy"].high - apart["balanced_accuracy"].low < 0.45


def test_what_few_patients_hide_is_in_a_difference_too():
    targets = np.array([0] * 60 + [1] * 60 + [2] * 5)
    patients = np.array([*(f"p{n}" for n in range(120)), *["only"] * 5])
    options = {"classes": CLASSES[:3], "replicates": 300}
    arms = []
    for missed in (1, 3):
        chosen = targets.copy()
        chosen[120 : 120 + missed] = 0
        probabilities = np.eye(3)[chosen] * 0.97 + 0.01
        arms.append(BootstrapScores.from_runs([probabilities] * 2, targets, patients, **options))
    found = arms[0].difference_to(arms[1])["macro_recall"]
    assert found.value == pytest.approx(0.4 / 3)
    assert found.low < 0  # by the one patient's images alone it would be exact
    assert arms[0].p_value(arms[1], "macro_recall") > 0.05


def test_a_classifier_that_always_says_the_same_has_an_interval():
    """Recalls of 1 and 0 are those of every draw of patients, and yet not known exactly."""
    targets = np.arange(120) % 4
    always = np.tile([0.97, 0.01, 0.01, 0.01], (120, 1))
    found = score_run(always, targets, np.arange(120), classes=CLASSES, replicates=300)
    balanced = found["balanced_accuracy"]
    assert balanced.value == 0.25
    assert 0.02 < balanced.high - balanced.low < 0.12  # four classes of 30 patients: ± 0.03


def test_weighting_to_a_class_mix_gives_the_scores_of_a_set_in_that_mix():
    probabilities, targets = predictions(n=400)
    mix = np.array([0.6, 0.2, 0.15, 0.05])
    found = score_run(
        probabilities, targets, np.arange(400), classes=CLASSES, replicates=20, mix=mix
    )
    recalls = [np.mean(probabilities[targets == c].argmax(1) == c) for c in range(4)]
    assert found["accuracy"].value == pytest.approx(mix @ recalls)
    assert found["balanced_accuracy"].value == pytest.approx(np.mean(recalls))
    plain = score_run(probabilities, targets, np.arange(400), classes=CLASSES, replicates=20)
    own = np.bincount(targets) / 400
    same = score_run(
        probabilities, targets, np.arange(400), classes=CLASSES, replicates=20, mix=own
    )
    assert same["macro_f1"].value == pytest.approx(plain["macro_f1"].value)
    with pytest.raises(XraysynthError, match="proportion of at least 0 for each of the 4 classes"):
        score_run(probabilities, targets, np.arange(400), classes=CLASSES, mix=mix[:3])


def test_replicates_do_not_depend_on_the_block_size(monkeypatch):
    probabilities, targets = predictions()
    given = {"classes": CLASSES, "replicates": 25}
    whole = arm_replicates([probabilities], targets, np.arange(120), **given)
    monkeypatch.setattr("xraysynth.evaluation.metrics.scores._BLOCK_WEIGHTS", 500)
    blocks = arm_replicates([probabilities], targets, np.arange(120), **given)
    for name in whole:
        assert blocks[name] == pytest.approx(whole[name], nan_ok=True)


def test_pr_curve_equals_scikit_learn():
    probabilities, targets = predictions(decimals=0)
    found = pr_curve(probabilities, targets, index=2)
    expected = sk.precision_recall_curve(targets == 2, probabilities[:, 2])
    for a, b in zip(found, expected, strict=True):
        assert (a == b).all()


def test_pr_band_follows_the_curve_and_surrounds_it():
    probabilities, targets = predictions(decimals=0)
    weights = cluster_bootstrap_weights(np.arange(120), 100, 0, targets=targets)
    recall = np.array([0.05, 0.3, 0.5, 0.8, 1.0])
    value, low, high = pr_band(probabilities, targets, weights, index=1, recall=recall)
    precision, reached, _ = pr_curve(probabilities, targets, index=1)  # recall falls to 0
    for level, found in zip(recall, value, strict=True):
        assert found == pytest.approx(precision[np.flatnonzero(reached >= level - 1e-9)[-1]])
    assert (low <= value).all()
    assert (value <= high).all()
    assert (high > low).any()


def test_a_thousand_replicates_take_well_under_a_second():
    probabilities, targets = predictions(n=400)
    patients = np.arange(400)
    start = time.process_time()  # blind to other processes on the machine
    score_run(probabilities, targets, patients, classes=CLASSES)
    assert time.process_time() - start < 1  # 0.15 s on an idle core


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        (np.full((3, 4), 0.25), np.array([0, 1]), r"must be \(images, classes\)"),
        (np.full((2, 3), 1 / 3), np.array([0, 1]), r"must be \(images, classes\)"),
        (np.zeros((0, 4)), np.zeros(0, int), "at least one image"),
        (np.full((2, 4), 2.0), np.array([0, 1]), "sum to 1"),
        (np.full((2, 4), np.nan), np.array([0, 1]), "finite"),
        (np.array([[2.0, -1, 0, 0]]), np.array([0]), "at least 0"),
        (np.full((2, 4), 0.25), np.array([0, 4]), "from 0 to 3"),
        (np.full((2, 4), 0.25), np.array([0.0, 1.0]), "class indices"),
    ],
)
def test_wrong_input_is_refused(probabilities, targets, message):
    with pytest.raises(XraysynthError, match=message):
        score_run(probabilities, targets, np.arange(len(targets)), classes=CLASSES)


def test_an_arm_without_runs_and_weights_of_other_images_are_refused():
    probabilities, targets = predictions()
    with pytest.raises(XraysynthError, match="without runs"):
        score_arm([], targets, np.arange(120), classes=CLASSES)
    with pytest.raises(XraysynthError, match=r"\(R, 120\)"):
        replicate_scores(probabilities, targets, np.ones((2, 119)), classes=CLASSES)
