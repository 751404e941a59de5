"""A word that the shell passes on is a value: texts, lists and mappings arrive as they are written."""

import json
import random
import re
import shlex
import subprocess
from contextlib import suppress

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from xraysynth import compose
from xraysynth.bracket_values import BracketError, read_brackets
from xraysynth.errors import ConfigError
from xraysynth.hydra_values import decode_key, decode_keys, encode_key
from xraysynth.overrides import to_hydra_overrides, to_typed_overrides
from xraysynth.quoting import format_value, quote, quote_override, read_text, unquote

BASE = ["source=[folder,table]", "source.folder.root=r", "source.table.path=t"]

SPECIAL = [
    *"ab01_-. ,:;=()[]{}'\"\\$%#~*?!&|<>@^`+/\n\t\0äöüß正常é😀",
    *("${", "}", "\\'", '\\"', "\\,", "null", "true", "???", "1e3", "yes", "${seed}", "choice("),
    *("\\${", "'''", ": ", ", ", "]", "\\\\"),
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(SPECIAL), max_size=8).map("".join),
    st.text(st.characters(exclude_categories=["Cs"])),
)
LABELS = st.dictionaries(TEXTS, st.one_of(st.none(), TEXTS), max_size=4)


def arrived(word, *, multirun=False):
    """The value of the last option of an override as `compose` gets it from Hydra."""
    (override,) = to_hydra_overrides([word], multirun=multirun)
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override(), override
    node = OmegaConf.create({"seed": 0})
    OmegaConf.update(node, "value", parsed.value(), force_add=True)
    return decode_keys(OmegaConf.to_container(node, resolve=True))["value"]


def typed_in_a_shell(name, value):
    (word,) = shlex.split(quote_override(name, value))
    return word


@given(TEXTS)
def test_any_text_arrives_as_it_is(text):
    word = typed_in_a_shell("source.folder.root", text)
    assert arrived(word) == text
    assert arrived(word, multirun=True) == text


@given(TEXTS)
def test_a_text_without_quotes_around_it_and_without_interpolation_needs_none(text):
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if not is_quoted and "${" not in text:
        assert arrived(f"source.folder.root={text}") == text


@given(LABELS)
def test_any_labels_arrive_as_they_are(labels):
    word = typed_in_a_shell("source.table.labels", labels)
    assert arrived(word) == arrived(word, multirun=True) == labels


@given(LABELS)
def test_labels_may_be_json(labels):
    if "${" in json.dumps(labels):
        return  # an interpolation, if it is one
    for is_ascii in (True, False):
        word = f"source.table.labels={json.dumps(labels, ensure_ascii=is_ascii)}"
        assert arrived(word) == labels


@given(st.lists(TEXTS, max_size=4))
def test_any_list_of_texts_arrives_as_it_is(texts):
    assert arrived(typed_in_a_shell("tracking.tags", texts)) == texts


@given(st.dictionaries(TEXTS, st.lists(TEXTS, max_size=3), max_size=3))
def test_any_selection_of_rows_arrives_as_it_is(where):
    assert arrived(typed_in_a_shell("source.table.where", where)) == where


@given(TEXTS)
def test_what_is_recorded_of_a_run_can_be_typed_again(text):
    for name, value in [("source.folder.root", text), ("source.table.labels", {text: text})]:
        word = typed_in_a_shell(name, value)
        (recorded,) = to_typed_overrides(to_hydra_overrides([word]))
        assert arrived(recorded) == value


@given(TEXTS)
def test_quotes_and_keys_are_taken_off_as_they_were_put_on(text):
    assert unquote(quote(text)) == text
    assert decode_key(encode_key(text)) == text
    assert read_text(format_value(text)) in (text, read_text(text))


@given(TEXTS)
def test_the_quotes_are_those_of_hydra(text):
    parsed = OverridesParser.create().parse_override(f"a={quote(text)}")
    assert parsed.value() == text


