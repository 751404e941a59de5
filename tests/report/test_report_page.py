"""The page is self-contained, honest about what it shows, and safe against hostile text."""

import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from xraysynth.evaluation.metrics.real_data_equivalent import RealDataEquivalent
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.results import Measure
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.pool import Refusals
from xraysynth.records import CLASSES
from xraysynth.report import (
    arm_groups,
    arm_styles,
    figures,
    formatting,
    page,
    templating,
    thumbnails,
)
from xraysynth.report.content import ArmEquivalent, Comparison, Content, Evaluation
from xraysynth.report.findings import collect_findings

HOSTILE = "<script>alert('x')</script> & \"quoted\" $x^$"


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
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html.replace("<wbr>", ""))).split())


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
    images = [attrs["alt"] for tag, attrs in tags.found if tag == "img"]
    assert sum("SHA-256" in alt for alt in images) == 3 * len(CLASSES) * 2
    assert sum("pair" in alt for alt in images) == len(images) - 3 * len(CLASSES) * 2
    figures_drawn = [attrs for tag, attrs in tags.found if tag == "svg" and "role" in attrs]
    assert all(attrs["aria-label"] for attrs in figures_drawn)


@pytest.fixture(scope="module")
def bare(content: Content) -> Content:
    """A study that has hardly anything."""
    return replace(
        content,
        audit=None,
        pools=[],
        arms=content.arms[:1],
        jobs=[],
        environment={},
        limits=[],
        equivalents=[],
        left_out_sources=[],
        shortcuts=[],
        encoder_agreement=[],
    )


@pytest.mark.parametrize("simulated", [True, False])
def test_banner_says_simulated_exactly_when_it_is(bare: Content, simulated: bool) -> None:
    html = page.render(replace(bare, simulated=simulated))
    assert ('id="simulated"' in html) == simulated
    assert ("Simulated data" in html) == ("simulated real test images" in html) == simulated


def test_acknowledged_confounding_stands_before_the_findings(bare: Content, html: str) -> None:
    assert 'id="confounding"' not in html
    shown = page.render(replace(bare, acknowledged_confounding=["covid19 is from site-a alone"]))
    assert shown.index("covid19 is from site-a alone") < shown.index("Main results")


def test_findings_stand_before_everything_else(content: Content, html: str) -> None:
    start = html[: html.index('aria-label="Sections"')]
    for finding in collect_findings(content):
        item = start[start.index(f'data-generator="{finding.generator}"') :]
        text = plain(item[: item.index("</li>")])
        gain, _, controls = finding.utility.sentence.partition("; ")
        assert f"{gain}." in text
        assert controls[1:] in text
        assert finding.basis in text
        for title, verdict in finding.other_verdicts:
            assert f"{title} {verdict.sentence}" in text


def test_every_arm_and_class_is_in_every_section(content: Content, html: str) -> None:
    for arm in content.arms:  # gains, scores, external, the classes, confusion; and the probes
        expected = 3 + len(CLASSES) + 1 + bool(arm.real_vs_synthetic_auroc)
        assert html.count(f'data-arm="{arm.name}"') == expected
    for label in CLASSES:
        assert f"<b>{label}</b> against the other classes" in html
        assert f"<h3>{label}</h3>" in html


def rows_of(html: str, table: str) -> dict[str, str]:
    """The rows of a table of arms, by the name of the arm."""
    piece = html[html.index(f'id="{table}"') :]
    found = re.findall(
        r'<tr data-arm="(.*?)"[^>]*>(.*?)</tr>', piece[: piece.index("</table>")], re.S
    )
    return {unescape(name): row for name, row in found}


def values(row: str) -> list[float]:
    return [float(value) for value in re.findall(r'<data value="(.*?)"', row)]


def test_numbers_in_the_table_are_the_intervals(content: Content, html: str) -> None:
    rows = rows_of(html, "scores")
    for arm in content.arms:
        shown = [arm.scores[metric] for metric in arm_groups.SUMMARY_METRICS]
        assert values(rows[arm.name]) == [interval.value for interval in shown]
        ranges = re.findall(r'"range">(\[.*?\])<', rows[arm.name])
        assert ranges == [
            f"[{formatting.format_number(i.low)}, {formatting.format_number(i.high)}]"
            for i in shown
        ]
    assert len(rows) == len(content.arms)


