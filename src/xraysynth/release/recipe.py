"""What is released, under which terms, and where to."""

from dataclasses import dataclass, field
from typing import Annotated

from xraysynth.errors import ConfigError
from xraysynth.options import Rule, match_pattern, one_of, require_valid

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

    parts: Annotated[
        list[Annotated[str, one_of(PARTS)]], Rule(f"name one or more of {', '.join(PARTS)}", bool)
    ] = field(default_factory=lambda: list(PARTS))
    licence: str = ""
    originals: bool = False
    acknowledge_terms: bool = False
    push: bool = False
    repo: Annotated[str, match_pattern(r"([\w-][\w.-]*/[\w-][\w.-]*)?", "be owner/name")] = ""
    private: bool = True

    def __post_init__(self) -> None:
        require_valid(self, "release")
        if self.push and not self.repo:
            raise ConfigError("release.push=true needs release.repo=owner/name")
