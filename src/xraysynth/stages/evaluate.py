"""Synthetic images against real ones: how near, how diverse, whether copied, and of the right class.

Of a study's pools, the reference are the real test images; a pool whose generator has learned from any
of them, or from their patients, is refused. Without any downloaded weights the encoders are the
classifier of the real-only arm and the embedded autoencoder, and the results are called
FD(classifier) and FD(embedded), never FID. Each value stands beside real against real, at the same N,
with one image a patient and in the same class mix. A judge that has been trained on other patients
says which class it sees, and the real-only classifiers are tested on the pool.

Any two folders are compared without a study: xraysynth evaluate real=DIR synthetic=DIR, with
trained_on=DIR also for copies. Classes are sub-folders, or the column label of a manifest.csv.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth import tracking
from xraysynth.config import Config, with_deprecated_names
from xraysynth.data.leakage import require_no_contamination
from xraysynth.errors import ConfigError
from xraysynth.evaluation.classifier_evaluation import FidelityClassifierResult, TrainResult
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, PaidGenerator
from xraysynth.jobs.distributed import select_gpu
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.records import to_json
from xraysynth.stages import train
from xraysynth.stages._workspace import Workspace

if TYPE_CHECKING:
    from xraysynth.evaluation.results import FolderEvaluation, PoolEvaluation

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

MEASURES_VERSION = 4
"""Raised whenever a measure is added or changed, so that old pools are measured anew."""

PAGE_FILE, TABLE_FILE = "evaluation.html", "measures.csv"

UNKNOWN_TRAINING_SET = "training set unknown: not assessable"


def run(workspace: Workspace) -> ResultLine:
    """Measure the pool of every selected generator, or one folder against another."""
    if workspace.config.real is not None or workspace.config.synthetic is not None:
        return _evaluate_folders(workspace)
    judge = train.run_label_fidelity(workspace)
    classifiers = _classifier_weights(workspace)
    results = {}
    for name, images in workspace.pools().items():
        store = workspace.pool_store(name)
        require_no_contamination(
            workspace.cohort, {name: images}, {name: pool.read_learning_record(store)}
        )
        this = build_job(workspace, images)
        measured = _PoolInputs(workspace, name, images, classifiers, judge)
        results[name] = workspace.run_job(this, partial(work, measured, this))
        results[name]["ledger"] = to_json(pool.compute_ledger(store))
    return {"stage": "evaluate", "state": "done", "pools": results}


def jobs(workspace: Workspace) -> list[Job]:
    """The training of the judge, and the measuring of the pool of every selected generator."""
    measuring = [build_job(workspace, images) for images in workspace.pools().values()]
    return [train.build_label_fidelity_job(workspace), *measuring]


def build_job(workspace: Workspace, images: Manifest) -> Job:
    """The job that measures this pool against the cohort."""
    config = workspace.config
    identity: dict[str, Any] = {
        "cohort": workspace.cohort.digest(),
        "pool": images.digest(),
        "size_px": config.size_px,
        "classifiers": [classifier.key for classifier in _classifier_jobs(workspace)],
        "judge": train.build_label_fidelity_job(workspace).key,
        "evaluate": with_deprecated_names("evaluate", asdict(config.evaluate)),
        "measures": MEASURES_VERSION,
    }
    if workspace.audit.has_linked_patients:
        identity["patients"] = "linked"  # where none are, it makes no difference
    return Job("evaluate", identity, config.output)


def _classifier_jobs(workspace: Workspace) -> list[Job]:
    """Of the real-only classifiers; features are those of the first."""
    config = workspace.config
    real_only = replace(config, data=config.data.with_real_images_only())
    seeds = config.evaluate.classifier_seeds or [config.seed]
    return [
        train.build_unchecked_job(workspace.with_config(replace(real_only, seed=seed)))
        for seed in seeds
    ]


def _classifier_weights(workspace: Workspace) -> list[Path]:
    command = workspace.command("train", "data.synthetic_fraction=0")
    return [Path(job.result(TrainResult, command).weights) for job in _classifier_jobs(workspace)]


@dataclass(frozen=True)
class _PoolInputs:
    """A pool to be measured, and the classifiers that look at it."""

    workspace: Workspace
    name: str
    images: Manifest
    classifiers: Sequence[Path]
    fidelity_classifier: FidelityClassifierResult


def work(inputs: _PoolInputs, job: Job) -> "PoolEvaluation":
    """Measure one pool."""
    from xraysynth.evaluation.images import Resampling, evaluate
    from xraysynth.evaluation.label_fidelity import (
        measure_label_fidelity,
        scores_on_pool,
        usable_share,
    )
    from xraysynth.evaluation.metrics.scores import confusion_matrix
    from xraysynth.evaluation.results import PoolEvaluation

    workspace, images = inputs.workspace, inputs.images
    config, cohort = workspace.config, workspace.cohort
    generator, replicates = workspace.generators[inputs.name], config.evaluate.replicates
    with tracking.open_run(config, job) as run:
        found = evaluate(
            **reference_sets(cohort, generator),
            synthetic=images,
            encoders=_build_encoders(config, config.evaluate.encoders, inputs.classifiers[0]),
            size_px=config.size_px,
            cache=workspace.cache,
            originals=pool.original_files(images),
            resampling=_build_precision(config, Resampling),
            linked=workspace.linked_patients,
        )
        test = train.build_classifier_test(workspace)
        seen = test.predict(images, Path(inputs.fidelity_classifier.weights))
        result = PoolEvaluation(
            pool=str(images.folder),
            not_assessable_reason=not_assessable_reason(generator),
            images=found.images,
            measures=found.measures,
            diversity=found.diversity,
            nearest_similarity=found.nearest_similarity,
            closest=found.closest,
            appearance=found.appearance,
            faithfulness=measure_label_fidelity(
                images, seen, inputs.fidelity_classifier, replicates=replicates
            ),
            confusion_matrix=confusion_matrix(seen, images.targets).tolist(),
            fidelity_classifier=inputs.fidelity_classifier.trained_on,
            usable=usable_share(seen, images.targets, found.flags, replicates),
            tested_on=scores_on_pool(test, images, cohort.split("test"), inputs.classifiers),
        )
        made_from = [
            tracking.cohort_artifact(cohort),
            tracking.pool_artifact(workspace.pool_store(inputs.name)),
        ]
        tracking.log_evaluation(run, result, images=images, input_artifacts=made_from, job=job)
    return result


def reference_sets(cohort: Manifest, generator: Generator) -> dict[str, Manifest]:
    """What a pool is measured against: `real`, and for copies `train` and `held_out` with it."""
    found = {"real": cohort.split("test")}
    if not not_assessable_reason(generator):
        held_out = cohort.where(cohort.table["split"].isin(["val", "test"]))
        found |= {"train": cohort.split("train"), "held_out": held_out}
    return found


def build_encoders(workspace: Workspace) -> list[Any]:
    """Those of evaluate.encoders; an error says how to train a classifier that is one of them."""
    config = workspace.config
    names = config.evaluate.encoders
    classifier = _classifier_weights(workspace)[0] if "classifier" in names else None
    return _build_encoders(config, names, classifier)


def not_assessable_reason(generator: Generator) -> str:
    """Why copies cannot be looked for: of a model behind an API nobody knows what it has seen."""
    return UNKNOWN_TRAINING_SET if isinstance(generator, PaidGenerator) else ""


def _build_precision(config: Config, precision_class: Any) -> Any:
    options = config.evaluate
    return precision_class(options.baseline_splits, options.replicates, options.pairs_per_class)


def _build_encoders(config: Config, names: Sequence[str], classifier: Path | None) -> list[Any]:
    import torch

    from xraysynth.evaluation.encoders import build
    from xraysynth.training.classifier import XrayClassifier

    unknown = sorted(set(config.evaluate.weights) - set(names))
    if unknown:
        raise ConfigError(
            f"evaluate.weights names {', '.join(unknown)}, which evaluate.encoders="
            f"{list(names)} does not; add it there"
        )
    module = XrayClassifier.load(classifier) if classifier else None
    paths = {n: Path(p) for n, p in config.evaluate.weights.items() if n != "classifier"}
    device = (
        select_gpu() if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu"
    )
    return [
        build(name, weights=paths.get(name), classifier=module, device=device) for name in names
    ]


def _evaluate_folders(workspace: Workspace) -> ResultLine:
    """One folder of synthetic images against one of real images."""
    from xraysynth.evaluation.folders import choose_common_size, from_folder, unify_classes

    config = workspace.config
    if config.real is None or config.synthetic is None:
        raise ConfigError(
            "real and synthetic must both be given: xraysynth evaluate real=DIR synthetic=DIR"
        )
    found = [from_folder(Path(config.real)), from_folder(Path(config.synthetic), is_synthetic=True)]
    if config.trained_on is not None:
        found.append(from_folder(Path(config.trained_on)))
    found = unify_classes(*found)
    size_px = config.evaluate.size_px or choose_common_size(*found)
    classifier = config.evaluate.weights.get("classifier")
    names = [n for n in config.evaluate.encoders if n != "classifier" or classifier]
    if not names:
        raise ConfigError(
            "evaluate.encoders=[classifier] needs a classifier for two folders: "
            "evaluate.weights.classifier=<classifier.safetensors>; or take evaluate.encoders=[embedded]"
        )
    decides = {
        "sets": [manifest.digest() for manifest in found],
        "size_px": size_px,
        "evaluate": with_deprecated_names("evaluate", asdict(config.evaluate)),
        "measures": MEASURES_VERSION,
    }
    this = Job("evaluate", decides, config.output, outputs=(PAGE_FILE, TABLE_FILE))
    encoders = _build_encoders(config, names, Path(classifier) if classifier else None)
    return workspace.run_job(
        this, partial(_compare_folders, workspace, found, encoders, size_px, this)
    )


def _compare_folders(
    workspace: Workspace,
    manifests: Sequence[Manifest],
    encoders: Sequence[Any],
    size_px: int,
    job: Job,
) -> "FolderEvaluation":
    from xraysynth.evaluation.folders import comparison_limitations
    from xraysynth.evaluation.images import Resampling, evaluate
    from xraysynth.evaluation.results import FolderEvaluation, format_headline
    from xraysynth.report import page, tables
    from xraysynth.report.content import Evaluation

    config = workspace.config
    real, synthetic = manifests[:2]
    train_set = manifests[2] if len(manifests) > 2 else None
    evaluation = evaluate(
        real=real,
        synthetic=synthetic,
        train=train_set,
        encoders=encoders,
        size_px=size_px,
        cache=workspace.cache,
        resampling=_build_precision(config, Resampling),
    )
    view = Evaluation(
        title=f"{synthetic.folder.name} against {real.folder.name}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=workspace.command("evaluate"),
        real=real,
        synthetic=synthetic,
        train=train_set,
        measures=evaluation.measures,
        diversity=evaluation.diversity,
        nearest_similarity=evaluation.nearest_similarity,
        not_assessable_reason=""
        if train_set
        else "no training images given (trained_on=DIR): not assessed",
        closest=evaluation.closest,
        appearance=evaluation.appearance,
        limits=comparison_limitations(manifests, [encoder.name for encoder in encoders], size_px),
    )
    (job.folder / PAGE_FILE).write_text(page.render_evaluation(view), encoding="utf-8")
    tables.measures_table(view).to_csv(job.folder / TABLE_FILE, index=False)
    return FolderEvaluation(
        images=evaluation.images,
        measures=evaluation.measures,
        diversity=evaluation.diversity,
        nearest_similarity=evaluation.nearest_similarity,
        closest=evaluation.closest,
        appearance=evaluation.appearance,
        size_px=size_px,
        page=str(job.folder / PAGE_FILE),
        table=str(job.folder / TABLE_FILE),
        headline=format_headline(evaluation.measures),
    )
