"""Shortcut probes: linear probes that predict class or source from views that should not show them.

A probe standardises features, keeps their principal components and fits a logistic regression. It is
scored on images of patients that it was not fitted on. If a linear probe can predict a label from such
a view, a network can learn this shortcut instead of the disease (DeGrave et al. 2021,
doi:10.1038/s42256-021-00338-7).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.classification import score_run
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval
from xraysynth.evaluation.metrics.views import background, borders, radial_power_spectrum, thumbnail
from xraysynth.progress import progress_bar
from xraysynth.records import formerly
from xraysynth.seeds import derive_seed

FOLDS = 5
MAX_IMAGES = 4000
"""Number of images that a probe is fitted and scored on; from a larger set they are drawn."""

PCA_COMPONENTS = 128

VIEWS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "thumbnail": thumbnail,
    "borders": borders,
    "background": background,
    "grain": radial_power_spectrum,
}
"""Views that a probe is fitted on, from `(N, H, W)` uint8 to `(N, d)`. The thumbnail shows the lungs too."""


@formerly(target="question")
@dataclass(frozen=True, kw_only=True)
class Shortcut(Interval):
    """The score of a linear probe that predicts a target from one view of the images.

    Attributes:
        target: "class" or "source".
        view: A key of `VIEWS`.
        chance: The score of guessing.
        measure: "AUROC" for two labels, "balanced accuracy" for more.
        note: Which labels were left out.
    """

    target: str
    view: str
    chance: float
    measure: str = ""
    note: str = ""


def probe_shortcuts(
    images: np.ndarray,
    sources: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> list[Shortcut]:
    """Probe every view of the images for their class and for their source.

    The class should be at chance from borders, background and grain. A target of which fewer than two
    labels have enough images is left out.

    Args:
        images: Images `(N, H, W)` uint8, of which at most `MAX_IMAGES` are used.
        sources: Source of each image, `(N,)`.
        labels: Class of each image, `(N,)`.
        patients: Patient id of each image, `(N,)`.
        seed: Seed of all draws.
        replicates: Number of bootstrap replicates.

    Returns:
        One row per view for the source, then one per view for the class.
    """
    rows = subsample(len(images), MAX_IMAGES, seed)
    images, patient_ids = images[rows], np.asarray(patients)[rows]
    columns = {"source": np.asarray(sources), "class": np.asarray(labels)}
    targets = {}
    for target, column in columns.items():
        target_labels = column.astype(str)[rows]
        if _is_learnable(target_labels, patient_ids):
            targets[target] = target_labels
    shortcuts = []
    with progress_bar("probe", len(VIEWS) * len(targets), "probe") as bar:
        for view, extract_features in VIEWS.items():
            features = extract_features(images)
            for target, target_labels in targets.items():
                score = score_linear_probe(
                    features, target_labels, patient_ids, seed=seed, replicates=replicates
                )
                shortcuts.append(_build_shortcut(target, view, score, target_labels, patient_ids))
                bar.update()
    order = list(columns)
    return sorted(shortcuts, key=lambda shortcut: order.index(shortcut.target))


def _is_learnable(labels: np.ndarray, patients: np.ndarray) -> bool:
    """Return whether at least two labels have enough images and patients."""
    is_frequent, _ = select_frequent_labels(labels, patients)
    return len(np.unique(labels[is_frequent])) > 1


def _build_shortcut(
    target: str, view: str, score: Interval, labels: np.ndarray, patients: np.ndarray
) -> Shortcut:
    is_frequent, left_out = select_frequent_labels(labels, patients)
    n_labels = len(np.unique(labels[is_frequent]))
    note = f"left out for too few images or patients: {', '.join(left_out)}" if left_out else ""
    return Shortcut(
        *score.as_tuple(),
        target=target,
        view=view,
        measure="AUROC" if n_labels == 2 else "balanced accuracy",
        chance=1 / n_labels,
        note=note,
    )


def select_frequent_labels(
    labels: ArrayLike, patients: ArrayLike, *, folds: int = FOLDS
) -> tuple[np.ndarray, list[str]]:
    """Select the labels that have at least 2 images and 1 patient per fold.

    Args:
        labels: Label of each image, `(N,)`.
        patients: Patient id of each image, `(N,)`.
        folds: Number of folds of the cross-validation.

    Returns:
        Which images have such a label, `(N,)` bool, and the other labels.
    """
    labels, patients = np.asarray(labels).astype(str), np.asarray(patients).astype(str)
    left_out = []
    for label in np.unique(labels):
        label_patients = patients[labels == label]
        if len(label_patients) < 2 * folds or len(np.unique(label_patients)) < folds:
            left_out.append(str(label))
    return ~np.isin(labels, left_out), left_out


def score_linear_probe(
    features: np.ndarray,
    labels: ArrayLike,
    patients: ArrayLike,
    *,
    seed: int = 0,
    folds: int = FOLDS,
    replicates: int = REPLICATES,
) -> Interval:
    """Score a linear probe by cross-validation over patients; higher means better predicted.

    The score is the AUROC for two labels, else the balanced accuracy; chance is 1 / (number of
    labels). The interval is a bootstrap over patients, widened for the shared training images of the
    folds. Labels that `select_frequent_labels` does not select are left out.

    Args:
        features: Features `(N, d)`.
        labels: Label of each image, `(N,)`.
        patients: Patient id of each image, `(N,)`.
        seed: Seed of all draws.
        folds: Number of folds, K.
        replicates: Number of bootstrap replicates.

    Raises:
        XraysynthError: If fewer than two labels have enough images and patients.
    """
    is_frequent, left_out = select_frequent_labels(labels, patients, folds=folds)
    names, targets = np.unique(np.asarray(labels).astype(str)[is_frequent], return_inverse=True)
    if len(names) < 2:
        raise XraysynthError(
            f"a probe needs two labels with at least {2 * folds} images of {folds} patients each; "
            f"enough images have {', '.join(names) or 'none'}, and too few have "
            f"{', '.join(left_out) or 'none'}; add images, or merge labels"
        )
    patient_ids = np.asarray(patients).astype(str)[is_frequent]
    probabilities = _cross_val_probabilities(
        features[is_frequent], targets, patient_ids, folds, seed
    )
    scores = score_run(
        probabilities, targets, patient_ids, classes=list(names), replicates=replicates, seed=seed
    )
    score = scores["macro_auroc" if len(names) == 2 else "balanced_accuracy"]
    return _widen_interval(score, folds)


def _widen_interval(score: Interval, folds: int) -> Interval:
    """Widen an interval by √(1 + K / (K - 1)), within [0, 1], for K folds that share training images.

    Nadeau & Bengio 2003 (doi:10.1023/A:1024068626366). Without it, the interval would not contain
    chance in about one of six probes of labels that cannot be predicted.
    """
    factor = float(np.sqrt(1 + folds / (folds - 1)))
    low = max(0.0, score.value - factor * (score.value - score.low))
    high = min(1.0, score.value + factor * (score.high - score.value))
    return Interval(score.value, low, high, score.n)


def _cross_val_probabilities(
    features: np.ndarray, targets: np.ndarray, patients: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """Return the probabilities `(N, C)` of each image by a probe that was not fitted on its patient."""
    from sklearn.model_selection import StratifiedGroupKFold

    state = derive_seed(seed, "probe") % 2**32
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
    predicted = np.zeros((len(targets), int(targets.max()) + 1))
    for train_rows, test_rows in splits.split(features, targets, patients):
        probe = _build_probe(features[train_rows], state)
        probe.fit(features[train_rows], targets[train_rows])
        cells = np.ix_(test_rows, probe.classes_)
        predicted[cells] = probe.predict_proba(features[test_rows])
    return predicted


def _build_probe(features: np.ndarray, random_state: int) -> Any:
    """Build a probe with as many components as `features` `(N, d)` allow, at most `PCA_COMPONENTS`."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    components = min(PCA_COMPONENTS, len(features) // 2, features.shape[1])
    return make_pipeline(
        StandardScaler(),
        PCA(components, random_state=random_state),
        LogisticRegression(C=0.01, class_weight="balanced", max_iter=300),
    )


