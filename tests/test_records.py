from pathlib import Path

import pytest

from xraysynth.records import GenerationResult, Request, require_inside


def test_an_inside_path_is_joined():
    assert require_inside(Path("f"), "a/b.png") == Path("f/a/b.png")


def test_only_an_image_has_pixels():
    request = Request("normal", 0, "p", "", 1)
    with pytest.raises(ValueError, match="if and only if its outcome is 'image'"):
        GenerationResult(request, "image")
