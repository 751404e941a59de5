"""Scores, diagnoses, errors and times, and what the next reading needs."""

import numpy as np
import pandas as pd
import pytest

from xraysynth.evaluation.reader_study import opinions, sample_size
from xraysynth.evaluation.reader_study.mrmc import reader_means
from xraysynth.evaluation.reader_study.protocol import ERROR_KINDS

ONE = np.zeros(20)


def test_scores_average_readers_not_answers():
    x = np.full((2, 20), np.nan)
    x[0], x[1, :5] = 1.0, -1.0
    assert opinions.mean_score(x, ONE).value == pytest.approx(0)


def test_seconds_are_a_geometric_mean_of_positive_times():
    x = np.array([[1.0, 100.0]])
    assert np.exp(opinions.mean_log_seconds(x, np.zeros(2)).value) == pytest.approx(10)
    assert np.isfinite(opinions.mean_log_seconds(x * 0, np.zeros(2)).value)


def test_errors_are_per_hundred_images():
    counts = np.array([[0, 1, 2, 1]]).astype(float)
    assert opinions.errors_per_100(counts, np.zeros(4)).value == pytest.approx(100)


def test_marks_are_taken_apart_and_counted():
    text = "omission@0.1000,0.2000;artefact@0.5000,0.6000;omission@0.9000,1.0000"
    assert [opinions.count_errors(text, c) for c in ("", "omission", "subtle")] == [3, 2, 0]
    row = {"reader": "R1", "case": "c1", "generator": "g", "label": "l", "errors": text}
    marks = opinions.marks_table(pd.DataFrame([row]), ERROR_KINDS)
    assert marks[["code", "x", "y"]].to_numpy().tolist()[1] == ["artefact", 0.5, 0.6]
    assert len(marks) == 3


def found(readers: int = 3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(readers, 80)) + rng.normal(size=80) + rng.normal(0, 0.3, (readers, 1))
    return reader_means(x, np.zeros(80), prior_scale=0.3)


def test_more_readers_and_more_images_narrow_the_plan():
    plans = {
        (p.readers, p.images): p.half_width
        for p in sample_size.compute_plans(found(), pilot_images=80)
    }
    assert plans[2, 40] > plans[4, 40] > plans[8, 40]
    assert plans[4, 20] > plans[4, 80] > plans[4, 320]


def test_the_plan_of_the_same_design_is_about_its_interval():
    now = found(6)
    estimate = now.estimate()
    (plan,) = sample_size.compute_plans(
        now, pilot_images=80, reader_counts=(6,), image_counts=(80,)
    )
    assert plan.half_width == pytest.approx((estimate.high - estimate.low) / 2, rel=0.25)


def test_the_smallest_design_that_reaches_a_width():
    plans = [
        sample_size.Plan(2, 80, 0.08),
        sample_size.Plan(4, 80, 0.05),
        sample_size.Plan(8, 320, 0.02),
    ]
    assert sample_size.smallest_plan(plans, 0.05) == plans[1]
    assert sample_size.smallest_plan(plans, 0.01) is None


def test_nothing_is_planned_without_a_variance():
    assert (
        sample_size.compute_plans(
            reader_means(np.ones((2, 9)), np.zeros(9), prior_scale=0.3), pilot_images=9
        )
        == []
    )
