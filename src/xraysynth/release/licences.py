"""The licence of what is released, read off the licences of what it comes from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

OTHER = "other"
_LICENCE_PATTERNS = {
    r"cc0(-| )?(1\.0)?": "cc0-1.0",
    r"mit( licen[cs]e)?": "mit",
    r"apache(-| )(licen[cs]e,? )?(version )?2\.0": "apache-2.0",
    r"creativeml[- ]openrail[- ]m": "creativeml-openrail-m",
    r"(creativeml )?open rail\+\+-m|openrail\+\+": "openrail++",
}
_CREATIVE_COMMONS = r"cc[ -]by((?:-nc)?(?:-sa|-nd)?)[ -](\d\.\d)"
_PERMISSIVE = ("cc0-1.0", "mit", "apache-2.0")


@dataclass(frozen=True)
class Licence:
    """`identifier` is the Hub's name of the licence, `name` the one to show.

    `parts` maps what the release comes from to its licence, word for word; `given` tells a licence
    that was stated from one that was derived.
    """

    identifier: str
    name: str
    components: Mapping[str, str]
    is_stated: bool


def resolve_licence(components: Mapping[str, str], *, stated: str = "") -> Licence:
    """The licence that was given, or else the most restrictive of the parts'.

    Where a part's licence is not one that is known by name, or where two cannot be ordered, it is
    "other": whoever releases has to look at the parts.
    """
    if stated:
        return Licence(identify_licence(stated) or OTHER, stated, components, is_stated=True)
    found = _most_restrictive({identify_licence(text) for text in components.values()})
    together = "; ".join(dict.fromkeys(components.values())) or "not recorded"
    return Licence(found, together if found == OTHER else found, components, is_stated=False)


def identify_licence(text: str) -> str:
    """The Hub's identifier of a licence; empty where the text says anything else as well.

    >>> identify_licence("CC BY 3.0 (as the CT), simulated findings"), identify_licence("public; cite us")
    ('cc-by-3.0', '')
    """
    name = re.sub(r"\s*\([^()]*\)(, simulated findings)?$", "", text.strip()).lower()
    for pattern, identifier in _LICENCE_PATTERNS.items():
        if re.fullmatch(pattern, name):
            return identifier
    found = re.fullmatch(_CREATIVE_COMMONS, name)
    return f"cc-by{found[1]}-{found[2]}" if found else ""


def _most_restrictive(identifiers: set[str]) -> str:
    """The one that binds most; `OTHER` where one is unknown or two bind in different ways."""
    if not identifiers or "" in identifiers:
        return OTHER
    binding = identifiers - set(_PERMISSIVE)
    if not binding:
        return max(identifiers, key=_PERMISSIVE.index)
    if len(binding) == 1:
        return binding.pop()
    conditional = {name for name in binding if not re.fullmatch(r"cc-by-\d\.\d", name)}
    if len(conditional) > 1 or not all(name.startswith("cc-by-") for name in binding):
        return OTHER
    return conditional.pop() if conditional else max(binding)
