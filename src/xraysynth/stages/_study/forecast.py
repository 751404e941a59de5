"""The plan of a study: its steps, which of them are done, and what the missing ones would take."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

import pandas as pd

from xraysynth.config import Config, Study
from xraysynth.data.sources.base import map_labels
from xraysynth.data.splits import assign_splits
from xraysynth.errors import XraysynthError
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, PaidGenerator
from xraysynth.jobs.job import ResultLine
from xraysynth.jobs.record import RunRecord, load_finished_records
from xraysynth.jobs.store import JournalEntry
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.records import Request, to_json
from xraysynth.seeds import digest, identity
from xraysynth.stages import _label_fidelity, generate, prepare
from xraysynth.stages._study import plan, power
from xraysynth.stages._study.seed_rounds import SeedRounds
from xraysynth.stages._workspace import Workspace


@dataclass(frozen=True)
class StepEstimate:
    """What a step of the plan would take.

    Attributes:
        title: What the step does.
        done: Whether there is nothing left to do.
        seconds: Estimated time; None if there is no earlier job of this kind to estimate it from.
        usd: Estimated dollars for paid services.
    """

    title: str
    done: bool
    seconds: float | None = 0.0
    usd: float = 0.0

    def __str__(self) -> str:
        if self.done:
            return f"  done     {self.title}"
        cost = f", ${self.usd:.2f}" if self.usd else ""
        return f"  missing  {self.title}: {_format_time(self.seconds)}{cost}"


def run(workspace: Workspace) -> ResultLine:
    """Print the plan of a study on stderr; nothing is computed, called or written.

    Returns:
        The number of steps and of missing ones, and the seconds (None if unknown) and dollars that
        the missing ones would take.
    """
    is_prepared = _is_prepared(workspace)
    if not is_prepared:
        workspace = workspace.with_images(_provisional_cohort(workspace.config))
    workspace = plan.with_images_per_class(workspace)
    estimates = _estimate_steps(workspace, is_prepared=is_prepared)
    missing = [estimate for estimate in estimates if not estimate.done]
    known_seconds = [estimate.seconds for estimate in missing if estimate.seconds is not None]
    seconds = round(sum(known_seconds), 1) if len(known_seconds) == len(missing) else None
    usd = round(sum(estimate.usd for estimate in missing), 2)
    time = _format_time(seconds) + ("" if seconds is None else " one after another")
    lines = [
        f"plan of study {workspace.config.study.name}",
        *map(str, estimates),
        f"{len(missing)} of {len(estimates)} steps are missing: {time}, ${usd:.2f}",
        *_describe_further_seeds(workspace.config.study),
    ]
    power_table = power.build_power_table(workspace, is_prepared=is_prepared)
    lines += [str(power_table)] if power_table else []
    print("\n".join(lines), file=sys.stderr, flush=True)
    return {
        "stage": "study",
        "state": "planned",
        "steps": len(estimates),
        "missing": len(missing),
        "seconds": seconds,
        "cost_usd": usd,
        **({"power": to_json(power_table)} if power_table else {}),
    }


def _describe_further_seeds(study: Study) -> list[str]:
    """Return the line on the trainings that may be added to the plan; none with fixed seeds."""
    if study.until is None:
        return []
    return [
        f"seeds are added until intervals are ±{study.until:g}: up to {study.most_seeds} of each arm"
    ]


def is_done(step: plan.Step) -> bool:
    """Return whether all jobs of the step are done, and intact; the cohort must be prepared."""
    stage = importlib.import_module(f"xraysynth.stages.{step.stage}")
    try:
        return all(job.intact for job in stage.jobs(step.workspace))
    except XraysynthError:  # A pool is missing or damaged; running the step says which.
        return False


def missing_steps(steps: Sequence[plan.Step]) -> list[plan.Step]:
    """List the steps that are not done, and those that need one of them.

    A step that needs a missing one is listed even if it is done, because its inputs may change.

    Args:
        steps: All steps of the study; those that a step needs come before it.
    """
    missing: list[plan.Step] = []
    missing_titles: set[str] = set()
    for step in steps:
        if not missing_titles.isdisjoint(step.needs) or not is_done(step):
            missing.append(step)
            missing_titles.add(step.title)
    return missing


def _estimate_steps(workspace: Workspace, *, is_prepared: bool) -> list[StepEstimate]:
    """Estimate every step: prepare, those of the plan, and the label-fidelity training before measuring."""
    history = _load_history(workspace.output)
    estimates = [StepEstimate("prepare", is_prepared, _median_seconds(history, "prepare"))]
    trains_fidelity_classifier = False
    steps = plan.build_steps(workspace)
    if is_prepared:
        steps += SeedRounds(workspace).steps_of_added_seeds()
    for step in steps:
        if step.stage == "evaluate" and not trains_fidelity_classifier:
            trains_fidelity_classifier = True
            done = is_prepared and _label_fidelity.build_job(workspace).intact
            seconds = _median_seconds(history, "judge")
            estimates.append(StepEstimate("train the label-fidelity classifier", done, seconds))
        estimates.append(_estimate_step(step, history, is_prepared=is_prepared))
    return estimates


def _estimate_step(step: plan.Step, history: "_History", *, is_prepared: bool) -> StepEstimate:
    """Estimate one step of the plan."""
    # Without a cohort, only the pool of a generator that is not fine-tuned on it can be there.
    needs_no_cohort = step.stage == "generate" and not step.workspace.generators_to_finetune
    done = (is_prepared or needs_no_cohort) and is_done(step)
    if step.stage == "generate" and not done:
        return _estimate_pool(step, history)
    return StepEstimate(step.title, done, _median_seconds(history, step.stage))


def _estimate_pool(step: plan.Step, history: "_History") -> StepEstimate:
    """Estimate seconds and dollars of the images that a pool lacks."""
    ((name, generator),) = step.workspace.generators.items()
    has_ended = step.workspace.pool_store(name).map_entries(_has_final_outcome)
    missing_requests = []
    for request in generate.build_requests(step.workspace):
        if not has_ended.get(request.image_id, False):
            missing_requests.append(request)
    seconds_per_image = _seconds_per_image(history, generator)
    seconds = None if seconds_per_image is None else seconds_per_image * len(missing_requests)
    if isinstance(generator, PaidGenerator):
        return _estimate_paid_pool(step.title, generator, missing_requests, seconds)
    return StepEstimate(step.title, False, seconds)


def _has_final_outcome(entry: JournalEntry) -> bool:
    """Return whether a request of a pool has ended in a way that is not tried again."""
    return entry.outcome in pool.FINAL_OUTCOMES


def _estimate_paid_pool(
    title: str, generator: PaidGenerator, missing_requests: Sequence[Request], seconds: float | None
) -> StepEstimate:
    """Estimate dollars by the service's prices, and seconds if no earlier job gives an estimate."""
    estimate = generator.estimate(missing_requests)
    seconds = estimate.seconds if seconds is None else seconds
    return StepEstimate(title, False, seconds, estimate.usd)


