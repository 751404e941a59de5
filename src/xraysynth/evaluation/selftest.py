"""Checks on simulated radiographs, whose answers are known, that the measures measure.

Images are degraded step by step, by noise, blur, inversion and wrong classes, and every measure must
follow in its direction. Copies of training images must be flagged, and other patients must not.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xraysynth.evaluation._selftest_images import (
    SimulatedImages,
    simulate_images,
    train_classifier,
)
from xraysynth.evaluation.encoders.base import Encoder
from xraysynth.evaluation.metrics.copying import authenticity, data_copying
from xraysynth.evaluation.metrics.diversity import pair_similarity, vendi_score
from xraysynth.evaluation.metrics.features import Features
from xraysynth.evaluation.metrics.fidelity import frechet_distance, mifd
from xraysynth.evaluation.metrics.kernel_distances import cmmd
from xraysynth.evaluation.metrics.manifold import density_coverage, precision_recall
from xraysynth.evaluation.metrics.measures import measure_sets
from xraysynth.evaluation.metrics.memorization import detect_memorization
from xraysynth.evaluation.metrics.point_estimates import compute_point_estimates

__all__ = ["Check", "SimulatedImages", "check_golden_values", "run_checks", "simulate_images"]

Encode = Callable[[np.ndarray], Features]
"""Turns pixels `(N, 64, 64)` uint8 into features."""


@dataclass(frozen=True)
class Check:
    """One property of a measure, whether it holds, and the measured numbers in words."""

    name: str
    passed: bool
    detail: str


def run_checks(
    encoder: Encoder, *, train: SimulatedImages, real: SimulatedImages, other: SimulatedImages
) -> Iterator[Check]:
    """Yields every check.

    Args:
        encoder: The encoder whose features are compared.
        train: The images that are copied, and that a classifier is trained on.
        real: The real images.
        other: The images that stand in for synthetic ones. The three sets share no patient.
    """

    def encode(pixels: np.ndarray) -> Features:
        return Features(encoder.features(pixels), encoder.identity)

    yield from check_golden_values()
    yield from _check_identical_sets(encode(real.pixels))
    yield from _check_degradation(encode, real, other)
    yield from _check_wrong_classes(train_classifier(train), real, other)
    yield from _check_copies(encode, train, real, other)
    yield from _check_similarity(train, other)


def check_golden_values() -> Iterator[Check]:
    """Yields the checks of measures against closed forms, which need no images."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 8))
    shift = np.full(8, 0.5)
    yield _check_close("FD of a shifted set is the squared shift", _fd(x, x + shift), 2.0, 1e-9)
    scale = np.linspace(0.5, 2, 8)
    closed_form = np.sum((np.std(x, 0, ddof=1) * (1 - scale)) ** 2)
    yield _check_close(
        "FD of scaled axes is the sum of squared differences", _fd(x, x * scale), closed_form, 0.02
    )
    yield _check_close("Vendi of n equal images is 1", vendi_score(np.ones((9, 4))), 1, 1e-9)
    yield _check_close("Vendi of n orthogonal images is n", vendi_score(np.eye(9)), 9, 1e-9)
    sample, distant = x[:500], x[:500] + 1000
    values = precision_recall(real=sample, synthetic=distant)
    yield Check("sets far apart have precision and recall 0", values == (0.0, 0.0), str(values))
    values = density_coverage(real=sample, synthetic=distant)
    yield Check("sets far apart have density and coverage 0", values == (0.0, 0.0), str(values))
    yield _check_close(
        "CMMD of a set and itself is 0", cmmd(real=sample, synthetic=sample), 0, 1e-6
    )


def _fd(x: np.ndarray, y: np.ndarray) -> float:
    return frechet_distance(real=x, synthetic=y)


def _check_close(name: str, value: float, expected: float, tolerance: float) -> Check:
    """Checks a value up to a relative tolerance, absolute where the expected value is below 1."""
    passed = abs(value - expected) <= tolerance * max(1.0, abs(expected))
    return Check(name, bool(passed), f"{value:.6g}, expected {expected:.6g}")


