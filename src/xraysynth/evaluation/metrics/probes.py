"""Shortcuts: what linear probes can tell from images, by what they should not tell it from.

A probe standardises features, keeps their principal components and fits a logistic regression. It
is scored on images of patients it was not fitted on. What a linear probe tells, a network can learn
instead of the disease (DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7).
"""

from collections.abc import Callable, Iterator, Mapping
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
"""Images a probe is fitted and scored on; of more, so many are drawn."""
PCA_COMPONENTS = 128

VIEWS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "thumbnail": thumbnail,
    "borders": borders,
    "background": background,
    "grain": radial_power_spectrum,
}
"""What a probe is shown, from `(N, H, W)` uint8 to `(N, d)`. The thumbnail shows the lungs too."""


@formerly(target="question")
@dataclass(frozen=True, kw_only=True)
class Shortcut(Interval):
    """How well one view of the images tells the answer to one question.

    `measure` is the AUROC of two answers, or the balanced accuracy of more; `chance` is what
    guessing gets. `note` says which answers were left out.
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
    """What every view of `images` `(N, H, W)` uint8 tells of their class, and of their source.

    The class from borders, background or grain should be at chance. A question with fewer than two
    answers that have enough images is not asked. At most `MAX_IMAGES` images are looked at.
    """
    questions = {"source": np.asarray(sources).astype(str), "class": np.asarray(labels).astype(str)}
    keep = subsample(len(images), MAX_IMAGES, seed)
    images, of = images[keep], np.asarray(patients)[keep]
    asked = dict(_learnable_targets({name: values[keep] for name, values in questions.items()}, of))
    found = []
    with progress_bar("probe", len(VIEWS) * len(asked), "probe") as bar:
        for view, shown in VIEWS.items():
            features = shown(images)
            for question, answers in asked.items():
                told = score_linear_probe(features, answers, of, seed=seed, replicates=replicates)
                found.append(_build_shortcut(question, view, told, answers, of))
                bar.update()
    return sorted(found, key=lambda row: list(questions).index(row.target))


def _learnable_targets(
    targets: Mapping[str, np.ndarray], patients: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    for question, answers in targets.items():
        kept, _ = select_frequent_labels(answers, patients)
        if len(np.unique(answers[kept])) > 1:
            yield question, answers


def _build_shortcut(
    target: str, view: str, score: Interval, labels: np.ndarray, patients: np.ndarray
) -> Shortcut:
    kept, left_out = select_frequent_labels(labels, patients)
    n_answers = len(np.unique(labels[kept]))
    measure = "AUROC" if n_answers == 2 else "balanced accuracy"
    note = f"left out for too few images or patients: {', '.join(left_out)}" if left_out else ""
    return Shortcut(
        *score.as_tuple(),
        target=target,
        view=view,
        measure=measure,
        chance=1 / n_answers,
        note=note,
    )


def select_frequent_labels(
    labels: ArrayLike, patients: ArrayLike, *, folds: int = FOLDS
) -> tuple[np.ndarray, list[str]]:
    """Images `(N,)` bool whose answer has at least 2 images and 1 patient a fold; the others' answers."""
    labels, patients = np.asarray(labels).astype(str), np.asarray(patients).astype(str)
    left_out = [
        str(answer)
        for answer in np.unique(labels)
        if np.sum(labels == answer) < 2 * folds
        or len(np.unique(patients[labels == answer])) < folds
    ]
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
    """How well a linear probe of `features` `(N, d)` tells `answers` `(N,)`; higher is better told.

    AUROC where there are two answers, else balanced accuracy, of predictions by cross-validation
    over patients; the interval is a bootstrap over patients, widened by `_widened`. Answers that are
    not `select_frequent_labels` are left out; fewer than two others raise `XraysynthError`. Chance is
    1 / (number of answers).
    """
    kept, left_out = select_frequent_labels(labels, patients, folds=folds)
    names, targets = np.unique(np.asarray(labels).astype(str)[kept], return_inverse=True)
    if len(names) < 2:
        raise XraysynthError(
            f"a probe needs two answers with at least {2 * folds} images of {folds} patients each; "
            f"there is {', '.join(names) or 'none'}, and too little of {', '.join(left_out) or 'others'}"
        )
    of = np.asarray(patients).astype(str)[kept]
    probabilities = _cross_val_probabilities(features[kept], targets, of, folds, seed)
    scores = score_run(
        probabilities, targets, of, classes=list(names), replicates=replicates, seed=seed
    )
    return _widen_interval(scores["macro_auroc" if len(names) == 2 else "balanced_accuracy"], folds)


def _widen_interval(score: Interval, folds: int) -> Interval:
    """The interval times √(1 + K / (K - 1)), in [0, 1], for K folds that share training images.

    Nadeau & Bengio 2003 (doi:10.1023/A:1024068626366). Without it, chance would be outside in about
    one of six probes of answers that cannot be told.
    """
    factor = float(np.sqrt(1 + folds / (folds - 1)))
    low = max(0.0, score.value - factor * (score.value - score.low))
    high = min(1.0, score.value + factor * (score.high - score.value))
    return Interval(score.value, low, high, score.n)


def _cross_val_probabilities(
    features: np.ndarray, targets: np.ndarray, patients: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """Probabilities `(N, C)` of each image by the probe that has not seen its patient."""
    from sklearn.model_selection import StratifiedGroupKFold

    state = derive_seed(seed, "probe") % 2**32
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
    predicted = np.zeros((len(targets), int(targets.max()) + 1))
    for fit, held in splits.split(features, targets, patients):
        probe = _build_probe(features[fit], state).fit(features[fit], targets[fit])
        predicted[np.ix_(held, probe.classes_)] = probe.predict_proba(features[held])
    return predicted


def _build_probe(features: np.ndarray, random_state: int) -> Any:
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
    """AUROC by which a linear probe tells synthetic features from real ones; 0.5: not at all.

    `patients` are those of the real images; each synthetic image is a patient of its own. Each side
    is cut to `MAX_IMAGES` / 2.
    """
    real = subsample(len(real_features), MAX_IMAGES // 2, seed)
    made = subsample(len(synthetic_features), MAX_IMAGES // 2, seed)
    features = np.concatenate([real_features[real], synthetic_features[made]])
    groups = [f"real/{patient}" for patient in np.asarray(patients)[real]]
    groups += [f"synthetic/{number}" for number in range(len(made))]
    answers = ["real"] * len(real) + ["synthetic"] * len(made)
    return score_linear_probe(features, answers, groups, seed=seed, replicates=replicates)


def subsample(n: int, max_rows: int, seed: int) -> np.ndarray:
    """Rows of `n` images, in order; `most` of them where there are more."""
    if n <= max_rows:
        return np.arange(n)
    rng = np.random.default_rng(derive_seed(seed, "subsample", n))
    return np.sort(rng.choice(n, max_rows, replace=False))
