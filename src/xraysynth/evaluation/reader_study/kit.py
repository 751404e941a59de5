"""The page a reader sees: one HTML file that loads nothing and sends nothing."""

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
    """What a reader is told after an image to practise on."""

    origin: str
    diagnosis: str


@dataclass(frozen=True)
class ShownItem:
    """What a page holds of an item: the place of its image, `x` and `y` in pixels of a sheet."""

    id: str
    sheet: int
    x: int
    y: int
    calibration: bool
    truth: Truth | None = None


@dataclass(frozen=True, kw_only=True)
class KitSpec:
    """Everything that a page holds; `sheets` are data addresses of images that hold many each."""

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
        """As it is embedded in the page."""
        values: JsonObject = to_json(self)
        return {**values, "questions": [question.as_json() for question in self.questions]}


def render_kit(spec: KitSpec) -> str:
    """The kit of one reader and session as HTML.

    `spec` is embedded as it is, and the page holds nothing else about the images. Raises
    `ConfigError` for a language without texts, a kind of question the page cannot ask, and an image
    that is not in the file.
    """
    texts = read_texts(spec.language)
    _require_valid_spec(spec)
    style = (FOLDER / "kit.css").read_text(encoding="utf-8")
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
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


def available_languages() -> list[str]:
    """Languages that have a file of texts."""
    return sorted(path.stem for path in (FOLDER / "texts").glob("*.json"))


def read_texts(language: str) -> dict[str, str]:
    """The words of the page in a language, by key."""
    if language not in available_languages():
        raise ConfigError(
            f"review.language must be one of {', '.join(available_languages())}; got {language!r}"
        )
    path = FOLDER / "texts" / f"{language}.json"
    texts: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return texts


def escape_json(value: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it ends the element or opens a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _require_valid_spec(spec: KitSpec) -> None:
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
    """The keys of this kit and what they do."""
    kinds = {question.kind for question in spec.questions}
    has_origin = any(question.id == "origin" for question in spec.questions)
    shift, arrows, tab = texts["keys.shift"], texts["keys.arrows"], texts["keys.tab"]
    listed = [
        (["1", "…", "9"], "digits", True),
        ([texts[f"key.origin.{o}"].upper() for o in ("real", "synthetic")], "origin", has_origin),
        ([tab, f"{shift} {tab}"], "move", True),
        (["E"], "errors", "errors" in kinds),
        (["C"], "comment", "text" in kinds),
        (["N", texts["keys.enter"]], "next", True),
        (["B"], "back", True),
        (["+", "−"], "zoom", True),
        ([f"{shift} {arrows}"], "pan", True),
        (["[", "]", "<", ">"], "window", True),
        (["{", "}", ",", "."], "level", True),
        (["I", "0"], "invert", True),
        (["P"], "pause", True),
        (["M", "O", "?"], "menu", True),
    ]
    return [(keys, texts[f"keys.{name}"]) for keys, name, is_there in listed if is_there]


def _csp_hash(text: str) -> str:
    """The source expression by which a Content-Security-Policy allows this text and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@functools.cache
def _jinja_environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
