"""Training the label-fidelity classifier, which says which class it sees in a synthetic image.

It is trained on other patients than the generators, so that agreement between the two is no sign of
shared training images.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from xraysynth import tracking
from xraysynth.evaluation.classifier_evaluation import FidelityClassifierResult
from xraysynth.jobs.job import Job
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.records import from_json
from xraysynth.stages._workspace import Workspace
from xraysynth.stages.train import PREDICTIONS, build_classifier_test, build_training
from xraysynth.training.run import (
    WEIGHTS_FILE,
    assign_label_fidelity_splits,
    delete_checkpoints,
)


def build_job(workspace: Workspace) -> Job:
    """Build the job that trains the label-fidelity classifier.

    Its recipe is that of the real-only arm, except that it is trained to its last step. Its stage is
    called "judge" in the output folder, as in earlier versions.
    """
    training = build_training(workspace.config).for_label_fidelity()
    identity = training.identity(_images_with_splits(workspace))
    return Job("judge", identity, workspace.output, outputs=(PREDICTIONS, WEIGHTS_FILE))


def run(workspace: Workspace) -> FidelityClassifierResult:
    """Train the label-fidelity classifier, unless it is trained.

    Returns:
        Its weights file, and its scores on the real patients that generators may be fine-tuned on.
    """
    job = build_job(workspace)
    result = workspace.run_job(job, partial(work, workspace, job))
    return from_json(FidelityClassifierResult, result)


def work(workspace: Workspace, job: Job) -> FidelityClassifierResult:
    """Train the classifier on patients whom no generator is fine-tuned on, and test it on the others.

    Args:
        workspace: The configuration and its real images.
        job: The job whose folder takes weights and predictions.

    Returns:
        How the training went, the scores on the train split's patients, and a description of the
        training images.
    """
    from xraysynth.training.classifier import predict

    config = workspace.config
    images = _images_with_splits(workspace)
    training = build_training(config).for_label_fidelity()
    datamodule = training.build_datamodule(images)
    with tracking.open_run(config, job) as run:
        logger = tracking.lightning_logger(run)
        classifier, fit_summary = training.fit(datamodule, job.folder, logger=logger)
        classifier.save(Path(fit_summary.weights))
        probabilities, targets, _ = predict(classifier, datamodule.test_dataloader())
        test_result = build_classifier_test(workspace).test(
            images.split("test"), probabilities, targets, path=job.folder / PREDICTIONS
        )
        result = FidelityClassifierResult(
            **vars(test_result),
            **vars(fit_summary),
            trained_on=_describe_training_set(images.split("train").table),
        )
        tracking.log_training(run, result, probabilities, targets, job=job, cohort=images, pools=[])
    delete_checkpoints(job.folder)
    return result


def _images_with_splits(workspace: Workspace) -> Manifest:
    """Return the real images with new splits: the train split becomes this classifier's test split."""
    minimum = workspace.config.splits.minimum_per_class
    return assign_label_fidelity_splits(
        workspace.cohort, workspace.external_test_set, min_per_class=minimum
    )


def _describe_training_set(table: pd.DataFrame) -> str:
    """Describe the images that the classifier was trained on, for the report."""
    sources = ", ".join(sorted(table["source"].unique()))
    patients = patient_keys(table).nunique()
    return f"{len(table)} real images of {patients} other patients ({sources})"
