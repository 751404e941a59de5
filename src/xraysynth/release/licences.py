"""The licence of a release, derived from the licences of everything that it comes from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

OTHER = "other"
"""The Hub's identifier of a licence that it does not know."""

_LICENCE_PATTERNS = {
    r"cc0(-| )?(1\.0)?": "cc0-1.0",
    r"mit( licen[cs]e)?": "mit",
    r"apache(-| )(licen[cs]e,? )?(version )?2\.0": "apache-2.0",
    r"creativeml[- ]openrail[- ]m": "creativeml-openrail-m",
    r"(creativeml )?open rail\+\+-m|openrail\+\+": "openrail++",
}
_CREATIVE_COMMONS = re.compile(r"cc[ -]by((?:-nc)?(?:-sa|-nd)?)[ -](\d\.\d)")
_ATTRIBUTION_ONLY = re.compile(r"cc-by-\d\.\d")
_REMARK_AFTER_LICENCE = re.compile(r"\s*\([^()]*\)(, simulated findings)?$")
_PERMISSIVE = ("cc0-1.0", "mit", "apache-2.0")


@dataclass(frozen=True)
class Licence:
    """The licence of a release.

    Attributes:
        identifier: The Hub's identifier, or "other".
        name: The name for people.
        components: What the release comes from -> its licence, word for word.
        is_stated: Whether the user stated the licence; otherwise it is derived.
    """

    identifier: str
    name: str
    components: Mapping[str, str]
    is_stated: bool


def resolve_licence(components: Mapping[str, str], *, stated: str = "") -> Licence:
    """Returns the stated licence, or the most restrictive licence of the components.

    Where the licence of a component is not recognised, or two licences cannot be ordered, the
    result is "other", and a person has to look at the components.

    Args:
        components: What the release comes from -> its licence.
        stated: The licence that the user states, or "".
    """
    if stated:
        return Licence(identify_licence(stated) or OTHER, stated, components, is_stated=True)
    identifier = _most_restrictive(set(map(identify_licence, components.values())))
    name = identifier
    if identifier == OTHER:
        name = "; ".join(dict.fromkeys(components.values())) or "not recorded"
    return Licence(identifier, name, components, is_stated=False)


def identify_licence(text: str) -> str:
    """Returns the Hub's identifier of a licence; "" if the text says anything else as well.

    >>> identify_licence("CC BY 3.0 (as the CT), simulated findings"), identify_licence("public; cite us")
    ('cc-by-3.0', '')
    """
    name = _REMARK_AFTER_LICENCE.sub("", text.strip()).lower()
    for pattern, identifier in _LICENCE_PATTERNS.items():
        if re.fullmatch(pattern, name):
            return identifier
    match = _CREATIVE_COMMONS.fullmatch(name)
    return f"cc-by{match[1]}-{match[2]}" if match else ""


def _most_restrictive(identifiers: set[str]) -> str:
    """Returns the most restrictive licence.

    The result is `OTHER` where a licence is unknown or two licences restrict in different ways.
    """
    if not identifiers or "" in identifiers:
        return OTHER
    restrictive = identifiers - set(_PERMISSIVE)
    if not restrictive:
        return max(identifiers, key=_PERMISSIVE.index)
    if len(restrictive) == 1:
        return restrictive.pop()
    are_comparable = all(name.startswith("cc-by-") for name in restrictive)
    conditional = {name for name in restrictive if not _ATTRIBUTION_ONLY.fullmatch(name)}
    if len(conditional) > 1 or not are_comparable:
        return OTHER
    return conditional.pop() if conditional else max(restrictive)