def test_gains_stand_beside_real_only_and_the_control(content: Content, html: str) -> None:
    rows = rows_of(html, "gains")
    hybrid = next(arm for arm in content.arms if arm.over_duplicates.differences)
    assert hybrid.errors_removed
    expected = [hybrid.scores["macro_f1"], hybrid.gains_over_real["macro_f1"]]
    expected += [hybrid.over_duplicates.differences["macro_f1"]]
    expected += [hybrid.over_permuted.differences["macro_f1"], hybrid.errors_removed]
    assert values(rows[hybrid.name]) == [interval.value for interval in expected]
    text = plain(rows[hybrid.name])
    assert text.endswith("0.042")
    for scores in hybrid.scores_by_seed:
        assert formatting.format_number(scores["macro_f1"]) in text
    assert "reference" in plain(rows["real only"])


def test_what_is_not_claimed_has_no_word(content: Content, html: str) -> None:
    """Neither controls nor arms without a data set, and an arm of one seed only that."""
    words = ("better", "worse", "no difference shown", "not compared")
    for name, row in rows_of(html, "gains").items():
        arm = next(arm for arm in content.arms if arm.name == name)
        claimed = arm.generator and not arm.control
        assert any(word in plain(row) for word in words) == bool(claimed), name
    arms = [
        replace(a, over_real=replace(a.over_real, seeds=[0], p_holm=None))
        if a.over_real.seeds
        else a
        for a in content.arms
    ]
    rows = rows_of(page.render(replace(content, arms=arms)), "gains")
    hybrid = next(arm for arm in arms if arm.over_duplicates.differences)
    assert "one seed: not compared" in plain(rows[hybrid.name])


def comparing(content: Content, comparison: Comparison) -> Content:
    """The study with this difference to real only in every arm that has one."""
    arms = []
    for arm in content.arms:
        is_compared = arm.gains_over_real and not arm.control and not arm.left_out_source
        arms.append(replace(arm, over_real=comparison) if is_compared else arm)
    return replace(content, arms=arms)


NOT_SHOWN = Comparison({"macro_f1": Interval(0.01, -0.03, 0.05, 48)}, [0, 1], 0.4, 0.6, 0.0834)


def test_where_no_difference_is_shown_the_page_names_what_would_have_been_found(
    content: Content, html: str
) -> None:
    changed = page.render(comparing(content, NOT_SHOWN))
    named = "0.083 or more would have been found"
    for text in rows_of(changed, "gains").values():
        assert (f"no difference shown ({named})" in plain(text)) == ("no difference" in text)
    assert any(named in plain(text) for text in rows_of(changed, "gains").values())
    assert f"[{formatting.MINUS}0.030, 0.050], where {named} (Holm-adjusted p = 0.600)" in plain(
        changed
    )
    assert f"50% (replace), no difference shown ({named})" in section(changed, "compared")
    assert "Equivalent within" not in plain(html)


def test_an_arm_that_is_equivalent_is_called_so(content: Content) -> None:
    comparison = replace(NOT_SHOWN, margin=0.06, p_equivalent=0.01)
    html = page.render(comparing(content, comparison))
    row = rows_of(html, "gains")["stable_diffusion 50% (replace)"]
    assert '<span class="under equivalent">equivalent within ±0.06</span>' in row
    assert "would have been found" not in plain(row)
    text = plain(html)
    assert "equivalent within ±0.06 to training on real images only" in text
    assert "Equivalent within ±0.06: no difference is shown, and one as large as this" in text
    assert 'data-verdict="equivalent"' in html
    assert "Shaded: differences within ±0.06." in text
    assert "Shaded" not in plain(page.render(comparing(content, NOT_SHOWN)))


def test_the_page_says_in_one_line_how_intervals_between_seeds_were_made(
    content: Content, html: str
) -> None:
    assert "Between seeds: sd 0.031 over 40 trainings of 8 arms, whose common variance" in plain(
        html
    )
    alone = page.render(replace(content, spread_of_seeds=[]))
    assert "Between seeds" not in plain(alone)


def test_controls_and_fractions_stand_apart_and_are_called_so(content: Content, html: str) -> None:
    names = list(rows_of(html, "gains"))
    for arm in content.arms:
        assert ('class="tag">control<' in rows_of(html, "gains")[arm.name]) == bool(arm.control)
    own = [names.index(arm.name) for arm in content.arms if not arm_groups.group_key(arm)]
    apart = [names.index(arm.name) for arm in content.arms if arm_groups.group_key(arm)]
    assert max(own) < min(apart)
    for title in list(arm_groups.GROUP_TITLES.values())[1:]:
        assert title in plain(html)


