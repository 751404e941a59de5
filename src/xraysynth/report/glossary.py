"""The glossary of the pages: its terms, and the HTML that shows a term's line where the term stands."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from markupsafe import Markup

from xraysynth.errors import XraysynthError, format_some

GLOSSARY_FILE = Path(__file__).parent / "glossary.yaml"

_BUTTON = Markup(
    '<button type="button" class="term" popovertarget="{anchor}" title="{line}">{text}</button>'
)


@dataclass(frozen=True)
class Term:
    """One entry of glossary.yaml.

    Attributes:
        term: The term, spelled as in the glossary.
        line: The one sentence that explains it.
        source: The paper that defines it; empty where there is none.
    """

    term: str
    line: str
    source: str = ""

    @property
    def anchor(self) -> str:
        """The id of the term's entry in the list at the end of a page."""
        words = re.findall(r"\w+", self.term.lower())
        return "-".join(["term", *words])


@functools.cache
def load_glossary() -> Mapping[str, Term]:
    """Returns the terms of glossary.yaml by their name, in the order of the file."""
    entries = yaml.safe_load(GLOSSARY_FILE.read_text(encoding="utf-8"))
    terms = [Term(**entry) for entry in entries]
    return {term.term: term for term in terms}


class PageTerms:
    """The terms that one page mentions.

    A template calls `mention` wherever a term stands, and lists `mentioned_terms` at the end of the page.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()

    def mention(self, name: str, text: str = "") -> Markup:
        """Returns a button that reads like text and opens the term's line next to it.

        Args:
            name: A term of the glossary.
            text: What the button says; by default the term itself.

        Raises:
            XraysynthError: If the glossary has no such term.
        """
        glossary = load_glossary()
        if name not in glossary:
            raise XraysynthError(
                f"the glossary has no term {name!r}, which a page wants to explain; add it to "
                f"report/glossary.yaml, or choose one of {format_some(glossary)}"
            )
        self._names.add(name)
        term = glossary[name]
        return _BUTTON.format(anchor=term.anchor, line=term.line, text=text or name)

    @property
    def mentioned_terms(self) -> list[Term]:
        """The terms mentioned so far, in the order of the glossary."""
        return [term for term in load_glossary().values() if term.term in self._names]
