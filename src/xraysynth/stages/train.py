"""Train a classifier on real images, synthetic ones, or both, and test it once on real images.

data.synthetic_fraction is the synthetic fraction of the training images, data.mode how they come in.
The pools are those of the selected generators and must exist; validation and test are always real.
Writes weights (safetensors), predictions.parquet and the scores below paths.output/train; with
external test sets (test_source=…) also external.parquet.
Over several processes or GPUs: torchrun --nproc_per_node 2 --no-python xraysynth train …
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.leakage import require_no_contamination, require_no_duplicates_in_pools
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.classifier_evaluation import (
    ClassifierTest,
    FidelityClassifierResult,
    TrainResult,
)
from xraysynth.generation import pool
from xraysynth.jobs.distributed import is_main, process_group, world_size
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.records import LearningRecord, from_json
from xraysynth.stages._workspace import Workspace
from xraysynth.training.recipe import Control
from xraysynth.training.run import (
    WEIGHTS_FILE,
    FitSummary,
    Training,
    assign_label_fidelity_splits,
    compute_pool_digests,
    count_training_images,
    delete_checkpoints,
    restart_if_pools_changed,
)

if TYPE_CHECKING:  # a wrong option must be refused before torch is there
    from xraysynth.training.classifier import XrayClassifier
    from xraysynth.training.datamodule import XrayDataModule

SECTIONS = ("classes", "size_px", "seed", "generator", "data", "classifier", "trainer", "tracking")
"""The options that this stage reads, besides those of prepare."""

PREDICTIONS = "predictions.parquet"
EXTERNAL_PREDICTIONS = "external.parquet"


def run(workspace: Workspace) -> ResultLine:
    """Train and test one classifier, or find it done.

    Of processes that torchrun started together the first does all but the training on its own.
    """
    _require_divisible_batch(workspace.config)
    this = build_job(workspace)
    if this.done:
        return workspace.run_job(this, dict, on_other_ranks=dict)
    if is_main() and replace(this, input_digests={}).done:
        print(
            f"train job {this.key} is trained again: its pools have other images now than it was "
            "trained on",
            file=sys.stderr,
            flush=True,
        )
    synthetic = _load_mixed_pools(workspace)
    if is_main():
        tested_on = [m for m in (workspace.cohort, workspace.external_test_set) if m is not None]
        require_no_duplicates_in_pools(tested_on, synthetic, cache=workspace.cache)
    return workspace.run_job(
        this,
        partial(work, workspace, synthetic, this),
        on_other_ranks=partial(_work_on_other_ranks, workspace, synthetic, this),
    )


def _require_divisible_batch(config: Config) -> None:
    started, batch_size = world_size(), config.data.batch_size
    if batch_size % started:
        raise ConfigError(
            f"data.batch_size={batch_size} counts the images of all processes and must be divisible by "
            f"their number, {started}; set it to {max(1, round(batch_size / started)) * started}, or "
            "start another number"
        )


def build_training(config: Config) -> Training:
    """What this configuration trains."""
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
    """How this configuration tests what it trains."""
    config = workspace.config
    return ClassifierTest(
        config.classes,
        config.evaluate.replicates,
        config.size_px,
        workspace.cache,
        linked=workspace.linked_patients,
    )


def jobs(workspace: Workspace) -> list[Job]:
    """The one job of this stage."""
    return [build_job(workspace)]


def build_job(workspace: Workspace) -> Job:
    """The training job, done only if it was trained on the images that its pools give now.

    An image that failed may be made later and takes its place among the first of its class. All
    seeds of an arm see the same images so. Without the pools a finished job counts as done.
    """
    made_of = {}
    with suppress(XraysynthError):  # a pool is gone or too small: there is nothing to compare with
        pools = _load_mixed_pools(workspace, read=pool.list_images)
        taken = (
            build_training(workspace.config).select_pool_rows(workspace.cohort, pools)
            if pools
            else {}
        )
        made_of = {"pools": compute_pool_digests(taken)} if taken else {}
    return replace(build_unchecked_job(workspace), input_digests=made_of)


def build_unchecked_job(workspace: Workspace) -> Job:
    """The training job, done also where its pools have gained images since it was trained."""
    config, cohort, external = workspace.config, workspace.cohort, workspace.external_test_set
    this = build_training(config)
    keys = {}
    if config.data.uses_pools:
        keys = {name: workspace.pool_store(name).key for name in workspace.generators}
    decides = this.identity(cohort) | this.mixing_identity(keys)
    leaves: tuple[str, ...] = (PREDICTIONS, WEIGHTS_FILE)
    if external is not None:
        decides["external"] = external.digest()
        leaves = (*leaves, EXTERNAL_PREDICTIONS)
    return Job("train", decides, config.output, outputs=leaves)


def trained_pool_digests(job: Job) -> Mapping[str, str]:
    """Pool -> digest of the images that a finished training has seen; empty for earlier versions."""
    seen: Mapping[str, str] = job.record().result.get("pools", {})
    return seen


def _load_mixed_pools(
    workspace: Workspace, *, read: Callable[..., Manifest] = pool.read_images
) -> dict[str, Manifest]:
    config = workspace.config
    if not config.data.uses_pools:
        return {}
    needed = build_training(config).required_per_class(
        workspace.cohort, n_pools=len(config.generator)
    )
    # With a fixed number per class, all arms of a study read (and decode) the same images.
    fixed = config.generate.per_class
    if fixed is not None and fixed >= max(needed.values()):
        needed = dict.fromkeys(config.classes, fixed)
    return workspace.pools(needed, read=read)


def work(workspace: Workspace, pools: Mapping[str, Manifest], job: Job) -> TrainResult:
    """Train, test once on real images, and probe what the classifier has learned."""
    from xraysynth.training.classifier import predict

    config, cohort, external = workspace.config, workspace.cohort, workspace.external_test_set
    learned = _load_learning_records(workspace, pools)
    if external is not None:
        require_no_contamination(external, pools, learned)
    datamodule = build_training(config).build_datamodule(cohort, pools, learned)
    digests = compute_pool_digests(dict(zip(pools, datamodule.train_manifests[1:], strict=False)))
    restart_if_pools_changed(job.folder, digests)
    with tracking.open_run(config, job) as run:
        with process_group(config.trainer.accelerator):
            module, facts = _fit(config, datamodule, job, run)
        module.save(Path(facts.weights))
        probabilities, targets, _ = predict(module, datamodule.test_dataloader())
        test, testing = cohort.split("test"), build_classifier_test(workspace)
        tested = testing.test(test, probabilities, targets, path=job.folder / PREDICTIONS)
        is_control = config.data.control is not Control.none  # which is no arm of its own interest
        result = TrainResult(
            **vars(tested),
            **vars(facts),
            **vars(count_training_images(datamodule.train_manifests)),
            pools=digests,
            probes=None
            if is_control
            else testing.probe(datamodule, module, test, seed=config.seed),
        )
        if external is not None:
            scores = testing.test_external(external, module, path=job.folder / EXTERNAL_PREDICTIONS)
            result = replace(result, external=scores, external_test_evaluations=1)
        stores = [workspace.pool_store(name) for name in pools]
        _log(run, result, probabilities, targets, job=job, cohort=cohort, pools=stores)
    delete_checkpoints(job.folder)
    return result


def _work_on_other_ranks(workspace: Workspace, pools: Mapping[str, Manifest], job: Job) -> None:
    """What a process does beside that which does `work`: it takes part in the training."""
    config = workspace.config
    learned = _load_learning_records(workspace, pools)
    datamodule = build_training(config).build_datamodule(workspace.cohort, pools, learned)
    with process_group(config.trainer.accelerator):
        _fit(config, datamodule, job, None)


def _load_learning_records(
    workspace: Workspace, pools: Mapping[str, Manifest]
) -> dict[str, LearningRecord | None]:
    """What the generators of these pools have seen."""
    return {name: pool.read_learning_record(workspace.pool_store(name)) for name in pools}


def _fit(
    config: Config, datamodule: "XrayDataModule", job: Job, run: Any
) -> tuple["XrayClassifier", FitSummary]:
    logger = tracking.lightning_logger(run)
    return build_training(config).fit(datamodule, job.folder, logger=logger)


def _log(
    run: Any, result: TrainResult | FidelityClassifierResult, *arrays: np.ndarray, **sources: Any
) -> None:
    tracking.log_training(run, result, *arrays, **sources)


def build_label_fidelity_job(workspace: Workspace) -> Job:
    """The training of the classifier that says which class it sees in synthetic images."""
    identity = (
        build_training(workspace.config)
        .for_label_fidelity()
        .identity(_label_fidelity_cohort(workspace))
    )
    return Job("judge", identity, workspace.output, outputs=(PREDICTIONS, WEIGHTS_FILE))


def _label_fidelity_cohort(workspace: Workspace) -> Manifest:
    minimum = workspace.config.splits.minimum_per_class
    return assign_label_fidelity_splits(
        workspace.cohort, workspace.external_test_set, min_per_class=minimum
    )


def run_label_fidelity(workspace: Workspace) -> FidelityClassifierResult:
    """Train the judge, or find it trained: its weights, and its scores on the real train patients."""
    this = build_label_fidelity_job(workspace)
    line = workspace.run_job(this, partial(work_label_fidelity, workspace, this))
    return from_json(FidelityClassifierResult, line)


def work_label_fidelity(workspace: Workspace, job: Job) -> FidelityClassifierResult:
    """Train the judge on other patients than generators, and test it on theirs."""
    from xraysynth.training.classifier import predict

    roles = _label_fidelity_cohort(workspace)
    config = workspace.config
    judging = build_training(config).for_label_fidelity()
    datamodule = judging.build_datamodule(roles)
    with tracking.open_run(config, job) as run:
        logger = tracking.lightning_logger(run)
        module, facts = judging.fit(datamodule, job.folder, logger=logger)
        module.save(Path(facts.weights))
        probabilities, targets, _ = predict(module, datamodule.test_dataloader())
        test, path = roles.split("test"), job.folder / PREDICTIONS
        tested = build_classifier_test(workspace).test(test, probabilities, targets, path=path)
        taught = roles.split("train").table
        sources = ", ".join(sorted(taught["source"].unique()))
        result = FidelityClassifierResult(
            **vars(tested),
            **vars(facts),
            trained_on=f"{len(taught)} real images of {patient_keys(taught).nunique()} other patients "
            f"({sources})",
        )
        _log(run, result, probabilities, targets, job=job, cohort=roles, pools=[])
    delete_checkpoints(job.folder)
    return result
