"""Prompts to pools: each selected generator makes images of every class.

Reads the cohort (to know how many images training needs, unless generate.per_class says so), the
prompt bank and the generators. A pool is a folder below paths.output/pools named by what made it; it only
grows and can be killed at any moment. In 64 parts, on as many machines as the launcher has:
xraysynth generate -m 'shard.index=range(0,64)' shard.count=64 hydra/launcher=slurm; over the GPUs of
one machine: torchrun --nproc_per_node 8 --no-python xraysynth generate …
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.errors import ConfigError, PoolError, PrivacyError
from xraysynth.files import exclusive
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, Paid
from xraysynth.generation.prompts import requests
from xraysynth.jobs import distributed, shards
from xraysynth.jobs.job import Job
from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest
from xraysynth.records import Request, to_json
from xraysynth.seeds import digest, identity
from xraysynth.stages import finetune, prepare
from xraysynth.training.mixing import required_per_class
from xraysynth.training.recipe import MixMode

SECTIONS = ("classes", "generator", "prompts", "generate", "shard", "data", "tracking")
"""The options that this stage reads, besides those of prepare."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Fill the pool of every selected generator, or this shard of it, or find it filled."""
    if not config.generator:
        raise ConfigError(
            "generator must name at least one; for example generator=stable_diffusion"
        )
    per_class = counts(config, overrides)
    if config.generate.dry_run:
        return {"stage": "generate", "state": "done", "estimates": _estimates(config, per_class)}
    finetune.require_taught(config, overrides)
    found = finetune.generators(config, overrides)
    own = shards.own(config.shard)
    for generator in found.values():
        _require_one_process(generator, own)
    fillings = {n: _Filling(config, g, per_class, overrides) for n, g in found.items()}
    results = {name: filling.of(own) for name, filling in fillings.items()}
    if own != shards.WHOLE and distributed.is_main():
        results = {name: filling.pooled() for name, filling in fillings.items()}
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
    config: Config,
    overrides: Sequence[str],
    per_class: Mapping[str, int],
    *,
    read: Callable[..., Manifest] = pool.read,
) -> dict[str, Manifest]:
    """The pools of the selected generators, verified; an error says how to make a missing one."""
    command = " ".join(["xraysynth generate", *overrides])
    return {
        name: read(store(config, g), config.classes, per_class=per_class, command=command)
        for name, g in finetune.generators(config, overrides).items()
    }


def job(
    config: Config,
    generator: Generator,
    per_class: Mapping[str, int],
    part: shards.Part = shards.WHOLE,
) -> Job:
    """The job that fills a pool, or a part of it, up to these counts."""
    decides = {
        "generator": identity(generator),
        "prompts": digest(asdict(config.prompts)),
        "seed": config.generate.seed,
        "per_class": dict(per_class),
        "shard": list(part),
    }
    journal = pool.journal(store(config, generator), part)
    return Job("generate", decides, config.output, leaves=(journal,))


@dataclass(frozen=True)
class _Filling:
    """A pool to be filled, in parts or as a whole."""

    config: Config
    generator: Generator
    per_class: Mapping[str, int]
    overrides: Sequence[str]

    def of(self, part: shards.Part) -> dict[str, Any]:
        """Make what is missing of a part; of the whole, as all parts are there, it is pooled."""
        this = self._job(part)
        work = partial(self._make, this, part)
        return this.run(work, config=self.config.plain(), overrides=self.overrides)

    def pooled(self) -> dict[str, Any]:
        """After this job's parts: the whole pool if all others are there, else what this job made.

        Every job looks once its own part is done, so the last one finds all of them.
        """
        own = [self._job(part) for part in shards.group(self.config.shard)]
        shards.wait(own)
        if all(self._job(part).done for part in shards.every(self.config.shard)):
            return self.of(shards.WHOLE)
        made = [this.record()["result"] for this in own]
        shard = [self.config.shard.index, self.config.shard.count]
        return {
            "pool": made[0]["pool"],
            "shard": shard,
            "images": sum(found["images"] for found in made),
        }

    def _job(self, part: shards.Part) -> Job:
        return job(self.config, self.generator, self.per_class, part)

    def _make(self, this: Job, part: shards.Part) -> dict[str, Any]:
        config, generator = self.config, self.generator
        wanted = list(requests(config.prompts, self.per_class, seed=config.generate.seed))
        if part == shards.WHOLE:
            return _work(config, generator, wanted, this)
        place = store(config, generator)
        ends = pool.fill(place, generator, wanted, shard=part)
        return {"pool": str(place.folder), "images": ends["image"], "outcomes": dict(ends)}


def _work(
    config: Config, generator: Generator, wanted: Sequence[Request], this: Job
) -> dict[str, Any]:
    place = store(config, generator)
    with _ready(config, generator, place) as able, tracking.tracked(config, this) as run:
        pool.fill(place, able, wanted)
        manifest = place.manifest()
        if not len(manifest):
            reasons = sorted({str(fact["reason"]) for fact in pool.facts(place)})
            raise PoolError(f"{generator.name} made no image at all: {'; '.join(reasons)}")
        summary = {
            "pool": str(place.folder),
            "images": len(manifest),
            "outcomes": pool.outcomes(place),
            "ledger": to_json(pool.ledger(place)),
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
    generator.check()
    place.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(place.folder / ".budget.lock"):
        yield generator.continued(pool.spent_usd(place), folder=place.folder)


def _require_one_process(generator: Generator, part: shards.Part) -> None:
    if isinstance(generator, Paid) and part != shards.WHOLE:
        raise ConfigError(
            f"the budget of generator {generator.name} holds within one process, and this would be one "
            f"of {part[1]}; leave out shard.count and torchrun, and use a higher "
            f"generator.{generator.name}.concurrency"
        )


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