def test_an_arm_says_what_it_was_trained_on(html: str) -> None:
    """The control of repeats, how many repeats: it has no synthetic images."""
    rows = rows_of(html, "gains")
    assert "200 real + 200 synthetic, 2 seeds, 31 s a run" in rows["stable_diffusion 50% (replace)"]
    assert "200 real + 200 repeated, 2 seeds, 31 s a run" in rows["duplicate real 50% (replace)"]


def test_external_scores_name_their_test_set_and_its_size(content: Content, html: str) -> None:
    rows = rows_of(html, "external")
    assert {name: values(row) for name, row in rows.items()} == {
        arm.name: [arm.external["shenzhen"]["macro_f1"].value] for arm in content.arms
    }
    assert "shenzhen N = 66" in plain(html)
    none = [replace(arm, external={}) for arm in content.arms]
    assert 'id="external"' not in page.render(replace(content, arms=none))


def test_probes_show_every_seed_and_chance(content: Content, html: str) -> None:
    rows = rows_of(html, "probes")
    assert list(rows) == [
        a.name for a in arm_groups.sort_arms(content.arms) if a.real_vs_synthetic_auroc
    ]
    text = plain(next(iter(rows.values())))
    for shown in ("0.880", "seed 0: 0.860", "seed 1: 0.900", "0.400", "0.120", "160"):
        assert shown in text


def section(html: str, table: str) -> str:
    """The text of a table."""
    piece = html[html.index(f'id="{table}"') :]
    return plain(piece[piece.index(">") + 1 : piece.index("</table>")])


def test_measures_have_encoders_side_by_side_with_baseline_and_n(html: str) -> None:
    text = section(html, "measures")
    assert "images of classifier embedded" in text
    assert "FD lower is better" in text
    assert "40.0 1 [36.0, 44.0] baseline 8.0 [6.7, 10.0] N = 200" in text
    assert "300.0 1 [270.0, 330.0]" in text
    assert "precision best near the baseline" in text
    assert "memorised" not in text
    assert "No number here is an FID ." in text
    assert "Measures of sd_lora by class" in plain(html)


def as_fid(measures: Sequence[Measure]) -> list[Measure]:
    """The same, with the embedded encoder as if it were that of FID."""
    names = {"FD(embedded)": "FID", "embedded": "inception"}
    return [
        replace(
            row,
            metric=names.get(row.metric, row.metric),
            encoder=names.get(row.encoder, row.encoder),
        )
        for row in measures
    ]


def test_an_fid_is_called_one_only_where_there_is_one(content: Content) -> None:
    fid = as_fid(content.pools[0].measures)
    html = page.render(replace(content, pools=[replace(content.pools[0], measures=fid)]))
    assert "No number here is an" not in html
    assert section(html, "measures").count("FD lower is better") == 1


def test_copies_are_shown_in_pairs_or_said_not_to_be_assessable(html: str) -> None:
    text = section(html, "copying")
    assert "memorised share lower is better stable_diffusion 0.01300" in text
    assert "C_T best near the baseline stable_diffusion – 1 – 1" in text
    assert "sd_lora" not in text
    assert "sd_lora : training set unknown: not assessable" in plain(html)
    assert html.count('<figure data-flagged="yes">') == 2
    assert html.count('<figure data-flagged="no">') == thumbnails.MAX_PAIRS - 2
    assert "0.50× the threshold, flagged" in html


def test_label_fidelity_stands_beside_real_images(html: str) -> None:
    text = section(html, "fidelity")
    assert "classifier trained on real images of site-bb" in text
    assert "62% [55%, 68%] N = 200 real 81% [75%, 86%] N = 220" in text
    assert "intended class (rows)" in plain(html)
    tested = section(html, "tested-on")
    assert "sd_lora 200 0.710 [0.660, 0.750] 0.730 [0.680, 0.770] –" in tested


def test_a_pool_without_a_class_stands_beside_real_images_of_its_own(content: Content) -> None:
    scores = {
        "accuracy": Interval(0.9, 0.8, 0.95, 150),
        "accuracy of real images": Interval(0.85, 0.8, 0.9, 70),
    }
    pools = [replace(content.pools[0], real_classifier_scores=scores)]
    text = section(page.render(replace(content, pools=pools)), "tested-on")
    assert re.search(r" 150 – 0\.900 \[0\.800, 0\.950\] [\w ]+ 0\.850 –", text)
    assert "Images that lack a class have no macro-F1" in text


