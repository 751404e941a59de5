"""Class labels and the curated prompt bank become deterministic requests for images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from xraysynth.errors import ConfigError
from xraysynth.quoting import quote_override
from xraysynth.records import Request
from xraysynth.seeds import derive_seed, digest


@dataclass(frozen=True)
class PromptBank:
    """Phrases from which prompts are made; `findings` holds several per class.

    The name of a class without phrases is its phrase: "Lungenentzündung", "Lung Opacity".

    A prompt is one of the `templates`, in which {view}, {sex}, {age} and {finding} stand for one of
    the `views`, `sexes`, `ages` and findings. `negative` is the negative prompt of every image.
    """

    version: str = ""
    templates: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    sexes: list[str] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    negative: str = ""
    findings: dict[str, list[str]] = field(default_factory=dict)

    def digest(self, classes: Sequence[str]) -> str:
        """Returns the SHA-256 of everything that decides the prompts of these classes.

        Findings of other classes are left out, so that adding a class changes no digest.
        """
        used_findings = {label: self.findings.get(label, []) for label in classes}
        return digest(asdict(self) | {"findings": used_findings})

    def prompt(self, label: str, index: int, *, seed: int) -> str:
        """Returns the prompt of image `index` of a class.

        The prompt does not depend on which other images are requested.

        Args:
            label: The class.
            index: Position of the image within its class, from 0.
            seed: Seed of the whole pool.

        Raises:
            ConfigError: If the bank has no findings for the class, and its name is no word.
        """
        findings = self.phrases(label)
        template = _pick(self.templates, seed, label, index, "template")
        return template.format(
            view=_pick(self.views, seed, label, index, "view"),
            sex=_pick(self.sexes, seed, label, index, "sex"),
            age=_pick(self.ages, seed, label, index, "age"),
            finding=_pick(findings, seed, label, index, "finding"),
        )

    def phrases(self, label: str) -> list[str]:
        """Returns the findings of a class, or its name where the bank has none.

        Raises:
            ConfigError: The bank has none, and the name has fewer than two letters, such as "1".
        """
        findings = self.findings.get(label, [label])
        says_nothing = label not in self.findings and sum(map(str.isalpha, label)) < 2
        if not findings or says_nothing:
            override = quote_override(
                f"prompts.findings.{label}", ["first phrase", "second phrase"]
            )
            raise ConfigError(
                f"prompts.findings has no phrase for class {label!r}, and a generator makes nothing of "
                f"its name; add some: {override}"
            )
        return findings


def _pick(options: Sequence[str | int], seed: int, label: str, index: int, slot: str) -> str:
    """Chooses one option of a slot for image `index`.

    The choice is stratified: each block of `len(options)` consecutive images of a class uses every
    option once, in an order that is shuffled per block.
    """
    block, position = divmod(index, len(options))
    order = _shuffle_positions(len(options), seed, label, slot, block)
    return str(options[order[position]])


@lru_cache(maxsize=256)
def _shuffle_positions(n: int, seed: int, label: str, slot: str, block: int) -> list[int]:
    """Returns the positions 0 to n - 1, shuffled for this block of images."""
    ranks = [derive_seed(seed, label, slot, block, position) for position in range(n)]
    return sorted(range(n), key=ranks.__getitem__)


def iterate_requests(
    bank: PromptBank, per_class: Mapping[str, int], *, seed: int
) -> Iterator[Request]:
    """Yields the requests for a number of images of each class.

    A larger number later on only appends requests to each class.

    Args:
        bank: The phrases of the prompts.
        per_class: Class -> number of images.
        seed: Seed from which each image's own seed is derived.
    """
    for label, count in per_class.items():
        for index in range(count):
            yield Request(
                label=label,
                index=index,
                prompt=bank.prompt(label, index, seed=seed),
                negative_prompt=bank.negative,
                seed=derive_seed(seed, label, index),
            )
