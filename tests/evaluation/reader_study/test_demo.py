"""The demonstration from end to end: kit, a reader in a browser, export, analysis."""

import pandas as pd
import pytest
from evaluation.reader_study.scripted_reader import PATIENCE_MS, launch, playwright, read

from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.stages import Workspace, review_analyse, review_build, review_demo


@pytest.fixture
def browser():
    with playwright() as api:
        browser = launch(api)
        yield browser
        browser.close()


def answers_of(key):
    """A reader who tells real from synthetic, but takes the diagnosis for normal throughout."""
    (kit,) = key.kits.values()
    cases = [key.cases[item.case] for item in kit.items]

    def choose(index):
        return {
            "origin": cases[index].origin,
            "confidence": "4",
            "diagnosis": "normal",
            "quality": "1",
            "realism": "-1" if cases[index].origin == "synthetic" else "2",
            "errors": [("artefact", 0.62, 0.444)] if index == 3 else [],
            "comment": "",
        }

    return choose


def test_a_scripted_reader_answers_the_demonstration_and_the_analysis_reads_it(
    copied, browser, tmp_path, capsys
):
    config, overrides = copied()
    demo = review_demo.run(Workspace(config, overrides))
    assert demo["open"] in demo["send"]
    assert "review.exports=FILE" in capsys.readouterr().err
    name = demo["open"].split("/")[-3]
    config, overrides = copied(f"review.name={name}")
    key = AnswerKey.read(review_build.key_path(config))
    (kit,) = key.kits.values()
    calibration = [item for item in kit.items if item.calibration]
    assert len(calibration) == 2
    assert len(kit.items) == 2 + 24 + 2  # 3 of each class, real and synthetic; two of them twice

    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(
        review_build.reader_study_folder(config).joinpath("kits", kit.file).resolve().as_uri()
    )
    assert read(page, answers_of(key), by="keyboard") == len(kit.items)
    with page.expect_download() as download:
        page.click('[data-do="csv"]:visible')
    answers = tmp_path / download.value.suggested_filename
    download.value.save_as(answers)

    config, overrides = copied(f"review.name={name}", f"review.exports={answers}")
    result = review_analyse.run(Workspace(config, overrides))
    assert result["answers"] == len(kit.items) - 2  # calibration is practice
    assert result["unfinished"] == []
    place = review_analyse.analysis_folder(config.output, name)
    results = pd.read_csv(place / "results.csv")
    whole = results[results["class"].isna()].set_index(["name", "generator"])["value"]
    assert whole["accuracy", "stable_diffusion"] == 1.0
    assert whole["diagnosis_agreement", "real"] == 0.25
    assert (whole["realism", "real"], whole["realism", "stable_diffusion"]) == (2.0, -1.0)
    (mark,) = pd.read_csv(place / "marks.csv").itertuples()
    assert (mark.x, mark.y) == pytest.approx((0.62, 0.444), abs=0.01)
