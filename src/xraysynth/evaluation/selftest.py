"""Whether the measures measure: sets of simulated radiographs whose answers are known.

Images are made worse step by step, by noise, blur, inversion and wrong classes, and every measure
must follow in its direction; copies must be called copies, and other patients must not.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xraysynth.data.sources.simulated import Simulated
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

SIZE_PX = 64


@dataclass(frozen=True)
class Check:
    """One property, whether it holds, and what was found."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class SimulatedImages:
    """Simulated radiographs `(N, 64, 64)` uint8, as many of each class, in the order of `labels`."""

    pixels: np.ndarray
    labels: np.ndarray

    @property
    def patients(self) -> np.ndarray:
        """One patient an image."""
        return np.arange(len(self.pixels)).astype(str)


def simulate_images(
    seed: int, per_class: int, with_progress: Callable[[Sequence[str]], Sequence[str]]
) -> SimulatedImages:
    """Images of patients that no other seed has; `shown` wraps the work in a progress bar."""
    source = Simulated(patients_per_class=per_class, images_per_patient=1.0, seed=seed)
    rows = source.rows()
    pixels = [
        source.load(locator, SIZE_PX).pixels for locator in with_progress(list(rows["locator"]))
    ]
    return SimulatedImages(np.stack(pixels), rows["label"].to_numpy(str))


def run_checks(
    encoder: Encoder, *, train: SimulatedImages, real: SimulatedImages, other: SimulatedImages
) -> Iterator[Check]:
    """Every check; the three sets share no patient."""

    def encode(pixels: np.ndarray) -> Features:
        return Features(encoder.features(pixels), encoder.identity)

    yield from check_golden_values()
    yield from _check_identical_sets(encode(real.pixels))
    yield from _check_degradation(encode, real, other)
    yield from _check_wrong_classes(train_classifier(train), real, other)
    yield from _check_copies(encode, train, real, other)


