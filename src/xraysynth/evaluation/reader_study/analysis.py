"""What a reading says: the joined answers to one table of results, pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd

from xraysynth.evaluation.metrics.statistics import holm_adjust
from xraysynth.evaluation.reader_study import agreement, detection, opinions, sample_size
from xraysynth.evaluation.reader_study.measures import SCORES, AnswerMatrices, CodedQuestion
from xraysynth.evaluation.reader_study.mrmc import Estimate
from xraysynth.evaluation.reader_study.panel import Panel
from xraysynth.evaluation.reader_study.protocol import ERROR_KINDS
from xraysynth.evaluation.reader_study.results import REAL, ReadingResult, to_table

PAIR_COLUMNS = ("question", "reader", "other", "value", "images")
"""Columns of the table of pairs of readers."""

_COMPARED_WITH_REAL = ("called_real", "diagnosis_agreement", *SCORES)
_UNDEFINED_NOTE = "not defined: fewer than 3 repeats a reader, or all answers alike"


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


def analyse(
    table: pd.DataFrame, *, classes: Sequence[str], question_ids: Sequence[str]
) -> Analysis:
    """All results of the answers in `table` (`exports.join_with_key`) to the questions `asked`."""
    study = _ReadingAnalysis(
        AnswerMatrices(Panel.from_table(table), tuple(classes), tuple(question_ids))
    )
    results = to_table(
        [*study.opinion_results(), *study.agreement_results(), *study.own_question_results()]
    )
    marked = opinions.marks_table(study.panel.answers, ERROR_KINDS)
    return Analysis(
        _with_holm(results), study.reader_table(), study.pair_table(), marked, study.compute_plans()
    )


def _with_holm(results: pd.DataFrame) -> pd.DataFrame:
    """p-values of all images of a generator, adjusted over generators, question by question."""
    adjusted = pd.Series(np.nan, results.index)
    tested = results[results["p"].notna() & (results["class"] == "") & (results["generator"] != "")]
    for _, family in tested.groupby("name"):
        p_values = holm_adjust({str(index): p for index, p in family["p"].items()})
        for index in family.index:
            adjusted[index] = p_values[str(index)]
    return results.assign(p_holm=adjusted)


@dataclass(frozen=True)
class _ReadingAnalysis:
    """The results of a panel's answers, by generator and class."""

    answers: AnswerMatrices

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

    def opinion_results(self) -> Iterator[ReadingResult]:
        """Every measure of images, by generator and class."""
        for label in self.labels:
            real = self.panel.mask("", label)
            for measure in self.answers.image_measures if real.any() else ():
                yield ReadingResult.from_estimate(measure.name, REAL, label, measure.estimate(real))
            for title, generator in self.groups:
                made = self.panel.mask(generator, label)
                yield from self._generator_results(title, label, made, real)

    def _generator_results(
        self, title: str, label: str, synthetic: np.ndarray, real: np.ndarray
    ) -> Iterator[ReadingResult]:
        if not synthetic.any():
            yield ReadingResult.from_estimate(
                "images", title, label, Estimate.without_interval(note="no answered image")
            )
            return
        for measure in self.answers.image_measures:
            yield ReadingResult.from_estimate(
                measure.name, title, label, measure.estimate(synthetic)
            )
            if real.any() and measure.name in _COMPARED_WITH_REAL:
                difference = (measure.compute(synthetic) - measure.compute(real)).estimate(
                    test=True
                )
                within = _clip_interval(difference, measure.max_difference)
                yield ReadingResult.from_estimate(
                    f"{measure.name}_difference", title, label, within
                )
        if "origin" in self.answers.question_ids and real.any():
            for name, (crossed, share) in self.answers.detection_measures(synthetic, real).items():
                yield ReadingResult.from_estimate(
                    name, title, label, crossed.estimate(is_proportion=share)
                )

    def agreement_results(self) -> Iterator[ReadingResult]:
        """Between readers and of each with themselves, of all images, real ones, and each generator's."""
        everything = np.ones(len(self.panel.cases), bool)
        masks = [("", everything), (REAL, self.panel.mask(""))]
        masks += [(name, self.panel.mask(name)) for name in self.panel.generators]
        for question in self.answers.coded_questions():
            for title, mask in masks:
                if mask.any():
                    yield from self._inter_reader_results(question, title, mask)
            yield from self._intra_reader_results(question)

    def _inter_reader_results(
        self, question: CodedQuestion, title: str, mask: np.ndarray
    ) -> Iterator[ReadingResult]:
        codes, strata, options = question.codes[:, mask], self.panel.strata[mask], question.options
        if question.ordinal:
            estimates = {"weighted_kappa": agreement.weighted_kappa(codes, strata)}
        else:
            estimates = {"fleiss_kappa": agreement.fleiss(codes, strata, options=options)}
        if not title:
            level: agreement.MeasurementLevel = "ordinal" if question.ordinal else "nominal"
            estimates["alpha"] = agreement.krippendorff_alpha(
                codes, strata, options=options, level=level
            )
        for measure, estimate in estimates.items():
            yield ReadingResult.from_estimate(f"{measure}_{question.name}", title, "", estimate)

    def _intra_reader_results(self, question: CodedQuestion) -> Iterator[ReadingResult]:
        first, second = self.answers.repeated_answers(question.name)
        both = np.isfinite(first) & np.isfinite(second)
        same_again = f"same_again_{question.name}"
        if not both.any():
            yield ReadingResult.from_estimate(
                same_again, "", "", Estimate.without_interval(note="no image was shown twice")
            )
            return
        strata = np.zeros(len(self.panel.cases), int)  # too few repeats for a stratum each
        same = np.where(both, first == second, np.nan)
        yield ReadingResult.from_estimate(
            same_again, "", "", detection.proportion(same, strata).estimate(is_proportion=True)
        )
        kappa = agreement.intra_reader_kappa(first, second, strata, ordinal=question.ordinal)
        estimate = (
            kappa.estimate() if kappa.readers else Estimate.without_interval(note=_UNDEFINED_NOTE)
        )
        yield ReadingResult.from_estimate(
            f"kappa_again_{question.name}", "", "", _clip_interval(estimate, 1.0)
        )

    def own_question_results(self) -> Iterator[ReadingResult]:
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
                    mean = opinions.mean_score(of_group, self.panel.strata).estimate()
                    yield ReadingResult.from_estimate(column, title, "", mean)

    def reader_table(self) -> pd.DataFrame:
        """A row per reader: answers, repeats, seconds, and over all generators what they detected."""
        made, real = self.panel.mask(None), self.panel.mask("")
        detected = (
            self.answers.detection_measures(made, real)
            if "origin" in self.answers.question_ids
            else {}
        )
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

    def pair_table(self) -> pd.DataFrame:
        """Cohen's kappa of every two readers, question by question."""
        rows = [
            {"question": question.name, **asdict(pair)}
            for question in self.answers.coded_questions()
            for pair in agreement.pairwise_kappas(
                question.codes, self.panel.readers, ordinal=question.ordinal
            )
        ]
        return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))

    def compute_plans(self) -> dict[str, dict[str, list[sample_size.Plan]]]:
        """Designs of a next reading: half-widths of the fool rate and of d', by generator."""
        if "origin" not in self.answers.question_ids:
            return {}
        said, real, strata = self.answers.called_synthetic, self.panel.mask(""), self.panel.strata
        plans = {}
        for name in self.panel.generators:
            made = self.panel.mask(name)
            fooled = detection.proportion(np.where(made[None], 1 - said, np.nan), strata)
            d = detection.d_prime(said, synthetic=made, real=real, strata=strata)
            images = int(made.sum())
            plans[name] = {
                "called_real": sample_size.compute_plans(fooled, pilot_images=images),
                "d_prime": sample_size.compute_plans(d, pilot_images=images),
            }
        return plans


def _clip_interval(estimate: Estimate, bound: float) -> Estimate:
    """An interval that does not leave what is possible."""
    if not math.isfinite(estimate.high):
        return estimate
    return replace(estimate, low=max(estimate.low, -bound), high=min(estimate.high, bound))
