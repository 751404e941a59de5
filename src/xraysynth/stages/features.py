"""Features of the real images and of every selected pool, by the encoders that evaluate uses.

evaluate computes them itself where they are not there; this stage does it before, in parts, on as many
machines as the launcher has: xraysynth features -m 'shard.index=range(0,8)' shard.count=8
hydra/launcher=slurm; over the GPUs of one machine: torchrun --nproc_per_node 8 --no-python xraysynth
features … The parts lie below paths.output/cache/features and are not computed twice.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from xraysynth.errors import ConfigError
from xraysynth.generation import pool
from xraysynth.jobs import distributed, shards
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.stages import evaluate
from xraysynth.stages._workspace import Workspace

if TYPE_CHECKING:
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.evaluation.metrics.features import FeatureCache

SECTIONS = ("generator", "evaluate", "shard", "classifier", "trainer")
"""The options that this stage reads, besides those of prepare and generate."""


@dataclass(frozen=True)
class FeatureShard:
    """How many images a part has, and the encoders whose features of them are there."""

    images: int
    encoders: list[str]


def run(workspace: Workspace) -> ResultLine:
    """Compute this shard of the features, or find it there."""
    config = workspace.config
    if not config.generator or not config.evaluate.encoders:
        raise ConfigError("generator and evaluate.encoders must each name at least one")
    caches = _feature_caches(workspace)
    own = shards.process_shard(config.shard)
    this = build_job(workspace, caches, own)
    result = workspace.run_job(this, partial(work, workspace, caches, own, this))
    if not distributed.is_main():
        return result
    group = [build_job(workspace, caches, part) for part in shards.job_shards(config.shard)]
    shards.wait_for_jobs(group)
    images = sum(one.record().result_as(FeatureShard).images for one in group)
    return result | {"shard": [config.shard.index, config.shard.count], "images": images}


def jobs(workspace: Workspace) -> list[Job]:
    """The jobs of this process's group, of all parts where there is one process."""
    caches = _feature_caches(workspace)
    return [
        build_job(workspace, caches, part) for part in shards.job_shards(workspace.config.shard)
    ]


_FeatureCaches = Sequence[tuple[Manifest, Sequence[tuple["Encoder", "FeatureCache"]]]]
"""Every set of images with the encoders, and where their features of it lie."""


def _image_sets(workspace: Workspace) -> dict[str, Manifest]:
    """The sets that evaluate will encode, by digest."""
    sets = list(workspace.pools(read=pool.list_images).values())
    for generator in workspace.generators.values():
        real = evaluate.reference_sets(workspace.cohort, generator)
        sets += [one for name, one in real.items() if name != "real" or "held_out" not in real]
    return {one.digest(): one for one in sets}


def _feature_caches(workspace: Workspace) -> _FeatureCaches:
    from xraysynth.evaluation.metrics.features import (
        FEATURES_FOLDER,
        FeatureCache,
        image_set_digest,
    )

    size_px, folder = workspace.config.size_px, workspace.cache / FEATURES_FOLDER
    sets, encoders = _image_sets(workspace), evaluate.build_encoders(workspace)
    found = []
    for key, one in sets.items():
        images = image_set_digest(key, size_px=size_px)
        caches = [FeatureCache(encoder.identity, images, len(one), folder) for encoder in encoders]
        found.append((one, list(zip(encoders, caches, strict=True))))
    return found


def build_job(
    workspace: Workspace, caches_by_set: _FeatureCaches, shard: shards.ProcessShard
) -> Job:
    """The job that computes one part of the features."""
    caches = [cache for _, by_encoder in caches_by_set for _, cache in by_encoder]
    decides = {
        "sets": sorted({cache.digest for cache in caches}),
        "encoders": sorted({cache.identity.digest for cache in caches}),
        "shard": list(shard),
    }
    leaves = [cache.path(piece) for cache in caches for piece in cache.shards_to_read(shard)]
    return Job("features", decides, workspace.output, outputs=tuple(leaves))


def work(
    workspace: Workspace, caches_by_set: _FeatureCaches, shard: shards.ProcessShard, job: Job
) -> FeatureShard:
    """Compute the features of this part that are not there."""
    from xraysynth.data.pixels import load_cached_pixels

    config, folder = workspace.config, job.folder / "pixels"
    images = 0
    for one, by_encoder in caches_by_set:

        def load_pixels(rows: slice, image_set: Manifest = one) -> np.ndarray:
            chosen = np.zeros(len(image_set), bool)
            chosen[rows] = True
            return load_cached_pixels(
                image_set.where(chosen), size_px=config.size_px, folder=folder, memory_mapped=True
            )

        for encoder, cache in by_encoder:
            for piece in cache.shards_to_read(shard):
                cache.load_or_compute(piece, encoder, load_pixels)
        rows = by_encoder[0][1].rows(shard)
        images += rows.stop - rows.start
        shutil.rmtree(folder, ignore_errors=True)
    return FeatureShard(images, list(config.evaluate.encoders))