def check_golden_values() -> Iterator[Check]:
    """Closed forms that need no image."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 8))
    shift = np.full(8, 0.5)
    yield _check_close("FD of a shifted set is the squared shift", _fd(x, x + shift), 2.0, 1e-9)
    scaled = x * np.linspace(0.5, 2, 8)
    closed = np.sum((np.std(x, 0, ddof=1) * (1 - np.linspace(0.5, 2, 8))) ** 2)
    yield _check_close(
        "FD of scaled axes is the sum of squared differences", _fd(x, scaled), closed, 0.02
    )
    yield _check_close("Vendi of n equal images is 1", vendi_score(np.ones((9, 4))), 1, 1e-9)
    yield _check_close("Vendi of n orthogonal images is n", vendi_score(np.eye(9)), 9, 1e-9)
    far = x + 1000
    pair = precision_recall(real=x[:500], synthetic=far[:500])
    yield Check("sets far apart have precision and recall 0", pair == (0.0, 0.0), str(pair))
    cover = density_coverage(real=x[:500], synthetic=far[:500])
    yield Check("sets far apart have density and coverage 0", cover == (0.0, 0.0), str(cover))
    yield _check_close(
        "CMMD of a set and itself is 0", cmmd(real=x[:500], synthetic=x[:500]), 0, 1e-6
    )


def _fd(x: np.ndarray, y: np.ndarray) -> float:
    return frechet_distance(real=x, synthetic=y)


def _check_close(name: str, value: float, expected: float, tolerance: float) -> Check:
    passed = abs(value - expected) <= tolerance * max(1.0, abs(expected))
    return Check(name, bool(passed), f"{value:.6g}, expected {expected:.6g}")


def _check_identical_sets(x: Features) -> Iterator[Check]:
    found = compute_point_estimates(real=x, synthetic=x)
    scale = float(np.var(x.values, axis=0).sum())
    for name, value in found.items():
        if name.startswith("FD"):
            yield _check_close(f"a set and itself: {name}", value / scale, 0, 1e-6)
        elif name in ("precision", "recall", "coverage"):
            yield _check_close(f"a set and itself: {name}", value, 1, 1e-9)
        elif name.startswith("KD"):
            yield Check(f"a set and itself: {name} is not above 0", value <= 0, f"{value:.3g}")


def _check_degradation(
    encode: Callable[[np.ndarray], Features], real: SimulatedImages, other: SimulatedImages
) -> Iterator[Check]:
    """Noise, blur and inversion at growing doses."""
    from scipy import ndimage

    rng = np.random.default_rng(1)
    noise = rng.normal(size=other.pixels.shape)
    turned = rng.permutation(len(other.pixels))

    def add_noise(dose: float) -> np.ndarray:
        return (other.pixels + dose * noise).clip(0, 255).astype(np.uint8)

    def blur(dose: float) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(other.pixels, (0, dose, dose)))

    def invert(dose: float) -> np.ndarray:
        chosen = turned[: round(dose * len(turned))]
        pixels = other.pixels.copy()
        pixels[chosen] = 255 - pixels[chosen]
        return pixels

    x = encode(real.pixels)
    ladders: dict[str, tuple[Callable[[float], np.ndarray], tuple[float, ...]]] = {
        "noise": (add_noise, (0, 15, 40, 90)),
        "blur": (blur, (0, 1.5, 3, 6)),
        "inversion": (invert, (0, 0.33, 0.67, 1)),
    }
    for name, (spoiled, doses) in ladders.items():
        rungs = []
        for dose in doses:
            y = encode(spoiled(dose))
            found = compute_point_estimates(real=x, synthetic=y)
            rungs.append(found | {"CMMD": cmmd(real=x.values, synthetic=y.values)})
        yield from _check_dose_response(name, rungs)


def _check_dose_response(
    name: str, measures_by_dose: Sequence[dict[str, float]]
) -> Iterator[Check]:
    """Distances rise with every step; what lies within the real manifold falls, but for luck."""
    for metric in measures_by_dose[0]:
        values = np.array([rung[metric] for rung in measures_by_dose])
        found = " ".join(f"{value:.3g}" for value in values)
        if metric.startswith(("FD", "KD", "CMMD")):
            yield Check(f"{name}: {metric} rises", bool((np.diff(values) > 0).all()), found)
        elif metric in ("precision", "coverage"):
            falls = (np.diff(values) <= 0.02).all() and values[-1] < 0.5 * values[0]
            yield Check(f"{name}: {metric} falls", bool(falls), found)


def train_classifier(train: SimulatedImages, *, steps: int = 250) -> Encoder:
    """A small classifier taught on these images, as an encoder that knows the classes."""
    import torch

    from xraysynth.evaluation.encoders import build
    from xraysynth.training.classifier import XrayClassifier

    classes = list(dict.fromkeys(train.labels))
    recipe = {"backbone": "test_resnet"}
    module = XrayClassifier(classes=classes, recipe=recipe, max_steps=steps)
    pixels = torch.from_numpy(train.pixels)[:, None].float() / 255
    targets = torch.tensor([classes.index(label) for label in train.labels])
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.05)
    rng = np.random.default_rng(0)
    module.train()
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(len(targets), size=32))
        optimizer.zero_grad()
        loss: Any = torch.nn.functional.cross_entropy(module(pixels[rows]), targets[rows])
        loss.backward()
        optimizer.step()
    return build("classifier", classifier=module.eval())


def _check_wrong_classes(
    encoder: Encoder, real: SimulatedImages, other: SimulatedImages
) -> Iterator[Check]:
    """Class by class, the distance grows with the share of images that carry another class's name."""
    x, y = (Features(encoder.features(s.pixels), encoder.identity) for s in (real, other))
    classes = tuple(dict.fromkeys(real.labels))
    shifted = np.roll(other.labels, len(other.labels) // len(classes))
    order = np.random.default_rng(2).permutation(len(shifted))
    values = []
    for share in (0, 0.33, 0.67, 1):
        labels = other.labels.copy()
        chosen = order[: round(share * len(order))]
        labels[chosen] = shifted[chosen]
        found = measure_sets(
            real=x,
            synthetic=y,
            real_labels=real.labels,
            synthetic_labels=labels,
            patients=real.patients,
            classes=classes,
            splits=6,
        )
        by_class = [m.value for m in found if m.label and m.metric.startswith("FD")]
        values.append(float(np.mean(by_class)))
    listed = " ".join(f"{value:.3g}" for value in values)
    yield Check(
        "wrong classes: FD(classifier) by class rises", bool((np.diff(values) > 0).all()), listed
    )


def _check_copies(
    encode: Callable[[np.ndarray], Features],
    train: SimulatedImages,
    real: SimulatedImages,
    other: SimulatedImages,
) -> Iterator[Check]:
    """Copies of training images put among images of other patients."""
    x, held = encode(train.pixels), encode(real.pixels)
    order = np.random.default_rng(3).permutation(len(other.pixels))
    shares, flagged, authentic, copying, informed = (0, 0.2, 1), [], [], [], []
    for share in shares:
        pixels = other.pixels.copy()
        chosen = order[: round(share * len(order))]
        pixels[chosen] = train.pixels[chosen]
        y = encode(pixels)
        null = detect_memorization(train=x, held_out=held, synthetic=y, patients=real.patients)
        flagged.append(null.flagged.value)
        authentic.append(authenticity(train=x.values, synthetic=y.values))
        copying.append(data_copying(train=x.values, held_out=held.values, synthetic=y.values))
        plain = _fd(x.values, y.values)
        informed.append(mifd(train=x.values, synthetic=y.values) / max(plain, 1e-9))
    listed = [f"{value:.3g}" for value in flagged]
    yield Check("other patients: at most 5 % flagged", flagged[0] <= 0.05, listed[0])
    yield Check("a fifth copied: a fifth flagged", abs(flagged[1] - 0.2) <= 0.04, listed[1])
    yield _check_close("only copies: all flagged", flagged[2], 1, 1e-9)
    yield _check_close("only copies: none authentic", authentic[2], 0, 1e-9)
    falls = authentic[0] > authentic[1] > authentic[2]
    yield Check("copies: AuthPct falls", falls, " ".join(f"{v:.3g}" for v in authentic))
    falls = copying[0] > copying[1] > copying[2] and copying[2] < -3
    yield Check("copies: C_T falls below -3", falls, " ".join(f"{v:.3g}" for v in copying))
    both = " ".join(f"{value:.3g}" for value in informed[:2])  # of copies alone they are 0
    yield Check("a fifth copied: MiFD over FD rises", informed[0] < informed[1], both)
    yield from _check_similarity(train, other)


def _check_similarity(train: SimulatedImages, other: SimulatedImages) -> Iterator[Check]:
    n = min(len(train.pixels), len(other.pixels))
    same = pair_similarity(train.pixels[:n], train.pixels[:n])
    yield _check_close("SSIM of an image and itself", float(same.min()), 1, 1e-5)
    apart = pair_similarity(train.pixels[:n], other.pixels[:n]).mean()
    yield Check("SSIM of two patients is lower", bool(apart < 0.95), f"{apart:.3g}")
