import json
import stat
from dataclasses import replace

import pytest

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.reader_study.key import AnswerKey, Case, Kit, KitItem
from xraysynth.evaluation.reader_study.protocol import Question


def key():
    case = Case("real", "", "normal", "i1", "here", "p1", "0" * 64)
    made = Case("synthetic", "model", "normal", "i2", "model", "", "1" * 64)
    items = [KitItem("aaaaaaaaaa", "c0001", False, False), KitItem("b" * 10, "c0002", True, False)]
    return AnswerKey(
        study="0" * 12,
        name="review",
        created="2026-01-01T00:00:00+00:00",
        simulated=True,
        classes=["normal"],
        questions=[Question("origin", "choice", options=["real", "synthetic"])],
        pools={"model": "1" * 12},
        cohort="2" * 64,
        cases={"c0001": case, "c0002": made},
        kits={"3" * 12: Kit("R1", 1, 1, "R1_session1.html", items)},
        made_by="4" * 12,
        secret="5" * 64,
    )


def test_a_key_is_read_as_it_was_written_and_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "owner" / "key.json"
    key().write(path)
    assert AnswerKey.read(path) == key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["format"] == "xraysynth-review-key/1"


def damaged(tmp_path, change):
    path = tmp_path / "key.json"
    key().write(path)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda k: k.update(format="other/1"),
            "format must be 'xraysynth-review-key/1'; got 'othe",
        ),
        (lambda k: k.pop("cases"), "lacks or does not know cases"),
        (lambda k: k.update(extra=1), "lacks or does not know extra"),
        (lambda k: k.update(simulated="yes"), "key.simulated must be bool; got 'yes'"),
        (lambda k: k["cases"].pop("c0002"), "cases that are not there: c0002"),
        (
            lambda k: k["cases"]["c0001"].update(origin="fake"),
            "case c0001: the origin must be real or synthetic; got 'fake'",
        ),
        (
            lambda k: k["cases"]["c0001"].update(label="flu"),
            "case c0001: the label must be one of .*; got 'flu'",
        ),
        (lambda k: k["cases"]["c0001"].pop("sha256"), "key.cases.c0001 lacks .* sha256"),
        (lambda k: k["kits"]["3" * 12]["items"][0].update(id="b" * 10), "ids are not unique"),
        (lambda k: k["kits"]["3" * 12].update(file="../x.html"), "not the file name of a kit"),
        (lambda k: k["kits"]["3" * 12]["items"][1].update(repeat=1), r"items\[1\].repeat must be"),
    ],
)
def test_a_damaged_key_is_refused_with_its_path_and_the_fault(tmp_path, change, message):
    with pytest.raises(XraysynthError, match=message) as error:
        AnswerKey.read(damaged(tmp_path, change))
    assert "key.json" in str(error.value)


def test_a_missing_key_and_one_that_is_no_json_say_so(tmp_path):
    with pytest.raises(XraysynthError, match="no such key; it is written with the kits"):
        AnswerKey.read(tmp_path / "key.json")
    (tmp_path / "key.json").write_text("{")
    with pytest.raises(XraysynthError, match="it is not JSON"):
        AnswerKey.read(tmp_path / "key.json")
    (tmp_path / "key.json").write_text("[]")
    with pytest.raises(XraysynthError, match="format must be"):
        AnswerKey.read(tmp_path / "key.json")


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "key.json"
    key().write(path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        replace(key(), name="other").write(path)
    assert AnswerKey.read(path).name == "review"
    assert [p.name for p in tmp_path.iterdir()] == ["key.json"]
