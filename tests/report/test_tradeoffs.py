"""What generators cost, what a gain costs, and what is known of small machines."""

import math
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from xraysynth.config import Study
from xraysynth.errors import ConfigError
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.generation.generators.base import FineTuning
from xraysynth.generation.ledger import Ledger
from xraysynth.report import cost_verdict, costs, machines, page, pareto, tradeoffs
from xraysynth.report.content import Arm, Comparison, Content, PoolResults

SERVICE = Ledger(
    images=170,
    seconds_p50=14.0,
    seconds_per_image=4.0,
    images_per_hour=900.0,
    cost_usd=3.4,
    possible_usd=0.05,
    device="OpenAI",
    peak_rss_mb=300.0,
    energy_kwh_per_1000=0.001,
    cpu_cores=2,
)
H200 = {"device": "cuda", "gpu": "NVIDIA H200", "gpu_memory_mb": 143771, "cpu_cores": 16}


@pytest.fixture
def plain(content: Content) -> PoolResults:
    return content.pools[0]


@pytest.fixture
def taught(content: Content) -> PoolResults:
    return content.pools[1]


@pytest.fixture
def paid(content: Content) -> PoolResults:
    outcomes = {"image": 170, "refused": 30}
    api = replace(content.pools[1].card, access="API", offline=False)
    return replace(content.pools[1], card=api, ledger=SERVICE, finetuning=None, outcomes=outcomes)


def gaining(arm: Arm, value: float, half: float, *, p_holm: float = 0.01, **changes: Any) -> Arm:
    gain = Interval(value, value - half, value + half, 48)
    over_real = replace(arm.over_real, differences={"macro_f1": gain}, p_holm=p_holm)
    return replace(arm, over_real=over_real, **{"over_duplicates": Comparison()} | changes)


def with_gains(content: Content, value: float, half: float = 0.05, **changes: Any) -> Content:
    arms = [
        gaining(arm, value, half, **changes) if arm.synthetic_fraction and not arm.control else arm
        for arm in content.arms
    ]
    return replace(content, arms=arms)


def rows(groups: list[tradeoffs.QuantityGroup], generator: int = 0) -> dict[str, costs.Quantity]:
    return {title: cells[generator] for group in groups for title, cells in group.rows}


def test_fine_tuning_is_spread_over_the_pool_and_shown_apart(taught: PoolResults) -> None:
    found = costs.compute_costs(taught, 3.6)
    assert found["s"].generation.value == 0.5
    assert found["s"].finetuning.value == 100
    assert found["s"].total.value == pytest.approx(0.5 + 100 / 400)
    assert found["kWh"].total.value == pytest.approx(0.002 / 1000 + 0.004 / 400)
    assert found["USD"].total.value == pytest.approx(0.75 * 0.001)
    assert (found["s"].total.how, found["kWh"].total.how) == ("measured", "estimated")
    assert found["USD"].total.how == "estimated"


def test_a_fine_tuning_is_paid_whole_however_few_images_are_drawn(
    content: Content, taught: PoolResults
) -> None:
    found = costs.compute_costs(taught, 3.6)
    assert found["s"].for_images(10).value == pytest.approx(10 * 0.5 + 100)
    assert found["USD"].for_images(10).value == pytest.approx(0.105)
    cells = rows(tradeoffs.compare_generators(content), 1)
    assert cells["1,000 images, time"].value == pytest.approx(1000 * 0.5 + 100)
    share = costs.usable_share(taught).value
    assert cells["one usable image, time"].value == pytest.approx((0.5 + 100 / 400) / share)


def test_the_price_of_a_small_arm_has_the_whole_fine_tuning_in_it(
    content: Content, taught: PoolResults
) -> None:
    for point in costs.arm_costs(with_gains(content, 0.1)):
        once = 100 if point.arm.generator == taught.generator else 0
        images = point.arm.synthetic_images
        assert point.all_images["s"].value == pytest.approx(images * 0.5 + once)
        assert point.per_f1_point["s"].value == pytest.approx((images * 0.5 + once) / 10)
        assert point.per_thousand["s"].value == pytest.approx(1000 * 0.5 + once)


def test_a_fine_tuning_that_two_generators_share_is_said_to_be_paid_once(content: Content) -> None:
    once = replace(content.pools[1].finetuning or FineTuning(), weights="w")
    pools = [replace(pool, finetuning=once) for pool in content.pools]
    shared = rows(tradeoffs.compare_generators(replace(content, pools=pools)), 1)
    names = [pool.generator for n, pool in enumerate(pools) if n != 1]
    assert shared["fine-tuning, once, time"].note == f"paid once for this and {', '.join(names)}"
    assert rows(tradeoffs.compare_generators(content), 1)["fine-tuning, once, time"].note == ""


