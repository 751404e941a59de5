"""Generate pools of synthetic images: each selected generator makes images of every class.

Reads the cohort (to know how many images training needs, unless generate.per_class says so), the
prompt bank and the generators. A pool is a folder below paths.output/pools that is named by its
generator, prompts and seed; it only grows, and the run can be killed at any moment. In 64 shards, on
as many machines as the launcher has: xraysynth generate -m 'shard.index=range(0,64)' shard.count=64
hydra/launcher=slurm; over the GPUs of one machine: torchrun --nproc_per_node 8 --no-python xraysynth
generate …
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
from xraysynth.generation.images_api.outcomes import BudgetError
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.prompts import iterate_requests
from xraysynth.generation.spending import spent_usd_below
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
    """Fill the pool of every selected generator, or this job's shard of it, unless it is filled.

    With generate.dry_run=true nothing is generated; the costs of paid generators are estimated.

    Returns:
        The result of each pool's job under "pools", or of each paid generator's estimate under
        "estimates", by the generator's name.

    Raises:
        ConfigError: If no generator is selected, or a paid one would run in several processes.
        PrivacyError: If a paid generator would run together with credentialed sources.
        XraysynthError: If a generator is not fine-tuned yet; the message has the command.
    """
    config = workspace.config
    if not config.generator:
        raise ConfigError(
            "generator must name at least one; for example generator=stable_diffusion"
        )
    if config.generate.dry_run:
        return {"stage": "generate", "state": "done", "estimates": _estimate_costs(workspace)}
    finetune.require_finetuned(workspace)
    process_shard = shards.process_shard(config.shard)
    for generator in workspace.generators.values():
        _require_one_process(generator, process_shard)
    fillers = {name: _PoolFiller(workspace, name) for name in workspace.generators}
    results = {name: filler.fill(process_shard) for name, filler in fillers.items()}
    if process_shard != shards.WHOLE_SHARD and distributed.is_main():
        results = {name: filler.merge_shards() for name, filler in fillers.items()}
    return {"stage": "generate", "state": "done", "pools": results}


def jobs(workspace: Workspace) -> list[Job]:
    """List one job per selected generator, which fills its whole pool."""
    return [build_job(workspace, name) for name in workspace.generators]


def build_job(
    workspace: Workspace, name: str, shard: shards.ProcessShard = shards.WHOLE_SHARD
) -> Job:
    """Build the job that fills a generator's pool up to the configured number of images per class.

    Args:
        workspace: The configuration.
        name: Name of the generator.
        shard: Index and number of the shards that the requests are cut into; by default all requests.
    """
    config = workspace.config
    job_identity = {
        "generator": identity(workspace.generators[name]),
        "prompts": digest(asdict(config.prompts)),
        "seed": config.generate.seed,
        "per_class": dict(workspace.images_per_class),
        "shard": list(shard),
    }
    store = workspace.pool_store(name)
    return Job(
        "generate",
        job_identity,
        config.output,
        outputs=(pool.journal_path(store, shard),),
        further_outputs=pool.record_paths(store),
        outputs_grow=True,
    )


def build_requests(workspace: Workspace) -> list[Request]:
    """List the requests for all images that every pool must hold."""
    config = workspace.config
    requests = iterate_requests(
        config.prompts, workspace.images_per_class, seed=config.generate.seed
    )
    return list(requests)


@dataclass(frozen=True)
class PoolShard:
    """A filled shard of a pool.

    Attributes:
        pool: Folder of the pool.
        images: Number of images that the shard has.
        outcomes: Number of requests by outcome.
    """

    pool: str
    images: int
    outcomes: dict[str, int]


@dataclass(frozen=True)
class FilledPool:
    """A filled pool.

    Attributes:
        pool: Folder of the pool.
        images: Number of its images.
        outcomes: Number of requests by class and outcome.
        ledger: What the pool has cost.
    """

    pool: str
    images: int
    outcomes: Mapping[str, Mapping[str, int]]
    ledger: Ledger


@dataclass(frozen=True)
class _PoolFiller:
    """Fills the pool of one generator, in shards or as a whole."""

    workspace: Workspace
    name: str

    def fill(self, shard: shards.ProcessShard) -> ResultLine:
        """Generate the missing images of a shard; the whole pool is also counted and logged."""
        job = build_job(self.workspace, self.name, shard)
        generate: Callable[[], object] = partial(self._fill_shard, shard)
        if shard == shards.WHOLE_SHARD:
            generate = partial(work, self.workspace, self.name, job)
        return self.workspace.run_job(job, generate)

    def merge_shards(self) -> ResultLine:
        """Finish the whole pool if all shards are done, else report the shard of this job.

        Every job checks this once its own shard is done, so that the last job finds all shards done.
        """
        shard = self.workspace.config.shard
        shard_jobs = [self._build_job(part) for part in shards.job_shards(shard)]
        shards.wait_for_jobs(shard_jobs)
        all_jobs = map(self._build_job, shards.all_shards(shard))
        if all(job.intact for job in all_jobs):
            return self.fill(shards.WHOLE_SHARD)
        results = [job.record().result_as(PoolShard) for job in shard_jobs]
        return {
            "pool": results[0].pool,
            "shard": [shard.index, shard.count],
            "images": sum(result.images for result in results),
        }

    def _build_job(self, shard: shards.ProcessShard) -> Job:
        """Build the job that fills a shard of the pool."""
        return build_job(self.workspace, self.name, shard)

    def _fill_shard(self, shard: shards.ProcessShard) -> PoolShard:
        """Generate the missing images of a shard, and count its outcomes."""
        store = self.workspace.pool_store(self.name)
        generator = self.workspace.generators[self.name]
        requests = build_requests(self.workspace)
        outcomes = pool.fill(store, generator, requests, shard=shard)
        return PoolShard(str(store.folder), outcomes["image"], dict(outcomes))


def work(workspace: Workspace, name: str, job: Job) -> FilledPool:
    """Fill the whole pool of a generator, and count what became of its requests.

    Args:
        workspace: The configuration.
        name: Name of the generator.
        job: The job that is logged to W&B.

    Raises:
        PoolError: If the generator made no image; the message has the reasons.
    """
    config = workspace.config
    generator, store = workspace.generators[name], workspace.pool_store(name)
    with (
        _budgeted_generator(config, generator, store) as budgeted_generator,
        tracking.open_run(config, job) as run,
    ):
        pool.fill(store, budgeted_generator, build_requests(workspace))
        manifest = store.manifest()
        if not len(manifest):
            reasons = sorted({str(facts["reason"]) for facts in pool.image_facts(store)})
            raise PoolError(f"{generator.name} made no image at all: {'; '.join(reasons)}")
        outcomes, ledger = pool.count_outcomes(store), pool.compute_ledger(store)
        lora_key = getattr(generator, "taught_by", None) or ""
        tracking.log_pool(run, manifest, store, outcomes=outcomes, ledger=ledger, lora_key=lora_key)
    return FilledPool(str(store.folder), len(manifest), outcomes, ledger)


@contextmanager
def _budgeted_generator(
    config: Config, generator: Generator, store: ImageStore
) -> Iterator[Generator]:
    """Give the generator; a paid one alone may work on its pool, and knows what the pool has cost."""
    if not isinstance(generator, PaidGenerator):
        yield generator
        return
    _require_no_credentialed_sources(config, generator)
    generator.check()
    store.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(store.folder / ".budget.lock"):
        if config.generate.budget_usd is None:
            yield generator.with_spent_budget(pool.spent_usd(store), folder=store.folder)
        else:
            with _shared_budget(config.generate.budget_usd, generator, store) as budgeted_generator:
                yield budgeted_generator


@contextmanager
def _shared_budget(
    budget_usd: float, generator: PaidGenerator, store: ImageStore
) -> Iterator[Generator]:
    """Give a paid generator what is left of the budget that all pools of the output folder share."""
    with exclusive_lock(store.parent / ".budget.lock"):  # one paid pool after the other
        others_usd = spent_usd_below(store.parent, except_folder=store.folder)
        limit_usd = max(0.0, budget_usd - others_usd)
        spent_usd = pool.spent_usd(store)
        try:
            yield generator.with_spent_budget(spent_usd, folder=store.folder, limit_usd=limit_usd)
        except BudgetError as error:
            raise BudgetError(
                f"{error}. generate.budget_usd={budget_usd} is for all pools in {store.parent}: the "
                f"others have cost ${others_usd:.4f}"
            ) from None


def _require_one_process(generator: Generator, shard: shards.ProcessShard) -> None:
    """Refuse to run a paid generator in several processes, which could not share its budget."""
    if isinstance(generator, PaidGenerator) and shard != shards.WHOLE_SHARD:
        _, processes = shard
        raise ConfigError(
            f"the budget of generator {generator.name} holds within one process, and this would be one "
            f"of {processes}; leave out shard.count and torchrun, and use a higher "
            f"generator.{generator.name}.concurrency"
        )


def _estimate_costs(workspace: Workspace) -> dict[str, Any]:
    """Estimate what the paid generators would cost; nothing is called and nothing is written."""
    estimates = {}
    for name, generator in workspace.config.generators().items():
        if isinstance(generator, PaidGenerator):
            estimate = generator.estimate(build_requests(workspace))
            print(f"{name}\n{estimate}", file=sys.stderr, flush=True)
            estimates[name] = asdict(estimate)
    if not estimates:
        raise ConfigError(
            "generate.dry_run=true estimates paid services, and none is selected; choose one, for example "
            "generator=dalle"
        )
    return estimates


def _require_no_credentialed_sources(config: Config, generator: Generator) -> None:
    """Refuse to call an outside service in a run that reads credentialed sources, even for a count."""
    credentialed = [source.name for source in config.sources() if source.credentialed]
    if credentialed:
        raise PrivacyError(
            f"generator {generator.name} sends prompts to an outside service, and source "
            f"{', '.join(credentialed)} is under a data use agreement that forbids passing anything of it on "
            "to third parties. Make the pool without that source (for example source=simulated "
            f"generate.per_class={config.generate.per_class or 100}): prompts come from the prompt bank "
            "alone, so the pool is the same, and the study with that source will find it"
        )
