"""Measure synthetic images against real ones: fidelity, diversity, copies and label fidelity.

The pools of a study are measured against the real test images; a pool whose generator was fine-tuned
on any of these images, or on their patients, is refused. Without downloaded weights the encoders
are the classifier of the real-only arm and the embedded autoencoder, and the results are called
FD(classifier) and FD(embedded), never FID. Each value comes with its real-vs-real baseline: the
same measure of real images at the same N, with one image per patient and in the same class mix. A
label-fidelity classifier, which was trained on other patients, says which class it sees in each
synthetic image, and the real-only classifiers are tested on the pool.

Two folders are compared without a study by xraysynth evaluate real=DIR synthetic=DIR; trained_on=DIR
also looks for copies of the training images. Classes are sub-folders, or the column label of a
manifest.csv.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth import tracking
from xraysynth.data.leakage import require_no_contamination
from xraysynth.evaluation.classifier_evaluation import FidelityClassifierResult
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, PaidGenerator
from xraysynth.generation.originals import original_files
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.records import to_json
from xraysynth.stages import _folder_comparison, _label_fidelity, _measuring, train
from xraysynth.stages._workspace import Workspace
from xraysynth.training.run import WEIGHTS_FILE

if TYPE_CHECKING:  # A wrong option must be refused before torch is imported.
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.evaluation.results import Evaluation, PoolEvaluation

SECTIONS = (
    "real",
    "synthetic",
    "trained_on",
    "generator",
    "evaluate",
    "classifier",
    "trainer",
    "tracking",
)
"""The options that this stage reads, besides those of prepare and generate."""

UNKNOWN_TRAINING_SET = "training set unknown: not assessable"


def run(workspace: Workspace) -> ResultLine:
    """Measure the pool of every selected generator, or one folder against another.

    Returns:
        The result of each pool's job under "pools", by the generator's name, with what the pool has
        cost under "ledger"; of two folders the result of their job.

    Raises:
        LeakageError: If a pool's generator was fine-tuned on val or test images or patients.
        XraysynthError: If a pool or a real-only classifier is missing; the message has the command.
    """
    if workspace.config.real is not None or workspace.config.synthetic is not None:
        return _folder_comparison.run(workspace)
    fidelity_classifier = _label_fidelity.run(workspace)
    classifiers = _real_only_weights(workspace)
    results = {}
    for name, images in workspace.pools().items():
        store = workspace.pool_store(name)
        learning_record = workspace.learning_record(name)
        require_no_contamination(workspace.cohort, {name: images}, {name: learning_record})
        job = build_job(workspace, images)
        inputs = _PoolInputs(workspace, name, images, classifiers, fidelity_classifier)
        result = workspace.run_job(job, partial(work, inputs, job))
        results[name] = result | {"ledger": to_json(pool.compute_ledger(store))}
    return {"stage": "evaluate", "state": "done", "pools": results}


def jobs(workspace: Workspace) -> list[Job]:
    """List the training of the label-fidelity classifier and one job per selected generator's pool."""
    measuring = [build_job(workspace, images) for images in workspace.pools().values()]
    return [_label_fidelity.build_job(workspace), *measuring]


def build_job(workspace: Workspace, images: Manifest) -> Job:
    """Build the job that measures these synthetic images against the cohort.

    Args:
        workspace: The configuration and its cohort.
        images: The images of one pool. Their content is in the job's identity, not the pool's key, so
            that a pool that has gained images is measured again.
    """
    config = workspace.config
    identity: dict[str, Any] = {
        "cohort": workspace.cohort.digest(),
        "pool": images.digest(),
        "size_px": config.size_px,
        "classifiers": [job.key for job in _real_only_jobs(workspace)],
        "judge": _label_fidelity.build_job(workspace).key,
        **_measuring.measures_identity(config),
    }
    if workspace.audit.has_linked_patients:
        identity["patients"] = "linked"  # Without linked patients, earlier versions found the same.
    return Job("evaluate", identity, config.output)


def _real_only_jobs(workspace: Workspace) -> list[Job]:
    """List the trainings of the real-only classifiers by seed; the first one serves as encoder."""
    config = workspace.config
    real_only = replace(config, data=config.data.with_real_images_only())
    real_only_jobs = []
    for seed in config.evaluate.classifier_seeds or [config.seed]:
        seed_workspace = workspace.with_config(replace(real_only, seed=seed))
        real_only_jobs.append(train.build_unchecked_job(seed_workspace))
    return real_only_jobs


def _real_only_weights(workspace: Workspace) -> list[Path]:
    """Return the weights files of the real-only classifiers; an error says how to train them."""
    command = workspace.command("train", "data.synthetic_fraction=0")
    real_only_jobs = _real_only_jobs(workspace)
    for job in real_only_jobs:
        job.require_done(command)
    return [job.folder / WEIGHTS_FILE for job in real_only_jobs]


