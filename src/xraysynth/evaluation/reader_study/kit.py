"""Renders a reading kit: one HTML file per reader and session that loads nothing and sends nothing."""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from xraysynth.errors import ConfigError
from xraysynth.evaluation.reader_study.protocol import Question
from xraysynth.records import JsonObject, to_json

FORMAT = "xraysynth-review-kit/1"
FOLDER = Path(__file__).parent
SCRIPTS = ("kit_record.js", "kit_store.js", "kit_viewer.js", "kit_questions.js", "kit.js")
QUESTION_KINDS = ("choice", "scale", "errors", "text")
_IMAGE_DATA_URI = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/]+=*")


@dataclass(frozen=True)
class Truth:
    """The truth about a calibration image, which a reader is shown after answering."""

    origin: str
    diagnosis: str


@dataclass(frozen=True)
class ShownItem:
    """An item as the page holds it.

    Attributes:
        id: The id of the item.
        sheet: The number of the sheet that holds its image, from 0.
        x: The left edge of the image in this sheet, in pixels.
        y: The upper edge of the image, in pixels.
        calibration: Whether the item is for practice, and does not count.
        truth: The truth about a calibration image, None for all others.
    """

    id: str
    sheet: int
    x: int
    y: int
    calibration: bool
    truth: Truth | None = None


@dataclass(frozen=True, kw_only=True)
class KitSpec:
    """Everything that a page holds.

    Attributes:
        format: The format of the kit, `FORMAT`.
        study: The id of the reading.
        kit: The id of the kit.
        title: The heading of the page.
        reader: The reader's pseudonym.
        session: The number of the session, from 1.
        sessions: The number of sessions of each reader.
        language: The language of the texts, one of `available_languages`.
        side_px: The side of each image, in pixels.
        simulated: Whether the real images are simulated, which the page says.
        questions: The questions in the order they are asked.
        sheets: Data URIs of the JPEGs that hold several images each.
        items: The items in the order they are shown.
    """

    format: str = FORMAT
    study: str
    kit: str
    title: str
    reader: str
    session: int
    sessions: int
    language: str
    side_px: int
    simulated: bool
    questions: list[Question]
    sheets: list[str]
    items: list[ShownItem]

    def as_json(self) -> JsonObject:
        """Returns the object that is embedded in the page."""
        values: JsonObject = to_json(self)
        return {**values, "questions": [question.as_json() for question in self.questions]}


def render_kit(spec: KitSpec) -> str:
    """Renders the kit of one reader and session as HTML.

    The page embeds `spec`, and holds nothing else about the images.

    Raises:
        ConfigError: The language has no texts, the page cannot ask a kind of question, or an image is
            not in the file.
    """
    texts = read_texts(spec.language)
    _require_valid_spec(spec)
    style = _read_text("kit.css")
    script = "\n".join(map(_read_text, SCRIPTS))
    page = _jinja_environment().get_template("kit.html.j2")
    return page.render(
        spec=spec,
        t=texts,
        asked={question.id for question in spec.questions},
        examples=sum(item.calibration for item in spec.items),
        keys=_keyboard_shortcuts(spec, texts),
        style=Markup(style),
        style_hash=_csp_hash(style),
        script=Markup(script),
        script_hash=_csp_hash(script),
        data=escape_json({"spec": spec.as_json(), "texts": texts}),
    )


def _read_text(name: str) -> str:
    """Reads a file of this package."""
    return (FOLDER / name).read_text(encoding="utf-8")


def available_languages() -> list[str]:
    """Returns the languages that have a file of texts."""
    return sorted(path.stem for path in (FOLDER / "texts").glob("*.json"))


def read_texts(language: str) -> dict[str, str]:
    """Returns the texts of the page in a language by key; raises `ConfigError` for another language."""
    languages = available_languages()
    if language not in languages:
        raise ConfigError(
            f"review.language must be one of {', '.join(languages)}; got {language!r}"
        )
    texts: dict[str, str] = json.loads(_read_text(f"texts/{language}.json"))
    return texts


def escape_json(value: Any) -> Markup:
    """Returns JSON for a script element: nothing in it ends the element or opens a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _require_valid_spec(spec: KitSpec) -> None:
    """Requires a known format, known kinds of questions, embedded sheets, and images on them."""
    if spec.format != FORMAT:
        raise ConfigError(f"the format of a kit must be {FORMAT!r}; got {spec.format!r}")
    for question in spec.questions:
        if question.kind not in QUESTION_KINDS:
            raise ConfigError(
                f"question {question.id!r}: kind must be one of {', '.join(QUESTION_KINDS)}; "
                f"got {question.kind!r}"
            )
    for number, sheet in enumerate(spec.sheets):
        if not _IMAGE_DATA_URI.fullmatch(sheet):
            raise ConfigError(
                f"sheet {number} of images must be embedded as data:image/<type>;base64,…; "
                f"got {sheet[:40]!r}"
            )
    for item in spec.items:
        if not 0 <= item.sheet < len(spec.sheets) or min(item.x, item.y) < 0:
            raise ConfigError(
                f"the image of item {item.id!r} must lie on one of {len(spec.sheets)} sheets; "
                f"got sheet, x and y {[item.sheet, item.x, item.y]}"
            )


def _keyboard_shortcuts(spec: KitSpec, texts: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """Returns the keyboard shortcuts of this kit: the keys, and what they do in words."""
    kinds = {question.kind for question in spec.questions}
    shift, arrows, tab = texts["keys.shift"], texts["keys.arrows"], texts["keys.tab"]
    shortcuts = [(["1", "…", "9"], "digits")]
    if any(question.id == "origin" for question in spec.questions):
        letters = [texts["key.origin.real"].upper(), texts["key.origin.synthetic"].upper()]
        shortcuts.append((letters, "origin"))
    shortcuts.append(([tab, f"{shift} {tab}"], "move"))
    if "errors" in kinds:
        shortcuts.append((["E"], "errors"))
    if "text" in kinds:
        shortcuts.append((["C"], "comment"))
    shortcuts += [
        (["N", texts["keys.enter"]], "next"),
        (["B"], "back"),
        (["+", "−"], "zoom"),
        ([f"{shift} {arrows}"], "pan"),
        (["[", "]", "<", ">"], "window"),
        (["{", "}", ",", "."], "level"),
        (["I", "0"], "invert"),
        (["P"], "pause"),
        (["M", "O", "?"], "menu"),
    ]
    return [(keys, texts[f"keys.{name}"]) for keys, name in shortcuts]


def _csp_hash(text: str) -> str:
    """Returns the source expression by which a Content-Security-Policy allows this text alone."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@functools.cache
def _jinja_environment() -> Environment:
    """Returns the template environment, which escapes values and refuses undefined names."""
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