def test_a_real_data_equivalent_says_where_the_curve_ends(content: Content) -> None:
    censored = "reaches above the largest number of real images"
    found = RealDataEquivalent(0.5, float("-inf"), float("inf"), 200, censored=censored)
    equivalents = [ArmEquivalent("x 50% (add)", found)]
    text = section(page.render(replace(content, equivalents=equivalents)), "equivalents")
    assert text.endswith(
        f"+0.50 [{formatting.MINUS}∞, +∞] 200 reaches above the largest number of real images"
    )


def test_the_learning_curve_needs_two_numbers_of_real_images(content: Content, html: str) -> None:
    assert "macro-F1 against the number of real training images" in html
    whole = [arm for arm in content.arms if arm.real_fraction == 1 and not arm.control]
    assert "there is no learning curve" in page.render(replace(content, arms=whole))


def test_repeats_of_real_images_do_not_stand_in_for_a_fraction_of_them(content: Content) -> None:
    found = figures.learning_curve_arms(content.arms)
    assert [(arm.real_images, arm.name) for arm in found] == [
        (200, "real only of 50% of the real images"),
        (400, "real only"),
    ]
    without = [arm for arm in content.arms if arm.real_fraction == 1]
    assert [arm.control for arm in figures.learning_curve_arms(without)] == ["duplicate", ""]


def test_shortcuts_left_out_sources_and_agreement_have_their_numbers(html: str) -> None:
    assert "class borders 0.410 [0.360, 0.460] 0.250 300" in section(html, "shortcuts")
    left_out = section(html, "left-out")
    assert "site-a 24 0.600 [0.500, 0.700] 0.700 [0.600, 0.800] −0.100" in left_out
    assert "0.800 [0.700, 0.900] −0.200 [−0.300, −0.100]" in left_out
    assert "classifier embedded 1.00 2" in section(html, "agreement")


