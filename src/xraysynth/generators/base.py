"""What a generator promises."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from xraysynth.records import Generated, Request


@dataclass(frozen=True)
class Card:
    """How a generator can be had and steered; shown beside its results."""

    title: str
    access: str
    licence: str
    offline: bool
    seeds_reproducible: bool
    prompt_control: str


class Generator(Protocol):
    """Requests to images. A frozen dataclass of plain values: the constructor is the record.

    Fields that do not decide pixels opt out of the identity (`seeds.identity`).
    """

    @property
    def name(self) -> str:
        """Name in folders and reports: letters, digits, dashes and underscores."""

    @property
    def card(self) -> Card:
        """How this generator can be had and steered."""

    @property
    def block(self) -> int:
        """How many requests of a class are handed over together; a resumed block is made whole."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """One result per request, in order, whatever became of it."""
