"""Generated headers: each image is shown as its description says, value by value, or refused by name."""

import numpy as np
import pytest
from dicom_fuzz import EITHER, ODDITIES, REFUSED, write_case
from dicom_reference import render_reference

from xraysynth.data.sources.dicom import DicomSource
from xraysynth.errors import ImageError

SEED = 17


def explain_mistake(case, folder):
    """What is wrong with how a case is read; "" if nothing is."""
    expected = render_reference(case.image)
    refused_is_right = case.outcome in (REFUSED, EITHER) or expected is None
    try:
        pixels = DicomSource(name="made", root=str(folder)).load("normal/image", 64).pixels
    except ImageError as error:
        is_named = "normal/image" in str(error) and " object at 0x" not in str(error)
        return "" if refused_is_right and is_named else f"refused: {error}"
    if case.outcome == REFUSED:
        return "shown"
    if expected is None:
        return "shown, though nothing is to be seen"
    difference = np.abs(expected - pixels)
    # A value on the edge of a window may fall to the other side of it.
    wrong = (difference > 1).mean()
    return (
        "" if wrong <= 0.002 else f"{wrong:.1%} of the pixels differ, by up to {difference.max()}"
    )


def find_mistakes(count, folder):
    mistakes, outcomes, oddities = [], {"shown": 0, "refused": 0}, set()
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        case = write_case(rng, folder / "normal/image")
        mistake = explain_mistake(case, folder)
        outcomes["refused" if case.outcome == REFUSED else "shown"] += 1
        oddities.add(case.oddity)
        if mistake:
            mistakes.append(f"{number} {case.oddity}: {mistake}")
    return mistakes, outcomes, oddities


@pytest.mark.filterwarnings("ignore")
def test_generated_headers_are_shown_as_described_or_refused_by_name(tmp_path):
    mistakes, outcomes, _ = find_mistakes(100, tmp_path)
    assert not mistakes
    assert outcomes["shown"] > 60
    assert outcomes["refused"] > 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_five_hundred_generated_headers(tmp_path):
    mistakes, outcomes, oddities = find_mistakes(500, tmp_path)
    assert not mistakes
    assert oddities == {"", *(oddity.__name__ for oddity in ODDITIES)}
    assert outcomes["refused"] > 40