_History = Mapping[str, Sequence[RunRecord]]
"""The records of all finished jobs below the output folder, by stage."""


def _load_history(output: Path) -> _History:
    """Load the records of all finished jobs below the output folder, by stage."""
    by_stage: dict[str, list[RunRecord]] = {}
    for record in load_finished_records(output):
        by_stage.setdefault(record.stage, []).append(record)
    return by_stage


def _median_seconds(history: _History, stage: str) -> float | None:
    """Return the median time of the stage's finished jobs; None without any."""
    times = map(_total_seconds, history.get(stage, []))
    known_times = [seconds for seconds in times if seconds is not None]
    return median(known_times) if known_times else None


def _total_seconds(record: RunRecord) -> float | None:
    """Return the time of a job with that before an interruption; None if a part is not known."""
    ledger = record.result.get("ledger", {})
    times = (
        record.seconds,
        record.result.get("fit_seconds", 0.0),
        ledger.get("seconds", 0.0),
    )
    if None in times:
        return None
    return float(max(times))


def _seconds_per_image(history: _History, generator: Generator) -> float | None:
    """Return the median seconds per image of this generator with these settings; None if unknown.

    The rate is read from the ledger of the pool, not from the job, because a job may find images that
    earlier jobs have made.

    Args:
        history: The records of all finished jobs.
        generator: The generator; only pools of the same settings count.
    """
    key = digest(identity(generator))
    seconds_per_image = []
    for record in history.get("generate", []):
        rate = record.result.get("ledger", {}).get("images_per_hour")
        if rate and digest(record.identity["generator"]) == key:
            seconds_per_image.append(3600 / rate)
    return median(seconds_per_image) if seconds_per_image else None


def _is_prepared(workspace: Workspace) -> bool:
    """Return whether the cohort and the external test sets are prepared."""
    # The cohort must be prepared first, because the key of the external job depends on it.
    if not prepare.build_job(workspace).intact:
        return False
    return all(job.intact for job in prepare.jobs(workspace))


def _provisional_cohort(config: Config) -> Manifest:
    """Build a cohort of images that are not read yet, to plan with.

    It is split by the patients that the sources name; an image without a patient counts as one. Links
    between patients are only found once the images are read, so that the real split may differ.
    """
    tables = []
    for source in config.sources():
        table = map_labels(source.rows(), source.labels, config.classes, name=source.name)
        tables.append(table.assign(name=source.name))
    rows = pd.concat(tables, ignore_index=True)
    image_ids = rows["name"] + "-" + rows["image_id"].astype(str)
    patients = rows.get("patient_id", pd.Series("", rows.index)).fillna("").astype(str)
    patients = patients.where(patients != "", image_ids)
    rows = rows.assign(image_id=image_ids, path=image_ids, patient_id=patients)
    if "source" not in rows:
        rows = rows.assign(source=rows["name"])
    fractions = {"val": config.splits.val_fraction, "test": config.splits.test_fraction}
    split = assign_splits(
        rows["label"], patient_keys(rows), fractions=fractions, seed=config.splits.seed
    )
    return Manifest(rows.assign(split=split), Path("."), tuple(config.classes))


def _format_time(seconds: float | None) -> str:
    """Format an estimated time as "about 12.0 s", "about 1:02:03" or "unknown time"."""
    if seconds is None:
        return "unknown time"
    if seconds < 60:
        return f"about {seconds:.1f} s"
    return f"about {timedelta(seconds=round(seconds))}"
