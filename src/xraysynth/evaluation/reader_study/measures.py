"""What is measured of a reading's images: the matrices of a panel, and statistics made of them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from xraysynth.evaluation.reader_study import detection, opinions
from xraysynth.evaluation.reader_study.mrmc import Crossed, Estimate
from xraysynth.evaluation.reader_study.panel import Panel
from xraysynth.evaluation.reader_study.protocol import ERRORS

SCORES = ("quality", "realism")
_SAID = {"real": 0.0, "synthetic": 1.0}


@dataclass(frozen=True)
class Measure:
    """A measure of the images of any mask `(I,)`; `share` says that it lies in [0, 1]."""

    name: str
    of: Callable[[np.ndarray], Crossed]
    share: bool = False

    @property
    def reach(self) -> float:
        """The largest difference of two values."""
        return 1.0 if self.share else 4.0

    def estimate(self, mask: np.ndarray) -> Estimate:
        """Its value and interval over the images of a mask."""
        estimate = self.of(mask).estimate(share=self.share)
        least = 0.0 if self.name.startswith("errors") else -math.inf
        if not math.isfinite(estimate.low):
            return estimate
        return replace(estimate, low=max(estimate.low, least))


@dataclass(frozen=True)
class Coded:
    """A question as codes `(J, I)` from 0 to `options` - 1; `ordinal` for those of a scale."""

    name: str
    codes: np.ndarray
    options: int
    ordinal: bool


@dataclass(frozen=True)
class Matrices:
    """The answers of a panel to the questions `asked`, as numbers."""

    panel: Panel
    classes: tuple[str, ...]
    asked: tuple[str, ...]

    @cached_property
    def said(self) -> np.ndarray:
        """1 where a reader said synthetic, `(J, I)`."""
        return self.panel.matrix("origin_answer", _SAID)

    @property
    def codes(self) -> dict[str, float]:
        """The number of each class."""
        return {name: float(number) for number, name in enumerate(self.classes)}

    @property
    def truth(self) -> np.ndarray:
        """The number of each image's class, `(I,)`."""
        numbers: np.ndarray = self.panel.cases["label"].map(self.codes).to_numpy(float)
        return numbers

    @cached_property
    def single(self) -> list[Measure]:
        """Measures of any set of images."""
        strata = self.panel.strata
        measures = []
        if "origin" in self.asked:
            called_real = 1 - self.said
            measures.append(Measure("called_real", _of(detection.rate, called_real, strata), True))
        if "diagnosis" in self.asked:
            diagnosis = self.panel.matrix("diagnosis", self.codes)
            right = np.where(np.isfinite(diagnosis), diagnosis == self.truth[None], np.nan)
            measures.append(
                Measure("diagnosis_agreement", _of(detection.rate, right, strata), True)
            )
        for name in SCORES:
            if name in self.asked:
                measures.append(Measure(name, _of(opinions.score, self.panel.matrix(name), strata)))
        if "errors" in self.asked:
            for code in ("", *ERRORS):
                counts = self.panel.counted(partial(opinions.count, code=code))
                name = f"errors_{code}" if code else "errors"
                measures.append(Measure(name, _of(opinions.errors_per_100, counts, strata)))
        times = self.panel.matrix("seconds")
        return [*measures, Measure("log_seconds", _of(opinions.log_seconds, times, strata))]

    def detected(self, made: np.ndarray, real: np.ndarray) -> dict[str, tuple[Crossed, bool]]:
        """Measures of telling images `made` `(I,)` from `real` ones, and which lie in [0, 1]."""
        said, strata = self.said, self.panel.strata
        masks = {"synthetic": made, "real": real, "strata": strata}
        measures = {
            "accuracy": (detection.accuracy(said, **masks), True),
            "sensitivity": (detection.rate(np.where(made[None], said, np.nan), strata), True),
            "specificity": (detection.rate(np.where(real[None], 1 - said, np.nan), strata), True),
            "d_prime": (detection.d_prime(said, **masks), False),
            "criterion": (detection.criterion(said, **masks), False),
        }
        if "confidence" in self.asked:
            rating = np.where(said > 0, 1, -1) * self.panel.matrix("confidence")
            measures["auc"] = (detection.area(rating, **masks), True)
        return measures

    def coded(self) -> Iterator[Coded]:
        """The questions that readers can agree on."""
        if "origin" in self.asked:
            yield Coded("origin", self.said, 2, False)
        if "diagnosis" in self.asked:
            diagnosis = self.panel.matrix("diagnosis", self.codes)
            yield Coded("diagnosis", diagnosis, len(self.classes), False)
        for name in SCORES:
            if name in self.asked:
                yield Coded(name, self.panel.matrix(name) + 2, 5, True)

    def twice(self, question: str) -> tuple[np.ndarray, np.ndarray]:
        """First and second answers `(J, I)` each, NaN where an image was not shown twice."""
        column, codes = {
            "origin": ("origin_answer", _SAID),
            "diagnosis": ("diagnosis", self.codes),
        }.get(question, (question, None))
        return self.panel.matrix(column, codes), self.panel.again(column, codes)


def _of(
    measure: Callable[[np.ndarray, np.ndarray], Crossed], answers: np.ndarray, strata: np.ndarray
) -> Callable[[np.ndarray], Crossed]:
    return lambda mask: measure(np.where(mask[None], answers, np.nan), strata)