def _check_identical_sets(x: Features) -> Iterator[Check]:
    """Checks that a set lies at distance 0 from itself, and covers itself."""
    estimates = compute_point_estimates(real=x, synthetic=x)
    scale = float(np.var(x.values, axis=0).sum())
    for name, value in estimates.items():
        if name.startswith("FD"):
            yield _check_close(f"a set and itself: {name}", value / scale, 0, 1e-6)
        elif name in ("precision", "recall", "coverage"):
            yield _check_close(f"a set and itself: {name}", value, 1, 1e-9)
        elif name.startswith("KD"):
            yield Check(f"a set and itself: {name} is not above 0", value <= 0, f"{value:.3g}")


def _check_degradation(
    encode: Encode, real: SimulatedImages, other: SimulatedImages
) -> Iterator[Check]:
    """Checks that measures follow growing doses of noise, blur and inversion."""
    from scipy import ndimage

    rng = np.random.default_rng(1)
    noise = rng.normal(size=other.pixels.shape)
    order = rng.permutation(len(other.pixels))

    def add_noise(dose: float) -> np.ndarray:
        return (other.pixels + dose * noise).clip(0, 255).astype(np.uint8)

    def blur(dose: float) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(other.pixels, (0, dose, dose)))

    def invert(dose: float) -> np.ndarray:
        inverted_rows = order[: round(dose * len(order))]
        pixels = other.pixels.copy()
        pixels[inverted_rows] = 255 - pixels[inverted_rows]
        return pixels

    x = encode(real.pixels)
    degradations: dict[str, tuple[Callable[[float], np.ndarray], tuple[float, ...]]] = {
        "noise": (add_noise, (0, 15, 40, 90)),
        "blur": (blur, (0, 1.5, 3, 6)),
        "inversion": (invert, (0, 0.33, 0.67, 1)),
    }
    for name, (degrade, doses) in degradations.items():
        measures_by_dose = []
        for dose in doses:
            y = encode(degrade(dose))
            estimates = compute_point_estimates(real=x, synthetic=y)
            estimates["CMMD"] = cmmd(real=x.values, synthetic=y.values)
            measures_by_dose.append(estimates)
        yield from _check_dose_response(name, measures_by_dose)


def _check_dose_response(
    name: str, measures_by_dose: Sequence[dict[str, float]]
) -> Iterator[Check]:
    """Checks that distances rise with every dose, and that precision and coverage fall.

    Precision and coverage may rise by 0.02 from one dose to the next, by chance.
    """
    for metric in measures_by_dose[0]:
        values = np.array([measures[metric] for measures in measures_by_dose])
        detail = _format_values(values)
        if metric.startswith(("FD", "KD", "CMMD")):
            yield Check(f"{name}: {metric} rises", _is_rising(values), detail)
        elif metric in ("precision", "coverage"):
            falls = (np.diff(values) <= 0.02).all() and values[-1] < 0.5 * values[0]
            yield Check(f"{name}: {metric} falls", bool(falls), detail)


def _is_rising(values: Sequence[float] | np.ndarray) -> bool:
    return bool((np.diff(values) > 0).all())


