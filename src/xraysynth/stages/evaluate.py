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
from xraysynth.config import Config, with_former_names
from xraysynth.data.leakage import check_firewall
from xraysynth.errors import ConfigError
from xraysynth.evaluation.classifier_evaluation import JudgeResult, TrainResult
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, Paid
from xraysynth.jobs.distributed import gpu
from xraysynth.jobs.job import Job, Line
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

MEASURES = 4
"""Raised whenever a measure is added or changed, so that old pools are measured anew."""

PAGE, TABLE = "evaluation.html", "measures.csv"

UNKNOWN = "training set unknown: not assessable"


def run(workspace: Workspace) -> Line:
    """Measure the pool of every selected generator, or one folder against another."""
    if workspace.config.real is not None or workspace.config.synthetic is not None:
        return _folders(workspace)
    judge = train.run_judge(workspace)
    classifiers = _classifiers(workspace)
    results = {}
    for name, images in workspace.pools().items():
        store = workspace.store(name)
        check_firewall(workspace.cohort, {name: images}, {name: pool.learned(store)})
        this = job(workspace, images)
        measured = _Measured(workspace, name, images, classifiers, judge)
        results[name] = workspace.perform(this, partial(work, measured, this))
        results[name]["ledger"] = to_json(pool.ledger(store))
    return {"stage": "evaluate", "state": "done", "pools": results}


def jobs(workspace: Workspace) -> list[Job]:
    """The training of the judge, and the measuring of the pool of every selected generator."""
    measuring = [job(workspace, images) for images in workspace.pools().values()]
    return [train.judge_job(workspace), *measuring]


def job(workspace: Workspace, images: Manifest) -> Job:
    """The job that measures this pool against the cohort."""
    config = workspace.config
    identity: dict[str, Any] = {
        "cohort": workspace.cohort.digest(),
        "pool": images.digest(),
        "size_px": config.size_px,
        "classifiers": [classifier.key for classifier in _classifier_jobs(workspace)],
        "judge": train.judge_job(workspace).key,
        "evaluate": with_former_names("evaluate", asdict(config.evaluate)),
        "measures": MEASURES,
    }
    if workspace.audit.may_link_patients:
        identity["patients"] = "linked"  # where none are, it makes no difference
    return Job("evaluate", identity, config.output)


def _classifier_jobs(workspace: Workspace) -> list[Job]:
    """Of the real-only classifiers; features are those of the first."""
    config = workspace.config
    real_only = replace(config, data=config.data.real_only())
    seeds = config.evaluate.classifier_seeds or [config.seed]
    return [train.lasting_job(workspace.derive(replace(real_only, seed=seed))) for seed in seeds]


def _classifiers(workspace: Workspace) -> list[Path]:
    command = workspace.command("train", "data.synthetic_fraction=0")
    return [Path(job.result(TrainResult, command).weights) for job in _classifier_jobs(workspace)]


@dataclass(frozen=True)
class _Measured:
    """A pool to be measured, and the classifiers that look at it."""

    workspace: Workspace
    name: str
    images: Manifest
    classifiers: Sequence[Path]
    judge: JudgeResult


def work(measured: _Measured, this: Job) -> "PoolEvaluation":
    """Measure one pool."""
    from xraysynth.evaluation.images import Precision, evaluate
    from xraysynth.evaluation.label_fidelity import label_fidelity, scores_on_pool, usable_share
    from xraysynth.evaluation.metrics.scores import confusion
    from xraysynth.evaluation.results import PoolEvaluation

    workspace, images = measured.workspace, measured.images
    config, cohort = workspace.config, workspace.cohort
    generator, replicates = workspace.generators[measured.name], config.evaluate.replicates
    with tracking.tracked(config, this) as run:
        found = evaluate(
            **references(cohort, generator),
            synthetic=images,
            encoders=_encoders(config, config.evaluate.encoders, measured.classifiers[0]),
            size_px=config.size_px,
            cache=workspace.cache,
            originals=pool.originals(images),
            precision=_precision(config, Precision),
            linked=workspace.linked,
        )
        test = train.classifier_test(workspace)
        seen = test.predict(images, Path(measured.judge.weights))
        result = PoolEvaluation(
            pool=str(images.folder),
            assessable=why_not_assessable(generator),
            images=found.images,
            measures=found.measures,
            diversity=found.diversity,
            nearest_similarity=found.nearest_similarity,
            closest=found.closest,
            appearance=found.appearance,
            faithfulness=label_fidelity(images, seen, measured.judge, replicates=replicates),
            seen=confusion(seen, images.targets).tolist(),
            judge=measured.judge.trained_on,
            usable=usable_share(seen, images.targets, found.flags, replicates),
            tested_on=scores_on_pool(test, images, cohort.split("test"), measured.classifiers),
        )
        made_from = [
            tracking.of_cohort(cohort),
            tracking.of_pool(workspace.store(measured.name)),
        ]
        tracking.log_evaluation(run, result, images=images, made_from=made_from, job=this)
    return result


