"""What a reading says: the joined answers to one table of results, pure."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.evaluation.metrics.statistics import holm
from xraysynth.evaluation.reader_study import advice, agreement, detection, opinions
from xraysynth.evaluation.reader_study.crossed import Crossed, Estimate
from xraysynth.evaluation.reader_study.panel import Panel
from xraysynth.evaluation.reader_study.protocol import ERRORS

REAL = "real"
"""What the column generator says of real images; "" is all images together."""

SCORES = ("quality", "realism")
_SAID = {"real": 0.0, "synthetic": 1.0}
_FIELDS = {"readers": "n_readers", "images": "n_cases"}


@dataclass(frozen=True)
class Analysis:
    """`results` has a row per measure, generator and class: name, generator ("" all, "real"), class
    ("" all), value, low, high, n_readers, n_cases, p, p_holm, note. `readers` has a row per reader,
    `pairs` one per pair of readers and question, `marks` one per marked error, and `plans` the
    designs of a next reading by generator and measure."""

    results: pd.DataFrame
    readers: pd.DataFrame
    pairs: pd.DataFrame
    marks: pd.DataFrame
    plans: Mapping[str, Mapping[str, Sequence[advice.Plan]]] = field(default_factory=dict)


def analyse(table: pd.DataFrame, *, classes: Sequence[str], asked: Sequence[str]) -> Analysis:
    """All results of the answers in `table` (`exports.join`) to the questions `asked`."""
    study = _Study(Panel.of(table), tuple(classes), tuple(asked))
    rows = [*study.opinions(), *study.agreements(), *study.own()]
    results = _with_holm(pd.DataFrame(rows))
    marked = opinions.marks(study.panel.answers, ERRORS)
    return Analysis(results, study.by_reader(), study.pairs(), marked, study.plans())


def _with_holm(results: pd.DataFrame) -> pd.DataFrame:
    """p-values of all images of a generator, adjusted over generators, question by question."""
    adjusted = pd.Series(np.nan, results.index)
    tested = results[results["p"].notna() & (results["class"] == "") & (results["generator"] != "")]
    for _, family in tested.groupby("name"):
        found = holm({str(index): p for index, p in family["p"].items()})
        for index in family.index:
            adjusted[index] = found[str(index)]
    return results.assign(p_holm=adjusted)


@dataclass(frozen=True)
class _Measure:
    """A measure of the images of any mask `(I,)`; `share` says that it lies in [0, 1]."""

    name: str
    of: Callable[[np.ndarray], Crossed]
    share: bool = False

    @property
    def reach(self) -> float:
        """The largest difference of two values."""
        return 1.0 if self.share else 4.0

    def estimate(self, mask: np.ndarray) -> Estimate:
        found = self.of(mask).estimate(share=self.share)
        least = 0.0 if self.name.startswith("errors") else -math.inf
        return replace(found, low=max(found.low, least)) if math.isfinite(found.low) else found


def _of(
    measure: Callable[[np.ndarray, np.ndarray], Crossed], answers: np.ndarray, strata: np.ndarray
) -> Callable[[np.ndarray], Crossed]:
    return lambda mask: measure(np.where(mask[None], answers, np.nan), strata)


@dataclass(frozen=True)
class _Study:
    """The matrices of a panel, and the measures made of them."""

    panel: Panel
    classes: tuple[str, ...]
    asked: tuple[str, ...]

    @cached_property
    def said(self) -> np.ndarray:
        return self.panel.matrix("origin_answer", _SAID)

    @property
    def codes(self) -> dict[str, float]:
        return {name: float(number) for number, name in enumerate(self.classes)}

    @property
    def truth(self) -> np.ndarray:
        found: np.ndarray = self.panel.cases["label"].map(self.codes).to_numpy(float)
        return found

    @property
    def groups(self) -> list[tuple[str, str | None]]:
        """Names of the generators and how `Panel.mask` calls them; all together where several."""
        made = self.panel.generators
        several: list[tuple[str, str | None]] = [("", None)] if len(made) > 1 else []
        return [*several, *((name, name) for name in made)]

    @property
    def labels(self) -> list[str]:
        """All classes together, then each; a single class is all of them."""
        return ["", *(self.classes if len(self.classes) > 1 else ())]

    def opinions(self) -> Iterator[dict[str, Any]]:
        """Every measure of images, by generator and class."""
        for label in self.labels:
            real = self.panel.mask("", label)
            for one in self._single if real.any() else ():
                yield _row(one.name, REAL, label, one.estimate(real))
            for title, generator in self.groups:
                made = self.panel.mask(generator, label)
                yield from self._of_generator(title, label, made, real)

    def _of_generator(
        self, title: str, label: str, made: np.ndarray, real: np.ndarray
    ) -> Iterator[dict[str, Any]]:
        if not made.any():
            yield _row("images", title, label, _nothing("no answered image"))
            return
        for one in self._single:
            yield _row(one.name, title, label, one.estimate(made))
            if real.any() and one.name in _COMPARED:
                difference = require_within(
                    (one.of(made) - one.of(real)).estimate(test=True), one.reach
                )
                yield _row(f"{one.name}_difference", title, label, difference)
        if "origin" in self.asked and real.any():
            yield from self._detection(title, label, made, real)

    @cached_property
    def _single(self) -> list[_Measure]:
        """Measures of any set of images."""
        strata = self.panel.strata
        found = []
        if "origin" in self.asked:
            called_real = 1 - self.said
            found.append(_Measure("called_real", _of(detection.rate, called_real, strata), True))
        if "diagnosis" in self.asked:
            diagnosis = self.panel.matrix("diagnosis", self.codes)
            right = np.where(np.isfinite(diagnosis), diagnosis == self.truth[None], np.nan)
            found.append(_Measure("diagnosis_agreement", _of(detection.rate, right, strata), True))
        for name in SCORES:
            if name in self.asked:
                found.append(_Measure(name, _of(opinions.score, self.panel.matrix(name), strata)))
        if "errors" in self.asked:
            for code in ("", *ERRORS):
                counts = self.panel.counted(partial(opinions.count, code=code))
                name = f"errors_{code}" if code else "errors"
                found.append(_Measure(name, _of(opinions.errors_per_100, counts, strata)))
        times = self.panel.matrix("seconds")
        return [*found, _Measure("log_seconds", _of(opinions.log_seconds, times, strata))]

    def _detection(
        self, title: str, label: str, made: np.ndarray, real: np.ndarray
    ) -> Iterator[dict[str, Any]]:
        for name, (crossed, share) in self._detected(made, real).items():
            yield _row(name, title, label, crossed.estimate(share=share))

    def _detected(self, made: np.ndarray, real: np.ndarray) -> dict[str, tuple[Crossed, bool]]:
        said, strata = self.said, self.panel.strata
        masks = {"synthetic": made, "real": real, "strata": strata}
        found = {
            "accuracy": (detection.accuracy(said, **masks), True),
            "sensitivity": (detection.rate(np.where(made[None], said, np.nan), strata), True),
            "specificity": (detection.rate(np.where(real[None], 1 - said, np.nan), strata), True),
            "d_prime": (detection.d_prime(said, **masks), False),
            "criterion": (detection.criterion(said, **masks), False),
        }
        if "confidence" in self.asked:
            rating = np.where(said > 0, 1, -1) * self.panel.matrix("confidence")
            found["auc"] = (detection.area(rating, **masks), True)
        return found

    def agreements(self) -> Iterator[dict[str, Any]]:
        """Between readers and of each with themselves, of all images, real ones, and each generator's."""
        everything = np.ones(len(self.panel.cases), bool)
        masks = [("", everything), (REAL, self.panel.mask(""))]
        masks += [(name, self.panel.mask(name)) for name in self.panel.generators]
        for name, codes, options, ordinal in self._coded():
            for title, mask in masks:
                if mask.any():
                    yield from self._agreement(name, title, codes, mask, options, ordinal)
            yield from self._repeated(name, ordinal)

    def _coded(self) -> Iterator[tuple[str, np.ndarray, int, bool]]:
        """Questions as codes from 0: name, `(J, I)`, how many options, and whether they are a scale."""
        if "origin" in self.asked:
            yield "origin", self.said, 2, False
        if "diagnosis" in self.asked:
            yield "diagnosis", self.panel.matrix("diagnosis", self.codes), len(self.classes), False
        for name in SCORES:
            if name in self.asked:
                yield name, self.panel.matrix(name) + 2, 5, True

    def _agreement(
        self, name: str, title: str, codes: np.ndarray, mask: np.ndarray, options: int, scale: bool
    ) -> Iterator[dict[str, Any]]:
        kept, strata = codes[:, mask], self.panel.strata[mask]
        if scale:
            found = {"weighted_kappa": agreement.weighted_kappa(kept, strata)}
        else:
            found = {"fleiss_kappa": agreement.fleiss(kept, strata, options=options)}
        if not title:
            level: agreement.Level = "ordinal" if scale else "nominal"
            found["alpha"] = agreement.alpha(kept, strata, options=options, level=level)
        for measure, estimate in found.items():
            yield _row(f"{measure}_{name}", title, "", estimate)

    def _repeated(self, name: str, ordinal: bool) -> Iterator[dict[str, Any]]:
        first, second = self._twice(name)
        both = np.isfinite(first) & np.isfinite(second)
        if not both.any():
            yield _row(f"same_again_{name}", "", "", _nothing("no image was shown twice"))
            return
        strata = np.zeros(len(self.panel.cases), int)  # too few repeats for a stratum each
        same = np.where(both, first == second, np.nan)
        yield _row(f"same_again_{name}", "", "", detection.rate(same, strata).estimate(share=True))
        kappa = agreement.within_readers(first, second, strata, ordinal=ordinal)
        found = kappa.estimate() if kappa.readers else _nothing(_UNDEFINED)
        yield _row(f"kappa_again_{name}", "", "", require_within(found, 1.0))

    def _twice(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        column, codes = {
            "origin": ("origin_answer", _SAID),
            "diagnosis": ("diagnosis", self.codes),
        }.get(name, (name, None))
        return self.panel.matrix(column, codes), self.panel.again(column, codes)

    def own(self) -> Iterator[dict[str, Any]]:
        """Scales that the study added, as means by generator."""
        strata = self.panel.strata
        for column in (c for c in self.panel.answers if c.startswith("own_")):
            answers = self.panel.matrix(column)
            if not np.isfinite(answers).any():
                continue  # a choice or free text: it is in answers.csv
            masks = [
                (REAL, self.panel.mask("")),
                *((t, self.panel.mask(g)) for t, g in self.groups),
            ]
            for title, mask in masks:
                if mask.any():
                    yield _row(
                        column,
                        title,
                        "",
                        opinions.score(np.where(mask[None], answers, np.nan), strata).estimate(),
                    )

    def by_reader(self) -> pd.DataFrame:
        """A row per reader: answers, repeats, seconds, and over all generators what they found."""
        rows = []
        made, real = self.panel.mask(None), self.panel.mask("")
        found = self._detected(made, real) if "origin" in self.asked else {}
        for place, reader in enumerate(self.panel.readers):
            mine = self.panel.answers[self.panel.answers["reader"] == reader]
            row: dict[str, Any] = {
                "reader": reader,
                "answers": len(mine),
                "repeats": int((self.panel.repeats["reader"] == reader).sum()),
                "median_seconds": float(mine["seconds"].median()),
            }
            rows.append(row | {n: float(c.values[place]) for n, (c, _) in found.items()})
        return pd.DataFrame(rows)

    def pairs(self) -> pd.DataFrame:
        """Cohen's kappa of every two readers, question by question."""
        rows = [
            {"question": name, **row}
            for name, codes, _, ordinal in self._coded()
            for row in agreement.pairs(codes, self.panel.readers, ordinal=ordinal)
        ]
        return pd.DataFrame(rows, columns=["question", "reader", "other", "value", "images"])

    def plans(self) -> dict[str, dict[str, list[advice.Plan]]]:
        """Designs of a next reading: half-widths of the fool rate and of d', by generator."""
        if "origin" not in self.asked:
            return {}
        real, strata = self.panel.mask(""), self.panel.strata
        found = {}
        for name in self.panel.generators:
            made = self.panel.mask(name)
            fooled = detection.rate(np.where(made[None], 1 - self.said, np.nan), strata)
            d = detection.d_prime(self.said, synthetic=made, real=real, strata=strata)
            images = int(made.sum())
            found[name] = {
                "called_real": advice.plans(fooled, images=images),
                "d_prime": advice.plans(d, images=images),
            }
        return found


_COMPARED = ("called_real", "diagnosis_agreement", *SCORES)
_UNDEFINED = "not defined: fewer than 3 repeats a reader, or all answers alike"


def _nothing(note: str) -> Estimate:
    nothing = float("nan")
    return Estimate(nothing, nothing, nothing, 0, 0, note)


def require_within(found: Estimate, reach: float) -> Estimate:
    """An interval that does not leave what is possible."""
    if not math.isfinite(found.high):
        return found
    return replace(found, low=max(found.low, -reach), high=min(found.high, reach))


def _row(name: str, generator: str, label: str, found: Estimate) -> dict[str, Any]:
    values = {_FIELDS.get(k, k): v for k, v in asdict(found).items()}
    return {"name": name, "generator": generator, "class": label, **values}
