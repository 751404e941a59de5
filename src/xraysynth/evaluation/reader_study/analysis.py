"""What a reading says: the joined answers to one table of results, pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd

from xraysynth.evaluation.metrics.statistics import holm
from xraysynth.evaluation.reader_study import agreement, detection, opinions, sample_size
from xraysynth.evaluation.reader_study.measures import SCORES, Coded, Matrices
from xraysynth.evaluation.reader_study.mrmc import Estimate
from xraysynth.evaluation.reader_study.panel import Panel
from xraysynth.evaluation.reader_study.protocol import ERRORS
from xraysynth.evaluation.reader_study.results import REAL, Result, to_table

PAIRS = ("question", "reader", "other", "value", "images")
"""Columns of the table of pairs of readers."""

_COMPARED = ("called_real", "diagnosis_agreement", *SCORES)
_UNDEFINED = "not defined: fewer than 3 repeats a reader, or all answers alike"


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
    plans: Mapping[str, Mapping[str, Sequence[sample_size.Plan]]] = field(default_factory=dict)


def analyse(table: pd.DataFrame, *, classes: Sequence[str], asked: Sequence[str]) -> Analysis:
    """All results of the answers in `table` (`exports.join`) to the questions `asked`."""
    study = _Study(Matrices(Panel.of(table), tuple(classes), tuple(asked)))
    results = to_table([*study.opinions(), *study.agreements(), *study.own()])
    marked = opinions.marks(study.panel.answers, ERRORS)
    return Analysis(_with_holm(results), study.by_reader(), study.pairs(), marked, study.plans())


def _with_holm(results: pd.DataFrame) -> pd.DataFrame:
    """p-values of all images of a generator, adjusted over generators, question by question."""
    adjusted = pd.Series(np.nan, results.index)
    tested = results[results["p"].notna() & (results["class"] == "") & (results["generator"] != "")]
    for _, family in tested.groupby("name"):
        p_values = holm({str(index): p for index, p in family["p"].items()})
        for index in family.index:
            adjusted[index] = p_values[str(index)]
    return results.assign(p_holm=adjusted)


@dataclass(frozen=True)
class _Study:
    """The results of a panel's answers, by generator and class."""

    answers: Matrices

    @property
    def panel(self) -> Panel:
        return self.answers.panel

    @property
    def groups(self) -> list[tuple[str, str | None]]:
        """Names of the generators and how `Panel.mask` calls them; all together where several."""
        generators = self.panel.generators
        several: list[tuple[str, str | None]] = [("", None)] if len(generators) > 1 else []
        return [*several, *((name, name) for name in generators)]

    @property
    def labels(self) -> list[str]:
        """All classes together, then each; a single class is all of them."""
        classes = self.answers.classes
        return ["", *(classes if len(classes) > 1 else ())]

    def opinions(self) -> Iterator[Result]:
        """Every measure of images, by generator and class."""
        for label in self.labels:
            real = self.panel.mask("", label)
            for measure in self.answers.single if real.any() else ():
                yield Result.of(measure.name, REAL, label, measure.estimate(real))
            for title, generator in self.groups:
                made = self.panel.mask(generator, label)
                yield from self._of_generator(title, label, made, real)

    def _of_generator(
        self, title: str, label: str, made: np.ndarray, real: np.ndarray
    ) -> Iterator[Result]:
        if not made.any():
            yield Result.of("images", title, label, Estimate.undefined(note="no answered image"))
            return
        for measure in self.answers.single:
            yield Result.of(measure.name, title, label, measure.estimate(made))
            if real.any() and measure.name in _COMPARED:
                difference = (measure.of(made) - measure.of(real)).estimate(test=True)
                within = _clip_interval(difference, measure.reach)
                yield Result.of(f"{measure.name}_difference", title, label, within)
        if "origin" in self.answers.asked and real.any():
            for name, (crossed, share) in self.answers.detected(made, real).items():
                yield Result.of(name, title, label, crossed.estimate(share=share))

    def agreements(self) -> Iterator[Result]:
        """Between readers and of each with themselves, of all images, real ones, and each generator's."""
        everything = np.ones(len(self.panel.cases), bool)
        masks = [("", everything), (REAL, self.panel.mask(""))]
        masks += [(name, self.panel.mask(name)) for name in self.panel.generators]
        for question in self.answers.coded():
            for title, mask in masks:
                if mask.any():
                    yield from self._agreement(question, title, mask)
            yield from self._repeated(question)

    def _agreement(self, question: Coded, title: str, mask: np.ndarray) -> Iterator[Result]:
        codes, strata, options = question.codes[:, mask], self.panel.strata[mask], question.options
        if question.ordinal:
            estimates = {"weighted_kappa": agreement.weighted_kappa(codes, strata)}
        else:
            estimates = {"fleiss_kappa": agreement.fleiss(codes, strata, options=options)}
        if not title:
            level: agreement.Level = "ordinal" if question.ordinal else "nominal"
            estimates["alpha"] = agreement.alpha(codes, strata, options=options, level=level)
        for measure, estimate in estimates.items():
            yield Result.of(f"{measure}_{question.name}", title, "", estimate)

    def _repeated(self, question: Coded) -> Iterator[Result]:
        first, second = self.answers.twice(question.name)
        both = np.isfinite(first) & np.isfinite(second)
        same_again = f"same_again_{question.name}"
        if not both.any():
            yield Result.of(same_again, "", "", Estimate.undefined(note="no image was shown twice"))
            return
        strata = np.zeros(len(self.panel.cases), int)  # too few repeats for a stratum each
        same = np.where(both, first == second, np.nan)
        yield Result.of(same_again, "", "", detection.rate(same, strata).estimate(share=True))
        kappa = agreement.within_readers(first, second, strata, ordinal=question.ordinal)
        estimate = kappa.estimate() if kappa.readers else Estimate.undefined(note=_UNDEFINED)
        yield Result.of(f"kappa_again_{question.name}", "", "", _clip_interval(estimate, 1.0))

    def own(self) -> Iterator[Result]:
        """Scales that the study added, as means by generator."""
        masks = [(REAL, self.panel.mask(""))]
        masks += [(title, self.panel.mask(generator)) for title, generator in self.groups]
        for column in (c for c in self.panel.answers if c.startswith("own_")):
            answers = self.panel.matrix(column)
            if not np.isfinite(answers).any():
                continue  # a choice or free text: it is in answers.csv
            for title, mask in masks:
                if mask.any():
                    of_group = np.where(mask[None], answers, np.nan)
                    mean = opinions.score(of_group, self.panel.strata).estimate()
                    yield Result.of(column, title, "", mean)

    def by_reader(self) -> pd.DataFrame:
        """A row per reader: answers, repeats, seconds, and over all generators what they detected."""
        made, real = self.panel.mask(None), self.panel.mask("")
        detected = self.answers.detected(made, real) if "origin" in self.answers.asked else {}
        rows = []
        for place, reader in enumerate(self.panel.readers):
            answers = self.panel.answers[self.panel.answers["reader"] == reader]
            row: dict[str, str | float] = {
                "reader": reader,
                "answers": len(answers),
                "repeats": int((self.panel.repeats["reader"] == reader).sum()),
                "median_seconds": float(answers["seconds"].median()),
            }
            rows.append(row | {n: float(c.values[place]) for n, (c, _) in detected.items()})
        return pd.DataFrame(rows)

    def pairs(self) -> pd.DataFrame:
        """Cohen's kappa of every two readers, question by question."""
        rows = [
            {"question": question.name, **asdict(pair)}
            for question in self.answers.coded()
            for pair in agreement.pairs(
                question.codes, self.panel.readers, ordinal=question.ordinal
            )
        ]
        return pd.DataFrame(rows, columns=list(PAIRS))

    def plans(self) -> dict[str, dict[str, list[sample_size.Plan]]]:
        """Designs of a next reading: half-widths of the fool rate and of d', by generator."""
        if "origin" not in self.answers.asked:
            return {}
        said, real, strata = self.answers.said, self.panel.mask(""), self.panel.strata
        plans = {}
        for name in self.panel.generators:
            made = self.panel.mask(name)
            fooled = detection.rate(np.where(made[None], 1 - said, np.nan), strata)
            d = detection.d_prime(said, synthetic=made, real=real, strata=strata)
            images = int(made.sum())
            plans[name] = {
                "called_real": sample_size.plans(fooled, images=images),
                "d_prime": sample_size.plans(d, images=images),
            }
        return plans


def _clip_interval(estimate: Estimate, reach: float) -> Estimate:
    """An interval that does not leave what is possible."""
    if not math.isfinite(estimate.high):
        return estimate
    return replace(estimate, low=max(estimate.low, -reach), high=min(estimate.high, reach))
