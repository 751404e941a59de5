"""What readers think of images: scores, diagnoses, marked errors and the time they took."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from xraysynth.evaluation.reader_study import export_format
from xraysynth.evaluation.reader_study.mrmc import ReaderStatistic, reader_means

SCORE_PRIOR_SCALE = 0.3
"""Prior spread between readers of a mean score of five steps, in steps."""

_RELATIVE_PRIOR_SCALE = 0.3  # prior spread between readers of a count or a time, as a share of it


def mean_score(answers: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """Each reader's mean score, `answers` `(J, I)`, NaN for none."""
    return reader_means(answers, strata, prior_scale=SCORE_PRIOR_SCALE)


def mean_log_seconds(answers: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """Each reader's mean logarithm of the seconds `(J, I)` that an image took."""
    return reader_means(np.log(np.maximum(answers, 0.1)), strata, prior_scale=_RELATIVE_PRIOR_SCALE)


def errors_per_100(counts: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """Marked errors for 100 images of each reader; `counts` `(J, I)` of marks."""
    found = reader_means(counts, strata, prior_scale=1.0).scale_by(100.0)
    size = found.value if found.readers else 0.0
    return replace(found, prior_scale=_RELATIVE_PRIOR_SCALE * max(size, 1.0))


def marks_table(answers: pd.DataFrame, codes: Sequence[str]) -> pd.DataFrame:
    """One row per marked error: reader, case, generator, label, code, x and y of the image."""
    rows = [
        (row.reader, row.case, row.generator, row.label, code, x, y)
        for row in answers.itertuples()
        for code, x, y in export_format.parse_marks(str(row.errors))
        if code in codes
    ]
    columns = ["reader", "case", "generator", "label", "code", "x", "y"]
    return pd.DataFrame(rows, columns=columns)


def count_errors(text: str, code: str) -> int:
    """How many errors of a code, of any for "", an answer marks."""
    return sum(code in ("", one) for one, _, _ in export_format.parse_marks(text))