LABELS_AS_TYPED = {
    '{"unauffällig": normal, "Pneumonia (viral)": pneumonia}': {
        "unauffällig": "normal", "Pneumonia (viral)": "pneumonia"
    },
    "{unauffällig: normal, Pneumonia (viral): pneumonia}": {
        "unauffällig": "normal", "Pneumonia (viral)": "pneumonia"
    },
    '{No Finding: normal, "COVID-19, ARDS": covid19}': {
        "No Finding": "normal", "COVID-19, ARDS": "covid19"
    },
    "{Pneumonia (viral, mild): pneumonia}": {"Pneumonia (viral, mild)": "pneumonia"},
    "{0: normal, 1: pneumonia}": {"0": "normal", "1": "pneumonia"},
    "{'0':'normal','1':'pneumonia'}": {"0": "normal", "1": "pneumonia"},
    "{01: a, 1.50: b, 1e3: c, yes: d, True: e, None: f, null: g, ~: h, 1_0: i}": {
        "01": "a", "1.50": "b", "1e3": "c", "yes": "d", "True": "e", "None": "f", "null": "g",
        "~": "h", "1_0": "i",
    },
    '{a: null, b: Null, c: ~, d: "null", e: none}': {
        "a": None, "b": None, "c": None, "d": "null", "e": "none"
    },
    "{a:b,c:d}": {"a": "b", "c": "d"},
    "{patient's: a, 'it''s': b, 'it\\'s it': c}": {"patient's": "a", "it's": "b", "it's it": "c"},
    "{正常: 正常, 😀: b}": {"正常": "正常", "😀": "b"},
    "{A=B: a, $5 {x}: b, 50 %: c, #1: d, ~x: e, @y: f, *z: g, &w: h, !v: i}": {
        "A=B": "a", "$5 {x}": "b", "50 %": "c", "#1": "d", "~x": "e", "@y": "f", "*z": "g", "&w": "h",
        "!v": "i",
    },
    '{" left ": a, "": b, "two\nlines": c}': {" left ": "a", "": "b", "two\nlines": "c"},
    "{10:30: a, Pneumonia/Viral: b, E.Coli: c}": {
        "10:30": "a", "Pneumonia/Viral": "b", "E.Coli": "c"
    },
    "{}": {},
}  # fmt: skip


@pytest.mark.parametrize(("typed", "labels"), LABELS_AS_TYPED.items())
@pytest.mark.parametrize("multirun", [False, True])
def test_labels_in_any_reasonable_quoting(typed, labels, multirun):
    assert arrived(f"source.table.labels={typed}", multirun=multirun) == labels


TEXTS_AS_TYPED = {
    "Röntgen (Klinik 1)": "Röntgen (Klinik 1)",
    "site=A, CR[1]": "site=A, CR[1]",
    r"P\d{4}(?=_)": r"P\d{4}(?=_)",
    r"(?P<label>[^/]+)/(?:images/)?[^/,]+\.(png|jpe?g)": r"(?P<label>[^/]+)/(?:images/)?[^/,]+\.(png|jpe?g)",
    "'a b'": "a b",
    '"a b"': "a b",
    "'a' and 'b'": "'a' and 'b'",
    " a ": " a ",
    "1_000": "1_000",
    "true": "true",
    "null": "null",
    "~/x": "~/x",
    "a\nb": "a\nb",
    "${seed}/x": "0/x",
    r"\${seed}/x": "${seed}/x",
    "${seed": "${seed",
    "$": "$",
    "": "",
    "choice(a,b)": "choice(a,b)",
    "[a]": "[a]",
    "{a: b}": "{a: b}",
}


@pytest.mark.parametrize(("typed", "text"), TEXTS_AS_TYPED.items())
def test_a_text_needs_no_second_quotes(typed, text):
    assert arrived(f"source.folder.pattern={typed}") == text


