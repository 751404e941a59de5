"""Compute the features of the real images and of every selected pool, by the encoders of evaluate.

evaluate computes missing features itself. This stage does it before, in shards, on as many machines
as the launcher has: xraysynth features -m 'shard.index=range(0,8)' shard.count=8
hydra/launcher=slurm; over the GPUs of one machine: torchrun --nproc_per_node 8 --no-python xraysynth
features … The shards lie below paths.output/cache/features and are not computed twice.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xraysynth.errors import ConfigError
from xraysynth.generation import pool
from xraysynth.jobs import distributed, shards
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.stages import evaluate
from xraysynth.stages._workspace import Workspace

if TYPE_CHECKING:  # A wrong option must be refused before torch is imported.
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.evaluation.metrics.features import FeatureCache

SECTIONS = ("generator", "evaluate", "shard", "classifier", "trainer")
"""The options that this stage reads, besides those of prepare and generate."""


@dataclass(frozen=True)
class FeatureShard:
    """A shard of the features that is computed.

    Attributes:
        images: Number of images in the shard.
        encoders: Names of the encoders whose features of these images are there.
    """

    images: int
    encoders: list[str]


@dataclass(frozen=True)
class _ImageSet:
    """A set of images with the encoders that encode it, and one cache of features per encoder."""

    manifest: Manifest
    encoders: Sequence["Encoder"]
    caches: Sequence["FeatureCache"]


def run(workspace: Workspace) -> ResultLine:
    """Compute this job's shard of the features, unless it is computed.

    Each process that torchrun starts computes its own part of the shard; the first one waits for the
    others and reports the whole shard.

    Returns:
        The job's result; from the first process with index and count of the shard, and its images.

    Raises:
        ConfigError: If no generator or no encoder is selected.
        XraysynthError: If a pool, or the classifier that serves as encoder, is missing.
    """
    config = workspace.config
    if not config.generator or not config.evaluate.encoders:
        raise ConfigError(
            "generator and evaluate.encoders must each name at least one; for example "
            "generator=stable_diffusion evaluate.encoders=[embedded]"
        )
    image_sets = _build_image_sets(workspace)
    process_shard = shards.process_shard(config.shard)
    job = build_job(workspace, image_sets, process_shard)
    result = workspace.run_job(job, partial(work, workspace, image_sets, process_shard, job))
    if not distributed.is_main():
        return result
    shard_jobs = _build_shard_jobs(workspace, image_sets)
    shards.wait_for_jobs(shard_jobs)
    images = 0
    for shard_job in shard_jobs:
        images += shard_job.record().result_as(FeatureShard).images
    return result | {"shard": [config.shard.index, config.shard.count], "images": images}


def jobs(workspace: Workspace) -> list[Job]:
    """List the jobs of this job's shard, one per process that torchrun starts."""
    return _build_shard_jobs(workspace, _build_image_sets(workspace))


def _build_shard_jobs(workspace: Workspace, image_sets: Sequence[_ImageSet]) -> list[Job]:
    """List the jobs of this job's shard, one per process that torchrun starts."""
    process_shards = shards.job_shards(workspace.config.shard)
    return [build_job(workspace, image_sets, shard) for shard in process_shards]


def _build_image_sets(workspace: Workspace) -> list[_ImageSet]:
    """List each set of images that evaluate will encode, with the caches of its features."""
    from xraysynth.evaluation.metrics.features import (
        FEATURES_FOLDER,
        FeatureCache,
        image_set_digest,
    )

    folder = workspace.cache / FEATURES_FOLDER
    manifests = _manifests_by_digest(workspace)
    encoders = evaluate.build_encoders(workspace)
    image_sets = []
    for manifest_digest, manifest in manifests.items():
        images_digest = image_set_digest(manifest_digest, size_px=workspace.config.size_px)
        caches = []
        for encoder in encoders:
            caches.append(FeatureCache(encoder.identity, images_digest, len(manifest), folder))
        image_sets.append(_ImageSet(manifest, encoders, caches))
    return image_sets


def _manifests_by_digest(workspace: Workspace) -> dict[str, Manifest]:
    """Return the pools, and the real images that they are measured against, each set once."""
    manifests = list(workspace.pools(read=pool.list_images).values())
    for generator in workspace.generators.values():
        real_sets = evaluate.reference_sets(workspace.cohort, generator)
        if "held_out" in real_sets:  # The held-out images contain the test images.
            del real_sets["real"]
        manifests += real_sets.values()
    return {manifest.digest(): manifest for manifest in manifests}


def build_job(
    workspace: Workspace, image_sets: Sequence[_ImageSet], shard: shards.ProcessShard
) -> Job:
    """Build the job that computes one shard of the features; its outputs are their files.

    Args:
        workspace: The configuration.
        image_sets: All sets of images that are encoded.
        shard: Index and number of the shards that each set is cut into.
    """
    image_digests, encoder_digests = set(), set()
    outputs: list[Path] = []
    for image_set in image_sets:
        for cache in image_set.caches:
            image_digests.add(cache.digest)
            encoder_digests.add(cache.identity.digest)
            outputs += map(cache.path, cache.shards_to_read(shard))
    identity = {
        "sets": sorted(image_digests),
        "encoders": sorted(encoder_digests),
        "shard": list(shard),
    }
    return Job("features", identity, workspace.output, outputs=tuple(outputs))


def work(
    workspace: Workspace, image_sets: Sequence[_ImageSet], shard: shards.ProcessShard, job: Job
) -> FeatureShard:
    """Compute the features of one shard that no cache has yet.

    Args:
        workspace: The configuration.
        image_sets: All sets of images that are encoded.
        shard: Index and number of the shards; (0, 1) is everything.
        job: The job whose folder takes decoded pixels while it runs.
    """
    config, pixels_folder = workspace.config, job.folder / "pixels"
    images = 0
    for image_set in image_sets:
        load_rows = partial(_load_pixels, image_set.manifest, config.size_px, pixels_folder)
        for encoder, cache in zip(image_set.encoders, image_set.caches, strict=True):
            for shard_to_read in cache.shards_to_read(shard):
                cache.load_or_compute(shard_to_read, encoder, load_rows)
        rows = image_set.caches[0].rows(shard)
        images += rows.stop - rows.start
        shutil.rmtree(pixels_folder, ignore_errors=True)
    return FeatureShard(images, list(config.evaluate.encoders))


def _load_pixels(manifest: Manifest, size_px: int, folder: Path, rows: slice) -> np.ndarray:
    """Load the images of some rows of a manifest, `(N, H, W)` uint8, memory-mapped from `folder`."""
    from xraysynth.data.pixels import load_cached_pixels

    is_selected = np.zeros(len(manifest), bool)
    is_selected[rows] = True
    images = manifest.where(is_selected)
    return load_cached_pixels(images, size_px=size_px, folder=folder, memory_mapped=True)
