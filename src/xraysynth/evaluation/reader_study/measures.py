"""Measures of a reading's images, computed from the answers of a panel as matrices of numbers."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from xraysynth.evaluation.reader_study import detection, opinions
from xraysynth.evaluation.reader_study.mrmc import Estimate, ReaderStatistic
from xraysynth.evaluation.reader_study.panel import Panel
from xraysynth.evaluation.reader_study.protocol import ERROR_KINDS

SCORES = ("quality", "realism")
_ORIGIN_CODES = {"real": 0.0, "synthetic": 1.0}


@dataclass(frozen=True)
class Measure:
    """A measure that can be computed of any images of a reading.

    Attributes:
        name: The name in the table of results.
        statistic: Computes the measure from answers `(J, I)` and strata `(I,)`.
        answers: The answers by reader and image, `(J, I)`; NaN where there is none.
        strata: The stratum of each image, `(I,)`.
        is_proportion: Whether the measure lies in [0, 1].
    """

    name: str
    statistic: Callable[[np.ndarray, np.ndarray], ReaderStatistic]
    answers: np.ndarray
    strata: np.ndarray
    is_proportion: bool = False

    @property
    def max_difference(self) -> float:
        """The largest possible difference of two values; scores have steps from -2 to 2."""
        return 1.0 if self.is_proportion else 4.0

    def compute(self, mask: np.ndarray) -> ReaderStatistic:
        """Computes the measure of the images in a mask `(I,)` bool."""
        return self.statistic(np.where(mask[None], self.answers, np.nan), self.strata)

    def estimate(self, mask: np.ndarray) -> Estimate:
        """Returns the value and interval of the images in a mask `(I,)` bool."""
        estimate = self.compute(mask).estimate(is_proportion=self.is_proportion)
        lowest = 0.0 if self.name.startswith("errors") else -math.inf
        if not math.isfinite(estimate.low):
            return estimate
        return replace(estimate, low=max(estimate.low, lowest))


@dataclass(frozen=True)
class CodedQuestion:
    """A question that readers can agree on.

    Attributes:
        name: The id of the question.
        codes: The chosen options by reader and image, `(J, I)`, from 0 to `options` - 1.
        options: The number of options.
        ordinal: Whether the options are steps of a scale.
    """

    name: str
    codes: np.ndarray
    options: int
    ordinal: bool


@dataclass(frozen=True)
class AnswerMatrices:
    """The answers of a panel as numbers.

    Attributes:
        panel: The answers of J readers to I images.
        classes: The classes that a diagnosis can name.
        question_ids: The questions that were asked.
    """

    panel: Panel
    classes: tuple[str, ...]
    question_ids: tuple[str, ...]

    @cached_property
    def called_synthetic(self) -> np.ndarray:
        """1 where a reader called an image synthetic, 0 where real, `(J, I)`."""
        return self.panel.matrix("origin_answer", _ORIGIN_CODES)

    @cached_property
    def diagnosis(self) -> np.ndarray:
        """The number of the class that a reader named, `(J, I)`."""
        return self.panel.matrix("diagnosis", self.class_codes)

    @property
    def class_codes(self) -> dict[str, float]:
        """The number of each class by name."""
        return dict(zip(self.classes, map(float, range(len(self.classes))), strict=True))

    @property
    def true_codes(self) -> np.ndarray:
        """The number of each image's class, `(I,)`."""
        numbers: np.ndarray = self.panel.cases["label"].map(self.class_codes).to_numpy(float)
        return numbers

    @cached_property
    def image_measures(self) -> list[Measure]:
        """The measures that any images have, real or synthetic, by the questions that were asked."""
        strata = self.panel.strata
        measures = []
        if "origin" in self.question_ids:
            called_real = 1 - self.called_synthetic
            measures.append(Measure("called_real", detection.proportion, called_real, strata, True))
        if "diagnosis" in self.question_ids:
            is_correct = self.diagnosis == self.true_codes[None]
            agrees = np.where(np.isfinite(self.diagnosis), is_correct, np.nan)
            measures.append(
                Measure("diagnosis_agreement", detection.proportion, agrees, strata, True)
            )
        for name in SCORES:
            if name in self.question_ids:
                measures.append(Measure(name, opinions.mean_score, self.panel.matrix(name), strata))
        if "errors" in self.question_ids:
            measures += self._error_measures()
        seconds = self.panel.matrix("seconds")
        measures.append(Measure("log_seconds", opinions.mean_log_seconds, seconds, strata))
        return measures

    def _error_measures(self) -> list[Measure]:
        """Returns the measures of marked errors, of any kind and of each kind."""
        measures = []
        for code in ("", *ERROR_KINDS):
            counts = self.panel.count_matrix(partial(opinions.count_errors, code=code))
            name = f"errors_{code}" if code else "errors"
            measures.append(Measure(name, opinions.errors_per_100, counts, self.panel.strata))
        return measures

    def detection_measures(
        self, synthetic: np.ndarray, real: np.ndarray
    ) -> dict[str, tuple[ReaderStatistic, bool]]:
        """Computes how well readers tell synthetic images from real ones.

        Args:
            synthetic: The synthetic images, `(I,)` bool.
            real: The real images, `(I,)` bool.

        Returns:
            Each statistic by name, and whether it lies in [0, 1].
        """
        called_synthetic, strata = self.called_synthetic, self.panel.strata
        hits = np.where(synthetic[None], called_synthetic, np.nan)
        correct_rejections = np.where(real[None], 1 - called_synthetic, np.nan)
        masks = {"synthetic": synthetic, "real": real, "strata": strata}
        measures = {
            "accuracy": (detection.accuracy(called_synthetic, **masks), True),
            "sensitivity": (detection.proportion(hits, strata), True),
            "specificity": (detection.proportion(correct_rejections, strata), True),
            "d_prime": (detection.d_prime(called_synthetic, **masks), False),
            "criterion": (detection.criterion(called_synthetic, **masks), False),
        }
        if "confidence" in self.question_ids:
            sign = np.where(called_synthetic > 0, 1, -1)
            ratings = sign * self.panel.matrix("confidence")
            measures["auc"] = (detection.roc_auc(ratings, **masks), True)
        return measures

    def coded_questions(self) -> Iterator[CodedQuestion]:
        """Yields the questions that readers can agree on."""
        if "origin" in self.question_ids:
            yield CodedQuestion("origin", self.called_synthetic, 2, False)
        if "diagnosis" in self.question_ids:
            yield CodedQuestion("diagnosis", self.diagnosis, len(self.classes), False)
        for name in SCORES:
            if name in self.question_ids:
                yield CodedQuestion(name, self.panel.matrix(name) + 2, 5, True)

    def repeated_answers(self, question: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns first and second answers, `(J, I)` each, NaN where there is none."""
        column, codes = question, None
        if question == "origin":
            column, codes = "origin_answer", _ORIGIN_CODES
        elif question == "diagnosis":
            codes = self.class_codes
        return self.panel.matrix(column, codes), self.panel.repeat_matrix(column, codes)
