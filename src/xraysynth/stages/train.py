"""A classifier on real images, synthetic ones, or both; tested once on real images.

data.synthetic_fraction is the part of the training images that is synthetic, data.mode how they come
in. The pools are those of the selected generators and must exist; validation and test are always real. Writes
weights (safetensors), predictions.parquet and the scores below paths.output/train; with external
test sets (test_source=…) also external.parquet.
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
from xraysynth.data.leakage import check_firewall, require_no_copies_of_held_out
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.classifier_evaluation import ClassifierTest, JudgeResult, TrainResult
from xraysynth.generation import pool
from xraysynth.jobs.distributed import is_main, process_group, world_size
from xraysynth.jobs.job import Job, Line
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.records import LearningRecord, from_json
from xraysynth.stages._workspace import Workspace
from xraysynth.training.recipe import Control
from xraysynth.training.run import (
    WEIGHTS,
    FitFacts,
    Training,
    content_digests,
    forget_steps,
    image_counts,
    judge_roles,
    start_over_unless,
)

if TYPE_CHECKING:  # a wrong option must be refused before torch is there
    from xraysynth.training.classifier import XrayClassifier
    from xraysynth.training.datamodule import XrayDataModule

SECTIONS = ("classes", "size_px", "seed", "generator", "data", "classifier", "trainer", "tracking")
"""The options that this stage reads, besides those of prepare."""

PREDICTIONS = "predictions.parquet"
EXTERNAL = "external.parquet"


def run(workspace: Workspace) -> Line:
    """Train and test one classifier, or find it done.

    Of processes that torchrun started together the first does all but the training on its own.
    """
    _require_equal_shares(workspace.config)
    this = job(workspace)
    if this.done:
        return workspace.perform(this, dict, beside=dict)
    if is_main() and replace(this, made_of={}).done:
        print(
            f"train job {this.key} is trained again: its pools have other images now than it was "
            "trained on",
            file=sys.stderr,
            flush=True,
        )
    synthetic = _mixed_pools(workspace)
    if is_main():
        tested_on = [m for m in (workspace.cohort, workspace.external) if m is not None]
        require_no_copies_of_held_out(tested_on, synthetic, cache=workspace.cache)
    return workspace.perform(
        this,
        partial(work, workspace, synthetic, this),
        beside=partial(_assist, workspace, synthetic, this),
    )


def _require_equal_shares(config: Config) -> None:
    started, batch_size = world_size(), config.data.batch_size
    if batch_size % started:
        raise ConfigError(
            f"data.batch_size={batch_size} counts the images of all processes and must be divisible by "
            f"their number, {started}; set it to {max(1, round(batch_size / started)) * started}, or "
            "start another number"
        )


def training(config: Config) -> Training:
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


def classifier_test(workspace: Workspace) -> ClassifierTest:
    """How this configuration tests what it trains."""
    config = workspace.config
    return ClassifierTest(
        config.classes,
        config.evaluate.replicates,
        config.size_px,
        workspace.cache,
        linked=workspace.linked,
    )


def jobs(workspace: Workspace) -> list[Job]:
    """The one job of this stage."""
    return [job(workspace)]


def job(workspace: Workspace) -> Job:
    """The training job, done only if it was trained on the images that its pools give now.

    An image that failed may be made later and takes its place among the first of its class. All
    seeds of an arm see the same images so. Without the pools a finished job counts as done.
    """
    made_of = {}
    with suppress(XraysynthError):  # a pool is gone or too small: there is nothing to compare with
        pools = _mixed_pools(workspace, read=pool.listed)
        taken = training(workspace.config).rows_of_pools(workspace.cohort, pools) if pools else {}
        made_of = {"pools": content_digests(taken)} if taken else {}
    return replace(lasting_job(workspace), made_of=made_of)


def lasting_job(workspace: Workspace) -> Job:
    """The training job, done also where its pools have gained images since it was trained."""
    config, cohort, external = workspace.config, workspace.cohort, workspace.external
    this = training(config)
    keys = {}
    if config.data.takes_pools:
        keys = {name: workspace.store(name).key for name in workspace.generators}
    decides = this.identity(cohort) | this.mix_identity(keys)
    leaves: tuple[str, ...] = (PREDICTIONS, WEIGHTS)
    if external is not None:
        decides["external"] = external.digest()
        leaves = (*leaves, EXTERNAL)
    return Job("train", decides, config.output, leaves=leaves)


def pools_seen(this: Job) -> Mapping[str, str]:
    """Pool -> digest of the images that a finished training has seen; empty for earlier versions."""
    seen: Mapping[str, str] = this.record().result.get("pools", {})
    return seen


def _mixed_pools(
    workspace: Workspace, *, read: Callable[..., Manifest] = pool.read
) -> dict[str, Manifest]:
    config = workspace.config
    if not config.data.takes_pools:
        return {}
    needed = training(config).required_per_class(workspace.cohort, n_pools=len(config.generator))
    # With a fixed number per class, all arms of a study read (and decode) the same images.
    fixed = config.generate.per_class
    if fixed is not None and fixed >= max(needed.values()):
        needed = dict.fromkeys(config.classes, fixed)
    return workspace.pools(needed, read=read)


def work(workspace: Workspace, synthetic: Mapping[str, Manifest], this: Job) -> TrainResult:
    """Train, test once on real images, and probe what the classifier has learned."""
    from xraysynth.training.classifier import predict

    config, cohort, external = workspace.config, workspace.cohort, workspace.external
    learned = _learned(workspace, synthetic)
    if external is not None:
        check_firewall(external, synthetic, learned)
    datamodule = training(config).datamodule(cohort, synthetic, learned)
    digests = content_digests(dict(zip(synthetic, datamodule.train_manifests[1:], strict=False)))
    start_over_unless(this.folder, digests)
    with tracking.tracked(config, this) as run:
        with process_group(config.trainer.accelerator):
            module, facts = _fit(config, datamodule, this, run)
        module.save(Path(facts.weights))
        probabilities, targets, _ = predict(module, datamodule.test_dataloader())
        test, testing = cohort.split("test"), classifier_test(workspace)
        tested = testing.test(test, probabilities, targets, path=this.folder / PREDICTIONS)
        is_control = config.data.control is not Control.none  # which is no arm of its own interest
        result = TrainResult(
            **vars(tested),
            **vars(facts),
            **vars(image_counts(datamodule.train_manifests)),
            pools=digests,
            probes=None
            if is_control
            else testing.probe(datamodule, module, test, seed=config.seed),
        )
        if external is not None:
            scores = testing.test_outside(external, module, path=this.folder / EXTERNAL)
            result = replace(result, external=scores, external_test_evaluations=1)
        stores = [workspace.store(name) for name in synthetic]
        _log(run, result, probabilities, targets, job=this, cohort=cohort, pools=stores)
    forget_steps(this.folder)
    return result


def _assist(workspace: Workspace, synthetic: Mapping[str, Manifest], this: Job) -> None:
    """What a process does beside that which does `work`: it takes part in the training."""
    config = workspace.config
    learned = _learned(workspace, synthetic)
    datamodule = training(config).datamodule(workspace.cohort, synthetic, learned)
    with process_group(config.trainer.accelerator):
        _fit(config, datamodule, this, None)


def _learned(
    workspace: Workspace, synthetic: Mapping[str, Manifest]
) -> dict[str, LearningRecord | None]:
    """What the generators of these pools have seen."""
    return {name: pool.learned(workspace.store(name)) for name in synthetic}


def _fit(
    config: Config, datamodule: "XrayDataModule", this: Job, run: Any
) -> tuple["XrayClassifier", FitFacts]:
    logger = tracking.lightning_logger(run)
    return training(config).fit(datamodule, this.folder, logger=logger)


def _log(run: Any, result: TrainResult | JudgeResult, *arrays: np.ndarray, **sources: Any) -> None:
    tracking.log_training(run, result, *arrays, **sources)


def judge_job(workspace: Workspace) -> Job:
    """The training of the classifier that says which class it sees in synthetic images."""
    identity = training(workspace.config).judge().identity(_judge_roles(workspace))
    return Job("judge", identity, workspace.output, leaves=(PREDICTIONS, WEIGHTS))


def _judge_roles(workspace: Workspace) -> Manifest:
    minimum = workspace.config.splits.minimum_per_class
    return judge_roles(workspace.cohort, workspace.external, minimum=minimum)


def run_judge(workspace: Workspace) -> JudgeResult:
    """Train the judge, or find it trained: its weights, and its scores on the real train patients."""
    this = judge_job(workspace)
    line = workspace.perform(this, partial(work_judge, workspace, this))
    return from_json(JudgeResult, line)


def work_judge(workspace: Workspace, this: Job) -> JudgeResult:
    """Train the judge on other patients than generators, and test it on theirs."""
    from xraysynth.training.classifier import predict

    roles = _judge_roles(workspace)
    config = workspace.config
    judging = training(config).judge()
    datamodule = judging.datamodule(roles)
    with tracking.tracked(config, this) as run:
        logger = tracking.lightning_logger(run)
        module, facts = judging.fit(datamodule, this.folder, logger=logger)
        module.save(Path(facts.weights))
        probabilities, targets, _ = predict(module, datamodule.test_dataloader())
        test, path = roles.split("test"), this.folder / PREDICTIONS
        tested = classifier_test(workspace).test(test, probabilities, targets, path=path)
        taught = roles.split("train").table
        sources = ", ".join(sorted(taught["source"].unique()))
        result = JudgeResult(
            **vars(tested),
            **vars(facts),
            trained_on=f"{len(taught)} real images of {patient_keys(taught).nunique()} other patients "
            f"({sources})",
        )
        _log(run, result, probabilities, targets, job=this, cohort=roles, pools=[])
    forget_steps(this.folder)
    return result