def test_the_share_of_refusals_is_of_answers(content: Content, paid: PoolResults) -> None:
    silent = replace(paid, outcomes={"image": 40, "refused": 10, "failed": 50})
    found = rows(tradeoffs.compare_generators(replace(content, pools=[silent])))["refused"]
    assert (found.value, found.n) == (pytest.approx(0.2), 50)


def test_what_is_known_in_part_has_no_total(taught: PoolResults) -> None:
    assert taught.finetuning is not None
    unmetered = FineTuning(ledger=replace(taught.finetuning.ledger, energy_kwh=None))
    found = costs.compute_costs(replace(taught, finetuning=unmetered), None)["kWh"]
    assert found.generation.value == pytest.approx(2e-6)
    assert found.total.value is None
    assert found.total.text == costs.NOT_MEASURED


def test_weights_that_were_fine_tuned_elsewhere_are_said_to_be(plain: PoolResults) -> None:
    found = costs.compute_costs(
        replace(plain, ledger=replace(plain.ledger, trained_parameters=9)), None
    )["s"]
    assert found.finetuning.text == costs.NOT_MEASURED
    assert "elsewhere" in found.total.note


@pytest.mark.parametrize(("price", "value"), [(None, None), (0.0, 0.0), (7.2, 0.001)])
def test_a_machine_has_the_price_it_is_given(
    plain: PoolResults, price: float | None, value: float | None
) -> None:
    found = costs.compute_costs(plain, price)["USD"].total
    assert found.value == value
    assert found.text == ("" if price is not None else costs.NOT_APPLICABLE)


def test_a_service_costs_what_its_answers_say(paid: PoolResults) -> None:
    found = costs.compute_costs(paid, 100.0)
    assert found["USD"].total.value == pytest.approx(3.4 / 170)
    assert "$0.05" in found["USD"].total.note
    assert found["kWh"].total.text == costs.NOT_MEASURED
    silent = replace(paid, ledger=replace(SERVICE, cost_usd=0.0))
    assert costs.compute_costs(silent, 100.0)["USD"].total.text == costs.NOT_MEASURED


def test_archived_images_have_no_cost_of_ours(plain: PoolResults) -> None:
    archive = replace(plain, card=replace(plain.card, access="archive"))
    found = costs.compute_costs(archive, 1.0)
    assert {one.total.text for one in found.values()} == {costs.NOT_MEASURED}


def test_usable_is_of_the_class_and_no_copy(plain: PoolResults, taught: PoolResults) -> None:
    found = costs.usable_share(plain)
    assert (found.value, found.low, found.high, found.n) == (0.61, 0.54, 0.67, 200)
    assert (found.how, found.note) == ("measured", "")
    unlooked = costs.usable_share(taught)
    assert unlooked.value == 0.61
    assert "not assessed" in unlooked.note
    assert costs.usable_share(replace(plain, usable_share=None)).text == costs.NOT_MEASURED


def test_a_usable_image_costs_more_the_fewer_there_are() -> None:
    cost = costs.Quantity.from_value(2.0, "s")
    found = costs.cost_per_usable_image(cost, costs.Quantity(0.5, 0.25, 0.8, 10, "share"))
    assert (found.value, found.low, found.high) == (4, 2.5, 8)
    assert costs.cost_per_usable_image(cost, costs.Quantity(0.1, 0.0, 0.2, 10)).high == math.inf
    assert (
        costs.cost_per_usable_image(cost, costs.Quantity(0.0, 0.0, 0.1, 10)).text
        == "none is usable"
    )


def test_a_point_costs_the_images_over_the_gain(content: Content) -> None:
    point = costs.arm_costs(with_gains(content, 0.1))[0]
    assert point.arm.synthetic_images == 200
    assert point.all_images["s"].value == pytest.approx(200 * 0.5)
    found = point.per_f1_point["s"]
    assert found.value == pytest.approx(100 / 10)
    assert (found.low, found.high) == (pytest.approx(100 / 15), pytest.approx(100 / 5))
    assert point.per_f1_point["USD"].text == costs.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("gain", "half", "p"), [(0.04, 0.05, 0.01), (-0.2, 0.05, 0.01), (0.1, 0.05, 0.2)]
)
def test_without_a_gain_no_point_has_a_cost(
    content: Content, gain: float, half: float, p: float
) -> None:
    for point in costs.arm_costs(with_gains(content, gain, half, p_holm=p)):
        assert {cell.text for cell in point.per_f1_point.values()} == {costs.NO_GAIN}
        assert point.all_images["s"].value


