"""The page is self-contained, honest about what it shows, and safe against hostile text."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from xraysynth.metrics.statistics import Interval
from xraysynth.records import CLASSES
from xraysynth.report import figures, page, tables
from xraysynth.report.content import Arm, Content

HOSTILE = "<script>alert('x')</script> & \"quoted\" $x^$"

MINUSES = "macro-F1 \u2212{} [\u2212{}, \u2212{}] against real only, worse."


class Tags(HTMLParser):
    """Collects every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def values(self, *names: str) -> list[str]:
        return [attrs[name] for _, attrs in self.found for name in names if name in attrs]


@pytest.fixture(scope="module")
def html(content: Content) -> str:
    return page.render(content)


@pytest.fixture(scope="module")
def tags(html: str) -> Tags:
    return Tags(html)


def plain(html: str) -> str:
    """The text of a piece of HTML in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def with_difference(arm: Arm, low: float, high: float) -> Arm:
    gain = Interval((low + high) / 2, low, high, 48)
    return replace(arm, difference=dict(arm.difference) | {"macro_f1": gain})


def test_page_loads_nothing(html: str, tags: Tags) -> None:
    names = {tag for tag, _ in tags.found}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert all(src.startswith("data:image/") for src in tags.values("src"))
    assert all(href.startswith("#") for href in tags.values("href", "xlink:href"))
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert "default-src 'none'" in html


def test_ids_are_unique_and_every_reference_has_one(html: str, tags: Tags) -> None:
    ids = tags.values("id")
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', html)) <= set(ids)


def test_figures_take_their_colours_from_the_page(html: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.S))
    assert "var(--ink)" in drawn
    assert not re.findall(r"(?:fill|stroke): ?#\w+", drawn)


def test_images_and_figures_have_words(tags: Tags) -> None:
    images = [attrs for tag, attrs in tags.found if tag == "img"]
    assert len(images) == 3 * len(CLASSES) * 2
    assert all("SHA-256" in attrs["alt"] for attrs in images)
    figures_drawn = [attrs for tag, attrs in tags.found if tag == "svg" and "role" in attrs]
    assert all(attrs["aria-label"] for attrs in figures_drawn)


@pytest.fixture(scope="module")
def bare(content: Content) -> Content:
    """A study that has hardly anything."""
    return replace(
        content,
        audit={},
        pools=[],
        arms=content.arms[:1],
        stages=content.stages.iloc[:0],
        environment={},
        limits=[],
    )


@pytest.mark.parametrize("simulated", [True, False])
def test_banner_says_simulated_exactly_when_it_is(bare: Content, simulated: bool) -> None:
    html = page.render(replace(bare, simulated=simulated))
    assert ('id="simulated"' in html) == simulated
    assert ("Simulated data" in html) == ("simulated real test images" in html) == simulated


def test_acknowledged_confounding_stands_before_the_findings(bare: Content, html: str) -> None:
    assert 'id="confounding"' not in html
    shown = page.render(replace(bare, acknowledged_confounding=["covid19 is from site-a alone"]))
    assert shown.index("covid19 is from site-a alone") < shown.index("What was found")


@pytest.mark.parametrize(
    ("low", "high", "word", "said"),
    [
        (0.004, 0.058, "better", "macro-F1 +0.031 [0.004, 0.058] over real only."),
        (
            -0.01,
            0.03,
            page.NO_DIFFERENCE,
            "no difference shown in macro-F1 against real only, +0.010",
        ),
        (0.0, 0.03, page.NO_DIFFERENCE, "no difference shown"),
        (
            -0.06,
            -0.02,
            "worse",
            MINUSES.format("0.040", "0.060", "0.020"),
        ),
        (float("nan"), float("nan"), "not compared", "not compared with real only."),
    ],
)
def test_headline_follows_the_interval(
    content: Content, low: float, high: float, word: str, said: str
) -> None:
    real, hybrid = content.arms[0], with_difference(content.arms[1], low, high)
    found = page.headline([real, hybrid], hybrid.generator)
    assert found["verdict"] == word
    assert found["sentence"].startswith("Hybrid 50% stable_diffusion (replace): ")
    assert said in found["sentence"]
    assert (page.NO_DIFFERENCE in found["sentence"]) == (word == page.NO_DIFFERENCE)
    assert "48 test images, 24 patients, 2 seeds." in found["basis"]


def test_headline_owns_up_to_choosing_the_best_arm(content: Content) -> None:
    small = with_difference(content.arms[1], 0.01, 0.02)
    large = with_difference(replace(content.arms[1], share=0.25), 0.05, 0.06)
    found = page.headline([content.arms[0], small, large], small.generator)
    assert found["sentence"].startswith("Hybrid 25%")
    assert "best of 2 hybrid arms" in found["basis"]


def test_every_arm_and_class_is_in_every_section(content: Content, html: str) -> None:
    for arm in content.arms:
        assert html.count(f'data-arm="{arm.name}"') == 1 + len(CLASSES) + 1
    for label in CLASSES:
        assert f"<b>{label}</b> against the rest" in html
        assert f"<h3>{label}</h3>" in html


def test_numbers_in_the_table_are_the_intervals(content: Content, html: str) -> None:
    scores = html[html.index('id="scores"') : html.index('id="per-class"')]
    rows = re.findall(r'<tr data-arm="(.*?)">(.*?)</tr>', scores, flags=re.S)
    by_name = {arm.name: arm for arm in content.arms}
    for name, row in rows:
        arm = by_name[unescape(name)]
        shown = [arm.difference["macro_f1"]] if arm.share else []
        shown += [arm.scores[metric] for metric in tables.SUMMARY]
        assert [float(v) for v in re.findall(r'<data value="(.*?)"', row)] == [
            i.value for i in shown
        ]
        ranges = re.findall(r'"range">(\[.*?\])<', row)
        assert ranges == [f"[{page.number(i.low)}, {page.number(i.high)}]" for i in shown]
    assert len(rows) == len(content.arms)


def test_hostile_text_stays_text(content: Content) -> None:
    pool, arm = content.pools[0], content.arms[1]
    table = pool.manifest.table.assign(prompt=HOSTILE)
    html = page.render(
        replace(
            content,
            title=HOSTILE,
            command=HOSTILE,
            failures=[HOSTILE],
            environment={HOSTILE: HOSTILE},
            acknowledged_confounding=[HOSTILE],
            pools=[replace(pool, generator=HOSTILE, manifest=replace(pool.manifest, table=table))],
            arms=[content.arms[0], replace(arm, generator=HOSTILE)],
        )
    )
    assert "<script" not in html
    names = {tag for tag, _ in Tags(html).found}
    assert "script" not in names
    assert plain(html).count("alert('x')") > 10


def test_a_study_that_has_hardly_anything_is_still_a_page(bare: Content) -> None:
    text = plain(page.render(replace(bare, failures=["train: out of memory"])))
    assert "1 job failed" in text
    assert "train: out of memory" in text
    assert "nothing is compared" in text
    assert "No generator made images" in text
    nothing = plain(page.render(replace(bare, arms=[], cohort=bare.cohort.split("test"))))
    assert "No arm was trained" in nothing


def test_a_pool_without_measurements_says_so(content: Content, bare: Content) -> None:
    empty = pd.DataFrame()
    pool = replace(
        content.pools[0],
        fidelity=empty,
        diversity=empty,
        memorization=[],
        appearance=[],
        ledger={},
        taught={},
    )
    assert plain(page.render(replace(bare, pools=[pool]))).count("not measured") == 4


def test_galleries_are_in_hash_order_and_survive_a_lost_file(
    content: Content, bare: Content, tmp_path: Path
) -> None:
    pool = content.pools[0].manifest
    thumbnails = figures.grid(pool, "covid19", who="stable_diffusion")
    hashes = [t.alt.rpartition(" ")[2] for t in thumbnails]
    own = pool.table.loc[pool.table["label"] == "covid19", "sha256"]
    assert hashes == sorted(sha[:8] for sha in own)
    lost = figures.grid(replace(pool, folder=tmp_path), "covid19", who="stable_diffusion")
    assert [t.src for t in lost] == ["", ""]
    html = page.render(replace(bare, cohort=replace(bare.cohort, folder=tmp_path)))
    assert html.count("not readable") == 2 * len(CLASSES)


def test_no_image_of_the_test_split_is_shown(bare: Content) -> None:
    assert page.render(bare).count("<img") == 2 * len(CLASSES)
    held_out = replace(bare.cohort, table=bare.cohort.table.assign(split="test"))
    assert "<img" not in page.render(replace(bare, cohort=held_out))


def test_page_is_the_same_every_time(content: Content, html: str) -> None:
    assert page.render(content) == html


def test_precision_at_a_recall_is_that_of_the_threshold_which_reaches_it(content: Content) -> None:
    table = pd.DataFrame({"label": ["a", "b", "a", "b"], "p_a": [0.9, 0.8, 0.7, 0.1]})
    curve = figures.mean_precision(replace(content.arms[0], predictions=[table]), "a")
    assert curve is not None
    assert curve[:50].tolist() == [1.0] * 50
    assert curve[50:] == pytest.approx([2 / 3] * 50)
    absent = replace(content.arms[0], predictions=[table.assign(label="b")])
    assert figures.mean_precision(absent, "a") is None


@pytest.mark.parametrize("dark", [False, True])
def test_colours_meet_wcag_aa(dark: bool) -> None:
    css = (Path(page.__file__).parent / "page.css").read_text()
    light, _, rest = css.partition("@media screen and (prefers-color-scheme: dark)")
    colours = dict(
        re.findall(r"--([\w-]+): (#\w{6})", rest.partition("@media")[0] if dark else light)
    )
    for text in ("ink", "muted", "accent", "series-2", "series-3"):  # the last two: worse, better
        assert _contrast(colours[text], colours["page"]) >= 4.5, text
    for ground in ("warn", "alert", "soft"):
        assert _contrast(colours["ink"], colours[ground]) >= 4.5, ground
    for name, colour in colours.items():
        assert not name.startswith("series") or _contrast(colour, colours["page"]) >= 3, name


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2.2, from 1 to 21."""

    def luminance(colour: str) -> float:
        values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dim, bright = sorted([luminance(one), luminance(other)])
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234, "0.123"),
        (-0.5, page.MINUS + "0.500"),
        (-0.0001, "0.000"),
        (float("nan"), page.UNKNOWN),
        (pd.NA, page.UNKNOWN),
    ],
)
def test_numbers_read_well(value: Any, text: str) -> None:
    assert page.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.423, "0.42 s"),
        (31.2, "31 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (None, page.UNKNOWN),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert page.duration(seconds) == text


def test_refusals_are_shown_by_class_and_prompt(content: Content) -> None:
    text = plain(page.render(content))
    assert "refused, by class and by prompt" in text
    assert "a refused prompt" in text
    assert "75%" in text
    none = [replace(pool, refusals={"label": {}, "prompt": {}}) for pool in content.pools]
    assert "by class and by prompt" not in plain(page.render(replace(content, pools=none)))
