"""Shortcuts: what linear probes can tell from images, by what they should not tell it from.

A probe standardises features, keeps their principal components and fits a logistic regression. It
is scored on images of patients it was not fitted on. What a linear probe tells, a network can learn
instead of the disease (DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.classification import evaluate
from xraysynth.evaluation.metrics.pointing import Pointing, pointing
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval
from xraysynth.progress import progress
from xraysynth.seeds import derive_seed

if TYPE_CHECKING:
    from xraysynth.training.classifier import XrayClassifier

FOLDS = 5
AT_MOST = 4000
"""Images a probe is fitted and scored on; of more, so many are drawn."""
FEWEST = 20
"""With fewer real images, or synthetic ones, they are not probed for which is which."""
COMPONENTS = 128
_BATCH = 64


def thumbnail(images: np.ndarray, *, size_px: int = 32) -> np.ndarray:
    """The whole image, small: `(N, H, W)` uint8 to `(N, size_px²)` float32 in [0, 1]."""
    return _small(images, size_px).reshape(len(images), -1)


def borders(images: np.ndarray, *, width: float = 0.08) -> np.ndarray:
    """The outer frame alone, `width` of the side, at no more than 64 px: markers, bars, padding."""
    x, y = _grid(min(64, *images.shape[1:]))
    inside = (np.abs(x - 0.5) < 0.5 - width) & (np.abs(y - 0.5) < 0.5 - width)
    return _small(images, len(inside))[:, ~inside]


def background(images: np.ndarray, *, size_px: int = 32) -> np.ndarray:
    """What lies around the lungs: shoulders, neck, arms, abdomen, and the space beside the body.

    There is no segmentation: one fixed superellipse is blanked, which covers 66 % of the image and
    the lungs of an upright, closely framed radiograph but for a few percent of their area.
    """
    x, y = _grid(size_px)
    lungs = np.abs((x - 0.5) / 0.46) ** 3 + np.abs((y - 0.47) / 0.41) ** 3 <= 1
    return _small(images, size_px)[:, ~lungs]


def grain(images: np.ndarray) -> np.ndarray:
    """Radially averaged log power spectrum of each standardised image: `(N, min(H, W) // 2)`.

    Sharpness, noise, compression and interpolation, whatever the image shows and its exposure.
    """
    rows, columns = images.shape[1:]
    window = np.outer(np.hanning(rows), np.hanning(columns))
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(rows), np.fft.fftfreq(columns), indexing="ij"))
    n_rings = min(rows, columns) // 2
    ring = np.minimum((radius * 2 * n_rings).round().astype(int), n_rings).ravel()
    return np.stack([_rings(image, window, ring, n_rings) for image in images])


def _rings(image: np.ndarray, window: np.ndarray, ring: np.ndarray, n_rings: int) -> np.ndarray:
    values = image.astype(np.float64)
    values = (values - values.mean()) / max(float(values.std()), 1e-6)
    power = np.abs(np.fft.fft2(values * window)).ravel() ** 2
    sums = np.bincount(ring, power, minlength=n_rings + 1) / np.bincount(ring)
    # Ring 0 is the mean; the last one also takes the corners, beyond half a cycle a pixel.
    return np.asarray(np.log(sums[1:] + 1e-6))


VIEWS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "thumbnail": thumbnail,
    "borders": borders,
    "background": background,
    "grain": grain,
}
"""What a probe is shown, from `(N, H, W)` uint8 to `(N, d)`. The thumbnail shows the lungs too."""


@dataclass(frozen=True, kw_only=True)
class Shortcut(Interval):
    """How well one view of the images tells the answer to one question.

    `measure` is the AUROC of two answers, or the balanced accuracy of more; `chance` is what
    guessing gets. `note` says which answers were left out.
    """

    question: str
    view: str
    chance: float
    measure: str = ""
    note: str = ""


@dataclass(frozen=True)
class ArmProbes:
    """What a trained classifier tells: None where there are too few images or no known findings.

    `told_synthetic` is the AUROC by which its features tell synthetic from real training images.
    """

    told_synthetic: Interval | None = None
    pointing: Pointing | None = None


def shortcuts(
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
    answers that have enough images is not asked. At most `AT_MOST` images are looked at.
    """
    questions = {"source": np.asarray(sources).astype(str), "class": np.asarray(labels).astype(str)}
    keep = _subsample(len(images), AT_MOST, seed)
    images, of = images[keep], np.asarray(patients)[keep]
    asked = dict(_askable({name: values[keep] for name, values in questions.items()}, of))
    found = []
    with progress("probe", len(VIEWS) * len(asked), "probe") as bar:
        for view, shown in VIEWS.items():
            features = shown(images)
            for question, answers in asked.items():
                told = told_by(features, answers, of, seed=seed, replicates=replicates)
                found.append(_shortcut(question, view, told, answers, of))
                bar.update()
    return sorted(found, key=lambda row: list(questions).index(row.question))


