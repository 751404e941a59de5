"""The options of the study that an inspection proposes, and its commands for a POSIX shell."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xraysynth.data.inspection.known_sets import load_preset
from xraysynth.data.inspection.proposals import Proposal
from xraysynth.quoting import quote_override


@dataclass(frozen=True)
class Choice:
    """One option of the proposed study.

    Attributes:
        name: Name of the option.
        value: Its value.
        reason: Why it is needed, as a sentence for its owner; "" where the command speaks for itself.
    """

    name: str
    value: Any
    reason: str = ""

    @property
    def word(self) -> str:
        """The override as the shell passes it on."""
        (word,) = shlex.split(self.quoted)
        return word

    @property
    def quoted(self) -> str:
        """The override as it is typed into a shell."""
        return quote_override(self.name, self.value)


@dataclass(frozen=True)
class SourceChoice:
    """A proposed source under the key by which its options are named.

    Attributes:
        proposal: What is at the path.
        key: Key of the source in the configuration.
        labels: Label -> class, where the source does not say so itself.
        drop_unmapped: Whether all labels but those in `labels` are left out.
    """

    proposal: Proposal
    key: str
    labels: dict[str, str | None] = field(default_factory=dict)
    drop_unmapped: bool = False

    @property
    def choices(self) -> list[Choice]:
        """The options of the source; one under a key of its own also names its class and itself."""
        options = dict(self.proposal.options)
        if self.key != self.proposal.preset:
            preset = load_preset(self.proposal.preset)
            options = {"_target_": preset["_target_"], "name": self.key, **options}
        if self.drop_unmapped:
            options["drop_unmapped"] = True
        if self.labels:
            options["labels"] = self.labels
        return [Choice(f"source.{self.key}.{name}", value) for name, value in options.items()]


def name_sources(proposals: Sequence[Proposal]) -> list[SourceChoice]:
    """Give every source a key: that of its preset, or of its folder where the preset is taken."""
    taken: set[str] = set()
    named = []
    for proposal in proposals:
        key = proposal.preset
        if key in taken:
            key = _free_name(slug(proposal.folder.resolve().name), taken)
        taken.add(key)
        named.append(SourceChoice(proposal, key))
    return named


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def slug(name: str) -> str:
    """Return a name that a folder, an option and a shell take without quotes.

    >>> slug("Röntgen (Klinik 1)"), slug("...")
    ('Rontgen_Klinik_1', 'images')
    """
    import unicodedata

    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9-]+", "_", plain).strip("_-") or "images"


def select_sources(sources: Sequence[SourceChoice]) -> list[Choice]:
    """Return the selection of the sources' presets, and all their options."""
    presets = [source.key for source in sources if source.key == source.proposal.preset]
    selection = presets[0] if len(presets) == 1 else presets
    choices = [Choice("source", selection)]
    for source in sources:
        choices += source.choices
    return choices


def words_of(choices: Sequence[Choice], overrides: Sequence[str]) -> list[str]:
    """Return the overrides of the command line; those of the user come last and replace others."""
    own_names = {override.partition("=")[0].lstrip("+~") for override in overrides}
    words = [choice.word for choice in choices if choice.name not in own_names]
    return [*words, *overrides]


def format_command(stage: str, choices: Sequence[Choice], overrides: Sequence[str]) -> str:
    """Write a command that can be pasted into a POSIX shell."""
    own_names = {override.partition("=")[0].lstrip("+~") for override in overrides}
    words = [choice.quoted for choice in choices if choice.name not in own_names]
    return " ".join([f"xraysynth {stage}", *words, *map(shlex.quote, overrides)])


def format_inspection(paths: Sequence[Path | str]) -> str:
    """Write the command that inspects some paths together."""
    return " ".join(["xraysynth inspect", *(shlex.quote(str(path)) for path in paths)])
