"""What is measured of a reading's images: the matrices of a panel, and statistics made of them."""

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
    """A measure of the images of any mask `(I,)`; `share` says that it lies in [0, 1]."""

    name: str
    compute: Callable[[np.ndarray], ReaderStatistic]
    is_proportion: bool = False

    @property
    def max_difference(self) -> float:
        """The largest difference of two values."""
        return 1.0 if self.is_proportion else 4.0

    def estimate(self, mask: np.ndarray) -> Estimate:
        """Its value and interval over the images of a mask."""
        estimate = self.compute(mask).estimate(is_proportion=self.is_proportion)
        least = 0.0 if self.name.startswith("errors") else -math.inf
        if not math.isfinite(estimate.low):
            return estimate
        return replace(estimate, low=max(estimate.low, least))


@dataclass(frozen=True)
class CodedQuestion:
    """A question as codes `(J, I)` from 0 to `options` - 1; `ordinal` for those of a scale."""

    name: str
    codes: np.ndarray
    options: int
    ordinal: bool


@dataclass(frozen=True)
class AnswerMatrices:
    """The answers of a panel to the questions `asked`, as numbers."""

    panel: Panel
    classes: tuple[str, ...]
    question_ids: tuple[str, ...]

    @cached_property
    def called_synthetic(self) -> np.ndarray:
        """1 where a reader said synthetic, `(J, I)`."""
        return self.panel.matrix("origin_answer", _ORIGIN_CODES)

    @property
    def class_codes(self) -> dict[str, float]:
        """The number of each class."""
        return {name: float(number) for number, name in enumerate(self.classes)}

    @property
    def true_codes(self) -> np.ndarray:
        """The number of each image's class, `(I,)`."""
        numbers: np.ndarray = self.panel.cases["label"].map(self.class_codes).to_numpy(float)
        return numbers

    @cached_property
    def image_measures(self) -> list[Measure]:
        """Measures of any set of images."""
        strata = self.panel.strata
        measures = []
        if "origin" in self.question_ids:
            called_real = 1 - self.called_synthetic
            measures.append(
                Measure(
                    "called_real", _masked_measure(detection.proportion, called_real, strata), True
                )
            )
        if "diagnosis" in self.question_ids:
            diagnosis = self.panel.matrix("diagnosis", self.class_codes)
            right = np.where(np.isfinite(diagnosis), diagnosis == self.true_codes[None], np.nan)
            measures.append(
                Measure(
                    "diagnosis_agreement",
                    _masked_measure(detection.proportion, right, strata),
                    True,
                )
            )
        for name in SCORES:
            if name in self.question_ids:
                measures.append(
                    Measure(
                        name, _masked_measure(opinions.mean_score, self.panel.matrix(name), strata)
                    )
                )
        if "errors" in self.question_ids:
            for code in ("", *ERROR_KINDS):
                counts = self.panel.count_matrix(partial(opinions.count_errors, code=code))
                name = f"errors_{code}" if code else "errors"
                measures.append(
                    Measure(name, _masked_measure(opinions.errors_per_100, counts, strata))
                )
        times = self.panel.matrix("seconds")
        return [
            *measures,
            Measure("log_seconds", _masked_measure(opinions.mean_log_seconds, times, strata)),
        ]

    def detection_measures(
        self, synthetic: np.ndarray, real: np.ndarray
    ) -> dict[str, tuple[ReaderStatistic, bool]]:
        """Measures of telling images `made` `(I,)` from `real` ones, and which lie in [0, 1]."""
        said, strata = self.called_synthetic, self.panel.strata
        masks = {"synthetic": synthetic, "real": real, "strata": strata}
        measures = {
            "accuracy": (detection.accuracy(said, **masks), True),
            "sensitivity": (
                detection.proportion(np.where(synthetic[None], said, np.nan), strata),
                True,
            ),
            "specificity": (
                detection.proportion(np.where(real[None], 1 - said, np.nan), strata),
                True,
            ),
            "d_prime": (detection.d_prime(said, **masks), False),
            "criterion": (detection.criterion(said, **masks), False),
        }
        if "confidence" in self.question_ids:
            rating = np.where(said > 0, 1, -1) * self.panel.matrix("confidence")
            measures["auc"] = (detection.roc_auc(rating, **masks), True)
        return measures

    def coded_questions(self) -> Iterator[CodedQuestion]:
        """The questions that readers can agree on."""
        if "origin" in self.question_ids:
            yield CodedQuestion("origin", self.called_synthetic, 2, False)
        if "diagnosis" in self.question_ids:
            diagnosis = self.panel.matrix("diagnosis", self.class_codes)
            yield CodedQuestion("diagnosis", diagnosis, len(self.classes), False)
        for name in SCORES:
            if name in self.question_ids:
                yield CodedQuestion(name, self.panel.matrix(name) + 2, 5, True)

    def repeated_answers(self, question: str) -> tuple[np.ndarray, np.ndarray]:
        """First and second answers `(J, I)` each, NaN where an image was not shown twice."""
        column, codes = {
            "origin": ("origin_answer", _ORIGIN_CODES),
            "diagnosis": ("diagnosis", self.class_codes),
        }.get(question, (question, None))
        return self.panel.matrix(column, codes), self.panel.repeat_matrix(column, codes)


def _masked_measure(
    measure: Callable[[np.ndarray, np.ndarray], ReaderStatistic],
    answers: np.ndarray,
    strata: np.ndarray,
) -> Callable[[np.ndarray], ReaderStatistic]:
    return lambda mask: measure(np.where(mask[None], answers, np.nan), strata)