def _askable(
    questions: Mapping[str, np.ndarray], patients: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    for question, answers in questions.items():
        kept, _ = answerable(answers, patients)
        if len(np.unique(answers[kept])) > 1:
            yield question, answers


def _shortcut(
    question: str, view: str, told: Interval, answers: np.ndarray, patients: np.ndarray
) -> Shortcut:
    kept, left_out = answerable(answers, patients)
    n_answers = len(np.unique(answers[kept]))
    measure = "AUROC" if n_answers == 2 else "balanced accuracy"
    note = f"left out for too few images or patients: {', '.join(left_out)}" if left_out else ""
    return Shortcut(
        *told.as_tuple(),
        question=question,
        view=view,
        measure=measure,
        chance=1 / n_answers,
        note=note,
    )


def answerable(
    answers: ArrayLike, patients: ArrayLike, *, folds: int = FOLDS
) -> tuple[np.ndarray, list[str]]:
    """Images `(N,)` bool whose answer has at least 2 images and 1 patient a fold; the others' answers."""
    answers, patients = np.asarray(answers).astype(str), np.asarray(patients).astype(str)
    left_out = [
        str(answer)
        for answer in np.unique(answers)
        if np.sum(answers == answer) < 2 * folds
        or len(np.unique(patients[answers == answer])) < folds
    ]
    return ~np.isin(answers, left_out), left_out


def told_by(
    features: np.ndarray,
    answers: ArrayLike,
    patients: ArrayLike,
    *,
    seed: int = 0,
    folds: int = FOLDS,
    replicates: int = REPLICATES,
) -> Interval:
    """How well a linear probe of `features` `(N, d)` tells `answers` `(N,)`; higher is better told.

    AUROC where there are two answers, else balanced accuracy, of predictions by cross-validation
    over patients; the interval is a bootstrap over patients, widened by `_widened`. Answers that are
    not `answerable` are left out; fewer than two others raise `XraysynthError`. Chance is
    1 / (number of answers).
    """
    kept, left_out = answerable(answers, patients, folds=folds)
    names, targets = np.unique(np.asarray(answers).astype(str)[kept], return_inverse=True)
    if len(names) < 2:
        raise XraysynthError(
            f"a probe needs two answers with at least {2 * folds} images of {folds} patients each; "
            f"there is {', '.join(names) or 'none'}, and too little of {', '.join(left_out) or 'others'}"
        )
    of = np.asarray(patients).astype(str)[kept]
    probabilities = _predicted(features[kept], targets, of, folds, seed)
    scores = evaluate(
        probabilities, targets, of, classes=list(names), replicates=replicates, seed=seed
    )
    return _widened(scores["macro_auroc" if len(names) == 2 else "balanced_accuracy"], folds)


def _widened(found: Interval, folds: int) -> Interval:
    """The interval times √(1 + K / (K - 1)), in [0, 1], for K folds that share training images.

    Nadeau & Bengio 2003 (doi:10.1023/A:1024068626366). Without it, chance would be outside in about
    one of six probes of answers that cannot be told.
    """
    factor = float(np.sqrt(1 + folds / (folds - 1)))
    low = max(0.0, found.value - factor * (found.value - found.low))
    high = min(1.0, found.value + factor * (found.high - found.value))
    return Interval(found.value, low, high, found.n)


def _predicted(
    features: np.ndarray, targets: np.ndarray, patients: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """Probabilities `(N, C)` of each image by the probe that has not seen its patient."""
    from sklearn.model_selection import StratifiedGroupKFold

    state = derive_seed(seed, "probe") % 2**32
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
    predicted = np.zeros((len(targets), int(targets.max()) + 1))
    for fit, held in splits.split(features, targets, patients):
        probe = _probe(features[fit], state).fit(features[fit], targets[fit])
        predicted[np.ix_(held, probe.classes_)] = probe.predict_proba(features[held])
    return predicted


def _probe(features: np.ndarray, state: int) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    components = min(COMPONENTS, len(features) // 2, features.shape[1])
    return make_pipeline(
        StandardScaler(),
        PCA(components, random_state=state),
        LogisticRegression(C=0.01, class_weight="balanced", max_iter=300),
    )


def real_vs_synthetic(
    real_features: np.ndarray,
    synthetic_features: np.ndarray,
    patients: ArrayLike,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval:
    """AUROC by which a linear probe tells synthetic features from real ones; 0.5: not at all.

    `patients` are those of the real images; each synthetic image is a patient of its own. Each side
    is cut to `AT_MOST` / 2.
    """
    real = _subsample(len(real_features), AT_MOST // 2, seed)
    made = _subsample(len(synthetic_features), AT_MOST // 2, seed)
    features = np.concatenate([real_features[real], synthetic_features[made]])
    groups = [f"real/{patient}" for patient in np.asarray(patients)[real]]
    groups += [f"synthetic/{number}" for number in range(len(made))]
    answers = ["real"] * len(real) + ["synthetic"] * len(made)
    return told_by(features, answers, groups, seed=seed, replicates=replicates)


def told_synthetic(
    module: "XrayClassifier",
    real: np.ndarray,
    synthetic: np.ndarray,
    patients: ArrayLike,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval:
    """`real_vs_synthetic` on the penultimate features of a classifier trained on both sides.

    `real` and `synthetic` are `(N, H, W)` uint8. What the features still tell apart, a hybrid
    classifier can use as a shortcut wherever the synthetic share differs between classes.
    """
    keep = _subsample(len(real), AT_MOST // 2, seed)
    made = _subsample(len(synthetic), AT_MOST // 2, seed)
    return real_vs_synthetic(
        _penultimate(module, real[keep]),
        _penultimate(module, synthetic[made]),
        np.asarray(patients)[keep],
        seed=seed,
        replicates=replicates,
    )


def arm_probes(
    module: "XrayClassifier",
    train_real_pixels: np.ndarray,
    train_synthetic_pixels: np.ndarray,
    patients_real: ArrayLike,
    test_pixels: np.ndarray,
    test_targets: np.ndarray,
    test_boxes: Sequence[Sequence[Sequence[float]]],
    test_patients: ArrayLike,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> ArmProbes:
    """What a trained arm can be asked: `told_synthetic` of what it was trained on, and `pointing`.

    Pixels are `(N, H, W)` uint8, either training set may be empty; boxes as in `pointing`.
    """
    sides, told = (train_real_pixels, train_synthetic_pixels), None
    if min(map(len, sides)) >= FEWEST and len(np.unique(np.asarray(patients_real))) >= FOLDS:
        told = told_synthetic(module, *sides, patients_real, replicates=replicates, seed=seed)
    found = pointing(
        module,
        test_pixels,
        test_targets,
        test_boxes,
        test_patients,
        replicates=replicates,
        seed=seed,
    )
    return ArmProbes(told, found)


def _penultimate(module: "XrayClassifier", images: np.ndarray) -> np.ndarray:
    import torch

    module.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(np.array(images[start : start + _BATCH])).to(module.device)
            parts.append(module.forward_features(batch[:, None].float() / 255).float().cpu())
    return np.asarray(torch.cat(parts).numpy())


def _subsample(n: int, most: int, seed: int) -> np.ndarray:
    """Rows, in order; `most` of them where there are more."""
    if n <= most:
        return np.arange(n)
    rng = np.random.default_rng(derive_seed(seed, "subsample", n))
    return np.sort(rng.choice(n, most, replace=False))


def _small(images: np.ndarray, size_px: int) -> np.ndarray:
    """`(N, size_px, size_px)` float32 in [0, 1], each pixel the mean of the area it covers."""
    from PIL import Image

    size, box = (size_px, size_px), Image.Resampling.BOX
    return (
        np.stack([np.asarray(Image.fromarray(i).resize(size, box), np.float32) for i in images])
        / 255
    )


def _grid(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions x and y of pixel centres in fractions of the side, `(size_px, size_px)` each."""
    at = (np.arange(size_px) + 0.5) / size_px
    x, y = np.meshgrid(at, at)
    return x, y
