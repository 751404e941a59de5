"""The numbers of one generator in the comparison of generators: one column per group of rows."""

from collections.abc import Sequence
from dataclasses import replace

from xraysynth.generation.generators.base import FineTuning
from xraysynth.generation.pool import FINAL_OUTCOMES
from xraysynth.report import arm_groups, costs, findings, machines
from xraysynth.report.content import Arm, Content, PoolResults
from xraysynth.report.costs import NOT_APPLICABLE, NOT_MEASURED, UNITS, Quantity
from xraysynth.report.formatting import format_percent, is_finite

CARD_TITLES = {
    "title": "what it is",
    "access": "access",
    "licence": "licence",
    "offline": "offline",
    "seeds_reproducible": "seeds reproducible",
    "prompt_control": "prompt control",
    "fine_tunable": "fine-tunable",
    "hardware": "hardware",
    "set_up": "set-up",
    "price": "price",
}
"""Titles of the fields of a generator's card."""

LEDGER_FIELDS = {
    "parameters": ("parameters", "count"),
    "trained_parameters": ("parameters fine-tuned", "count"),
    "bytes_on_disk": ("weights on disk", "MB"),
    "device": ("device", ""),
    "engine": ("engine", ""),
    "dtype": ("precision", ""),
    "steps": ("denoising steps", "count"),
    "energy_method": ("energy is", ""),
}
"""Titles and units of a ledger's entries on the model; entries without a unit are words."""

OUTCOME_TITLES = {"image": "images", "possibly_billed": "possibly billed"}

QuantitiesByTitle = dict[str, Quantity]
"""A column: quantities by the title of their row."""


def utility_column(content: Content, pool: PoolResults) -> QuantitiesByTitle:
    """Returns gains, distance, label fidelity, memorisation and the usable fraction of a generator.

    Args:
        content: The content of the page, with all arms.
        pool: The generator's images and measures.
    """
    arms = arm_groups.sort_arms(content.arms)
    hybrids, synthetic_only = findings.arms_of_generator(arms, pool.generator)
    distance = findings.first_measure(pool, findings.FRECHET_PREFIXES)
    return {
        "macro-F1 over real only, best hybrid": _best_gain(hybrids),
        "macro-F1 over real only, synthetic only": _best_gain(synthetic_only),
        "distance from real images, beyond that among them": Quantity.from_interval(
            distance.excess if distance else None,
            "",
            note=f"{distance.metric}, lower is better" if distance else "",
        ),
        "of the intended class": _fidelity_quantity(pool, len(content.classes)),
        "flagged as copies": _memorised_fraction(pool),
        "usable": costs.usable_share(pool),
    }


def _best_gain(arms: Sequence[Arm]) -> Quantity:
    """Returns the largest gain of some arms, with its arm and verdict as a note."""
    compared = [arm for arm in arms if findings.PRIMARY_METRIC in arm.gains_over_real]
    if not compared:
        return Quantity(text=NOT_MEASURED)
    best = max(compared, key=findings.gain_over_real)
    gain = best.gains_over_real[findings.PRIMARY_METRIC]
    note = best.over_real.primary.verdict_text
    if best.synthetic_fraction < 1:
        note = f"{best.synthetic_fraction:.0%} ({best.mode}), {note}"
    return Quantity.from_interval(gain, "F1", note=note)


def _fidelity_quantity(pool: PoolResults, classes: int) -> Quantity:
    """Returns the label fidelity, with chance and real images as a note."""
    fidelity = findings.overall_fidelity(pool)
    if fidelity is None:
        return Quantity(text=NOT_MEASURED)
    note = f"chance {format_percent(1 / classes)}"
    if is_finite(fidelity.real):
        note = f"real images {format_percent(fidelity.real)}, {note}"
    return Quantity.from_interval(fidelity, "share", note=note)


def _memorised_fraction(pool: PoolResults) -> Quantity:
    """Returns the fraction of images with a memorisation flag, or why it cannot be assessed."""
    if pool.not_assessable_reason:
        reason = pool.not_assessable_reason.removesuffix(": not assessable")
        return Quantity(text="not assessable", note=reason)
    measure = findings.first_measure(pool, findings.MEMORISATION_PREFIXES)
    return Quantity.from_interval(measure, "share")


def resource_column(pool: PoolResults) -> QuantitiesByTitle:
    """Returns the refusal rate, time and memory of a generator."""
    return {"refused": _refusal_rate(pool)} | machines.measured_performance(pool)


