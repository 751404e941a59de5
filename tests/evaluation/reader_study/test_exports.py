"""What comes back is believed only where it is what the kit wrote."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from xraysynth.errors import DataNotFoundError, XraysynthError
from xraysynth.evaluation.reader_study import (
    export_format,
    exports,
    simulated_exports,
    simulated_readers,
)
from xraysynth.evaluation.reader_study.key import AnswerKey, KitItem
from xraysynth.evaluation.reader_study.panel import Panel

Rows = list[dict[str, str]]


@pytest.fixture
def key() -> AnswerKey:
    return simulated_exports.simulate_key(
        ["sd_lora"], ["normal", "pneumonia"], per_cell=3, readers=2, repeats=0.25
    )


@pytest.fixture
def sent(key: AnswerKey, tmp_path: Path) -> list[Path]:
    return simulated_exports.write_exports(
        key, simulated_readers.ReaderPopulation(error_rate={"sd_lora": 1.0}), tmp_path
    )


def rows_of(path: Path, key: AnswerKey) -> Rows:
    return [dict(row) for row in exports.read_export(path, key).rows]


def rewrite(path: Path, key: AnswerKey, change: Callable[[Rows], object]) -> Path:
    """Change the rows as whoever knows how checks are made."""
    rows = rows_of(path, key)
    change(rows)
    path.write_bytes(simulated_exports.format_csv(export_format.export_columns(key), rows))
    return path


def refused(paths: Sequence[Path], key: AnswerKey) -> str:
    with pytest.raises(XraysynthError) as caught:
        exports.load_exports(paths, key)
    return str(caught.value)


def test_answers_are_joined_with_their_truth(key, sent):
    table = exports.join_with_key(exports.load_exports(sent, key), key)
    assert len(table) == 2 * 15
    kit = next(iter(key.kits.values()))
    for item in kit.items[:3]:
        row = table[
            (table["reader"] == kit.reader) & (table["case"] == item.case) & ~table["repeat"]
        ].iloc[0]
        assert (row["label"], row["generator"]) == (
            key.cases[item.case].label,
            key.cases[item.case].generator,
        )
    panel = Panel.from_table(table)
    assert panel.matrix("confidence").shape == (2, 12)
    assert (len(panel.answers), len(panel.repeats)) == (24, 6)


def test_a_folder_is_read_as_its_files(key, sent, tmp_path):
    (tmp_path / "notes.txt").write_text("not an export")
    assert exports.load_exports([tmp_path], key) == exports.load_exports(sent, key)


def test_nothing_there(key, tmp_path):
    with pytest.raises(DataNotFoundError, match="put there what the readers sent"):
        exports.load_exports([tmp_path], key)
    with pytest.raises(DataNotFoundError, match="does not exist"):
        exports.load_exports([tmp_path / "gone.csv"], key)


def test_json_says_the_same_and_counts_once(key, sent):
    names = export_format.export_columns(key)
    rows = [[row[name] for name in names] for row in rows_of(sent[0], key)]
    copy = sent[0].with_suffix(".json")
    copy.write_text(json.dumps({"format": export_format.FORMAT, "columns": names, "rows": rows}))
    assert len(exports.load_exports([*sent, copy], key)) == 2
    assert exports.read_export(copy, key).rows == exports.read_export(sent[0], key).rows


@pytest.mark.parametrize("ends", [b"\r\n", b"\n", b"\r"])
def test_semicolons_and_line_ends_of_a_spreadsheet_are_harmless(key, sent, ends):
    before = rows_of(sent[0], key)
    rewrite(sent[0], key, lambda rows: [row.update(errors="") for row in rows])
    plain = sent[0].read_bytes()
    before = [row | {"errors": ""} for row in before]
    sent[0].write_bytes(plain.replace(b",", b";").replace(b"\r\n", ends))
    assert [row["item"] for row in rows_of(sent[0], key)] == [row["item"] for row in before]


def test_a_comment_keeps_its_lines(key, sent):
    rewrite(sent[0], key, lambda rows: rows[0].update(comment='two\nlines, and "quotes"'))
    assert rows_of(sent[0], key)[0]["comment"] == 'two\nlines, and "quotes"'


def test_a_changed_answer_is_named(key, sent):
    text = sent[0].read_text(encoding="utf-8-sig")
    third = text.splitlines()[3].split(",")
    turned = ["synthetic" if c == "real" else "real" if c == "synthetic" else c for c in third]
    sent[0].write_text(text.replace(",".join(third), ",".join(turned)))
    message = refused(sent, key)
    assert str(sent[0]) in message
    assert f"3 (item {third[5]})" in message
    assert "1 rows" in message
    assert "JSON" in message


def test_decimal_commas_are_told_apart_from_answers(key, sent):
    rows = rows_of(sent[0], key)
    names = export_format.export_columns(key)
    lines = [";".join(names)]
    lines += [
        ";".join(row[n].replace(".", ",") if n == "seconds" else row[n] for n in names)
        for row in rows
        if not row["errors"]
    ]
    sent[0].write_text("\r\n".join(lines))
    assert "a spreadsheet may have saved it again" in refused(sent, key)


def test_another_study(key, sent):
    other = replace(key, study="f" * 12)
    message = refused(sent, other)
    assert str(sent[0]) in message
    assert key.study in message
    assert "f" * 12 in message


def test_a_kit_that_the_key_does_not_know(key, sent):
    kits = {"0" * 12 if k == rows_of(sent[0], key)[0]["kit"] else k: v for k, v in key.kits.items()}
    assert "is not one of the key's" in refused(sent, replace(key, kits=kits))


def change(name: str, value: str, row: int = 0) -> Callable[[Rows], object]:
    return lambda rows: rows[row].update({name: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.append(dict(rows[0])), "more than one row"),
        (lambda rows: rows.pop(), "rows are missing"),
        (change("item", "aaaaaaaaaa"), "the kit does not have: aaaaaaaaaa"),
        (change("confidence", "6"), "confidence must be from 1 to 5; got '6'"),
        (change("confidence", ""), "confidence must be from 1 to 5; got ''"),
        (change("quality", "-3"), "quality must be from -2 to 2"),
        (change("origin", "fake"), "origin must be one of real, synthetic; got 'fake'"),
        (change("diagnosis", "flu"), "diagnosis must be one of normal, pneumonia"),
        (change("errors", "omission@1.2000,0.5000"), "errors must be code@x,y"),
        (change("errors", "ghost@0.2000,0.5000"), "errors must be code@x,y"),
        (change("errors", "omission"), "errors must be code@x,y"),
        (change("seconds", "nan"), "seconds must be a number"),
        (change("position", "2"), "not at its place"),
        (change("calibration", "1"), "not at its place"),
        (change("reader", "R9"), "was made for reader simulated-1"),
        (change("format", "xraysynth-review/0"), "another version"),
        (lambda rows: rows.clear(), "without answers"),
    ],
)
def test_what_a_kit_never_writes_is_refused(key, sent, change, words):
    rewrite(sent[0], key, change)
    message = refused(sent, key)
    assert words in message
    assert str(sent[0]) in message


def test_a_column_is_missing(key, sent):
    text = sent[0].read_text(encoding="utf-8-sig").splitlines()
    sent[0].write_text("\n".join(line.rpartition(",")[0] for line in text))
    assert "lacks check" in refused(sent, key)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"format": "other"}', "\x00\x01"])
@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_other_files_are_no_exports(key, tmp_path, content, ending):
    path = tmp_path / f"odd{ending}"
    path.write_text(content)
    assert str(path) in refused([path], key)


def test_two_states_of_one_reader(key, sent):
    later = sent[0].with_name("later.csv")
    later.write_bytes(sent[0].read_bytes())
    assert len(exports.load_exports([*sent, later], key)) == 2  # a copy

    def shorten(rows: Rows) -> None:
        del rows[5:]
        for row in rows:
            row["answered"] = "5"

    rewrite(later, key, shorten)
    message = refused([*sent, later], key)
    assert str(later) in message
    assert str(sent[0]) in message
    assert "keep the one that counts" in message
    (part,) = exports.load_exports([later], key)
    assert (len(part.rows), part.item_count, part.is_complete) == (5, 15, False)


def test_sessions_of_a_reader_are_joined_and_calibration_left_out(key, tmp_path):
    one, two = key.kits.values()
    second = replace(two, reader=one.reader, session=2, sessions=2)
    practice = [KitItem(one.items[0].id, one.items[0].case, False, True), *one.items[1:]]
    names = list(key.kits)
    both = replace(key, kits={names[0]: replace(one, items=practice, sessions=2), names[1]: second})
    found = exports.load_exports(
        simulated_exports.write_exports(both, simulated_readers.ReaderPopulation(), tmp_path), both
    )
    table = exports.join_with_key(found, both)
    assert [(e.reader, e.session) for e in found] == [(one.reader, 1), (one.reader, 2)]
    assert len(table) == 14 + 15
    assert Panel.from_table(table).matrix("confidence").shape == (1, 12)