def probe_real_vs_synthetic(
    real_features: np.ndarray,
    synthetic_features: np.ndarray,
    patients: ArrayLike,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval:
    """Compute the AUROC by which a linear probe separates synthetic from real features.

    0.5 means that it cannot. Each set is cut to `MAX_IMAGES` / 2.

    Args:
        real_features: Features `(N, d)` of real images.
        synthetic_features: Features `(M, d)` of synthetic images; each counts as a patient.
        patients: Patient id of each real image.
        seed: Seed of all draws.
        replicates: Number of bootstrap replicates.
    """
    real_rows = subsample(len(real_features), MAX_IMAGES // 2, seed)
    synthetic_rows = subsample(len(synthetic_features), MAX_IMAGES // 2, seed)
    features = np.concatenate([real_features[real_rows], synthetic_features[synthetic_rows]])
    groups = [f"real/{patient}" for patient in np.asarray(patients)[real_rows]]
    groups += [f"synthetic/{number}" for number in range(len(synthetic_rows))]
    labels = ["real"] * len(real_rows) + ["synthetic"] * len(synthetic_rows)
    return score_linear_probe(features, labels, groups, seed=seed, replicates=replicates)


def subsample(n: int, max_rows: int, seed: int) -> np.ndarray:
    """Return the rows of `n` images in order: all, or `max_rows` of them drawn at random."""
    if n <= max_rows:
        return np.arange(n)
    rng = np.random.default_rng(derive_seed(seed, "subsample", n))
    return np.sort(rng.choice(n, max_rows, replace=False))
