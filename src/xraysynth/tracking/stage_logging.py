"""What each stage logs to the W&B run of its job; without a run, nothing is logged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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
from xraysynth.tracking.charts import test_charts
from xraysynth.tracking.media import (
    IMAGES_PER_CLASS,
    can_show_images,
    frame_to_table,
    log_tables,
    sample_images,
    to_wandb_image,
    to_wandb_table,
)
from xraysynth.tracking.summaries import summarize, summarize_cost, summarize_reading

if TYPE_CHECKING:  # this package must not import what it logs
    from xraysynth.evaluation.classifier_evaluation import FidelityClassifierResult, TrainResult
    from xraysynth.evaluation.metrics.probes import Shortcut
    from xraysynth.evaluation.results import ClosestPair, PoolEvaluation
    from xraysynth.report.arm_verdicts import ArmVerdict


@dataclass(frozen=True)
class WandbFinetuneLogger:
    """Logs curves and sample images of a fine-tuning to a W&B run; None logs nothing."""

    run: Any

    def log(self, entry: Mapping[str, float], *, prefix: str) -> None:
        """Logs the values of a step, under `finetune/<prefix>`."""
        if self.run is not None:
            self.run.log({f"finetune/{prefix}{name}": value for name, value in entry.items()})

    def log_samples(
        self, images: np.ndarray, captions: Sequence[str], *, step: int, prefix: str
    ) -> None:
        """Logs images `(N, H, W)` in [0, 1] that were generated at a step, with their captions."""
        if self.run is None or not can_show_images(self.run):
            return
        pixels = (images * 255).clip(0, 255).astype(np.uint8)
        pairs = zip(pixels, captions, strict=True)
        samples = [to_wandb_image(image, caption) for image, caption in pairs]
        self.run.log({f"finetune/{prefix}samples": samples, f"finetune/{prefix}step": step})


def log_cohort(run: Any, cohort: Manifest, *, patients: int, near_duplicates: int) -> None:
    """Logs a cohort: counts by source, class and split, sample images, and its artifact.

    Args:
        run: The W&B run, or None.
        cohort: The cohort.
        patients: Number of patients.
        near_duplicates: Number of near-duplicates among its images.
    """
    if run is None:
        return
    counts = cohort.table.groupby(["source", "label", "split"]).size()
    run.log({"cohort/counts": frame_to_table(counts.reset_index(name="images"))})
    if can_show_images(run):
        samples = []
        for file, row in sample_images(cohort):
            pixels = read_image(file.path, sha256=file.sha256)
            samples.append(to_wandb_image(pixels, row.label))
        run.log({"cohort/samples": samples})
    result = {"images": len(cohort), "patients": patients, "near_duplicates": near_duplicates}
    run.summary.update(summarize("prepare", result))
    artifacts.log_artifact(run, cohort_artifact(cohort))


def log_shortcuts(run: Any, shortcuts: "Sequence[Shortcut]") -> None:
    """Logs how well parts of an image predict the source and the class, as the probes found."""
    if run is not None:
        log_tables(run, {"shortcuts": shortcuts})
        run.summary.update(summarize("probe", {"shortcuts": to_json(shortcuts)}))


def log_lora(run: Any, fine_tuning: FineTuning, *, job: Job, cohort: Manifest) -> None:
    """Logs the cost of a fine-tuning, and the adapter as an artifact.

    Args:
        run: The W&B run, or None.
        fine_tuning: The result of the stage.
        job: The job of the fine-tuning.
        cohort: The cohort whose train split the generator was fine-tuned on.
    """
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
    """Logs a pool: sample images with prompts, requests without an image, cost, and its artifact.

    Args:
        run: The W&B run, or None.
        pool: The images.
        store: The store of the pool.
        outcomes: Number of requests by class and outcome.
        ledger: What the pool has cost.
        lora_key: Key of the job that fine-tuned the generator; "" if none did.
    """
    if run is None:
        return
    images, rows = [], []
    if can_show_images(run):
        for file, row in sample_images(pool):
            rows.append([to_wandb_image(file), row.label, row.prompt, "image", "", row.image_id])
            images.append(to_wandb_image(file, f"{row.label}: {row.prompt}"))
    columns = ["image", "label", "prompt", "outcome", "reason", "image_id"]
    run.log({"images": to_wandb_table(columns, rows + _rows_without_image(store))})
    if images:
        run.log({"samples": images})
    result = {"images": len(pool), "outcomes": outcomes, "ledger": to_json(ledger)}
    run.summary.update(summarize("generate", result))
    if lora_key:
        artifacts.use_artifact(run, lora_artifact(lora_key))
    artifacts.log_artifact(run, pool_artifact(store))


def _rows_without_image(store: ImageStore) -> list[list[Any]]:
    """Returns the rows of requests that got no image, a few of each class and outcome."""
    entries = store.map_entries(lambda entry: None if entry.outcome == "image" else entry)
    rows_by_group: dict[tuple[str, str], list[list[Any]]] = {}
    for image_id in sorted(entries):
        entry = entries[image_id]
        if entry is None:
            continue
        label, prompt = str(entry.columns.get("label", "")), str(entry.columns.get("prompt", ""))
        reason = str(entry.facts.get("reason", ""))
        group = rows_by_group.setdefault((label, entry.outcome), [])
        if len(group) < IMAGES_PER_CLASS:
            group.append([None, label, prompt, entry.outcome, reason, image_id])
    return list(chain.from_iterable(rows_by_group.values()))


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
    """Logs a training: losses, test scores, curves on the test images, and its artifacts.

    Args:
        run: The W&B run, or None.
        result: The result of the stage.
        probabilities: `(N, C)` class probabilities of the test images.
        targets: `(N,)` class indices of the test images.
        job: The job of the training.
        cohort: The real images.
        pools: The pools that were mixed in; the cost of a single pool is logged, too.
    """
    if run is None:
        return
    _log_curves(run, result)
    run.log(test_charts(probabilities, targets, cohort.classes))
    if "arm" in run.config:
        # Each run is one point of the dashboard's line over the synthetic fraction.
        run.log({"share": run.config["arm"]["share"], "macro_f1": result.macro_f1})
    cost = summarize_cost(pool_ledger(pools[0]).known_values) if len(pools) == 1 else {}
    run.summary.update(summarize("train", to_json(result)) | cost)
    artifacts.use_artifact(run, cohort_artifact(cohort))
    for pool in pools:
        artifacts.use_artifact(run, pool_artifact(pool))
    weights = ArtifactRecord("classifier", job.key, {"folder": f"{job.stage}/{job.key}"})
    artifacts.log_artifact(run, weights)
    predictions = ArtifactRecord("predictions", job.key, {"by": f"classifier-{job.key}"})
    artifacts.log_artifact(run, predictions)


def _log_curves(run: Any, result: "TrainResult | FidelityClassifierResult") -> None:
    """Logs the training loss by step; Lightning logs the other curves."""
    for entry in result.history:
        if "train/loss" in entry:
            run.log({"train/loss": entry["train/loss"], "trainer/global_step": entry["step"]})


def log_evaluation(
    run: Any,
    evaluation: "PoolEvaluation",
    *,
    images: Manifest | None = None,
    input_artifacts: Sequence[ArtifactRecord] = (),
    job: Job | None = None,
) -> None:
    """Logs the measures of a pool, its closest pairs to training images, and its artifacts.

    Args:
        run: The W&B run, or None.
        evaluation: The result of the stage.
        images: The images that were measured.
        input_artifacts: Their pool and the cohort.
        job: The job of the evaluation.
    """
    if run is None:
        return
    tables = {}
    for name in ("measures", "diversity", "nearest_similarity", "faithfulness", "appearance"):
        tables[name] = getattr(evaluation, name)
    log_tables(run, tables)
    _log_closest_pairs(run, evaluation.closest, images)
    run.summary.update(summarize("evaluate", to_json(evaluation)))
    for record in input_artifacts:
        artifacts.use_artifact(run, record)
    if job is not None:
        measures = ArtifactRecord("measures", job.key, {"folder": f"evaluate/{job.key}"})
        artifacts.log_artifact(run, measures)


def _log_closest_pairs(run: Any, closest: "Sequence[ClosestPair]", images: Manifest | None) -> None:
    """Logs pairs of a synthetic image and its nearest real training image, the closest first."""
    if not closest or not can_show_images(run):
        return
    row_of_file = {}
    if images is not None:
        row_of_file = dict(zip(images.files, images.table.itertuples(), strict=True))
    rows = []
    for pair in closest:
        manifest_row = row_of_file.get(pair.synthetic)
        label, prompt = getattr(manifest_row, "label", ""), getattr(manifest_row, "prompt", "")
        synthetic = to_wandb_image(pair.synthetic_file)
        train_pixels = read_image(pair.train, sha256=pair.train_sha256)
        nearest_real = to_wandb_image(train_pixels)
        row = [synthetic, label, prompt, "image", nearest_real]
        rows.append([*row, pair.distance, pair.threshold, pair.flagged])
    columns = ["image", "label", "prompt", "outcome", "nearest real"]
    columns += ["distance", "threshold", "flagged"]
    run.log({"closest": to_wandb_table(columns, rows)})


def log_report(run: Any, verdicts: "Sequence[ArmVerdict]", results: Any, measures: Any) -> None:
    """Logs a study's verdicts and tables, and macro-F1 of every arm against its synthetic fraction.

    Args:
        run: The W&B run, or None.
        verdicts: The verdicts on the arms.
        results: The data frame of results.csv.
        measures: The data frame of measures.csv.
    """
    if run is None:
        return
    from wandb import plot

    run.log({"results": frame_to_table(results)})
    run.log({"measures": frame_to_table(measures)})
    log_tables(run, {"verdicts": verdicts})
    run.summary.update(summarize("report", {"verdicts": to_json(verdicts)}))
    means = results[results["seed"].isna() & (results["metric"] == "macro_f1")]
    means = means[(means["test_set"] == "") & (means["control"] == "") & (means["left_out"] == "")]
    points = means[["share", "value", "generator"]].replace({"generator": {"": "real only"}})
    table = to_wandb_table(["share", "macro_f1", "generator"], points.to_numpy().tolist())
    title = "Macro-F1 against synthetic fraction"
    line = plot.line(table, "share", "macro_f1", "generator", title)
    run.log({"macro_f1_against_share": line})


def log_reader_study(run: Any, results: Any, marks: Any) -> None:
    """Logs a reader study's results and the errors that readers marked.

    Args:
        run: The W&B run, or None.
        results: Data frame of the results.
        marks: Data frame of the marked errors.
    """
    if run is None:
        return
    run.log({"reading": frame_to_table(results)})
    run.log({"marks": frame_to_table(marks)})
    run.summary.update(summarize_reading(results))
