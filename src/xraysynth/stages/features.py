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
from xraysynth.jobs.job import Job, Line
from xraysynth.manifest import Manifest
from xraysynth.stages import evaluate
from xraysynth.stages._workspace import Workspace

if TYPE_CHECKING:
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.evaluation.metrics.features import Cached

SECTIONS = ("generator", "evaluate", "shard", "classifier", "trainer")
"""The options that this stage reads, besides those of prepare and generate."""


@dataclass(frozen=True)
class Encoded:
    """How many images a part has, and the encoders whose features of them are there."""

    images: int
    encoders: list[str]


def run(workspace: Workspace) -> Line:
    """Compute this shard of the features, or find it there."""
    config = workspace.config
    if not config.generator or not config.evaluate.encoders:
        raise ConfigError("generator and evaluate.encoders must each name at least one")
    caches = _caches(workspace)
    own = shards.own(config.shard)
    this = job(workspace, caches, own)
    result = workspace.perform(this, partial(work, workspace, caches, own, this))
    if not distributed.is_main():
        return result
    group = [job(workspace, caches, part) for part in shards.group(config.shard)]
    shards.wait(group)
    images = sum(one.record().result_as(Encoded).images for one in group)
    return result | {"shard": [config.shard.index, config.shard.count], "images": images}


def jobs(workspace: Workspace) -> list[Job]:
    """The jobs of this process's group, of all parts where there is one process."""
    caches = _caches(workspace)
    return [job(workspace, caches, part) for part in shards.group(workspace.config.shard)]


_Caches = Sequence[tuple[Manifest, Sequence[tuple["Encoder", "Cached"]]]]
"""Every set of images with the encoders, and where their features of it lie."""


def _sets(workspace: Workspace) -> dict[str, Manifest]:
    """The sets that evaluate will encode, by digest."""
    sets = list(workspace.pools(read=pool.listed).values())
    for generator in workspace.generators.values():
        real = evaluate.references(workspace.cohort, generator)
        sets += [one for name, one in real.items() if name != "real" or "held_out" not in real]
    return {one.digest(): one for one in sets}


def _caches(workspace: Workspace) -> _Caches:
    from xraysynth.evaluation.metrics.features import FEATURES, Cached, image_set

    size_px, folder = workspace.config.size_px, workspace.cache / FEATURES
    sets, encoders = _sets(workspace), evaluate.encoders(workspace)
    found = []
    for key, one in sets.items():
        images = image_set(key, size_px=size_px)
        caches = [Cached(encoder.identity, images, len(one), folder) for encoder in encoders]
        found.append((one, list(zip(encoders, caches, strict=True))))
    return found


def job(workspace: Workspace, found: _Caches, part: shards.Part) -> Job:
    """The job that computes one part of the features."""
    caches = [cache for _, by_encoder in found for _, cache in by_encoder]
    decides = {
        "sets": sorted({cache.digest for cache in caches}),
        "encoders": sorted({cache.identity.digest for cache in caches}),
        "shard": list(part),
    }
    leaves = [cache.path(piece) for cache in caches for piece in cache.pieces(part)]
    return Job("features", decides, workspace.output, leaves=tuple(leaves))


def work(workspace: Workspace, found: _Caches, part: shards.Part, this: Job) -> Encoded:
    """Compute the features of this part that are not there."""
    from xraysynth.data.pixels import pixels

    config, folder = workspace.config, this.folder / "pixels"
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
    return Encoded(images, list(config.evaluate.encoders))
