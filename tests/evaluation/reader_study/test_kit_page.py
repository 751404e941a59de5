"""The kit as a file: what stands in it, and what cannot."""

import json
import re
from html.parser import HTMLParser

import pytest
from evaluation.reader_study.kit_spec import QUESTIONS, kit_spec, render

from xraysynth.errors import ConfigError
from xraysynth.evaluation.reader_study import kit

SPEC = kit_spec(3, side_px=32)


class Scripts(HTMLParser):
    """Texts of script and style elements, and every attribute."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.attributes, self.inside = [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.inside = tag if tag in ("script", "style") else None

    def handle_data(self, data):
        if self.inside:
            self.texts.append(data)
            self.inside = None


def data(page):
    return json.loads(next(t for t in Scripts(page).texts if t.startswith("{")))


def test_the_specification_is_in_the_page_as_it_is():
    assert data(render(SPEC))["spec"] == SPEC


def test_nothing_in_the_specification_can_end_its_element():
    nasty = "</script><img src=x onerror=alert(1)><!-- &amp; \u2028 ä"
    own = {"id": "own", "kind": "text", "text": nasty, "required": False}
    spec = SPEC | {"title": nasty, "reader": nasty, "questions": [*QUESTIONS, own]}
    page = render(spec)
    assert data(page)["spec"] == spec
    assert "<img" not in page
    assert page.count("</script>") == 2


def test_the_policy_allows_this_style_and_script_and_no_connection():
    page = render(SPEC)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    style, _, script = Scripts(page).texts
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert rules["form-action"] == rules["base-uri"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    assert rules["style-src"] == f"'{kit._csp_hash(style)}'"
    assert rules["script-src"] == f"'{kit._csp_hash(script)}'"


def test_nothing_is_loaded_from_elsewhere():
    page = render(SPEC)
    for tag, name, value in Scripts(page).attributes:
        assert name not in ("src", "srcset", "action", "ping", "style"), (tag, name)
        assert not name.startswith("on"), (tag, name)
        assert name != "href" or value == "data:,"
    without_comments = re.sub(r"^\s*//.*$", "", page, flags=re.M)
    assert not re.search(r"https?:|[\"'(=]\s*//\w|@import|url\(", without_comments)


def test_the_note_on_simulated_images_is_there_only_where_it_is_true():
    words = kit.read_texts("en")["start.simulated"]
    assert words in render(SPEC)
    markup = render(SPEC | {"simulated": False}).split('<script type="application/json"')[0]
    assert words not in markup


def test_only_keys_of_asked_questions_are_listed():
    only = [q for q in QUESTIONS if q["id"] == "confidence"]
    markup = render(SPEC | {"questions": only}).split('<script type="application/json"')[0]
    texts = kit.read_texts("en")
    assert texts["keys.digits"] in markup
    assert texts["keys.origin"] not in markup
    assert texts["keys.errors"] not in markup


def used_keys():
    """Keys that scripts and template name in full."""
    scripts = "".join((kit.FOLDER / name).read_text() for name in kit.SCRIPTS)
    template = (kit.FOLDER / "kit.html.j2").read_text()
    calls = re.findall(r'\bt\(([^()]*?"[^()]*?)[,)]', scripts)
    found = {key for call in calls for key in re.findall(r'"([\w.]+)"', call)}
    found |= set(re.findall(r'Error\("([\w.]+)"', scripts))
    return found | set(re.findall(r't\["([\w.]+)"\]', template))


def test_every_key_that_is_used_has_a_text_and_every_text_is_used():
    texts = kit.read_texts("en")
    assert len(used_keys()) > 60
    assert used_keys() <= set(texts)
    composed = ("question.", "option.", "hint.", "low.", "high.", "key.", "keys.")
    unused = {key for key in texts if not key.startswith(composed)} - used_keys()
    assert not unused


def test_languages_have_the_same_keys_and_places():
    english, german = kit.read_texts("en"), kit.read_texts("de")
    assert kit.available_languages() == ["de", "en"]
    assert list(english) == list(german)
    for key, text in english.items():
        places = re.findall(r"\{\w+\}", text)
        assert sorted(places) == sorted(re.findall(r"\{\w+\}", german[key])), key
        assert german[key].strip(), key


def test_letters_of_options_are_no_other_keys():
    script = (kit.FOLDER / "kit.js").read_text()
    taken = set(re.findall(r"^  (\w): ", script, flags=re.M)) | {"w"}
    for language in kit.available_languages():
        texts = kit.read_texts(language)
        letters = [text for key, text in texts.items() if key.startswith("key.")]
        assert len(set(letters)) == len(letters) == 2
        assert not set(letters) & taken


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"language": "fr"}, "language must be one of de, en; got 'fr'"),
        ({"language": "../texts/en"}, "language must be one of"),
        ({"format": "other/1"}, "format of a kit"),
        ({"questions": [{"id": "a", "kind": "slider", "required": True}]}, "got 'slider'"),
        ({"sheets": ["https://example.org/a.png"]}, "sheet 0 of images must be embedded"),
        ({"items": [SPEC["items"][0] | {"sheet": 3}]}, "must lie on one of 1 sheets"),
        ({"items": [SPEC["items"][0] | {"x": -8}]}, "must lie on one of 1 sheets"),
    ],
)
def test_what_the_page_cannot_show_is_refused(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        render(SPEC | changes)
