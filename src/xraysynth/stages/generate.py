"""Prompts to pools: each selected generator makes images of every class.

Reads the cohort (to know how many images training needs, unless generate.per_class says so), the
prompt bank and the generators. A pool is a folder below paths.output/pools named by what made it;
it only grows, can be killed at any moment, and can be split over processes by generate.shard_index
and generate.shard_count.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from xraysynth import pool, tracking
from xraysynth.config import Config
from xraysynth.errors import ConfigError, PoolError, PrivacyError
from xraysynth.generators.base import Generator, Paid
from xraysynth.job import Job
from xraysynth.manifest import Manifest
from xraysynth.mixing import required_per_class
from xraysynth.prompts import requests
from xraysynth.recipes import MixMode
from xraysynth.seeds import digest, identity
from xraysynth.stages import finetune, prepare
from xraysynth.store import ImageStore, exclusive

SECTIONS = ("classes", "generator", "prompts", "generate", "data", "tracking")
"""The options that this stage reads, besides those of prepare."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Fill the pool of every selected generator, or find it filled."""
    if not config.generator:
        raise ConfigError(
            "generator must name at least one; for example generator=stable_diffusion"
        )
    per_class = counts(config, overrides)
    if config.generate.dry_run:
        return {"stage": "generate", "state": "done", "estimates": _estimates(config, per_class)}
    finetune.require_taught(config, overrides)
    results = {
        name: _fill(config, generator, per_class, overrides)
        for name, generator in finetune.generators(config, overrides).items()
    }
    return {"stage": "generate", "state": "done", "pools": results}


def counts(config: Config, overrides: Sequence[str]) -> dict[str, int]:
    """Images of each class that each pool must hold."""
    if config.generate.per_class is not None:
        return dict.fromkeys(config.classes, config.generate.per_class)
    cohort, _ = prepare.cohort(config, overrides)
    # A share of 0 needs no pool; whoever asks for one all the same wants one for synthetic-only.
    share, mode = (
        (config.data.share, config.data.mode) if config.data.share else (1, MixMode.replace)
    )
    return required_per_class(
        cohort.split("train"), share=share, mode=mode, n_pools=max(1, len(config.generator))
    )


def store(config: Config, generator: Generator) -> ImageStore:
    """Where this generator's pool lies under this configuration."""
    parent = config.output / "pools"
    return pool.pool_store(generator, config.prompts, seed=config.generate.seed, parent=parent)


def pools(
    config: Config, overrides: Sequence[str], per_class: Mapping[str, int]
) -> dict[str, Manifest]:
    """The verified pools of the selected generators; an error says how to make a missing one."""
    command = " ".join(["xraysynth generate", *overrides])
    return {
        name: pool.read(store(config, g), config.classes, per_class=per_class, command=command)
        for name, g in finetune.generators(config, overrides).items()
    }


def job(config: Config, generator: Generator, per_class: Mapping[str, int]) -> Job:
    """The job that fills a pool up to these counts."""
    decides = {
        "generator": identity(generator),
        "prompts": digest(asdict(config.prompts)),
        "seed": config.generate.seed,
        "per_class": dict(per_class),
        "shard": [config.generate.shard_index, config.generate.shard_count],
    }
    return Job("generate", decides, config.output, leaves=(store(config, generator).folder,))


def _fill(
    config: Config, generator: Generator, per_class: Mapping[str, int], overrides: Sequence[str]
) -> dict[str, Any]:
    this = job(config, generator, per_class)
    return this.run(
        lambda: _work(config, generator, per_class, this),
        config=config.plain(),
        overrides=overrides,
    )


def _work(
    config: Config, generator: Generator, per_class: Mapping[str, int], this: Job
) -> dict[str, Any]:
    place = store(config, generator)
    shard = (config.generate.shard_index, config.generate.shard_count)
    wanted = list(requests(config.prompts, per_class, seed=config.generate.seed))
    with _ready(config, generator, place) as able, tracking.tracked(config, this) as run:
        pool.fill(place, able, wanted, shard=shard)
        manifest, facts = place.manifest(), pool.facts(place)
        if not len(manifest):
            reasons = sorted({str(fact["reason"]) for fact in facts})
            raise PoolError(f"{generator.name} made no image at all: {'; '.join(reasons)}")
        summary = {
            "pool": str(place.folder),
            "images": len(manifest),
            "outcomes": pool.outcomes(place),
            "ledger": pool.ledger(place),
        }
        lora = getattr(generator, "taught_by", None) or ""
        tracking.log_pool(run, manifest, place, summary, lora=lora)
    return summary


@contextmanager
def _ready(config: Config, generator: Generator, place: ImageStore) -> Iterator[Generator]:
    """The generator; one that costs money works alone on its pool, knowing what was spent on it."""
    if not isinstance(generator, Paid):
        yield generator
        return
    _require_free_sources(config, generator)
    if config.generate.shard_count > 1:
        raise ConfigError(
            f"generate.shard_count={config.generate.shard_count}: the budget of generator "
            f"{generator.name} holds within one process; use one shard and a higher "
            f"generator.{generator.name}.concurrency"
        )
    generator.check()
    place.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(place.folder / ".budget.lock"):
        yield generator.continued(pool.spent_usd(place), folder=place.folder)


def _estimates(config: Config, per_class: Mapping[str, int]) -> dict[str, Any]:
    """What the paid generators would cost; nothing is called and nothing is written."""
    wanted = list(requests(config.prompts, per_class, seed=config.generate.seed))
    found = {}
    for name, generator in config.generators().items():
        if isinstance(generator, Paid):
            estimate = generator.estimate(wanted)
            print(f"{name}\n{estimate}", file=sys.stderr, flush=True)
            found[name] = asdict(estimate)
    if not found:
        raise ConfigError(
            "generate.dry_run=true estimates paid services, and none is selected; for example "
            "generator=dalle"
        )
    return found


def _require_free_sources(config: Config, generator: Generator) -> None:
    """Nothing that knows of credentialed data talks to a service outside, not even a count."""
    bound = [source.name for source in config.sources() if source.credentialed]
    if bound:
        raise PrivacyError(
            f"generator {generator.name} sends prompts to a service outside, and source "
            f"{', '.join(bound)} is under a data use agreement that lets nothing of it reach third "
            "parties. Make the pool without that source (source=simulated generate.per_class=N): "
            "prompts come from the prompt bank alone, so it is the same pool, and found again here"
        )
