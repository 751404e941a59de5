"""Prompts to pools: each selected generator makes images of every class.

Reads the cohort (to know how many images training needs, unless generate.per_class says so), the
prompt bank and the generators. A pool is a folder below paths.output/pools named by what made it; it only
grows and can be killed at any moment. In 64 parts, on as many machines as the launcher has:
xraysynth generate -m 'shard.index=range(0,64)' shard.count=64 hydra/launcher=slurm; over the GPUs of
one machine: torchrun --nproc_per_node 8 --no-python xraysynth generate …
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.errors import ConfigError, PoolError, PrivacyError
from xraysynth.files import exclusive_lock
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, PaidGenerator
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.prompts import iterate_requests
from xraysynth.jobs import distributed, shards
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.jobs.store import ImageStore
from xraysynth.records import Request
from xraysynth.seeds import digest, identity
from xraysynth.stages import finetune
from xraysynth.stages._workspace import Workspace

SECTIONS = ("classes", "generator", "prompts", "generate", "shard", "data", "tracking")
"""The options that this stage reads, besides those of prepare."""


def run(workspace: Workspace) -> ResultLine:
    """Fill the pool of every selected generator, or this shard of it, or find it filled."""
    config = workspace.config
    if not config.generator:
        raise ConfigError(
            "generator must name at least one; for example generator=stable_diffusion"
        )
    if config.generate.dry_run:
        return {"stage": "generate", "state": "done", "estimates": _estimate_costs(workspace)}
    finetune.require_finetuned(workspace)
    own = shards.process_shard(config.shard)
    for generator in workspace.generators.values():
        _require_one_process(generator, own)
    fillings = {name: _PoolFiller(workspace, name) for name in workspace.generators}
    results = {name: filling.fill(own) for name, filling in fillings.items()}
    if own != shards.WHOLE_SHARD and distributed.is_main():
        results = {name: filling.merge_shards() for name, filling in fillings.items()}
    return {"stage": "generate", "state": "done", "pools": results}


def jobs(workspace: Workspace) -> list[Job]:
    """The jobs that fill the pools of all selected generators."""
    return [build_job(workspace, name) for name in workspace.generators]


def build_job(
    workspace: Workspace, name: str, shard: shards.ProcessShard = shards.WHOLE_SHARD
) -> Job:
    """The job that fills a generator's pool, or a part of it, up to the number of each class."""
    config = workspace.config
    decides = {
        "generator": identity(workspace.generators[name]),
        "prompts": digest(asdict(config.prompts)),
        "seed": config.generate.seed,
        "per_class": dict(workspace.images_per_class),
        "shard": list(shard),
    }
    journal = pool.journal_path(workspace.pool_store(name), shard)
    return Job("generate", decides, config.output, outputs=(journal,))


def build_requests(workspace: Workspace) -> list[Request]:
    """The images that every pool must hold."""
    config = workspace.config
    return list(
        iterate_requests(config.prompts, workspace.images_per_class, seed=config.generate.seed)
    )


@dataclass(frozen=True)
class PoolShard:
    """A part of a pool: how many images it has, and how many requests ended in which way."""

    pool: str
    images: int
    outcomes: dict[str, int]


@dataclass(frozen=True)
class FilledPool:
    """A whole pool, with outcomes by class, and what its images cost."""

    pool: str
    images: int
    outcomes: Mapping[str, Mapping[str, int]]
    ledger: Ledger


