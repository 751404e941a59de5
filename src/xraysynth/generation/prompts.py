"""Class labels and the curated prompt bank to deterministic requests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from xraysynth.errors import ConfigError
from xraysynth.records import Request
from xraysynth.seeds import derive_seed, digest


@dataclass(frozen=True)
class PromptBank:
    """Phrases from which prompts are made; `findings` holds several per class.

    A template may use {view}, {sex}, {age} and {finding}.
    """

    version: str = ""
    templates: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    sexes: list[str] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    negative: str = ""
    findings: dict[str, list[str]] = field(default_factory=dict)

    def digest(self, classes: Sequence[str]) -> str:
        """SHA-256 of what decides the prompts of these classes."""
        used = {name: self.findings.get(name, []) for name in classes}
        return digest(asdict(self) | {"findings": used})

    def prompt(self, label: str, index: int, *, seed: int) -> str:
        """The prompt of image `index` of a class: the same whatever else is asked for."""
        if not self.findings.get(label):
            raise ConfigError(
                f"prompts.findings has no phrase for class {label!r}; it knows "
                f"{', '.join(self.findings)}. Add some: "
                f'\'+prompts.findings.{label}=["first phrase","second phrase"]\''
            )
        template = _pick(self.templates, seed, label, index, "template")
        return template.format(
            view=_pick(self.views, seed, label, index, "view"),
            sex=_pick(self.sexes, seed, label, index, "sex"),
            age=_pick(self.ages, seed, label, index, "age"),
            finding=_pick(self.findings[label], seed, label, index, "finding"),
        )


def _pick(options: Sequence[str | int], seed: int, label: str, index: int, slot: str) -> str:
    """Stratified choice: every run of len(options) images of a class uses each option once."""
    block, position = divmod(index, len(options))
    return str(options[_shuffle_positions(len(options), seed, label, slot, block)[position]])


@lru_cache(maxsize=256)
def _shuffle_positions(n: int, seed: int, label: str, slot: str, block: int) -> list[int]:
    """The places 0 … n-1, shuffled for this block."""
    ranks = [derive_seed(seed, label, slot, block, i) for i in range(n)]
    return sorted(range(n), key=ranks.__getitem__)


def iterate_requests(
    bank: PromptBank, per_class: Mapping[str, int], *, seed: int
) -> Iterator[Request]:
    """Requests 0 … n-1 of each class; asking for more later only appends to each class."""
    for label, count in per_class.items():
        for index in range(count):
            yield Request(
                label=label,
                index=index,
                prompt=bank.prompt(label, index, seed=seed),
                negative_prompt=bank.negative,
                seed=derive_seed(seed, label, index),
            )
