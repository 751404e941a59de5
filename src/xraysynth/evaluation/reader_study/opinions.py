"""Measures what readers think of images: scores, marked errors, and the time that readers took."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from xraysynth.evaluation.reader_study.export_format import parse_marks
from xraysynth.evaluation.reader_study.mrmc import ReaderStatistic, reader_means

SCORE_PRIOR_SCALE = 0.3
"""Prior spread between readers of a mean score of five steps, in steps."""

_RELATIVE_PRIOR_SCALE = (
    0.3  # prior spread between readers of a count or a time, relative to its mean
)


def mean_score(answers: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """Computes each reader's mean score from `answers` `(J, I)`, NaN where there is none."""
    return reader_means(answers, strata, prior_scale=SCORE_PRIOR_SCALE)


def mean_log_seconds(seconds: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """Computes each reader's mean natural logarithm of `seconds` per image `(J, I)`, at least 0.1."""
    return reader_means(np.log(np.maximum(seconds, 0.1)), strata, prior_scale=_RELATIVE_PRIOR_SCALE)


def errors_per_100(counts: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """Computes each reader's marked errors per 100 images from `counts` of marks `(J, I)`."""
    rates = reader_means(counts, strata, prior_scale=1.0).scale_by(100.0)
    mean = rates.value if rates.readers else 0.0
    return replace(rates, prior_scale=_RELATIVE_PRIOR_SCALE * max(mean, 1.0))


def marks_table(answers: pd.DataFrame, codes: Sequence[str]) -> pd.DataFrame:
    """Lists every marked error with a code among `codes`.

    Args:
        answers: Rows of `exports.join_with_key`.
        codes: The kinds of errors to list.

    Returns:
        One row per mark: reader, case, generator, label, code, and x and y as proportions of the
        image's width and height.
    """
    rows = []
    for row in answers.itertuples():
        for code, x, y in parse_marks(str(row.errors)):
            if code in codes:
                rows.append((row.reader, row.case, row.generator, row.label, code, x, y))
    columns = ["reader", "case", "generator", "label", "code", "x", "y"]
    return pd.DataFrame(rows, columns=columns)


def count_errors(answer: str, code: str) -> int:
    """Counts the errors of a code that an answer marks, of any code for "".

    >>> count_errors("omission@0.2500,0.5000;artefact@0.9000,0.1000", "artefact")
    1
    """
    marks = parse_marks(answer)
    return sum(code in ("", mark_code) for mark_code, _, _ in marks)
