"""What becomes of images that are not simply used."""

import doctest
import re

import pandas as pd
import pytest

from xraysynth.data import screening
from xraysynth.data import unusable as unusable_images
from xraysynth.data.recipe import Screening, UnusableImages
from xraysynth.data.screening import ScreenedImage
from xraysynth.errors import ImageError

STOP = Screening(unusable=UnusableImages.stop)


def unusable(number, reason="no label"):
    return ScreenedImage(f"i{number}", "site", "normal", f"a/{number}.png", "unusable", [reason])


def left_out(number):
    return ScreenedImage(
        f"l{number}", "site", "normal", f"l/{number}.png", "left out", ["lateral view"]
    )


def require(n_unusable, listed, policy, *more):
    images = [unusable(number) for number in range(n_unusable)]
    unusable_images.require_few_unusable(
        [*images, *more], source="site", listed=listed, policy=policy
    )


def test_rows_without_the_columns_are_all_used():
    rows = pd.DataFrame({"image_id": ["1", "2"]}, index=[3, 7])
    used, not_used = screening.split_rows(rows)
    pd.testing.assert_frame_equal(used, rows)
    assert not_used.empty


def test_rows_that_are_not_used_are_taken_out_with_their_reasons():
    rows = pd.DataFrame(
        {
            "image_id": ["1", "2", "3", "4"],
            "label": ["normal"] * 4,
            "locator": ["1.png#", "2.png#", "3.png#" + "a" * 64, "4.png"],
            "left_out": ["", "lateral view", None, float("nan")],
            "unusable": ["", "", "missing file", None],
        }
    )
    used, not_used = screening.split_rows(rows)
    assert used["image_id"].tolist() == ["1", "4"]
    assert list(used) == ["image_id", "label", "locator"]
    listed = screening.list_not_used(not_used, "site")
    assert [(image.file, image.status, image.reasons) for image in listed] == [
        ("2.png", "left out", ["lateral view"]),
        ("3.png", "unusable", ["missing file"]),
    ]


@pytest.mark.parametrize(("n_unusable", "listed"), [(0, 0), (0, 9), (5, 100), (1, 20)])
def test_up_to_the_limit_may_be_unusable(n_unusable, listed):
    require(n_unusable, listed, Screening())


def test_what_is_left_out_never_stops():
    require(0, 1, STOP, *map(left_out, range(50)))


@pytest.mark.parametrize(
    ("n_unusable", "listed", "policy", "remedy"),
    [
        (10, 50, Screening(), "screening.most_left_out=0.2"),
        (6, 100, Screening(), "screening.most_left_out=0.06"),
        (2, 3, Screening(most_left_out=0.0), "screening.most_left_out=0.67"),
        (1, 40, STOP, "screening.unusable=leave_out"),
        (1, 10, STOP, "screening.unusable=leave_out screening.most_left_out=0.1"),
    ],
)
def test_more_stop_with_the_options_that_leave_them_out(n_unusable, listed, policy, remedy):
    with pytest.raises(ImageError) as error:
        require(n_unusable, listed, policy)
    assert f"{n_unusable} of {listed} images cannot be used" in str(error.value)
    assert "a/0.png: no label" in str(error.value)
    offered = re.search(r"leave them out with ([^:\n]+):", str(error.value))
    assert offered[1] == remedy
    options = dict(
        word.split("=") for word in remedy.removeprefix("screening.").split(" screening.")
    )
    most = float(options.get("most_left_out", policy.most_left_out))
    require(n_unusable, listed, Screening(most_left_out=most))


def test_nothing_to_use_offers_no_option():
    with pytest.raises(ImageError) as error:
        require(3, 3, Screening())
    assert "screening.most_left_out=0.05 allows" in str(error.value)
    assert "leave them out with" not in str(error.value)


def test_an_error_lists_the_first_images():
    with pytest.raises(ImageError, match="and 5 more"):
        require(25, 30, Screening())


def test_reasons_are_counted_without_what_is_true_of_one_file():
    images = [
        unusable(n, f"/data/Jane Doe/a/{n}.png: the file is empty (0 bytes); copy it again")
        for n in range(3)
    ]
    images.append(
        unusable(4, f"/data/a/4.png: the SHA-256 is {'ab' * 32}, but x.csv says {'cd' * 32}")
    )
    counts = screening.count_images(images, used=5)
    assert counts.unusable == {
        "the file is empty (0 bytes)": 3,
        "the SHA-256 is …, but x.csv says …": 1,
    }


def test_reasons_are_short_and_printable():
    image = unusable(0, "label of no class: \x1b[31m" + "a whole report " * 50)
    (reason,) = screening.count_images([image], used=0).unusable
    assert len(reason) == screening.MAX_REASON_LENGTH
    assert reason.isprintable()


def test_rare_reasons_are_counted_together():
    images = [unusable(n, f"reason {n}") for n in range(screening.MAX_REASONS + 3)]
    counts = screening.count_images(images, used=0).unusable
    assert len(counts) == screening.MAX_REASONS + 1
    assert counts[screening.OTHER_REASONS] == 3


def test_examples():
    assert doctest.testmod(screening).failed == 0
