"""What is released, under which terms, and where to."""

import re
from dataclasses import dataclass, field

from xraysynth.errors import ConfigError

PARTS = ("model", "data", "study")


@dataclass(frozen=True)
class ReleaseRecipe:
    """`parts` of the study are written: model, data, study.

    `licence` is that of the released parts (empty: derived from the licences of what they come
    from, as a reading of names). `originals` adds the images as they came from their generator.
    `acknowledge_terms` states that the data use agreement of a credentialed source allows this
    release. `push` sends the parts to the Hub with the token in HF_TOKEN, each to a repository of
    its own whose name starts with `repo` (owner/name), created as `private` or not.
    """

    parts: list[str] = field(default_factory=lambda: list(PARTS))
    licence: str = ""
    originals: bool = False
    acknowledge_terms: bool = False
    push: bool = False
    repo: str = ""
    private: bool = True

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise ConfigError(
                f"release.parts must name one or more of {', '.join(PARTS)}; got {self.parts}"
            )
        if self.repo and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", self.repo):
            raise ConfigError(f"release.repo must be owner/name; got {self.repo!r}")
        if self.push and not self.repo:
            raise ConfigError("release.push=true needs release.repo=owner/name")