@dataclass(frozen=True)
class _PoolFiller:
    """A pool to be filled, in parts or as a whole."""

    workspace: Workspace
    name: str

    def fill(self, shard: shards.ProcessShard) -> ResultLine:
        """Make what is missing of a part; of the whole, as all parts are there, it is pooled."""
        this = build_job(self.workspace, self.name, shard)
        whole = partial(work, self.workspace, self.name, this)
        make: Callable[[], object] = (
            whole if shard == shards.WHOLE_SHARD else partial(self._fill_shard, shard)
        )
        return self.workspace.run_job(this, make)

    def merge_shards(self) -> ResultLine:
        """After this job's parts: the whole pool if all others are there, else what this job made.

        Every job looks once its own part is done, so the last one finds all of them.
        """
        shard = self.workspace.config.shard
        own = [build_job(self.workspace, self.name, part) for part in shards.job_shards(shard)]
        shards.wait_for_jobs(own)
        if all(
            build_job(self.workspace, self.name, part).done for part in shards.all_shards(shard)
        ):
            return self.fill(shards.WHOLE_SHARD)
        made = [this.record().result_as(PoolShard) for this in own]
        return {
            "pool": made[0].pool,
            "shard": [shard.index, shard.count],
            "images": sum(part.images for part in made),
        }

    def _fill_shard(self, shard: shards.ProcessShard) -> PoolShard:
        store, generator = (
            self.workspace.pool_store(self.name),
            self.workspace.generators[self.name],
        )
        ends = pool.fill(store, generator, build_requests(self.workspace), shard=shard)
        return PoolShard(str(store.folder), ends["image"], dict(ends))


def work(workspace: Workspace, name: str, job: Job) -> FilledPool:
    """Fill the whole pool of a generator."""
    generator, store = workspace.generators[name], workspace.pool_store(name)
    with (
        _budgeted_generator(workspace.config, generator, store) as able,
        tracking.open_run(workspace.config, job) as run,
    ):
        pool.fill(store, able, build_requests(workspace))
        manifest = store.manifest()
        if not len(manifest):
            reasons = sorted({str(fact["reason"]) for fact in pool.image_facts(store)})
            raise PoolError(f"{generator.name} made no image at all: {'; '.join(reasons)}")
        outcomes, ledger = pool.count_outcomes(store), pool.compute_ledger(store)
        lora = getattr(generator, "taught_by", None) or ""
        tracking.log_pool(run, manifest, store, outcomes=outcomes, ledger=ledger, lora_key=lora)
    return FilledPool(str(store.folder), len(manifest), outcomes, ledger)


@contextmanager
def _budgeted_generator(
    config: Config, generator: Generator, store: ImageStore
) -> Iterator[Generator]:
    """The generator; one that costs money works alone on its pool, knowing what was spent on it."""
    if not isinstance(generator, PaidGenerator):
        yield generator
        return
    _require_no_credentialed_sources(config, generator)
    generator.check()
    store.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(store.folder / ".budget.lock"):
        yield generator.with_spent_budget(pool.spent_usd(store), folder=store.folder)


def _require_one_process(generator: Generator, shard: shards.ProcessShard) -> None:
    if isinstance(generator, PaidGenerator) and shard != shards.WHOLE_SHARD:
        raise ConfigError(
            f"the budget of generator {generator.name} holds within one process, and this would be one "
            f"of {shard[1]}; leave out shard.count and torchrun, and use a higher "
            f"generator.{generator.name}.concurrency"
        )


def _estimate_costs(workspace: Workspace) -> dict[str, Any]:
    """What the paid generators would cost; nothing is called and nothing is written."""
    found = {}
    for name, generator in workspace.config.generators().items():
        if isinstance(generator, PaidGenerator):
            estimate = generator.estimate(build_requests(workspace))
            print(f"{name}\n{estimate}", file=sys.stderr, flush=True)
            found[name] = asdict(estimate)
    if not found:
        raise ConfigError(
            "generate.dry_run=true estimates paid services, and none is selected; for example "
            "generator=dalle"
        )
    return found


def _require_no_credentialed_sources(config: Config, generator: Generator) -> None:
    """Nothing that knows of credentialed data talks to a service outside, not even a count."""
    bound = [source.name for source in config.sources() if source.credentialed]
    if bound:
        raise PrivacyError(
            f"generator {generator.name} sends prompts to a service outside, and source "
            f"{', '.join(bound)} is under a data use agreement that lets nothing of it reach third "
            "parties. Make the pool without that source (source=simulated generate.per_class=N): "
            "prompts come from the prompt bank alone, so it is the same pool, and found again here"
        )