def test_null_is_none_where_an_option_may_be_none():
    assert arrived("tracking.entity=null") is None
    assert arrived('tracking.entity="null"') == "null"


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("a,b", ["a", "b"]),
        ("a , b c", ["a", "b c"]),
        ("'a,b'", ["a,b"]),
        ("'a,b',c", ["a,b", "c"]),
        ("Klinik (A, B)", ["Klinik (A, B)"]),
        (r"P\d{1,4},Q", [r"P\d{1,4}", "Q"]),
        ("ä,ö", ["ä", "ö"]),
        ("choice(a,b)", ["a", "b"]),
    ],
)
def test_commas_separate_the_values_of_a_multirun(typed, values):
    (override,) = to_hydra_overrides([f"source.folder.root={typed}"], multirun=True)
    parsed = OverridesParser.create().parse_override(override)
    texts = list(parsed.sweep_iterator()) if parsed.is_sweep_override() else [parsed.value()]
    assert [getattr(text, "text", text) for text in texts] == values


def test_an_existing_path_with_a_comma_is_one_value_of_a_multirun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert to_hydra_overrides(["real=a,b"], multirun=True) == ["real=a,b"]
    (tmp_path / "a,b").mkdir()
    assert arrived("real=a,b", multirun=True) == "a,b"


def test_labels_and_lists_can_be_swept_over():
    words = [
        "source.table.labels={ä: a},{ö: b}",
        "classes=[a,b],[ä,ö]",
        "source.table.where.a b=[1],[2]",
    ]
    for override in to_hydra_overrides(words, multirun=True):
        parsed = OverridesParser.create().parse_override(override)
        assert len(list(parsed.sweep_iterator())) == 2


def test_one_key_of_a_mapping_may_be_named_with_any_characters():
    labels = compose(
        [*BASE, "source.table.labels.No Finding (a.b)=normal", "source.table.labels.E.Coli=x",
         "source.table.labels.正常=null", "source.table.columns.path=Röntgen, Bild"]
    ).source["table"]  # fmt: skip
    assert labels["labels"] == {"No Finding (a.b)": "normal", "E.Coli": "x", "正常": None}
    assert labels["columns"] == {"path": "Röntgen, Bild"}


def test_labels_add_to_those_of_a_preset():
    config = compose(["source=montgomery", "source.montgomery.labels={0: x, ä: y}"])
    assert config.source["montgomery"]["labels"] == {"0": "x", "1": "tuberculosis", "ä": "y"}


def test_a_text_of_a_plugin_under_a_key_of_an_experiment_is_taken_literally():
    name = "generator.sd_lora_4_steps.model"
    config = compose(["experiment=generator_comparison", f"{name}=Modell (a, b)"])
    assert config.generator["sd_lora_4_steps"]["model"] == "Modell (a, b)"


def test_the_class_of_a_plugin_may_stand_on_the_command_line():
    target = "xraysynth.data.sources.folder.FolderSource"
    words = [f"+source.mine._target_={target}", "+source.mine.name=mine", "+source.mine.root=a (b)"]
    assert compose(words).source["mine"]["root"] == "a (b)"


WRONG = {
    "source.table.labels={COVID-19, ARDS: covid19}": {"COVID-19, ARDS": "covid19"},
    "source.table.labels={Pneumonia: viral: pneumonia}": {"Pneumonia: viral": "pneumonia"},
    "classes=normal,No Finding": ["normal", "No Finding"],
}
"""Values that can be read in two ways, and what their error advises."""