def test_controls_and_fractions_are_no_choice(content: Content) -> None:
    names = [point.arm.name for point in costs.arm_costs(content)]
    assert names
    assert not [
        name for name in names if "permuted" in name or "duplicate" in name or "of 50" in name
    ]


def test_the_verdict_names_the_cheapest_gain_or_says_there_is_none(content: Content) -> None:
    def said(shown: Content) -> str:
        found = cost_verdict.cheapest_gain(costs.arm_costs(shown))
        return found.sentence if found else ""

    assert (
        said(with_gains(content, 0.02))
        == "no generator shows a gain over real images, so no cost of a gain can be given"
    )
    assert said(replace(content, arms=content.arms[:1])) == ""
    gains = with_gains(content, 0.1)
    assert "stable_diffusion 50% (replace): macro-F1 +0.100 [0.050, 0.150]" in said(gains)
    assert "1 min 40 s (200 synthetic images), or 10 s per 0.01" in said(gains)
    equal = with_gains(
        content,
        0.1,
        over_duplicates=Comparison({"macro_f1": Interval(0.01, -0.1, 0.1, 48)}, [0, 1], 0.8, 0.8),
    )
    assert "repeated real images, which cost nothing, are not shown to do worse" in said(equal)
    assert "repeated" not in said(gains)
    lost = replace(gains, pools=[replace(gains.pools[0], ledger=Ledger()), gains.pools[1]])
    assert "is that of sd_lora" in said(lost)
    assert "cost of the images of stable_diffusion is not known" in said(lost)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 0.1), (2, 0.3), (3, 0.2)], [0, 1]),
        ([(1, 0.1), (1, 0.2)], [1]),
        ([(1, 0.1), (2, 0.1)], [0]),
        ([(1, -0.1), (2, 0.0)], []),
        ([(1, 0.1), (1, 0.1)], [0, 1]),
    ],
)
def test_the_front_is_what_nothing_cheaper_equals(
    points: list[tuple[float, float]], expected: list[int]
) -> None:
    assert pareto.pareto_front(points) == expected


def many(content: Content, count: int) -> Content:
    """The same gains from so many generators."""
    hybrid = next(arm for arm in content.arms if arm.generator and arm.synthetic_fraction == 0.5)
    names = [f"a_generator_of_rank_{n}" for n in range(count)]
    arms = [content.arms[0]]
    for n, name in enumerate(names):
        arms += [
            gaining(replace(hybrid, generator=name, mode=m), 0.1, 0.05 * n)
            for m in ("replace", "add")
        ]
    pools = [replace(content.pools[0], generator=name) for name in names]
    return replace(content, arms=arms, pools=pools)


@pytest.mark.parametrize("count", [1, 8])
def test_labels_of_equal_gains_lie_apart(content: Content, count: int) -> None:
    points = costs.arm_costs(many(content, count))
    svg = pareto.draw_pareto_plot(points, [f"a_generator_of_rank_{n}" for n in range(count)], "s")
    labels = re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>(a_gen[^<]* 50%.*?)</text>', svg)
    assert len(labels) == 2 * count
    heights = sorted(float(y) for y, _ in labels)
    assert all(b - a > 12 for a, b in pairwise(heights))
    assert max(len(name) for _, name in labels) <= 24
    assert f"Gain in macro-F1 of {2 * count} arms against seconds" in svg


def test_a_plot_without_values_says_why(content: Content, paid: PoolResults) -> None:
    html = page.render(content)
    assert "There is no plot against dollars, because it is not known for any arm, or is 0." in html
    assert html.count("Gain in macro-F1 of") == 2
    assert "the price of a machine hour was not set" in plain_text(html)
    pools = [replace(content.pools[0], ledger=Ledger()), paid]
    served = plain_text(page.render(replace(content, pools=pools, machine_usd_per_hour=2.5)))
    assert "The plot against dollars lacks stable_diffusion: the cost is not known or 0." in served
    assert "There is no plot against energy" in served
    assert "the time at $2.50 an hour" in served


def plain_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_table_keeps_unknown_apart_from_nothing(content: Content, paid: PoolResults) -> None:
    shown = replace(content, pools=[replace(content.pools[0], ledger=Ledger(), outcomes={}), paid])
    unknown, service = (rows(tradeoffs.compare_generators(shown), n) for n in range(2))
    for name in ("1,000 images, time", "peak memory", "refused", "time per image, median"):
        assert (unknown[name].value, unknown[name].text) == (None, costs.NOT_MEASURED), name
    assert (service["refused"].value, service["refused"].n) == (0.15, 200)
    assert service["peak memory"].text == costs.NOT_APPLICABLE
    assert service["1,000 images, dollars"].value == pytest.approx(20)
    assert service["flagged as copies"].text == "not assessable"
    assert service["machine"].text == "OpenAI"


