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

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.audit import person_keys
from xraysynth.data.leakage import check_firewall
from xraysynth.errors import ConfigError
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, Paid
from xraysynth.jobs.distributed import gpu
from xraysynth.jobs.job import Job
from xraysynth.manifest import Manifest
from xraysynth.records import from_json, to_json
from xraysynth.stages import finetune, fitting, generate, prepare, train

if TYPE_CHECKING:
    from xraysynth.evaluation.results import LabelFidelity, Measure, TestedOn, UsableShare

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


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Measure the pool of every selected generator, or one folder against another."""
    if config.real is not None or config.synthetic is not None:
        return _folders(config, overrides)
    cohort, audit = prepare.cohort(config, overrides)
    external = prepare.external(config, overrides)
    judge = train.run_judge(config, cohort, external, overrides)
    classifiers = _classifiers(config, cohort, external, overrides)
    counts = generate.counts(config, overrides)
    bound = finetune.bound(config, cohort)
    linked = prepare.same_persons(cohort, audit)
    results = {}
    for name, images in generate.pools(config, overrides, counts).items():
        store = generate.store(config, bound[name])
        check_firewall(cohort, {name: images}, {name: pool.learned(store)})
        this = job(config, cohort, images, external)
        results[name] = this.run(
            lambda name=name, images=images, this=this: _work(  # type: ignore[misc]
                config, cohort, images, bound[name], classifiers, judge, linked, this
            ),
            config=config.plain(),
            overrides=overrides,
        )
        results[name]["ledger"] = to_json(pool.ledger(store))
    return {"stage": "evaluate", "state": "done", "pools": results}


def job(config: Config, cohort: Manifest, images: Manifest, external: Manifest | None) -> Job:
    """The job that measures this pool against this cohort."""
    decides: dict[str, Any] = {
        "cohort": cohort.digest(),
        "pool": images.digest(),
        "size_px": config.size_px,
        "classifiers": [found.key for found in _jobs(config, cohort, external)],
        "judge": train.judge(config, cohort, external)[0].key,
        "evaluate": asdict(config.evaluate),
        "measures": MEASURES,
    }
    if prepare.may_link_patients(prepare.audit_of(config)):
        decides["patients"] = "linked"  # where none are, it makes no difference
    return Job("evaluate", decides, config.output)


def _jobs(config: Config, cohort: Manifest, external: Manifest | None) -> list[Job]:
    """Of the real-only classifiers; features are those of the first."""
    seeds = config.evaluate.classifier_seeds or [config.seed]
    return [train.job(train.real_only(config, seed), cohort, external) for seed in seeds]


def _classifiers(
    config: Config, cohort: Manifest, external: Manifest | None, overrides: Sequence[str]
) -> list[Path]:
    command = " ".join(["xraysynth train", *overrides, "data.share=0"])
    jobs = _jobs(config, cohort, external)
    return [Path(found.result(command)["weights"]) for found in jobs]


def _work(
    config: Config,
    cohort: Manifest,
    images: Manifest,
    generator: Generator,
    classifiers: Sequence[Path],
    judge: Mapping[str, Any],
    linked: Sequence[Sequence[str]],
    this: Job,
) -> dict[str, Any]:
    from xraysynth.evaluation.images import Precision, evaluate
    from xraysynth.evaluation.metrics.scores import confusion
    from xraysynth.evaluation.results import PoolEvaluation

    with tracking.tracked(config, this) as run:
        found = evaluate(
            **references(cohort, generator),
            synthetic=images,
            encoders=_encoders(config, config.evaluate.encoders, classifiers[0]),
            size_px=config.size_px,
            cache=config.output / "cache",
            originals=pool.originals(images),
            precision=_precision(config, Precision),
            linked=linked,
        )
        seen = fitting.predicted(config, images, Path(judge["weights"]))
        summary = PoolEvaluation(
            pool=str(images.folder),
            assessable=why_not_assessable(generator),
            images=found.images,
            measures=found.measures,
            diversity=found.diversity,
            nearest_similarity=found.nearest_similarity,
            closest=found.closest,
            appearance=found.appearance,
            faithfulness=_faithfulness(config, images, judge, seen),
            seen=confusion(seen, images.targets).tolist(),
            judge=judge["trained_on"],
            usable=usable(seen, images.targets, found.flags, config.evaluate.replicates),
            tested_on=_tested_on(config, cohort, images, classifiers, linked),
        )
        made_from = [
            tracking.of_cohort(cohort),
            tracking.of_pool(generate.store(config, generator)),
        ]
        tracking.log_evaluation(run, summary, images=images, made_from=made_from, job=this)
    result: dict[str, Any] = to_json(summary)
    return result


def references(cohort: Manifest, generator: Generator) -> dict[str, Manifest]:
    """What a pool is measured against: `real`, and for copies `train` and `held_out` with it."""
    found = {"real": cohort.split("test")}
    if not why_not_assessable(generator):
        held_out = cohort.where(cohort.table["split"].isin(["val", "test"]))
        found |= {"train": cohort.split("train"), "held_out": held_out}
    return found


def encoders(config: Config, cohort: Manifest, overrides: Sequence[str]) -> list[Any]:
    """Those of evaluate.encoders; an error says how to train a classifier that is one of them."""
    names = config.evaluate.encoders
    if "classifier" not in names:
        return _encoders(config, names, None)
    external = prepare.external(config, overrides)
    return _encoders(config, names, _classifiers(config, cohort, external, overrides)[0])


def why_not_assessable(generator: Generator) -> str:
    """Why copies cannot be looked for: of a model behind an API nobody knows what it has seen."""
    return UNKNOWN if isinstance(generator, Paid) else ""


def _precision(config: Config, kind: Any) -> Any:
    names = ("splits", "replicates", "pairs_per_class")
    return kind(**{name: getattr(config.evaluate, name) for name in names})


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


def _faithfulness(
    config: Config, made: Manifest, judge: Mapping[str, Any], seen: np.ndarray
) -> "list[LabelFidelity]":
    """Which class a classifier of other patients sees, beside real images of these patients.

    Over all classes it is the mean of the classes' shares on both sides, of those that the pool has,
    so that it does not depend on how many images of each there are: chance is 1 over their number.
    `seen` are the classifier's probabilities `(N, C)`.
    """
    from xraysynth.evaluation.metrics.class_mix import mean_share
    from xraysynth.evaluation.metrics.classification import evaluate
    from xraysynth.evaluation.results import LabelFidelity

    replicates, classes = config.evaluate.replicates, config.classes
    ids = made.table["image_id"].to_numpy()
    scores = evaluate(seen, made.targets, ids, classes=classes, replicates=replicates)
    right = seen.argmax(1) == made.targets
    scores["balanced_accuracy"] = mean_share(right, made.targets, replicates=replicates)
    names = [("", "balanced_accuracy"), *((label, f"recall/{label}") for label in classes)]
    real_scores = {name: from_json(Interval, judge["scores"][name]) for _, name in names}
    shown = [label for index, label in enumerate(classes) if (made.targets == index).any()]
    recalls = [real_scores[f"recall/{label}"] for label in shown]
    if len(shown) < len(classes) or any(recall.value in (0, 1) for recall in recalls):
        real_scores["balanced_accuracy"] = mean_recall(recalls)
    rows = []
    for label, name in names:
        real = real_scores[name]
        row = LabelFidelity(
            *scores[name].as_tuple(),
            label=label,
            real=real.value,
            real_low=real.low,
            real_high=real.high,
            real_n=real.n,
        )
        rows.append(row)
    return rows


def mean_recall(recalls: Sequence[Interval]) -> Interval:
    """The mean over some classes of their recalls, whose errors are independent."""
    count = len(recalls)
    value = sum(recall.value for recall in recalls) / count
    below = sum((recall.value - recall.low) ** 2 for recall in recalls) ** 0.5 / count
    above = sum((recall.high - recall.value) ** 2 for recall in recalls) ** 0.5 / count
    return Interval(value, value - below, value + above, sum(recall.n for recall in recalls))


def usable(
    seen: np.ndarray, targets: np.ndarray, copied: np.ndarray | None, replicates: int
) -> "UsableShare":
    """The share of images in which the classifier sees the intended class and that are no copies.

    `seen` are probabilities `(N, C)`, `targets` class indices `(N,)` and `copied` flags `(N,)`, or
    None where copies could not be looked for. The mean over the classes that the pool has, with the
    interval of `class_mix.mean_share`.
    """
    from xraysynth.evaluation.metrics.class_mix import mean_share
    from xraysynth.evaluation.results import UsableShare

    answers = seen.argmax(1) == targets
    if copied is not None:
        answers = answers & ~copied
    share = mean_share(answers, targets, replicates=replicates)
    return UsableShare(*share.as_tuple(), copies_looked_for=copied is not None)


def _tested_on(
    config: Config,
    cohort: Manifest,
    made: Manifest,
    classifiers: Sequence[Path],
    linked: Sequence[Sequence[str]] = (),
) -> "TestedOn":
    """Scores of real-only classifiers on the pool, in the class mix of the real test images.

    Of a pool that lacks a class `without` names it, what is averaged over all classes is left out, and
    `<score> of real images` has the same classifiers' score on the real test images of its classes.
    """
    from xraysynth.evaluation.metrics.classification import arm_scores

    test = cohort.split("test")
    counts = [np.bincount(side.targets, minlength=len(config.classes)) for side in (made, test)]
    shared = (counts[0] > 0) & (counts[1] > 0)
    if not shared.any():
        return {}
    labels = {name for name, both in zip(config.classes, shared, strict=True) if both}
    kept = [
        name
        for name in ("accuracy", "macro_f1", "macro_auroc")
        if fitting.told(name, labels, config.classes)
    ]

    def scores(images: Manifest, owners: Any) -> dict[str, Interval]:
        rows = shared[images.targets]
        found = arm_scores(
            [fitting.predicted(config, images, weights)[rows] for weights in classifiers],
            images.targets[rows],
            np.asarray(owners)[rows],
            classes=config.classes,
            replicates=config.evaluate.replicates,
            mix=counts[1] * shared / counts[1][shared].sum(),
        )
        return {name: found[name] for name in kept}

    found: TestedOn = {**scores(made, made.table["image_id"]), "seeds": len(classifiers)}
    if shared.all():
        return found
    missing = [name for name in config.classes if name not in labels]
    beside = scores(test, person_keys(test.table, linked))
    real = {f"{name} of real images": score for name, score in beside.items()}
    return {**found, **real, "without": missing}


def _folders(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """One folder of synthetic images against one of real images."""
    from xraysynth.evaluation.folders import common_size, from_folder, same_classes

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
        "evaluate": asdict(config.evaluate),
        "measures": MEASURES,
    }
    this = Job("evaluate", decides, config.output, leaves=(PAGE, TABLE))
    encoders = _encoders(config, names, Path(classifier) if classifier else None)
    return this.run(
        lambda: _compare(config, found, encoders, size_px, overrides, this),
        config=config.plain(),
        overrides=overrides,
    )


def _compare(
    config: Config,
    found: Sequence[Manifest],
    encoders: Sequence[Any],
    size_px: int,
    overrides: Sequence[str],
    this: Job,
) -> dict[str, Any]:
    from xraysynth.evaluation.images import Precision, evaluate
    from xraysynth.evaluation.results import FolderEvaluation
    from xraysynth.report import page, tables
    from xraysynth.report.content import Evaluation

    real, synthetic = found[:2]
    train_set = found[2] if len(found) > 2 else None
    evaluation = evaluate(
        real=real,
        synthetic=synthetic,
        train=train_set,
        encoders=encoders,
        size_px=size_px,
        cache=config.output / "cache",
        precision=_precision(config, Precision),
    )
    view = Evaluation(
        title=f"{synthetic.folder.name} against {real.folder.name}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=" ".join(["xraysynth evaluate", *overrides]),
        real=real,
        synthetic=synthetic,
        train=train_set,
        measures=evaluation.measures,
        diversity=evaluation.diversity,
        nearest_similarity=evaluation.nearest_similarity,
        assessable="" if train_set else "no training images given (trained_on=DIR): not assessed",
        closest=evaluation.closest,
        appearance=evaluation.appearance,
        limits=_limits(config, found, encoders, size_px),
    )
    (this.folder / PAGE).write_text(page.render_evaluation(view), encoding="utf-8")
    tables.measures(view).to_csv(this.folder / TABLE, index=False)
    summary = FolderEvaluation(
        images=evaluation.images,
        measures=evaluation.measures,
        diversity=evaluation.diversity,
        nearest_similarity=evaluation.nearest_similarity,
        closest=evaluation.closest,
        appearance=evaluation.appearance,
        size_px=size_px,
        page=str(this.folder / PAGE),
        table=str(this.folder / TABLE),
        headline=_headline(evaluation.measures),
    )
    result: dict[str, Any] = to_json(summary)
    return result


def _limits(
    config: Config, found: Sequence[Manifest], encoders: Sequence[Any], size_px: int
) -> list[str]:
    limits = [f"All images were put into one format: grey, padded to a square, {size_px} px."]
    if (found[0].table["patient_id"] == found[0].table["path"]).all():
        limits.append(
            "The patients of the real images are not known, so that each image counts as a patient of "
            "its own, and intervals are too narrow where a patient has several."
        )
    if found[0].classes == ("all",):
        limits.append("The folders do not tell classes apart, so nothing is said by class.")
    if {encoder.name for encoder in encoders} <= {"embedded", "classifier"}:
        limits.append(
            "Without downloaded weights these distances are no FID and cannot be compared with "
            "published values: evaluate.encoders=[inception,rad_dino] gives those."
        )
    return limits


def _title(row: "Measure") -> str:
    return row.metric if f"({row.encoder})" in row.metric else f"{row.metric} ({row.encoder})"


def _headline(measures: "Sequence[Measure]") -> dict[str, str]:
    """The measures of all classes in a line each, for the terminal."""
    return {
        _title(row): f"{row.value:.4g} [{row.low:.4g}, "
        f"{row.high:.4g}], floor {row.floor:.4g}, N {row.n}"
        for row in measures
        if not row.label and row.value == row.value
    }