@dataclass(frozen=True)
class _PoolInputs:
    """A pool to be measured, and the classifiers that look at it.

    Attributes:
        workspace: The configuration and the cohort.
        name: Name of the generator.
        images: The synthetic images.
        classifiers: Weights files of the real-only classifiers, one per seed.
        fidelity_classifier: Scores and weights of the label-fidelity classifier.
    """

    workspace: Workspace
    name: str
    images: Manifest
    classifiers: Sequence[Path]
    fidelity_classifier: FidelityClassifierResult

    @property
    def generator(self) -> Generator:
        """The generator that made the images."""
        return self.workspace.generators[self.name]


def work(inputs: _PoolInputs, job: Job) -> "PoolEvaluation":
    """Measure the images of one pool, and test classifiers on them.

    Args:
        inputs: The pool and the classifiers.
        job: The job that is logged to W&B.
    """
    workspace = inputs.workspace
    with tracking.open_run(workspace.config, job) as run:
        evaluation = _measure_images(inputs)
        result = _add_classifier_results(inputs, evaluation)
        input_artifacts = [
            tracking.cohort_artifact(workspace.cohort),
            tracking.pool_artifact(workspace.pool_store(inputs.name)),
        ]
        tracking.log_evaluation(
            run, result, images=inputs.images, input_artifacts=input_artifacts, job=job
        )
    return result


def _measure_images(inputs: _PoolInputs) -> "Evaluation":
    """Measure fidelity, diversity, appearance and, where it can be assessed, memorisation."""
    from xraysynth.evaluation.images import evaluate

    workspace, config = inputs.workspace, inputs.workspace.config
    return evaluate(
        **reference_sets(workspace.cohort, inputs.generator),
        synthetic=inputs.images,
        encoders=_measuring.build_encoders(config, config.evaluate.encoders, inputs.classifiers[0]),
        size_px=config.size_px,
        cache=workspace.cache,
        originals=original_files(inputs.images),
        resampling=_measuring.build_resampling(config),
        linked=workspace.linked_patients,
    )


def _add_classifier_results(inputs: _PoolInputs, evaluation: "Evaluation") -> "PoolEvaluation":
    """Add what the label-fidelity classifier and the real-only classifiers see in the images.

    The label-fidelity classifier gives label fidelity, confusion matrix and the usable fraction; the
    real-only classifiers give the scores of training on real and testing on synthetic images.
    """
    from xraysynth.evaluation.label_fidelity import (
        measure_label_fidelity,
        scores_on_pool,
        usable_share,
    )
    from xraysynth.evaluation.metrics.scores import confusion_matrix
    from xraysynth.evaluation.results import PoolEvaluation

    workspace, images = inputs.workspace, inputs.images
    fidelity_classifier = inputs.fidelity_classifier
    replicates = workspace.config.evaluate.replicates
    classifier_test = train.build_classifier_test(workspace)
    probabilities = classifier_test.predict(images, Path(fidelity_classifier.weights))
    return PoolEvaluation(
        **_measuring.image_measures(evaluation),
        pool=str(images.folder),
        not_assessable_reason=not_assessable_reason(inputs.generator),
        faithfulness=measure_label_fidelity(
            images, probabilities, fidelity_classifier, replicates=replicates
        ),
        confusion_matrix=confusion_matrix(probabilities, images.targets).tolist(),
        fidelity_classifier=fidelity_classifier.trained_on,
        usable=usable_share(probabilities, images.targets, evaluation.flags, replicates),
        tested_on=scores_on_pool(
            classifier_test, images, workspace.cohort.split("test"), inputs.classifiers
        ),
    )


def reference_sets(cohort: Manifest, generator: Generator) -> dict[str, Manifest]:
    """Return the real images that a pool is measured against, by argument of `evaluation.evaluate`.

    Returns:
        `real`, the test images. If memorisation can be assessed, also `train`, the images that may
        have been copied, and `held_out`, the val and test images that cannot have been.
    """
    sets = {"real": cohort.split("test")}
    if not not_assessable_reason(generator):
        sets["train"] = cohort.split("train")
        sets["held_out"] = cohort.where(cohort.table["split"].isin(["val", "test"]))
    return sets


def build_encoders(workspace: Workspace) -> list["Encoder"]:
    """Build the encoders that evaluate.encoders names.

    Raises:
        XraysynthError: If the classifier is one of them and not trained; the message has the command.
    """
    config = workspace.config
    names = config.evaluate.encoders
    classifier = _real_only_weights(workspace)[0] if "classifier" in names else None
    return _measuring.build_encoders(config, names, classifier)


def not_assessable_reason(generator: Generator) -> str:
    """Return why memorisation cannot be assessed; empty if it can.

    The training set of a model behind a paid service is unknown.
    """
    return UNKNOWN_TRAINING_SET if isinstance(generator, PaidGenerator) else ""