def _format_values(values: Iterable[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def _check_wrong_classes(
    encoder: Encoder, real: SimulatedImages, other: SimulatedImages
) -> Iterator[Check]:
    """Checks that the distance within classes grows with the proportion of wrong labels."""
    x = Features(encoder.features(real.pixels), encoder.identity)
    y = Features(encoder.features(other.pixels), encoder.identity)
    classes = tuple(dict.fromkeys(real.labels))
    wrong_labels = np.roll(other.labels, len(other.labels) // len(classes))
    order = np.random.default_rng(2).permutation(len(wrong_labels))
    distances = []
    for proportion in (0, 0.33, 0.67, 1):
        rows = order[: round(proportion * len(order))]
        labels = other.labels.copy()
        labels[rows] = wrong_labels[rows]
        measures = measure_sets(
            real=x,
            synthetic=y,
            real_labels=real.labels,
            synthetic_labels=labels,
            patients=real.patients,
            classes=classes,
            splits=6,
        )
        by_class = [m.value for m in measures if m.label and m.metric.startswith("FD")]
        distances.append(float(np.mean(by_class)))
    yield Check(
        "wrong classes: FD(classifier) by class rises",
        _is_rising(distances),
        _format_values(distances),
    )


@dataclass(frozen=True)
class _CopyMeasures:
    """Copy measures of a set of which some images are copies.

    Attributes:
        flagged: The proportion of images with a memorisation flag.
        authentic: AuthPct, the proportion of authentic images.
        c_t: The data-copying statistic C_T.
        informed: MiFD over FD.
    """

    flagged: float
    authentic: float
    c_t: float
    informed: float


def _measure_copies(
    encode: Encode, train: Features, held_out: Features, patients: np.ndarray, pixels: np.ndarray
) -> _CopyMeasures:
    """Measures how far images `pixels` `(N, 64, 64)` copy the training images."""
    synthetic = encode(pixels)
    memorization = detect_memorization(
        train=train, held_out=held_out, synthetic=synthetic, patients=patients
    )
    x, y = train.values, synthetic.values
    return _CopyMeasures(
        flagged=memorization.flagged.value,
        authentic=authenticity(train=x, synthetic=y),
        c_t=data_copying(train=x, held_out=held_out.values, synthetic=y),
        informed=mifd(train=x, synthetic=y) / max(_fd(x, y), 1e-9),
    )


def _check_copies(
    encode: Encode, train: SimulatedImages, real: SimulatedImages, other: SimulatedImages
) -> Iterator[Check]:
    """Checks the copy measures of sets without copies, with a fifth of copies, and of copies alone."""
    train_features, held_out = encode(train.pixels), encode(real.pixels)
    order = np.random.default_rng(3).permutation(len(other.pixels))
    measures = []
    for copied_fraction in (0, 0.2, 1):
        rows = order[: round(copied_fraction * len(order))]
        pixels = other.pixels.copy()
        pixels[rows] = train.pixels[rows]
        measures.append(_measure_copies(encode, train_features, held_out, real.patients, pixels))
    none, fifth, only = measures
    yield Check("other patients: at most 5 % flagged", none.flagged <= 0.05, f"{none.flagged:.3g}")
    yield Check(
        "a fifth copied: a fifth flagged", abs(fifth.flagged - 0.2) <= 0.04, f"{fifth.flagged:.3g}"
    )
    yield _check_close("only copies: all flagged", only.flagged, 1, 1e-9)
    yield _check_close("only copies: none authentic", only.authentic, 0, 1e-9)
    authentic = none.authentic, fifth.authentic, only.authentic
    falls = none.authentic > fifth.authentic > only.authentic
    yield Check("copies: AuthPct falls", falls, _format_values(authentic))
    falls = none.c_t > fifth.c_t > only.c_t and only.c_t < -3
    yield Check(
        "copies: C_T falls below -3", falls, _format_values((none.c_t, fifth.c_t, only.c_t))
    )
    informed = none.informed, fifth.informed  # of copies alone both distances are 0
    yield Check(
        "a fifth copied: MiFD over FD rises", _is_rising(informed), _format_values(informed)
    )


def _check_similarity(train: SimulatedImages, other: SimulatedImages) -> Iterator[Check]:
    """Checks SSIM of equal images and of images of different patients."""
    n = min(len(train.pixels), len(other.pixels))
    itself = pair_similarity(train.pixels[:n], train.pixels[:n])
    yield _check_close("SSIM of an image and itself", float(itself.min()), 1, 1e-5)
    mean = pair_similarity(train.pixels[:n], other.pixels[:n]).mean()
    yield Check("SSIM of two patients is lower", bool(mean < 0.95), f"{mean:.3g}")