def references(cohort: Manifest, generator: Generator) -> dict[str, Manifest]:
    """What a pool is measured against: `real`, and for copies `train` and `held_out` with it."""
    found = {"real": cohort.split("test")}
    if not why_not_assessable(generator):
        held_out = cohort.where(cohort.table["split"].isin(["val", "test"]))
        found |= {"train": cohort.split("train"), "held_out": held_out}
    return found


def encoders(workspace: Workspace) -> list[Any]:
    """Those of evaluate.encoders; an error says how to train a classifier that is one of them."""
    config = workspace.config
    names = config.evaluate.encoders
    classifier = _classifiers(workspace)[0] if "classifier" in names else None
    return _encoders(config, names, classifier)


def why_not_assessable(generator: Generator) -> str:
    """Why copies cannot be looked for: of a model behind an API nobody knows what it has seen."""
    return UNKNOWN if isinstance(generator, Paid) else ""


def _precision(config: Config, kind: Any) -> Any:
    options = config.evaluate
    return kind(options.baseline_splits, options.replicates, options.pairs_per_class)


def _encoders(config: Config, names: Sequence[str], classifier: Path | None) -> list[Any]:
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
    device = gpu() if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu"
    return [
        build(name, weights=paths.get(name), classifier=module, device=device) for name in names
    ]


def _folders(workspace: Workspace) -> Line:
    """One folder of synthetic images against one of real images."""
    from xraysynth.evaluation.folders import common_size, from_folder, same_classes

    config = workspace.config
    if config.real is None or config.synthetic is None:
        raise ConfigError(
            "real and synthetic must both be given: xraysynth evaluate real=DIR synthetic=DIR"
        )
    found = [from_folder(Path(config.real)), from_folder(Path(config.synthetic), is_synthetic=True)]
    if config.trained_on is not None:
        found.append(from_folder(Path(config.trained_on)))
    found = same_classes(*found)
    size_px = config.evaluate.size_px or common_size(*found)
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
        "evaluate": with_former_names("evaluate", asdict(config.evaluate)),
        "measures": MEASURES,
    }
    this = Job("evaluate", decides, config.output, leaves=(PAGE, TABLE))
    encoders = _encoders(config, names, Path(classifier) if classifier else None)
    return workspace.perform(this, partial(_compare, workspace, found, encoders, size_px, this))


def _compare(
    workspace: Workspace,
    found: Sequence[Manifest],
    encoders: Sequence[Any],
    size_px: int,
    this: Job,
) -> "FolderEvaluation":
    from xraysynth.evaluation.folders import comparison_limits
    from xraysynth.evaluation.images import Precision, evaluate
    from xraysynth.evaluation.results import FolderEvaluation, headline
    from xraysynth.report import page, tables
    from xraysynth.report.content import Evaluation

    config = workspace.config
    real, synthetic = found[:2]
    train_set = found[2] if len(found) > 2 else None
    evaluation = evaluate(
        real=real,
        synthetic=synthetic,
        train=train_set,
        encoders=encoders,
        size_px=size_px,
        cache=workspace.cache,
        precision=_precision(config, Precision),
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
        assessable="" if train_set else "no training images given (trained_on=DIR): not assessed",
        closest=evaluation.closest,
        appearance=evaluation.appearance,
        limits=comparison_limits(found, [encoder.name for encoder in encoders], size_px),
    )
    (this.folder / PAGE).write_text(page.render_evaluation(view), encoding="utf-8")
    tables.measures(view).to_csv(this.folder / TABLE, index=False)
    return FolderEvaluation(
        images=evaluation.images,
        measures=evaluation.measures,
        diversity=evaluation.diversity,
        nearest_similarity=evaluation.nearest_similarity,
        closest=evaluation.closest,
        appearance=evaluation.appearance,
        size_px=size_px,
        page=str(this.folder / PAGE),
        table=str(this.folder / TABLE),
        headline=headline(evaluation.measures),
    )
