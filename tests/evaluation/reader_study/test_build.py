import json
import re
from dataclasses import asdict, replace

import pytest

from xraysynth import compose
from xraysynth.cli import parse_command
from xraysynth.errors import ConfigError, PrivacyError, XraysynthError
from xraysynth.evaluation.reader_study import build as building
from xraysynth.evaluation.reader_study import protocol
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.stages import Workspace, review_build
from xraysynth.usage import stage_help

SETTINGS = ("review.per_cell=3", "review.repeat_fraction=0.25", "review.session_size=16")


def spec_of(path):
    text = path.read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(data[1])["spec"]


@pytest.fixture
def build(copied):
    """Builds a reading of a small finished study; returns its key, its folder and its files."""

    def built(*more):
        config, overrides = copied(*SETTINGS, *more)
        result = review_build.run(Workspace(config, overrides))
        place = review_build.reader_study_folder(config)
        return result, AnswerKey.read(place / "owner" / "key.json"), place

    return built


def test_a_reading_has_a_file_for_each_reader_and_session_and_one_key(build):
    result, key, place = build()
    assert sorted(p.name for p in (place / "kits").iterdir()) == [
        *("R1_session1.html", "R1_session2.html", "R2_session1.html", "R2_session2.html"),
    ]
    assert sorted(p.relative_to(place).as_posix() for p in place.rglob("*.json")) == [
        "owner/key.json"
    ]
    assert result["images"] == 24
    assert result["showings"] == 2 * 30
    assert len(result["send"]) == 4
    assert result["keep"] == str(place / "owner" / "key.json")
    for name, kit in key.kits.items():
        spec = spec_of(place / "kits" / kit.file)
        assert spec["kit"] == name
        assert spec["study"] == key.study
        assert [item["id"] for item in spec["items"]] == [item.id for item in kit.items]
        assert len({item["id"] for item in spec["items"]}) == len(kit.items) == 15


def test_readers_see_the_same_cases_in_orders_of_their_own(build):
    _, key, _ = build()
    kits = {
        (kit.reader, kit.session): [item.case for item in kit.items] for kit in key.kits.values()
    }
    assert sorted(kits["R1", 1]) == sorted(kits["R2", 1])
    assert kits["R1", 1] != kits["R2", 1]
    assert not set(kits["R1", 1]) & set(kits["R1", 2])
    ids = [item.id for kit in key.kits.values() for item in kit.items]
    assert len(set(ids)) == len(ids)


def test_nothing_in_a_kit_tells_what_an_image_is(build, copied):
    _, key, place = build()
    cohort = Workspace(*copied()).cohort
    told = {value for case in key.cases.values() for value in asdict(case).values()}
    told |= {key.secret, key.cohort, key.made_by, *key.pools, *key.pools.values(), *key.cases}
    told |= {path.name for path in cohort.files} | set(cohort.table["patient_id"])
    told -= {"", "real", "synthetic", *key.classes}
    for kit in key.kits.values():
        spec = spec_of(place / "kits" / kit.file)
        spec["sheets"] = []
        text = json.dumps(spec)
        assert [value for value in told if value in text] == []
        for item in spec["items"]:
            assert set(item) == {"id", "sheet", "x", "y", "calibration", "truth"}
            assert item["truth"] is None
            assert re.fullmatch("[a-z2-7]{10}", item["id"])
        whole = (place / "kits" / kit.file).read_text(encoding="utf-8")
        long = [value for value in told if len(value) > 6]  # no short one that pixels may spell
        assert [value for value in long if value in whole] == []


def test_only_calibration_images_come_with_the_truth_and_they_come_first(build):
    _, key, place = build("review.per_cell=2", "review.calibration=4", "review.session_size=10")
    for kit in key.kits.values():
        items = spec_of(place / "kits" / kit.file)["items"]
        practice = [item for item in items if item["calibration"]]
        assert len(practice) == (4 if kit.session == 1 else 0)
        assert items[: len(practice)] == practice
        for item, shown in zip(kit.items, items, strict=True):
            case = key.cases[item.case]
            truth = {"origin": case.origin, "diagnosis": case.label}
            assert shown["truth"] == (truth if item.calibration else None)
            assert item.calibration is shown["calibration"]


def test_a_second_build_does_nothing_and_a_lost_kit_comes_back_as_it_was(build):
    _, key, place = build()
    kits = {path: path.read_bytes() for path in (place / "kits").iterdir()}
    again, same, _ = build()
    assert again["skipped"]
    assert same == key
    lost = next(iter(kits))
    lost.unlink()
    mended, same, _ = build()
    assert not mended["skipped"]
    assert same == key
    assert {path: path.read_bytes() for path in kits} == kits