def test_every_number_of_the_page_is_in_the_file(content: Content) -> None:
    table = tradeoffs.tradeoffs_table(replace(with_gains(content, 0.1), machine_usd_per_hour=1.0))
    assert list(table) == tradeoffs.TRADEOFF_COLUMNS
    assert table["value"].notna().all()
    assert set(table["how"]) == {"measured", "estimated"}
    assert not table.duplicated(["generator", "arm", "quantity"]).any()
    found = table.set_index(["generator", "arm", "quantity"])
    row = found.loc[
        ("stable_diffusion", "stable_diffusion 50% (replace)", "a point of macro-F1, time")
    ]
    assert (row["value"], row["unit"], row["how"]) == (pytest.approx(10), "s", "measured")
    assert found.loc[("sd_lora", "", "1,000 images, time"), "value"] == pytest.approx(600)
    assert found.loc[("sd_lora", "", "1,000 images without fine-tuning, time"), "value"] == 500


def on(pool: PoolResults, number: int, **ledger: Any) -> dict[str, costs.Quantity]:
    return machines.expected_performance(
        replace(pool, ledger=replace(pool.ledger, **ledger)), machines.MACHINE_PROFILES[number]
    )


def test_a_small_cpu_is_measured_only_on_a_small_cpu(taught: PoolResults) -> None:
    found = on(taught, 0)
    assert (found["fits in memory"].text, found["fits in memory"].how) == ("yes", "measured")
    assert (found["time per image, median"].value, found["fine-tuning"].value) == (0.42, 100)
    assert found["time per image, median"].note == "CPU, 2 cores"
    large = on(taught, 0, cpu_cores=16)
    assert large["time per image, median"].text == machines.NOT_KNOWN
    assert large["images per hour"].value is None
    assert large["fits in memory"].how == "estimated"
    assert "16 cores" in large["fits in memory"].note
    unnamed = on(taught, 0, cpu_cores=None)
    assert unnamed["time per image, median"].text == machines.NOT_KNOWN
    assert on(taught, 0, peak_rss_mb=9000.0)["fits in memory"].text == "no"


def test_a_small_gpu_is_measured_only_on_a_small_gpu(plain: PoolResults) -> None:
    small = {"device": "cuda", "gpu": "RTX 3070", "gpu_memory_mb": 8590, "peak_vram_mb": 5000.0}
    found = on(plain, 1, **small)
    assert (found["fits in memory"].text, found["fits in memory"].how) == ("yes", "measured")
    assert found["time per image, median"].value == 0.42
    assert "RTX 3070" in found["time per image, median"].note
    assert on(plain, 0, **small)["time per image, median"].text == machines.NOT_KNOWN
    large = on(plain, 1, **H200, peak_vram_mb=5000.0)
    assert (large["fits in memory"].text, large["fits in memory"].how) == ("yes", "estimated")
    assert large["time per image, median"].text == machines.NOT_KNOWN
    assert on(plain, 1, **H200, peak_vram_mb=7500.0)["fits in memory"].text == machines.NOT_KNOWN


def test_from_a_cpu_only_memory_is_estimated_for_a_gpu(plain: PoolResults) -> None:
    found = on(plain, 1)
    assert (found["fits in memory"].text, found["fits in memory"].how) == ("yes", "estimated")
    assert found["time per image, median"].text == machines.NOT_KNOWN
    assert found["fine-tuning"].text == costs.NOT_APPLICABLE
    unknown = on(plain, 1, peak_rss_mb=None)
    assert unknown["fits in memory"].text == machines.NOT_KNOWN
    heavy = on(plain, 1, peak_rss_mb=50_000.0, parameters=12_000_000_000)["fits in memory"]
    assert (heavy.text, heavy.how) == ("no", "estimated")
    assert "24.0 GB" in heavy.note


def test_a_service_runs_from_any_machine(paid: PoolResults) -> None:
    for profile in machines.MACHINE_PROFILES:
        found = machines.expected_performance(paid, profile)
        assert found["fits in memory"].text == "yes"
        assert (found["time per image, median"].value, found["fine-tuning"].value) == (14, None)


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf])
def test_a_machine_hour_costs_nothing_or_more(price: float) -> None:
    assert Study(machine_usd_per_hour=0.0).machine_usd_per_hour == 0
    with pytest.raises(ConfigError, match="machine_usd_per_hour must be 0 or more"):
        Study(machine_usd_per_hour=price)
