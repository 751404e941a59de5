"""Train a classifier on real images, synthetic ones, or both, and test it once on real images.

data.synthetic_fraction is the synthetic fraction of the training images; data.mode says how they
are mixed in. The pools are those of the selected generators, which must exist. Validation and test
images are always real. Writes weights (safetensors), predictions.parquet and the scores below
paths.output/train; with external test sets (test_source=…) also external.parquet.
Over several processes or GPUs: torchrun --nproc_per_node 2 --no-python xraysynth train …
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.leakage import require_no_contamination, require_no_duplicates_in_pools
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.classifier_evaluation import ClassifierTest, TrainResult
from xraysynth.freed_memory import freed_memory_kept
from xraysynth.generation import pool
from xraysynth.jobs.distributed import is_main, process_group, world_size
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.records import LearningRecord
from xraysynth.stages._workspace import Workspace
from xraysynth.training.recipe import Control
from xraysynth.training.run import (
    WEIGHTS_FILE,
    FitSummary,
    Training,
    compute_pool_digests,
    count_training_images,
    delete_checkpoints,
    restart_if_pools_changed,
)

if TYPE_CHECKING:  # A wrong option must be refused before torch is imported.
    from xraysynth.training.classifier import XrayClassifier
    from xraysynth.training.datamodule import XrayDataModule

SECTIONS = ("classes", "size_px", "seed", "generator", "data", "classifier", "trainer", "tracking")
"""The options that this stage reads, besides those of prepare."""

PREDICTIONS = "predictions.parquet"
EXTERNAL_PREDICTIONS = "external.parquet"


def run(workspace: Workspace) -> ResultLine:
    """Train and test one classifier, unless it is trained.

    All processes that torchrun starts train together; the first one alone checks the pools, tests the
    classifier and writes the record.

    Returns:
        The job's result, with the fields of `TrainResult`; other processes return its state only.

    Raises:
        ConfigError: If data.batch_size cannot be divided among the processes.
        PoolError: If a pool is missing, too small or damaged.
        LeakageError: If a pool holds near-duplicates of images that are held out.
    """
    _require_divisible_batch(workspace.config)
    job = build_job(workspace)
    # The job prints its recorded result, and tells the other processes that it is done.
    if job.intact:
        return workspace.run_job(job, dict, on_other_ranks=dict)
    if is_main():
        _report_retraining(job)
    pools = _load_mixed_pools(workspace)
    if is_main():
        _require_no_held_out_duplicates(workspace, pools)
    return workspace.run_job(
        job,
        partial(work, workspace, pools, job),
        on_other_ranks=partial(_work_on_other_ranks, workspace, pools, job),
    )


def _require_divisible_batch(config: Config) -> None:
    """Refuse a batch that cannot be divided equally among the processes."""
    processes, batch_size = world_size(), config.data.batch_size
    if batch_size % processes:
        nearest = max(1, round(batch_size / processes)) * processes
        raise ConfigError(
            f"data.batch_size={batch_size} counts the images of all processes and must be divisible by "
            f"their number, {processes}; set data.batch_size={nearest}, or start another number of processes"
        )


def _report_retraining(job: Job) -> None:
    """Say on stderr why a classifier that was trained before is trained again."""
    if replace(job, input_digests={}).intact:
        print(
            f"train job {job.key} is trained again, because its pools hold other images now than when "
            "it was trained",
            file=sys.stderr,
            flush=True,
        )


def _require_no_held_out_duplicates(workspace: Workspace, pools: Mapping[str, Manifest]) -> None:
    """Refuse pools with near-duplicates of images that the classifier is validated or tested on."""
    held_out = [workspace.cohort]
    if workspace.external_test_set is not None:
        held_out.append(workspace.external_test_set)
    require_no_duplicates_in_pools(held_out, pools, cache=workspace.cache)


def build_training(config: Config) -> Training:
    """Build the classifier training that this configuration describes."""
    return Training(
        classes=config.classes,
        data=config.data,
        classifier=config.classifier,
        trainer=config.trainer,
        size_px=config.size_px,
        seed=config.seed,
        cache=config.output / "cache",
    )


def build_classifier_test(workspace: Workspace) -> ClassifierTest:
    """Build the test that every classifier of this workspace goes through."""
    config = workspace.config
    return ClassifierTest(
        config.classes,
        config.evaluate.replicates,
        config.size_px,
        workspace.cache,
        linked=workspace.linked_patients,
    )


def jobs(workspace: Workspace) -> list[Job]:
    """List the one job of this stage."""
    return [build_job(workspace)]


def build_job(workspace: Workspace) -> Job:
    """Build the training job; it is done only if it was trained on the images that its pools give now.

    An image that failed may be made later; it then takes its place among the first of its class, so
    that the pools give other images. Training again lets all seeds of an arm see the same images. If
    a pool is missing or too small, there is nothing to compare with and a finished job counts as done.
    """
    input_digests = {}
    with suppress(XraysynthError):
        pools = _load_mixed_pools(workspace, read=pool.list_images)
        if pools:
            selected = build_training(workspace.config).select_pool_rows(workspace.cohort, pools)
            input_digests["pools"] = compute_pool_digests(selected)
    return replace(build_unchecked_job(workspace), input_digests=input_digests)


def build_unchecked_job(workspace: Workspace) -> Job:
    """Build the training job; it is done even if its pools have gained images since.

    Its identity holds the recipe, the seed, the cohort, the external test sets, and the keys of the
    pools that are mixed in.
    """
    config, external = workspace.config, workspace.external_test_set
    pool_keys = {}
    if config.data.uses_pools:
        for name in workspace.generators:
            pool_keys[name] = workspace.pool_store(name).key
    training = build_training(config)
    identity = training.identity(workspace.cohort) | training.mixing_identity(pool_keys)
    outputs: tuple[str, ...] = (PREDICTIONS, WEIGHTS_FILE)
    if external is not None:
        identity["external"] = external.digest()
        outputs = (*outputs, EXTERNAL_PREDICTIONS)
    return Job("train", identity, config.output, outputs=outputs)


def trained_pool_digests(job: Job) -> Mapping[str, str]:
    """Return the digests by pool of the images that a finished training saw.

    Jobs of earlier versions did not record them and give an empty mapping.
    """
    digests: Mapping[str, str] = job.record().result.get("pools", {})
    return digests


def _load_mixed_pools(
    workspace: Workspace, *, read: Callable[..., Manifest] = pool.read_images
) -> dict[str, Manifest]:
    """Load the pools that the training mixes in, by generator; empty if it uses none."""
    config = workspace.config
    if not config.data.uses_pools:
        return {}
    images_per_class = build_training(config).required_per_class(
        workspace.cohort, n_pools=max(1, len(config.generator))
    )
    # With a fixed number per class, all arms of a study read and decode the same images.
    fixed_number = config.generate.per_class
    if fixed_number is not None and fixed_number >= max(images_per_class.values()):
        images_per_class = dict.fromkeys(config.classes, fixed_number)
    return workspace.pools(images_per_class, read=read)


def work(workspace: Workspace, pools: Mapping[str, Manifest], job: Job) -> TrainResult:
    """Train the classifier, test it once on real images, and probe what it has learned.

    Args:
        workspace: The configuration and its images.
        pools: The synthetic images to mix in, by generator.
        job: The job whose folder takes checkpoints, weights and predictions.

    Raises:
        LeakageError: If a generator was fine-tuned on images or patients of a test set.
    """
    from xraysynth.training.classifier import predict

    config, cohort, external = workspace.config, workspace.cohort, workspace.external_test_set
    learning_records = _load_learning_records(workspace, pools)
    if external is not None:
        require_no_contamination(external, pools, learning_records)
    datamodule = build_training(config).build_datamodule(cohort, pools, learning_records)
    mixed_manifests = datamodule.train_manifests[1:]  # the real images come first
    pool_digests = compute_pool_digests(dict(zip(pools, mixed_manifests, strict=False)))
    restart_if_pools_changed(job.folder, pool_digests)

    with freed_memory_kept(), tracking.open_run(config, job) as run:
        with process_group(config.trainer.accelerator):
            classifier, fit_summary = _fit(config, datamodule, job, run)
        classifier.save(Path(fit_summary.weights))

        test_images, classifier_test = cohort.split("test"), build_classifier_test(workspace)
        probabilities, targets, _ = predict(classifier, datamodule.test_dataloader())
        test_result = classifier_test.test(
            test_images, probabilities, targets, path=job.folder / PREDICTIONS
        )
        probes = None
        if config.data.control is Control.none:  # Controls are only compared with, so not probed.
            probes = classifier_test.probe(datamodule, classifier, test_images, seed=config.seed)
        result = TrainResult(
            **vars(test_result),
            **vars(fit_summary),
            **vars(count_training_images(datamodule.train_manifests)),
            pools=pool_digests,
            probes=probes,
        )
        if external is not None:
            external_scores = classifier_test.test_external(
                external, classifier, path=job.folder / EXTERNAL_PREDICTIONS
            )
            result = replace(result, external=external_scores, external_test_evaluations=1)
        stores = [workspace.pool_store(name) for name in pools]
        tracking.log_training(
            run, result, probabilities, targets, job=job, cohort=cohort, pools=stores
        )
    delete_checkpoints(job.folder)
    return result


def _work_on_other_ranks(workspace: Workspace, pools: Mapping[str, Manifest], job: Job) -> None:
    """Take part in the training that the first process tests and records."""
    config = workspace.config
    learning_records = _load_learning_records(workspace, pools)
    datamodule = build_training(config).build_datamodule(workspace.cohort, pools, learning_records)
    with process_group(config.trainer.accelerator):
        _fit(config, datamodule, job, run=None)


def _load_learning_records(
    workspace: Workspace, pools: Mapping[str, Manifest]
) -> dict[str, LearningRecord | None]:
    """Load the records of the images and patients that each pool's generator was fine-tuned on."""
    return {name: workspace.learning_record(name) for name in pools}


def _fit(
    config: Config, datamodule: "XrayDataModule", job: Job, run: Any
) -> tuple["XrayClassifier", FitSummary]:
    """Fit the classifier, and log to the W&B run if there is one."""
    logger = tracking.lightning_logger(run)
    return build_training(config).fit(datamodule, job.folder, logger=logger)