def _refusal_rate(pool: PoolResults) -> Quantity:
    """Returns the fraction of answers that were refusals; requests without an answer do not count."""
    answered = 0
    for outcome in FINAL_OUTCOMES:
        answered += pool.outcomes.get(outcome, 0)
    rate = pool.outcomes.get("refused", 0) / answered if answered else None
    return Quantity.from_value(rate, "share", n=answered)


def cost_column(content: Content, pool: PoolResults) -> QuantitiesByTitle:
    """Returns the costs of 1,000 images, of the fine-tuning and of one usable image, in each unit.

    Args:
        content: The content of the page, with all pools and the price of a machine hour.
        pool: The generator's images and ledger.
    """
    pool_costs = costs.compute_costs(pool, content.machine_usd_per_hour)
    usable = costs.usable_share(pool)
    sharing = ", ".join(_generators_sharing_weights(content, pool))
    rows: QuantitiesByTitle = {}
    for unit, name in UNITS.items():
        finetuning = pool_costs[unit].finetuning
        if sharing and finetuning.value is not None:
            finetuning = replace(finetuning, note=f"paid once for this and {sharing}")
        rows[f"1,000 images, {name}"] = pool_costs[unit].for_images(1000)
        rows[f"fine-tuning, once, {name}"] = finetuning
        cost = costs.cost_per_usable_image(pool_costs[unit].total, usable)
        rows[f"one usable image, {name}"] = cost
    return rows


def _generators_sharing_weights(content: Content, pool: PoolResults) -> list[str]:
    """Returns the other generators that use the weights of the same fine-tuning."""
    if not pool.finetuning or not pool.finetuning.weights:
        return []
    names = []
    for other in content.pools:
        if other is pool or not other.finetuning:
            continue
        if other.finetuning.weights == pool.finetuning.weights:
            names.append(other.generator)
    return names


def ledger_column(pool: PoolResults, usd_per_hour: float | None) -> QuantitiesByTitle:
    """Returns answers by outcome, requests, and the cost of 1,000 images without the fine-tuning.

    Args:
        pool: The generator's images and ledger.
        usd_per_hour: Price of a machine hour; None if it was not set.
    """
    ledger = pool.ledger
    possible_usd = ledger.possible_usd or None
    rows = {
        "answers": Quantity(text=_count_outcomes(pool) or NOT_MEASURED),
        "requests, retries included": Quantity.from_value(ledger.attempts, "count"),
        "time per image, 95th percentile": Quantity.from_value(ledger.seconds_p95, "s"),
        "loading the model": Quantity.from_value(ledger.load_seconds, "s"),
        "possibly billed besides": Quantity.from_value(possible_usd, "USD"),
    }
    rows |= _finetuning_quantities(pool.finetuning)
    pool_costs = costs.compute_costs(pool, usd_per_hour)
    for unit, name in UNITS.items():
        title = f"1,000 images without fine-tuning, {name}"
        rows[title] = pool_costs[unit].generation.scale_by(1000)
    return rows


def _count_outcomes(pool: PoolResults) -> str:
    """Returns the number of requests by outcome: "400 images, 3 refused"."""
    counts = []
    for outcome, count in pool.outcomes.items():
        counts.append(f"{count} {OUTCOME_TITLES.get(outcome, outcome)}")
    return ", ".join(counts)


def _finetuning_quantities(finetuning: FineTuning | None) -> QuantitiesByTitle:
    """Returns steps and peak memory of the fine-tuning; without one they do not apply."""
    if finetuning is None:
        not_applicable = Quantity(text=NOT_APPLICABLE)
        return dict.fromkeys(["fine-tuning, steps", "fine-tuning, peak memory"], not_applicable)
    return {
        "fine-tuning, steps": Quantity.from_value(finetuning.steps, "count"),
        "fine-tuning, peak memory": machines.peak_memory(finetuning.ledger),
    }


def card_column(pool: PoolResults) -> QuantitiesByTitle:
    """Returns the facts on a generator's card as words."""
    rows = {}
    for name, title in CARD_TITLES.items():
        value = getattr(pool.card, name)
        if isinstance(value, bool):
            value = "yes" if value else "no"
        rows[title] = Quantity(text=str(value))
    return rows


def model_column(pool: PoolResults) -> QuantitiesByTitle:
    """Returns a ledger's entries on the model."""
    values = pool.ledger.known_values
    if pool.ledger.bytes_on_disk is not None:
        values["bytes_on_disk"] = pool.ledger.bytes_on_disk / 1e6
    rows = {}
    for name, (title, unit) in LEDGER_FIELDS.items():
        if name not in values:
            continue
        if unit:
            rows[title] = Quantity.from_value(values[name], unit)
        else:
            rows[title] = Quantity(text=str(values[name]))
    return rows
