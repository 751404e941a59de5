"""A study's page shows the blinded readings of its images, where there are any."""

import re
import warnings
from dataclasses import replace

import pytest

from xraysynth.evaluation.reader_study import exports, simulated_exports, simulated_readers
from xraysynth.evaluation.reader_study.analysis import analyse
from xraysynth.evaluation.reader_study.reading import Reading, SessionProgress
from xraysynth.report import page, readers
from xraysynth.report.content import Content


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    folder = tmp_path_factory.mktemp("exports")
    key = simulated_exports.simulate_key(["sd_lora"], ["normal", "covid19"], per_cell=4, readers=2)
    sent = simulated_exports.write_exports(key, simulated_readers.ReaderPopulation(), folder)
    table = exports.join_with_key(exports.load_exports(sent, key), key)
    found = analyse(table, classes=key.classes, question_ids=["origin", "diagnosis", "quality"])
    return Reading(
        name="chest",
        created="2026-01-01 12:00 UTC",
        classes=key.classes,
        simulated_images=True,
        simulated_readers=True,
        results=found.results,
        readers=found.readers,
        pairs=found.pairs,
        marks=found.marks,
        exports=[SessionProgress("R1", 1, answered=3, total=9)],
    )


def test_a_study_with_a_reading_has_a_section_for_it(content: Content, reading: Reading):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        html = page.render(replace(content, readings=[reading]))
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert "Simulated readers." in html
    (headline, numbers) = readers.summary_sentences(reading)[0]
    assert headline in html
    assert numbers.split("%")[0] in html


def test_a_study_without_a_reading_has_none(content: Content):
    assert 'id="readings"' not in page.render(content)


def test_unfinished_sessions_are_named(reading: Reading):
    html = page.render_reading(reading)
    assert "R1, session 1: 3 of 9" in html


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "words"),
    [
        (-0.4, -0.1, 0.01, "tell its images from real ones"),
        (-0.4, -0.1, 0.08, "no difference shown"),  # not after adjusting over the generators
        (-0.2, 0.1, 0.01, "no difference shown"),
        (0.1, 0.3, 0.01, "more often than real ones"),
        (float("nan"), float("nan"), float("nan"), "do not allow an interval"),
    ],
)
def test_the_verdict_follows_the_interval_and_its_adjusted_p(
    reading: Reading, low, high, p_holm, words
):
    rows = reading.results.copy()
    here = (rows["name"] == "called_real_difference") & (rows["class"] == "")
    rows.loc[here, ["low", "high", "p_holm"]] = [low, high, p_holm]
    ((headline, _),) = readers.summary_sentences(replace(reading, results=rows))
    assert words in headline
