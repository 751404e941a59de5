"""What a generator promises."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from xraysynth.records import Generated, Request


@dataclass(frozen=True, kw_only=True)
class Card:
    """How a generator can be had and steered; shown beside its results."""

    title: str
    access: str
    licence: str
    offline: bool
    seeds_reproducible: bool
    prompt_control: str
    fine_tunable: str
    hardware: str
    set_up: str
    price: str


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
        """One result per request, whatever became of it, as soon as it is there."""

    def measured(self) -> Mapping[str, Any]:
        """What the ledger says of the generator itself; asked after the first image was made.

        Keys, where they apply: `load_seconds`, `parameters`, `trained_parameters`, `bytes_on_disk`,
        `device`, `engine`, `dtype`, `steps`.
        """
