"""What the job of each stage tells its W&B run; without a run, all of it is silent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth.generation.generators.base import FineTuning
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.pool import ledger as pool_ledger
from xraysynth.images import read
from xraysynth.jobs.job import Job
from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest
from xraysynth.records import to_json
from xraysynth.tracking import artifacts
from xraysynth.tracking.artifacts import Record, of_cohort, of_lora, of_pool
from xraysynth.tracking.media import IMAGES_PER_CLASS, image, log_rows, may_show, some, table
from xraysynth.tracking.summaries import cost, summarize, summarize_reading

if TYPE_CHECKING:  # what is logged is handed over
    from xraysynth.evaluation.classifier_evaluation import JudgeResult, TrainResult
    from xraysynth.evaluation.metrics.probes import Shortcut
    from xraysynth.evaluation.results import ClosestPair, PoolEvaluation

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Learning:
    """Curves and sample grids of a fine-tuning, for the W&B run; silent where there is none."""

    run: Any

    def log(self, entry: Mapping[str, float], *, prefix: str) -> None:
        """Values of a step under `finetune/`."""
        if self.run is not None:
            self.run.log({f"finetune/{prefix}{name}": value for name, value in entry.items()})

    def samples(
        self, images: np.ndarray, captions: Sequence[str], *, step: int, prefix: str
    ) -> None:
        """Images `(N, H, W)` in [0, 1] made at a step, with their captions."""
        if self.run is not None and may_show(self.run):
            pixels = (images * 255).clip(0, 255).astype(np.uint8)
            shown = [image(*pair) for pair in zip(pixels, captions, strict=True)]
            self.run.log({f"finetune/{prefix}samples": shown, f"finetune/{prefix}step": step})


def log_cohort(run: Any, cohort: Manifest, *, patients: int, near_duplicates: int) -> None:
    """Images by data set, class and split; some of every class; the cohort as an artifact."""
    if run is None:
        return
    counts = cohort.table.groupby(["source", "label", "split"]).size()
    columns = ["source", "label", "split", "images"]
    run.log(
        {"cohort/counts": table(columns, counts.reset_index(name="images").to_numpy().tolist())}
    )
    if may_show(run):
        run.log({"cohort/samples": [image(read(file), row.label) for file, row in some(cohort)]})
    counts_of_all = {"patients": patients, "near_duplicates": near_duplicates}
    run.summary.update(summarize("prepare", {"images": len(cohort), **counts_of_all}))
    artifacts.log(run, of_cohort(cohort))


def log_shortcuts(run: Any, shortcuts: "Sequence[Shortcut]") -> None:
    """What gives away the source or the class, question by question."""
    if run is not None:
        log_rows(run, {"shortcuts": shortcuts})
        run.summary.update(summarize("probe", {"shortcuts": to_json(shortcuts)}))


def log_lora(run: Any, fine_tuning: FineTuning, *, job: Job, cohort: Manifest) -> None:
    """What fine-tuning cost, and its weights as an artifact."""
    if run is not None:
        run.summary.update(summarize("finetune", to_json(fine_tuning)))
        artifacts.use(run, of_cohort(cohort))
        artifacts.log(run, of_lora(job.key))


def log_pool(
    run: Any,
    pool: Manifest,
    store: ImageStore,
    *,
    outcomes: Mapping[str, Mapping[str, int]],
    ledger: Ledger,
    lora: str = "",
) -> None:
    """Images with their prompts, what was refused, what it cost, and the pool as an artifact.

    `outcomes` are numbers of requests by class and outcome; `lora` is the key of the job that taught
    the generator.
    """
    if run is None:
        return
    chosen = list(some(pool)) if may_show(run) else []
    rows = [[image(f), r.label, r.prompt, "image", "", r.image_id] for f, r in chosen]
    columns = ["image", "label", "prompt", "outcome", "reason", "image_id"]
    run.log({"images": table(columns, rows + _without_image(store))})
    if chosen:
        run.log({"samples": [image(f, f"{r.label}: {r.prompt}") for f, r in chosen]})
    result = {"images": len(pool), "outcomes": outcomes, "ledger": to_json(ledger)}
    run.summary.update(summarize("generate", result))
    if lora:
        artifacts.use(run, of_lora(lora))
    artifacts.log(run, of_pool(store))


def _without_image(store: ImageStore) -> list[list[Any]]:
    """Rows of requests that brought none, a few of each class and outcome."""
    found: dict[tuple[str, str], list[list[Any]]] = {}
    kept = store.committed(lambda entry: None if entry.outcome == "image" else entry)
    for name, entry in sorted((n, e) for n, e in kept.items() if e is not None):
        columns, outcome = entry.columns, entry.outcome
        label, prompt = str(columns.get("label", "")), str(columns.get("prompt", ""))
        row = [None, label, prompt, outcome, str(entry.facts.get("reason", "")), name]
        found.setdefault((label, outcome), []).append(row)
    return [row for rows in found.values() for row in rows[:IMAGES_PER_CLASS]]


def log_training(
    run: Any,
    result: "TrainResult | JudgeResult",
    probabilities: np.ndarray,
    targets: np.ndarray,
    *,
    job: Job,
    cohort: Manifest,
    pools: Sequence[ImageStore],
) -> None:
    """Loss by step, test scores with intervals, confusion, PR and calibration curves, lineage.

    Of a single pool it also says what its images cost.
    """
    if run is None:
        return
    for entry in result.history:
        if "train/loss" in entry:
            run.log({"train/loss": entry["train/loss"], "trainer/global_step": entry["step"]})
    run.log(_curves(probabilities, targets, cohort.classes))
    if "arm" in run.config:  # a line over the shares of a study has a run at each of its points
        run.log({"share": run.config["arm"]["share"], "macro_f1": result.macro_f1})
    spent = cost(pool_ledger(pools[0]).known) if len(pools) == 1 else {}
    run.summary.update(summarize("train", to_json(result)) | spent)
    for source in (of_cohort(cohort), *map(of_pool, pools)):
        artifacts.use(run, source)
    artifacts.log(run, Record("classifier", job.key, {"folder": f"{job.stage}/{job.key}"}))
    artifacts.log(run, Record("predictions", job.key, {"by": f"classifier-{job.key}"}))


def _curves(
    probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]
) -> Mapping[str, object]:
    from wandb import plot

    labels, seen = list(classes), targets.tolist()
    guesses = probabilities.argmax(axis=1).tolist()
    perfect: list[list[Any]] = [[edge, edge, "perfect", None] for edge in (0.0, 1.0)]
    rows: list[list[Any]] = [
        [*row[:2], "classifier", row[2]] for row in reliability(probabilities, targets)
    ]
    bins = table(["confidence", "accuracy", "line", "images"], rows + perfect)
    return {
        "test/confusion": plot.confusion_matrix(y_true=seen, preds=guesses, class_names=labels),
        "test/pr": plot.pr_curve(seen, probabilities.tolist(), labels=labels),
        "test/calibration": plot.line(bins, "confidence", "accuracy", "line", "Calibration"),
    }


def reliability(probabilities: np.ndarray, targets: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and images of each bin that has any: the bins of the ECE."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == targets
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence) - 1, 0, CALIBRATION_BINS - 1)
    return [
        (
            float(confidence[bins == b].mean()),
            float(right[bins == b].mean()),
            int((bins == b).sum()),
        )
        for b in np.unique(bins)
    ]


def log_evaluation(
    run: Any,
    evaluation: "PoolEvaluation",
    *,
    images: Manifest | None = None,
    made_from: Sequence[Record] = (),
    job: Job | None = None,
) -> None:
    """Every table of measures, the nearest training images, and what holds of all classes.

    `images` are those that were measured; their pool and the cohort are `made_from`.
    """
    if run is None:
        return
    names = ("measures", "diversity", "nearest_similarity", "faithfulness", "appearance")
    log_rows(run, {name: getattr(evaluation, name) for name in names})
    _log_closest(run, evaluation.closest, images)
    run.summary.update(summarize("evaluate", to_json(evaluation)))
    for source in made_from:
        artifacts.use(run, source)
    if job is not None:
        artifacts.log(run, Record("measures", job.key, {"folder": f"evaluate/{job.key}"}))


def _log_closest(run: Any, closest: "Sequence[ClosestPair]", images: Manifest | None) -> None:
    """The closest pairs of a synthetic image and its nearest real training image."""
    if not closest or not may_show(run):
        return
    rows = {} if images is None else dict(zip(images.files, images.table.itertuples(), strict=True))
    shown = []
    for pair in closest:
        made = rows.get(pair.synthetic)
        label, prompt = (getattr(made, name, "") for name in ("label", "prompt"))
        pictures = [image(pair.synthetic), image(read(pair.train))]
        values = [pair.distance, pair.threshold, pair.flagged]
        shown.append([pictures[0], label, prompt, "image", pictures[1], *values])
    columns = ["image", "label", "prompt", "outcome", "nearest real"]
    run.log({"closest": table([*columns, "distance", "threshold", "flagged"], shown)})


def log_report(run: Any, results: Any, measures: Any) -> None:
    """The study's tables, and macro-F1 of every arm against its synthetic fraction."""
    if run is None:
        return
    from wandb import plot

    for name, found in (("results", results), ("measures", measures)):
        rows = json.loads(found.to_json(orient="values"))  # NaN and <NA> become None
        run.log({name: table(list(found.columns), rows)})
    means = results[results["seed"].isna() & (results["metric"] == "macro_f1")]
    means = means[(means["test_set"] == "") & (means["control"] == "") & (means["left_out"] == "")]
    rows = means[["share", "value", "generator"]].replace({"generator": {"": "real only"}})
    points = table(["share", "macro_f1", "generator"], rows.to_numpy().tolist())
    line = plot.line(
        points, "share", "macro_f1", "generator", "Macro-F1 against synthetic fraction"
    )
    run.log({"macro_f1_against_share": line})


def log_review(run: Any, results: Any, marks: Any) -> None:
    """A reading's results and marked errors as tables, and what holds of all classes."""
    if run is None:
        return
    for name, found in (("reading", results), ("marks", marks)):
        rows = json.loads(found.to_json(orient="values"))
        run.log({name: table(list(found.columns), rows)})
    run.summary.update(summarize_reading(results))
