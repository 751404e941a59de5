"""Features of the real images and of every selected pool, by the encoders that evaluate uses.

evaluate computes them itself where they are not there; this stage does it before, in parts, on as many
machines as the launcher has: xraysynth features -m 'shard.index=range(0,8)' shard.count=8
hydra/launcher=slurm; over the GPUs of one machine: torchrun --nproc_per_node 8 --no-python xraysynth
features … The parts lie below paths.output/cache/features and are not computed twice.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth.config import Config
from xraysynth.errors import ConfigError
from xraysynth.generation import pool
from xraysynth.jobs import distributed, shards
from xraysynth.jobs.job import Job
from xraysynth.manifest import Manifest
from xraysynth.seeds import digest
from xraysynth.stages import evaluate, finetune, generate, prepare

if TYPE_CHECKING:
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.evaluation.metrics.features import Cached

SECTIONS = ("generator", "evaluate", "shard", "classifier", "trainer")
"""The options that this stage reads, besides those of prepare and generate."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Compute this shard of the features, or find it there."""
    if not config.generator or not config.evaluate.encoders:
        raise ConfigError("generator and evaluate.encoders must each name at least one")
    cohort, _ = prepare.cohort(config, overrides)
    sets = _sets(config, cohort, overrides)
    found = _caches(config, sets, evaluate.encoders(config, cohort, overrides))
    jobs = {part: _job(config, found, part) for part in shards.group(config.shard)}
    own = shards.own(config.shard)
    work = partial(_work, config, found, own, jobs[own])
    result = jobs[own].run(work, config=config.plain(), overrides=overrides)
    if not distributed.is_main():
        return result
    shards.wait(list(jobs.values()))
    images = sum(job.record()["result"]["images"] for job in jobs.values())
    return result | {"shard": [config.shard.index, config.shard.count], "images": images}


_Caches = Sequence[tuple[Manifest, Sequence[tuple["Encoder", "Cached"]]]]
"""Every set of images with the encoders, and where their features of it lie."""


def _sets(config: Config, cohort: Manifest, overrides: Sequence[str]) -> dict[str, Manifest]:
    """The sets that evaluate will encode, by digest."""
    counts = generate.counts(config, overrides)
    pools = generate.pools(config, overrides, counts, read=pool.listed)
    found = list(pools.values())
    for generator in finetune.bound(config, cohort).values():
        real = evaluate.references(cohort, generator)
        found += [one for name, one in real.items() if name != "real" or "held_out" not in real]
    return {one.digest(): one for one in found}


def _caches(config: Config, sets: Mapping[str, Manifest], encoders: Sequence["Encoder"]) -> _Caches:
    from xraysynth.evaluation.metrics.features import FEATURES, Cached, image_set

    folder = config.output / "cache" / FEATURES
    identities = [encoder.identity for encoder in encoders]
    found = []
    for key, one in sets.items():
        images = image_set(key, size_px=config.size_px)
        caches = [Cached(identity, images, len(one), folder) for identity in identities]
        found.append((one, list(zip(encoders, caches, strict=True))))
    return found


def _job(config: Config, found: _Caches, part: shards.Part) -> Job:
    caches = [cache for _, by_encoder in found for _, cache in by_encoder]
    decides = {
        "sets": sorted({cache.digest for cache in caches}),
        "encoders": sorted({digest(cache.identity) for cache in caches}),
        "shard": list(part),
    }
    leaves = [cache.path(piece) for cache in caches for piece in cache.pieces(part)]
    return Job("features", decides, config.output, leaves=tuple(leaves))


def _work(config: Config, found: _Caches, part: shards.Part, this: Job) -> dict[str, Any]:
    from xraysynth.data.pixels import pixels

    folder = this.folder / "pixels"
    images = 0
    for one, by_encoder in found:

        def decoded(rows: slice, one: Manifest = one) -> np.ndarray:
            chosen = np.zeros(len(one), bool)
            chosen[rows] = True
            return pixels(
                one.where(chosen), size_px=config.size_px, folder=folder, memory_mapped=True
            )

        for encoder, cache in by_encoder:
            for piece in cache.pieces(part):
                cache.features(piece, encoder, decoded)
        rows = by_encoder[0][1].rows(part)
        images += rows.stop - rows.start
        shutil.rmtree(folder, ignore_errors=True)
    return {"images": images, "encoders": list(config.evaluate.encoders)}