def test_hostile_text_stays_text(content: Content) -> None:
    pool = content.pools[0]
    arm = next(arm for arm in content.arms if arm.over_duplicates.differences)
    table = pool.manifest.table.assign(prompt=HOSTILE)
    html = page.render(
        replace(
            content,
            title=HOSTILE,
            command=HOSTILE,
            failures=[HOSTILE],
            environment={HOSTILE: HOSTILE},
            acknowledged_confounding=[HOSTILE],
            pools=[
                replace(
                    pool,
                    generator=HOSTILE,
                    manifest=replace(pool.manifest, table=table),
                    measures=[replace(m, note=HOSTILE, encoder=HOSTILE) for m in pool.measures],
                    fidelity_classifier=HOSTILE,
                ),
                replace(content.pools[1], not_assessable_reason=HOSTILE),
            ],
            arms=[
                content.arms[0],
                replace(arm, generator=HOSTILE, external={HOSTILE: {}}),
                replace(content.arms[0], left_out_source=HOSTILE),
            ],
            equivalents=[
                ArmEquivalent(HOSTILE, replace(content.equivalents[0].equivalent, censored=HOSTILE))
            ],
            left_out_sources=[replace(content.left_out_sources[0], source=HOSTILE)],
            shortcuts=[replace(content.shortcuts[0], view=HOSTILE, note=HOSTILE)],
            encoder_agreement=[replace(content.encoder_agreement[0], first=HOSTILE)],
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


NOTHING: dict[str, Any] = {
    "measures": [],
    "diversity": [],
    "nearest_similarity": [],
    "closest": [],
    "appearance": [],
}


def test_a_pool_without_measurements_says_so(content: Content, bare: Content) -> None:
    more = {
        "label_fidelity": [],
        "confusion_matrix": [],
        "fidelity_classifier": "",
        "real_classifier_scores": {},
        "ledger": Ledger(),
        "finetuning": None,
    }
    pool = replace(content.pools[0], **NOTHING, **more)
    html = page.render(replace(bare, pools=[pool]))
    for table in ("measures", "copying", "nearest", "fidelity", "tested-on", "appearance"):
        assert "not measured" in section(html, table), table
    for table in ("diversity", "shortcuts", "probes", "equivalents"):
        assert "not measured" in section(html, table), table
    assert "closest pairs: not measured" in plain(html)
    assert 'id="left-out"' not in html


@pytest.fixture(scope="module")
def evaluation(content: Content) -> Evaluation:
    """One of the study's pools, as two folders that are compared without a study."""
    pool = content.pools[0]
    return Evaluation(
        title=HOSTILE,
        created="2026-01-01",
        command="xraysynth evaluate real=a synthetic=b",
        real=content.cohort,
        synthetic=pool.manifest,
        train=content.cohort,
        measures=pool.measures,
        diversity=pool.diversity,
        nearest_similarity=pool.nearest_similarity,
        not_assessable_reason="",
        closest=pool.closest,
        appearance=pool.appearance,
        limits=["The folders do not tell patients."],
    )


def test_the_page_of_two_folders_has_their_sizes_and_measures(evaluation: Evaluation) -> None:
    html = page.render_evaluation(evaluation)
    assert "<script" not in html
    assert "default-src 'none'" in html
    assert "synthetic stable_diffusion 2 2 2 2 8 training cohort" in section(html, "folders")
    assert "stable_diffusion 40.0 1 [36.0, 44.0]" in section(html, "measures")
    assert html.count("<figure data-flagged") == thumbnails.MAX_PAIRS
    assert "The folders do not tell patients." in html
    ids = Tags(html).values("id")
    assert len(ids) == len(set(ids))


def test_the_page_of_two_folders_without_training_images_says_so(evaluation: Evaluation) -> None:
    view = replace(evaluation, train=None, not_assessable_reason="no training images", **NOTHING)
    html = page.render_evaluation(view)
    assert "stable_diffusion : no training images" in plain(html)
    assert 'id="copying"' not in html
    assert "training" not in section(html, "folders")
    assert section(html, "measures").endswith("not measured")


def test_galleries_are_in_hash_order_and_survive_a_lost_file(
    content: Content, bare: Content, tmp_path: Path
) -> None:
    pool = content.pools[0].manifest
    shown = thumbnails.thumbnail_grid(pool, "covid19", group_name="stable_diffusion")
    hashes = [t.alt.rpartition(" ")[2] for t in shown]
    own = pool.table.loc[pool.table["label"] == "covid19", "sha256"]
    assert hashes == sorted(sha[:8] for sha in own)
    lost = thumbnails.thumbnail_grid(
        replace(pool, folder=tmp_path), "covid19", group_name="stable_diffusion"
    )
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
    curve = figures.mean_precision_curve(replace(content.arms[0], predictions=[table]), "a")
    assert curve is not None
    assert curve[:50].tolist() == [1.0] * 50
    assert curve[50:] == pytest.approx([2 / 3] * 50)
    absent = replace(content.arms[0], predictions=[table.assign(label="b")])
    assert figures.mean_precision_curve(absent, "a") is None


def test_modes_and_controls_are_told_apart_in_figures(content: Content) -> None:
    hybrid = next(arm for arm in content.arms if arm.over_duplicates.differences)
    modes = [replace(hybrid, mode=mode) for mode in ("replace", "add", "pretrain")]
    drawn = [arm_styles.arm_style(arm, [hybrid.generator]) for arm in modes]
    assert len({stroke.dashes for stroke in drawn}) == 3
    assert len({stroke.colour for stroke in drawn}) == 1
    duplicate = next(arm for arm in content.arms if arm.control == "duplicate")
    for control in (duplicate, replace(hybrid, control="permuted")):
        grey = arm_styles.arm_style(control, [hybrid.generator])
        assert grey.svg_style.startswith("stroke:var(--muted)")
    arms = [content.arms[0], *modes, duplicate, replace(hybrid, control="permuted")]
    names = [hybrid.generator]
    svg = figures.draw_score_by_fraction(arms, names[0], names, "macro_f1", "macro-F1")
    for mode in ("replace", "add", "pretrain"):
        assert f">{mode}<" in svg
    curve = figures.draw_learning_curve(arms, names, "macro_f1", "macro-F1")
    assert "3 hybrid arms" in curve


@pytest.mark.parametrize("dark", [False, True])
def test_colours_meet_wcag_aa(dark: bool) -> None:
    css = (templating.TEMPLATES / "page.css").read_text()
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
        (-0.5, formatting.MINUS + "0.500"),
        (-0.0001, "0.000"),
        (float("nan"), formatting.UNKNOWN_TEXT),
        (pd.NA, formatting.UNKNOWN_TEXT),
    ],
)
def test_numbers_read_well(value: Any, text: str) -> None:
    assert formatting.format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.423, "0.42 s"),
        (31.2, "31 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (None, formatting.UNKNOWN_TEXT),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert formatting.format_duration(seconds) == text


def test_refusals_are_shown_by_class_and_prompt(content: Content) -> None:
    text = plain(page.render(content))
    assert "by class and by prompt" in text
    assert "a refused prompt" in text
    assert "75%" in text
    none = [replace(pool, refusals=Refusals()) for pool in content.pools]
    assert "by class and by prompt" not in plain(page.render(replace(content, pools=none)))