@pytest.mark.parametrize(("word", "meant"), WRONG.items())
def test_a_value_that_can_be_read_in_two_ways_is_refused_with_the_one_to_paste(word, meant):
    name, _, value = word.partition("=")
    with pytest.raises(ConfigError) as raised:
        compose([*BASE, word])
    message = str(raised.value)
    assert name in message
    assert value in message
    *_, remedy = shlex.split(message[message.index(" write ") :])
    assert arrived(remedy) == meant


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed", r"'seed' is no option with a value; write 'option=value'"),
        ("seed=ä", "seed must be a valid integer; got 'ä'"),
        ("seed=(", "seed must be a valid integer"),
        ("ä=1", "no option 'ä'"),
        ("source.folder.rööt=1", "no option 'source.folder.rööt'; did you mean 'source.folder.root'"),
        ("a b=1", "no option 'a b'"),
        ("seed=0,1", "seed=0,1 gives several values; for one run with each value add -m"),
        ("study.seeds=0,1", r"study.seeds=0,1 gives several values; for a list write 'study.seeds=\[0, 1\]'"),
        ("source.table.labels=[a]", "source.table.labels must be a mapping in braces"),
        ("source.table.labels={a: b", r"source.table.labels=\{a: b: it does not end in \}"),
        ("source.table.labels={a: b, a: c}", "'a' stands in it twice"),
        ("source.table.labels={a: b} c", "nothing may follow '{a: b}'"),
        ("source=Röntgen", "source=Röntgen: there is no such option"),
        ("experiment=(x", r"experiment=\(x: there is no such option"),
    ],
)  # fmt: skip
def test_hydras_own_grammar_is_never_an_error(word, message):
    with pytest.raises(ConfigError, match=message) as raised:
        compose([*BASE, word])
    for word in ("Hydra", "LexerNoViable", "mismatched input", "token recognition"):
        assert word not in str(raised.value)


def test_a_folder_or_table_in_place_of_a_source_is_answered_with_what_selects_it(tmp_path):
    (tmp_path / "Röntgen (1)").mkdir()
    (tmp_path / "a b.csv").touch()
    for name, key in (("Röntgen (1)", "folder.root"), ("a b.csv", "table.path")):
        with pytest.raises(ConfigError, match="there is no such option; write source=") as raised:
            compose([f"source={tmp_path / name}"])
        remedy = shlex.split(str(raised.value).partition("; write ")[2].partition("; choose")[0])
        assert remedy[1] == f"source.{key}={tmp_path / name}"
        assert compose(remedy)


def test_a_path_alone_is_answered_with_what_selects_it(tmp_path):
    (tmp_path / "my films").mkdir()
    (tmp_path / "a b.yaml").write_text("seed: 5\n")
    for name, check in (("my films", "source=folder "), ("a b.yaml", "'experiment=")):
        with pytest.raises(ConfigError, match=f"no option with a value; write {check}") as raised:
            compose([str(tmp_path / name)])
        assert compose(shlex.split(str(raised.value).partition("; write ")[2]))


@pytest.mark.parametrize(
    "word", ["source.kermany.root=x", "generator.sd15.steps=4", "source.simulated.seed=1"]
)
def test_the_remedy_of_an_option_that_is_not_selected_works(word):
    others = ["source=montgomery"] if "simulated" in word else []
    with pytest.raises(ConfigError) as raised:
        compose([*others, word])
    for remedy in re.findall(r"'(\w+=[^']*)'", str(raised.value)):
        assert compose([remedy, word])


def test_a_list_without_brackets_is_answered_with_one_that_works():
    with pytest.raises(ConfigError) as raised:
        compose(["study.seeds=3,4"])
    (remedy,) = shlex.split(re.search(r"for a list write (.*?), for one", str(raised.value))[1])
    assert compose([remedy]).study.seeds == [3, 4]


def test_a_real_shell_passes_on_what_is_printed():
    rng = random.Random(0)
    texts = ["".join(rng.choices([s for s in SPECIAL if s != "\0"], k=6)) for _ in range(300)]
    words = " ".join(quote_override("source.folder.root", text) for text in texts)
    passed = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {words}"], capture_output=True, check=True
    )
    arrived_texts = [arrived(word) for word in passed.stdout.decode().split("\0")[:-1]]
    assert arrived_texts == texts


@given(TEXTS)
def test_any_brackets_are_read_or_refused(text):
    for raw in (f"{{{text}}}", f"[{text}]", text):
        with suppress(BracketError):
            read_brackets(raw)
