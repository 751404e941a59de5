"""The page says what became of images that are not simply used, and shows some of them."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xraysynth.files import sha256_file
from xraysynth.manifest import ListedFile
from xraysynth.privacy import without_real_images
from xraysynth.report import page
from xraysynth.report.audit import CohortScreening, ScreenedImages, ScreenedSource
from xraysynth.report.content import Content

HOSTILE = "<script>alert('x')</script> & \"quoted\""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[ListedFile]:
    folder = tmp_path_factory.mktemp("pictures")
    files = []
    for number in range(3):
        file = folder / f"JANE-DOE-{number}.png"
        Image.fromarray(np.full((64, 64), 40 * number, np.uint8)).save(file)
        files.append(ListedFile(file, sha256_file(file)))
    return files


def with_screening(content: Content, groups: list[ScreenedImages], *, unknown: int = 0) -> Content:
    assert content.audit is not None
    sources = [ScreenedSource("clinic", used=38, unknown=unknown)]
    screening = CohortScreening(sources, groups, table="cohorts/screening-0123.csv")
    return replace(content, audit=replace(content.audit, screening=screening))


@pytest.fixture(scope="module")
def screened(content: Content, pictures: list[ListedFile]) -> Content:
    return with_screening(
        content,
        [
            ScreenedImages("clinic", "flagged", "blank", 2, pictures[:2]),
            ScreenedImages("clinic", "left out", "lateral view", 7, pictures[2:]),
            ScreenedImages("clinic", "unusable", "no label", 1),
        ],
        unknown=5,
    )


def table(html: str) -> str:
    found = re.search(r'<table[^>]*id="screening".*?</table>', html, re.DOTALL)
    assert found is not None
    text = re.sub(r"<[^>]+>", " ", found[0])
    return " ".join(unescape(text).split())


def test_counts_stand_by_source_status_and_reason(screened: Content) -> None:
    text = table(page.render(screened))
    for row in (
        "clinic used 38",
        "clinic flagged blank 2",
        "clinic left out lateral view 7",
        "clinic unusable no label 1",
    ):
        assert row in text


def test_pictures_have_words_and_the_page_names_no_file(screened: Content) -> None:
    html = page.render(screened)
    assert html.count('alt="simulated real, clinic, flagged: blank, image ') == 2
    assert html.count('alt="simulated real, clinic, left out: lateral view, image 1 of 1"') == 1
    assert "JANE-DOE" not in html
    assert "cohorts/screening-0123.csv" in html
    assert "Repairs and flags of 5 images are unknown" in html


def test_nothing_is_said_where_all_images_are_simply_used(content: Content) -> None:
    html = page.render(content)
    assert 'id="screening"' not in html
    assert "Repairs and flags" not in html


def test_a_picture_that_cannot_be_read_is_said_to_be_lost(screened: Content) -> None:
    lost = with_screening(
        screened, [ScreenedImages("clinic", "flagged", "blank", 1, [ListedFile(Path("gone.png"))])]
    )
    html = page.render(lost)
    assert 'aria-label="simulated real, clinic, flagged: blank, image 1 of 1">not readable' in html


def test_a_picture_that_was_altered_is_not_shown(
    screened: Content, pictures: list[ListedFile], capfd: pytest.CaptureFixture[str]
) -> None:
    altered = ListedFile(pictures[0].path, pictures[1].sha256)
    html = page.render(
        with_screening(screened, [ScreenedImages("clinic", "flagged", "blank", 1, [altered])])
    )
    assert 'aria-label="simulated real, clinic, flagged: blank, image 1 of 1">not readable' in html
    assert f"{pictures[0].path}: SHA-256 differs" in capfd.readouterr().err


@pytest.mark.parametrize("source", ["clinic", "sd_lora", "stable_diffusion"])
def test_no_picture_of_screening_is_released(
    content: Content, pictures: list[ListedFile], source: str
) -> None:
    groups = [ScreenedImages(source, "flagged", "blank", 2, pictures[:2])]
    shown = with_screening(content, groups)
    names = [pool.generator for pool in content.pools] + ["sd_lora", "stable_diffusion"]
    added = page.render(shown).count("<img") - page.render(content).count("<img")
    assert added == 2
    released = without_real_images(page.render(shown), names)
    assert "flagged: blank, image" not in released
    assert released.count("<img") == without_real_images(page.render(content), names).count("<img")


def test_hostile_words_stay_text(content: Content, pictures: list[ListedFile]) -> None:
    groups = [ScreenedImages("clinic", "left out", HOSTILE, 1, pictures[:1])]
    html = page.render(with_screening(content, groups))
    assert "<script" not in html
    assert "alert(&#39;x&#39;)" in html
