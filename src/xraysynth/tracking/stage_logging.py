"""What the job of each stage tells its W&B run; without a run, all of it is silent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth.generation.generators.base import FineTuning
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.pool import compute_ledger as pool_ledger
from xraysynth.images import read_image
from xraysynth.jobs.job import Job
from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest
from xraysynth.records import to_json
from xraysynth.tracking import artifacts
from xraysynth.tracking.artifacts import (
    ArtifactRecord,
    cohort_artifact,
    lora_artifact,
    pool_artifact,
)
from xraysynth.tracking.media import (
    IMAGES_PER_CLASS,
    can_show_images,
    log_tables,
    sample_images,
    to_wandb_image,
    to_wandb_table,
)
from xraysynth.tracking.summaries import summarize, summarize_cost, summarize_reading

if TYPE_CHECKING:  # what is logged is handed over
    from xraysynth.evaluation.classifier_evaluation import FidelityClassifierResult, TrainResult
    from xraysynth.evaluation.metrics.probes import Shortcut
    from xraysynth.evaluation.results import ClosestPair, PoolEvaluation

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class WandbFinetuneLogger:
    """Curves and sample grids of a fine-tuning, for the W&B run; silent where there is none."""

    run: Any

    def log(self, entry: Mapping[str, float], *, prefix: str) -> None:
        """Values of a step under `finetune/`."""
        if self.run is not None:
            self.run.log({f"finetune/{prefix}{name}": value for name, value in entry.items()})

    def log_samples(
        self, images: np.ndarray, captions: Sequence[str], *, step: int, prefix: str
    ) -> None:
        """Images `(N, H, W)` in [0, 1] made at a step, with their captions."""
        if self.run is not None and can_show_images(self.run):
            pixels = (images * 255).clip(0, 255).astype(np.uint8)
            shown = [to_wandb_image(*pair) for pair in zip(pixels, captions, strict=True)]
            self.run.log({f"finetune/{prefix}samples": shown, f"finetune/{prefix}step": step})


def log_cohort(run: Any, cohort: Manifest, *, patients: int, near_duplicates: int) -> None:
    """Images by data set, class and split; some of every class; the cohort as an artifact."""
    if run is None:
        return
    counts = cohort.table.groupby(["source", "label", "split"]).size()
    columns = ["source", "label", "split", "images"]
    run.log(
        {
            "cohort/counts": to_wandb_table(
                columns, counts.reset_index(name="images").to_numpy().tolist()
            )
        }
    )
    if can_show_images(run):
        run.log(
            {
                "cohort/samples": [
                    to_wandb_image(read_image(file), row.label)
                    for file, row in sample_images(cohort)
                ]
            }
        )
    counts_of_all = {"patients": patients, "near_duplicates": near_duplicates}
    run.summary.update(summarize("prepare", {"images": len(cohort), **counts_of_all}))
    artifacts.log_artifact(run, cohort_artifact(cohort))


def log_shortcuts(run: Any, shortcuts: "Sequence[Shortcut]") -> None:
    """What gives away the source or the class, question by question."""
    if run is not None:
        log_tables(run, {"shortcuts": shortcuts})
        run.summary.update(summarize("probe", {"shortcuts": to_json(shortcuts)}))


def log_lora(run: Any, fine_tuning: FineTuning, *, job: Job, cohort: Manifest) -> None:
    """What fine-tuning cost, and its weights as an artifact."""
    if run is not None:
        run.summary.update(summarize("finetune", to_json(fine_tuning)))
        artifacts.use_artifact(run, cohort_artifact(cohort))
        artifacts.log_artifact(run, lora_artifact(job.key))


def log_pool(
    run: Any,
    pool: Manifest,
    store: ImageStore,
    *,
    outcomes: Mapping[str, Mapping[str, int]],
    ledger: Ledger,
    lora_key: str = "",
) -> None:
    """Images with their prompts, what was refused, what it cost, and the pool as an artifact.

    `outcomes` are numbers of requests by class and outcome; `lora` is the key of the job that taught
    the generator.
    """
    if run is None:
        return
    chosen = list(sample_images(pool)) if can_show_images(run) else []
    rows = [[to_wandb_image(f), r.label, r.prompt, "image", "", r.image_id] for f, r in chosen]
    columns = ["image", "label", "prompt", "outcome", "reason", "image_id"]
    run.log({"images": to_wandb_table(columns, rows + _rows_without_image(store))})
    if chosen:
        run.log({"samples": [to_wandb_image(f, f"{r.label}: {r.prompt}") for f, r in chosen]})
    result = {"images": len(pool), "outcomes": outcomes, "ledger": to_json(ledger)}
    run.summary.update(summarize("generate", result))
    if lora_key:
        artifacts.use_artifact(run, lora_artifact(lora_key))
    artifacts.log_artifact(run, pool_artifact(store))


def _rows_without_image(store: ImageStore) -> list[list[Any]]:
    """Rows of requests that brought none, a few of each class and outcome."""
    found: dict[tuple[str, str], list[list[Any]]] = {}
    kept = store.map_entries(lambda entry: None if entry.outcome == "image" else entry)
    for name, entry in sorted((n, e) for n, e in kept.items() if e is not None):
        columns, outcome = entry.columns, entry.outcome
        label, prompt = str(columns.get("label", "")), str(columns.get("prompt", ""))
        row = [None, label, prompt, outcome, str(entry.facts.get("reason", "")), name]
        found.setdefault((label, outcome), []).append(row)
    return [row for rows in found.values() for row in rows[:IMAGES_PER_CLASS]]


def log_training(
    run: Any,
    result: "TrainResult | FidelityClassifierResult",
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
    run.log(_curve_charts(probabilities, targets, cohort.classes))
    if "arm" in run.config:  # a line over the shares of a study has a run at each of its points
        run.log({"share": run.config["arm"]["share"], "macro_f1": result.macro_f1})
    spent = summarize_cost(pool_ledger(pools[0]).known_values) if len(pools) == 1 else {}
    run.summary.update(summarize("train", to_json(result)) | spent)
    for source in (cohort_artifact(cohort), *map(pool_artifact, pools)):
        artifacts.use_artifact(run, source)
    artifacts.log_artifact(
        run, ArtifactRecord("classifier", job.key, {"folder": f"{job.stage}/{job.key}"})
    )
    artifacts.log_artifact(
        run, ArtifactRecord("predictions", job.key, {"by": f"classifier-{job.key}"})
    )


def _curve_charts(
    probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]
) -> Mapping[str, object]:
    from wandb import plot

    labels, seen = list(classes), targets.tolist()
    guesses = probabilities.argmax(axis=1).tolist()
    perfect: list[list[Any]] = [[edge, edge, "perfect", None] for edge in (0.0, 1.0)]
    rows: list[list[Any]] = [
        [*row[:2], "classifier", row[2]] for row in compute_reliability_bins(probabilities, targets)
    ]
    bins = to_wandb_table(["confidence", "accuracy", "line", "images"], rows + perfect)
    return {
        "test/confusion": plot.confusion_matrix(y_true=seen, preds=guesses, class_names=labels),
        "test/pr": plot.pr_curve(seen, probabilities.tolist(), labels=labels),
        "test/calibration": plot.line(bins, "confidence", "accuracy", "line", "Calibration"),
    }


def compute_reliability_bins(
    probabilities: np.ndarray, targets: np.ndarray
) -> list[tuple[float, float, int]]:
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
    input_artifacts: Sequence[ArtifactRecord] = (),
    job: Job | None = None,
) -> None:
    """Every table of measures, the nearest training images, and what holds of all classes.

    `images` are those that were measured; their pool and the cohort are `made_from`.
    """
    if run is None:
        return
    names = ("measures", "diversity", "nearest_similarity", "faithfulness", "appearance")
    log_tables(run, {name: getattr(evaluation, name) for name in names})
    _log_closest_pairs(run, evaluation.closest, images)
    run.summary.update(summarize("evaluate", to_json(evaluation)))
    for source in input_artifacts:
        artifacts.use_artifact(run, source)
    if job is not None:
        artifacts.log_artifact(
            run, ArtifactRecord("measures", job.key, {"folder": f"evaluate/{job.key}"})
        )


def _log_closest_pairs(run: Any, closest: "Sequence[ClosestPair]", images: Manifest | None) -> None:
    """The closest pairs of a synthetic image and its nearest real training image."""
    if not closest or not can_show_images(run):
        return
    rows = {} if images is None else dict(zip(images.files, images.table.itertuples(), strict=True))
    shown = []
    for pair in closest:
        made = rows.get(pair.synthetic)
        label, prompt = (getattr(made, name, "") for name in ("label", "prompt"))
        pictures = [to_wandb_image(pair.synthetic), to_wandb_image(read_image(pair.train))]
        values = [pair.distance, pair.threshold, pair.flagged]
        shown.append([pictures[0], label, prompt, "image", pictures[1], *values])
    columns = ["image", "label", "prompt", "outcome", "nearest real"]
    run.log({"closest": to_wandb_table([*columns, "distance", "threshold", "flagged"], shown)})


def log_report(run: Any, results: Any, measures: Any) -> None:
    """The study's tables, and macro-F1 of every arm against its synthetic fraction."""
    if run is None:
        return
    from wandb import plot

    for name, found in (("results", results), ("measures", measures)):
        rows = json.loads(found.to_json(orient="values"))  # NaN and <NA> become None
        run.log({name: to_wandb_table(list(found.columns), rows)})
    means = results[results["seed"].isna() & (results["metric"] == "macro_f1")]
    means = means[(means["test_set"] == "") & (means["control"] == "") & (means["left_out"] == "")]
    rows = means[["share", "value", "generator"]].replace({"generator": {"": "real only"}})
    points = to_wandb_table(["share", "macro_f1", "generator"], rows.to_numpy().tolist())
    line = plot.line(
        points, "share", "macro_f1", "generator", "Macro-F1 against synthetic fraction"
    )
    run.log({"macro_f1_against_share": line})


def log_reader_study(run: Any, results: Any, marks: Any) -> None:
    """A reading's results and marked errors as tables, and what holds of all classes."""
    if run is None:
        return
    for name, found in (("reading", results), ("marks", marks)):
        rows = json.loads(found.to_json(orient="values"))
        run.log({name: to_wandb_table(list(found.columns), rows)})
    run.summary.update(summarize_reading(results))
