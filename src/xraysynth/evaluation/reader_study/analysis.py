"""Turns the joined answers of a reading into one table of results; a pure function of the answers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd

from xraysynth.evaluation.metrics.statistics import holm_adjust
from xraysynth.evaluation.reader_study import agreement, detection, opinions, sample_size
from xraysynth.evaluation.reader_study.measures import (
    SCORES,
    AnswerMatrices,
    CodedQuestion,
    Measure,
)
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
    """The tables of an analysed reading.

    Attributes:
        results: One row per measure, generator and class: name, generator ("" all, "real"), class
            ("" all), value, low, high, n_readers, n_cases, p, p_holm, note.
        readers: One row per reader: answers, repeats, median seconds, and detection measures.
        pairs: One row per question and pair of readers, see `PAIR_COLUMNS`.
        marks: One row per marked error, see `opinions.marks_table`.
        plans: The designs of a next reading, by generator and measure.
    """

    results: pd.DataFrame
    readers: pd.DataFrame
    pairs: pd.DataFrame
    marks: pd.DataFrame
    plans: Mapping[str, Mapping[str, Sequence[sample_size.Plan]]] = field(default_factory=dict)


def analyse(
    table: pd.DataFrame, *, classes: Sequence[str], question_ids: Sequence[str]
) -> Analysis:
    """Computes all results of a reading.

    Args:
        table: The answers, as from `exports.join_with_key`.
        classes: The classes that a diagnosis can name.
        question_ids: The questions that were asked.
    """
    answers = AnswerMatrices(Panel.from_table(table), tuple(classes), tuple(question_ids))
    study = _ReadingAnalysis(answers)
    results = [
        *study.opinion_results(),
        *study.agreement_results(),
        *study.own_question_results(),
    ]
    return Analysis(
        results=_with_holm(to_table(results)),
        readers=study.reader_table(),
        pairs=study.pair_table(),
        marks=opinions.marks_table(study.panel.answers, ERROR_KINDS),
        plans=study.compute_plans(),
    )


def _with_holm(results: pd.DataFrame) -> pd.DataFrame:
    """Adds p values adjusted over generators, measure by measure, for the images of all classes."""
    adjusted = pd.Series(np.nan, results.index)
    tested = results[results["p"].notna() & (results["class"] == "") & (results["generator"] != "")]
    for _, family in tested.groupby("name"):
        p_values = dict(zip(family.index.astype(str), family["p"], strict=True))
        adjusted_p_values = holm_adjust(p_values)
        adjusted[family.index] = [adjusted_p_values[name] for name in p_values]
    return results.assign(p_holm=adjusted)


@dataclass(frozen=True)
class _ReadingAnalysis:
    """Computes the results of a panel's answers, by generator and class."""

    answers: AnswerMatrices

    @property
    def panel(self) -> Panel:
        return self.answers.panel

    @property
    def groups(self) -> list[tuple[str, str | None]]:
        """The generators by name in the table and by argument of `Panel.mask`.

        All generators together come first where there are several.
        """
        generators = self.panel.generators
        groups: list[tuple[str, str | None]] = [("", None)] if len(generators) > 1 else []
        groups += zip(generators, generators, strict=True)
        return groups

    @property
    def labels(self) -> list[str]:
        """All classes together (""), then each class where there are several."""
        classes = self.answers.classes
        return ["", *classes] if len(classes) > 1 else [""]

    def opinion_results(self) -> Iterator[ReadingResult]:
        """Yields every measure of images, by class and generator."""
        for label in self.labels:
            real = self.panel.mask("", label)
            if real.any():
                for measure in self.answers.image_measures:
                    estimate = measure.estimate(real)
                    yield ReadingResult.from_estimate(measure.name, REAL, label, estimate)
            for title, generator in self.groups:
                synthetic = self.panel.mask(generator, label)
                yield from self._generator_results(title, label, synthetic, real)

    def _generator_results(
        self, title: str, label: str, synthetic: np.ndarray, real: np.ndarray
    ) -> Iterator[ReadingResult]:
        """Yields the measures of one generator's images of one class, compared with real images."""
        if not synthetic.any():
            estimate = Estimate.without_interval(note="no answered image")
            yield ReadingResult.from_estimate("images", title, label, estimate)
            return
        for measure in self.answers.image_measures:
            estimate = measure.estimate(synthetic)
            yield ReadingResult.from_estimate(measure.name, title, label, estimate)
            if real.any() and measure.name in _COMPARED_WITH_REAL:
                difference = _estimate_difference(measure, synthetic, real)
                name = f"{measure.name}_difference"
                yield ReadingResult.from_estimate(name, title, label, difference)
        if "origin" in self.answers.question_ids and real.any():
            detection_measures = self.answers.detection_measures(synthetic, real)
            for name, (statistic, is_proportion) in detection_measures.items():
                estimate = statistic.estimate(is_proportion=is_proportion)
                yield ReadingResult.from_estimate(name, title, label, estimate)

    def agreement_results(self) -> Iterator[ReadingResult]:
        """Yields agreement between readers on all, real and each generator's images, and with oneself."""
        masks = {"": np.ones(len(self.panel.cases), bool), REAL: self.panel.mask("")}
        for generator in self.panel.generators:
            masks[generator] = self.panel.mask(generator)
        for question in self.answers.coded_questions():
            for title, mask in masks.items():
                if mask.any():
                    yield from self._inter_reader_results(question, title, mask)
            yield from self._intra_reader_results(question)

    def _inter_reader_results(
        self, question: CodedQuestion, title: str, mask: np.ndarray
    ) -> Iterator[ReadingResult]:
        """Yields the agreement between readers on the images in a mask `(I,)`."""
        codes, strata, options = question.codes[:, mask], self.panel.strata[mask], question.options
        if question.ordinal:
            kappa = agreement.weighted_kappa(codes, strata)
            yield ReadingResult.from_estimate(f"weighted_kappa_{question.name}", title, "", kappa)
        else:
            kappa = agreement.fleiss(codes, strata, options=options)
            yield ReadingResult.from_estimate(f"fleiss_kappa_{question.name}", title, "", kappa)
        if not title:
            level: agreement.MeasurementLevel = "ordinal" if question.ordinal else "nominal"
            alpha = agreement.krippendorff_alpha(codes, strata, options=options, level=level)
            yield ReadingResult.from_estimate(f"alpha_{question.name}", title, "", alpha)

    def _intra_reader_results(self, question: CodedQuestion) -> Iterator[ReadingResult]:
        """Yields how often readers repeat their answer to an image, and the kappa of it."""
        first, second = self.answers.repeated_answers(question.name)
        is_repeated = np.isfinite(first) & np.isfinite(second)
        name = f"same_again_{question.name}"
        if not is_repeated.any():
            estimate = Estimate.without_interval(note="no image was shown twice")
            yield ReadingResult.from_estimate(name, "", "", estimate)
            return
        strata = np.zeros(len(self.panel.cases), int)  # there are too few repeats for strata
        is_same = np.where(is_repeated, first == second, np.nan)
        estimate = detection.proportion(is_same, strata).estimate(is_proportion=True)
        yield ReadingResult.from_estimate(name, "", "", estimate)
        kappa = agreement.intra_reader_kappa(first, second, strata, ordinal=question.ordinal)
        estimate = Estimate.without_interval(note=_UNDEFINED_NOTE)
        if kappa.readers:
            estimate = _clip_interval(kappa.estimate(), 1.0)
        yield ReadingResult.from_estimate(f"kappa_again_{question.name}", "", "", estimate)

    def own_question_results(self) -> Iterator[ReadingResult]:
        """Yields the means of scales that the study added, by generator."""
        masks = {REAL: self.panel.mask("")}
        for title, generator in self.groups:
            masks[title] = self.panel.mask(generator)
        for column in self.panel.answers.filter(regex="^own_"):
            answers = self.panel.matrix(column)
            if not np.isfinite(answers).any():
                continue  # the answers to a choice or a text question are in answers.csv only
            measure = Measure(column, opinions.mean_score, answers, self.panel.strata)
            for title, mask in masks.items():
                if mask.any():
                    estimate = measure.compute(mask).estimate()
                    yield ReadingResult.from_estimate(column, title, "", estimate)

    def reader_table(self) -> pd.DataFrame:
        """Returns one row per reader, with detection measures over the images of all generators."""
        statistics = {}
        if "origin" in self.answers.question_ids:
            synthetic, real = self.panel.mask(None), self.panel.mask("")
            statistics = self.answers.detection_measures(synthetic, real)
        rows = []
        for index, reader in enumerate(self.panel.readers):
            answers = self.panel.answers[self.panel.answers["reader"] == reader]
            row: dict[str, str | float] = {
                "reader": reader,
                "answers": len(answers),
                "repeats": int((self.panel.repeats["reader"] == reader).sum()),
                "median_seconds": float(answers["seconds"].median()),
            }
            for name, (statistic, _) in statistics.items():
                row[name] = float(statistic.values[index])
            rows.append(row)
        return pd.DataFrame(rows)

    def pair_table(self) -> pd.DataFrame:
        """Returns Cohen's kappa of every two readers, question by question."""
        rows = []
        for question in self.answers.coded_questions():
            pairs = agreement.pairwise_kappas(
                question.codes, self.panel.readers, ordinal=question.ordinal
            )
            for pair in pairs:
                rows.append({"question": question.name, **asdict(pair)})
        return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))

    def compute_plans(self) -> dict[str, dict[str, list[sample_size.Plan]]]:
        """Plans a next reading by the proportion of images called real and by d', for each generator."""
        if "origin" not in self.answers.question_ids:
            return {}
        called_synthetic, strata = self.answers.called_synthetic, self.panel.strata
        real = self.panel.mask("")
        plans = {}
        for name in self.panel.generators:
            synthetic = self.panel.mask(name)
            misses = np.where(synthetic[None], 1 - called_synthetic, np.nan)
            called_real = detection.proportion(misses, strata)
            d_prime = detection.d_prime(
                called_synthetic, synthetic=synthetic, real=real, strata=strata
            )
            images = int(synthetic.sum())
            plans[name] = {
                "called_real": sample_size.compute_plans(called_real, pilot_images=images),
                "d_prime": sample_size.compute_plans(d_prime, pilot_images=images),
            }
        return plans


def _estimate_difference(measure: Measure, synthetic: np.ndarray, real: np.ndarray) -> Estimate:
    """Returns the measure of synthetic minus that of real images, tested against 0."""
    difference = measure.compute(synthetic) - measure.compute(real)
    return _clip_interval(difference.estimate(test=True), measure.max_difference)


def _clip_interval(estimate: Estimate, bound: float) -> Estimate:
    """Clips an interval to what is possible, from -`bound` to `bound`."""
    if not math.isfinite(estimate.high):
        return estimate
    return replace(estimate, low=max(estimate.low, -bound), high=min(estimate.high, bound))