def test_a_build_that_was_killed_is_finished_with_the_same_key(build, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(building, "write_kits", killed)
        with pytest.raises(KeyboardInterrupt):
            build()
    result, key, place = build()
    assert len(list((place / "kits").iterdir())) == len(key.kits) == len(result["send"])


def test_a_key_is_never_overwritten(build):
    _, key, place = build()
    for change in ("review.seed=1", "review.readers=[R1,R2,R3]", "review.per_cell=2"):
        with pytest.raises(XraysynthError, match=r"choose another review\.name"):
            build(change)
    assert AnswerKey.read(place / "owner" / "key.json") == key
    _, other, _ = build("review.seed=1", "review.name=second")
    assert other.study != key.study
    build("review.exports=answers")  # of no concern to the kits


def test_a_key_of_another_version_is_not_overwritten_either(build):
    _, key, place = build()
    replace(key, pools={"stable_diffusion": "0" * 12}).write(place / "owner" / "key.json")
    (place / "kits" / "R1_session1.html").unlink()
    with pytest.raises(XraysynthError, match="by another version of xraysynth"):
        build()


def test_the_order_cannot_be_worked_out_from_the_configuration(build):
    _, first, place = build()
    place.rename(place.with_name("elsewhere"))
    _, second, _ = build()
    assert first.cases == second.cases  # the draw is seeded
    orders = [[i.case for k in key.kits.values() for i in k.items] for key in (first, second)]
    assert orders[0] != orders[1]
    assert not {i.id for k in first.kits.values() for i in k.items} & {
        i.id for k in second.kits.values() for i in k.items
    }


def test_images_of_bound_sources_leave_the_house_only_when_the_terms_allow_it(build):
    bound = "source.table.credentialed=true"
    with pytest.raises(PrivacyError, match=r"review\.acknowledge_terms=true"):
        build(bound)
    assert build(bound, "review.acknowledge_terms=true")[0]["state"] == "done"


def test_a_pool_that_is_not_there_is_an_error_with_its_command(build):
    with pytest.raises(XraysynthError, match="xraysynth generate"):
        build("generate.per_class=500")


def test_a_generator_that_learned_from_test_images_is_refused(build, copied):
    config, overrides = copied()
    workspace = Workspace(config, overrides)
    cohort, (name,) = workspace.cohort, workspace.generators
    seen = {"patients": [], "sha256": list(cohort.split("test").table["sha256"])}
    (workspace.pool_store(name).folder / "learned.json").write_text(json.dumps(seen))
    with pytest.raises(XraysynthError, match=r"learned|train"):
        build()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("review.per_cell=0", "review.per_cell must be at least 1; got 0"),
        ("review.repeat_fraction=0.6", r"review.repeat_fraction must lie in \[0, 0.5\]"),
        ("review.session_size=2", "review.session_size must be at least 8"),
        ("review.calibration=-1", "review.calibration must be at least 0"),
        ("review.side_px=4000", r"review.side_px must lie in \[32, 1024\]"),
        ("review.language=fr", "review.language must be one of en, de"),
        ("review.name=a/b", "review.name must be usable as a folder name"),
        ("review.readers=[]", "review.readers must name one or more"),
        ("review.readers=[A B]", "pseudonyms"),
        ("review.readers=[a,A]", "must differ, also in lower case"),
        ("review.questions=[orign]", "did you mean 'origin'"),
        ("review.questions=[]", "one or more different"),
        ("review.exports=[1,[2]]", "review.exports must be a folder, a file, or a list"),
        ("review.own_questions.origin={kind: text, text: x}", "choose another"),
        ("review.own_questions.seconds={kind: text, text: x}", "choose another"),
        ("review.own_questions.view=3", "must be a mapping"),
        ("review.own_questions.view={kind: tick, text: x}", "kind must be one of choice"),
        ("review.own_questions.view={kind: text}", "text must be the question"),
        ("review.own_questions.view={kind: text, text: {fr: x}}", "in the languages en, de"),
        ("review.own_questions.view={kind: choice, text: x}", "options must be two or more"),
        ("review.own_questions.view={kind: scale, text: x, low: 1}", "whole numbers"),
        ("review.reader=[A]", "did you mean 'review.readers'"),
    ],
)
def test_a_recipe_that_no_kit_could_follow_is_refused(option, message):
    with pytest.raises(ConfigError, match=message):
        compose([option])


def test_questions_are_asked_in_the_order_given_own_ones_last():
    recipe = compose(
        [
            "review.questions=[realism,origin]",
            "review.own_questions.view={kind: choice, options: [pa, ap], "
            "text: {en: View?, de: Strahlengang?}}",
        ]
    ).review
    asked = protocol.build_questions(recipe.questions, recipe.own_questions, ["normal", "flu"])
    assert [question.id for question in asked] == ["realism", "origin", "view"]
    assert asked[0] == protocol.Question("realism", "scale", low=-2, high=2)
    assert asked[2].text == {"en": "View?", "de": "Strahlengang?"}
    assert asked[2].required is True
    (diagnosis,) = protocol.build_questions(["diagnosis"], {}, ["normal", "flu"])
    assert diagnosis.options == ["normal", "flu"]


def test_the_command_has_three_actions(capsys):
    assert parse_command(["review", "build", "seed=1"]) == ("review build", ["seed=1"])
    assert parse_command(["review"]) == ("review", ["--help"])
    assert parse_command(["review", "--help"]) == ("review", ["--help"])
    assert parse_command(["review", "demo"])[1] == ["experiment=quickstart"]
    assert parse_command(["review", "demo", "experiment=smoke"])[1] == ["experiment=smoke"]
    with pytest.raises(SystemExit, match="did you mean 'build'"):
        parse_command(["review", "biuld"])
    page = stage_help("review")
    assert all(f"\n  {action} " in page for action in ("build", "analyse", "demo"))
    assert "review.per_cell=10" in page
    assert "usage: xraysynth review build" in stage_help("review build")
