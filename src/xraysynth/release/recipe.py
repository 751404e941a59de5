"""Options of a release: what is released, under which terms, and where it is uploaded."""

from dataclasses import dataclass, field
from typing import Annotated

from xraysynth.errors import ConfigError
from xraysynth.options import Rule, match_pattern, one_of, require_valid

PARTS = ("model", "data", "study")


@dataclass(frozen=True)
class ReleaseRecipe:
    """Writes `parts` of the study: model (weights), data (images) and study (report and tables).

    `licence` is the licence of the released parts; if it is empty, it is derived from the licences
    of everything they come from, by their names. `originals` adds the images as their generator
    returned them. `acknowledge_terms` states that the data use agreement of a credentialed source
    allows this release. `push` uploads the parts to the Hub with the token in HF_TOKEN, each to its
    own repository, whose name starts with `repo` (owner/name); a new repository is `private` or not.
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
