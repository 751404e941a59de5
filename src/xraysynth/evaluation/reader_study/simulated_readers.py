"""Simulates readers whose d', bias, agreement and habits are known.

Reader j finds in image i of generator g the evidence

    x = d_jg + sqrt(a) C_i + sqrt(1 - a - b) E_ij + sqrt(b) O_ijk,    d_jg = 0 for real images,

of the image, of reader and image, and of the k-th showing, all standard normal. The reader answers
"synthetic" above c_j + d_j / 2, where d_j is the mean of d_jg over generators: the reader's d' is d_jg
and, of one generator, the criterion c_j, exactly. d_jg and c_j are normal around those of the
`ReaderPopulation`. Confidence is the distance from the threshold; a diagnosis is the class with most
evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

_CONFIDENCE_STEPS = (0.25, 0.6, 1.0, 1.6)  # distances from the threshold at which confidence rises


@dataclass(frozen=True)
class ReaderPopulation:
    """A population that readers and images are drawn from.

    Attributes:
        d_prime: The mean d' of readers, by generator.
        criterion: The mean criterion of readers.
        d_prime_spread: The standard deviation of d' between readers.
        criterion_spread: The standard deviation of the criterion between readers.
        image_variance: The proportion of variance that an image causes in all readers (a).
        showing_variance: The proportion of variance between showings of an image to a reader (b).
        skill: The mean diagnostic evidence for the true class.
        skill_spread: The standard deviation of this evidence between readers.
        class_bias_spread: The standard deviation between readers of the readiness to name a class.
        mean_score: The mean score by generator, "" for real images; 0 by default.
        score_spread: The standard deviation of scores between readers.
        error_rate: The number of marked errors per image by generator, "" for real images.
    """

    d_prime: Mapping[str, float] = field(default_factory=lambda: {"sd_lora": 1.0})
    criterion: float = 0.1
    d_prime_spread: float = 0.3
    criterion_spread: float = 0.3
    image_variance: float = 0.3
    showing_variance: float = 0.1
    skill: float = 2.0
    skill_spread: float = 0.2
    class_bias_spread: float = 0.2
    mean_score: Mapping[str, float] = field(default_factory=dict)
    score_spread: float = 0.3
    error_rate: Mapping[str, float] = field(default_factory=dict)

    def draw_evidence(
        self, readers: int, images: int, showings: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws evidence of mean 0 and variance 1 by reader, showing and image, `(J, K, I)`."""
        interaction_variance = 1 - self.image_variance - self.showing_variance
        by_image = np.sqrt(self.image_variance) * rng.normal(size=images)
        by_reader_and_image = np.sqrt(interaction_variance) * rng.normal(size=(readers, 1, images))
        noise = np.sqrt(self.showing_variance) * rng.normal(size=(readers, showings, images))
        evidence: np.ndarray = by_image + by_reader_and_image + noise
        return evidence


@dataclass(frozen=True)
class SimulatedAnswers:
    """The answers of J readers at K showings of I images, `(J, K, I)` int each.

    Attributes:
        called_synthetic: 1 for "synthetic", 0 for "real".
        confidence: 1 to 5.
        diagnosis: The number of a class.
        quality: -2 to 2.
        realism: -2 to 2.
    """

    called_synthetic: np.ndarray
    confidence: np.ndarray
    diagnosis: np.ndarray
    quality: np.ndarray
    realism: np.ndarray


def simulate_answers(
    population: ReaderPopulation,
    *,
    generators: Sequence[str],
    labels: np.ndarray,
    classes: int,
    readers: int,
    rng: np.random.Generator,
    showings: int = 1,
) -> SimulatedAnswers:
    """Draws readers and images from a population, and returns the answers.

    Args:
        population: The population of readers and images.
        generators: The generator of each image, "" for real ones.
        labels: The number of each image's class, `(I,)`.
        classes: The number of classes.
        readers: The number of readers.
        rng: The random generator.
        showings: How often each reader sees each image.
    """
    shape = readers, len(labels), showings
    called_synthetic, confidence = _simulate_detection(population, generators, shape, rng)
    diagnosis = _simulate_diagnosis(population, labels, classes, shape, rng)
    quality = _simulate_scores(population, generators, shape, rng)
    realism = _simulate_scores(population, generators, shape, rng)
    return SimulatedAnswers(called_synthetic, confidence, diagnosis, quality, realism)


def _simulate_detection(
    population: ReaderPopulation,
    generators: Sequence[str],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether readers call images synthetic, and their confidence."""
    readers, images, showings = shape
    d_prime_deviation = rng.normal(0, population.d_prime_spread, (readers, 1, 1))
    criterion = rng.normal(population.criterion, population.criterion_spread, (readers, 1, 1))
    d_prime = _by_generator(population.d_prime, generators)
    signal = np.where(np.array(generators) == "", 0.0, d_prime + d_prime_deviation)
    evidence = signal + population.draw_evidence(readers, images, showings, rng)
    half_d_prime = (np.mean(list(population.d_prime.values())) + d_prime_deviation) / 2
    distance = evidence - criterion - half_d_prime
    confidence = 1 + np.searchsorted(np.array(_CONFIDENCE_STEPS), np.abs(distance))
    return (distance > 0).astype(int), confidence


def _by_generator(values: Mapping[str, float], generators: Sequence[str]) -> np.ndarray:
    """Returns the value of each image's generator `(I,)`, 0 where there is none."""
    return np.array([values.get(generator, 0.0) for generator in generators])


def _simulate_diagnosis(
    population: ReaderPopulation,
    labels: np.ndarray,
    classes: int,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns the class that each reader finds most evidence for."""
    readers, images, showings = shape
    skill = rng.normal(population.skill, population.skill_spread, (readers, 1, 1))
    bias = rng.normal(0, population.class_bias_spread, (classes, readers, 1, 1))
    evidence = []
    for class_number in range(classes):
        signal = (labels == class_number) * skill + bias[class_number]
        evidence.append(signal + population.draw_evidence(readers, images, showings, rng))
    diagnosis: np.ndarray = np.stack(evidence).argmax(0)
    return diagnosis


def _simulate_scores(
    population: ReaderPopulation,
    generators: Sequence[str],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns scores from -2 to 2."""
    readers, images, showings = shape
    mean = _by_generator(population.mean_score, generators)
    reader_deviation = rng.normal(0, population.score_spread, (readers, 1, 1))
    evidence = population.draw_evidence(readers, images, showings, rng)
    scores: np.ndarray = np.clip(np.rint(mean + reader_deviation + evidence), -2, 2).astype(int)
    return scores
