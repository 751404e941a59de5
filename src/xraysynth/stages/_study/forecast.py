"""What a study would do: its steps, which of them are done, and what the others would take."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

import pandas as pd

from xraysynth.config import Config
from xraysynth.data.sources.base import map_labels
from xraysynth.data.splits import assign_splits
from xraysynth.errors import XraysynthError
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, PaidGenerator
from xraysynth.jobs.job import ResultLine
from xraysynth.jobs.record import RunRecord, load_finished_records
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.records import Request
from xraysynth.seeds import digest, identity
from xraysynth.stages import generate, prepare, train
from xraysynth.stages._study import plan
from xraysynth.stages._workspace import Workspace


@dataclass(frozen=True)
class StepEstimate:
    """A step of the plan; `seconds` is None where no earlier job tells how long it takes."""

    title: str
    done: bool
    seconds: float | None = 0.0
    usd: float = 0.0

    def __str__(self) -> str:
        if self.done:
            return f"  done     {self.title}"
        time = "unknown time" if self.seconds is None else f"about {_format_seconds(self.seconds)}"
        return f"  missing  {self.title}: {time}" + (f", ${self.usd:.2f}" if self.usd else "")


def run(workspace: Workspace) -> ResultLine:
    """Print the plan of a study on stderr; nothing is made, called or written."""
    rows = _estimate_steps(workspace)
    missing = [row for row in rows if not row.done]
    known = [row.seconds for row in missing if row.seconds is not None]
    seconds = round(sum(known), 1) if len(known) == len(missing) else None
    usd = round(sum(row.usd for row in missing), 2)
    time = (
        "unknown time" if seconds is None else f"about {_format_seconds(seconds)} one after another"
    )
    lines = [f"plan of study {workspace.config.study.name}", *map(str, rows)]
    lines.append(f"{len(missing)} of {len(rows)} steps are missing: {time}, ${usd:.2f}")
    print("\n".join(lines), file=sys.stderr, flush=True)
    return {
        "stage": "study",
        "state": "planned",
        "steps": len(rows),
        "missing": len(missing),
        "seconds": seconds,
        "cost_usd": usd,
    }


def is_done(step: plan.Step) -> bool:
    """Whether the step would find all its work done; the cohort must be prepared."""
    stage = importlib.import_module(f"xraysynth.stages.{step.stage}")
    try:
        return all(job.done for job in stage.jobs(step.workspace))
    except XraysynthError:  # a pool that is not there, or damaged: the step itself says what it is
        return False


def missing_steps(steps: Sequence[plan.Step]) -> list[plan.Step]:
    """The steps that are not done, and those that need one of them: what that makes may differ."""
    found: list[plan.Step] = []
    for step in steps:
        titles = {earlier.title for earlier in found}
        if not titles.isdisjoint(step.needs) or not is_done(step):
            found.append(step)
    return found


def _estimate_steps(workspace: Workspace) -> list[StepEstimate]:
    """Prepare, every step of the study, and the training of the judge before the measuring."""
    past = _load_history(workspace.output)
    prepared = _is_prepared(workspace)
    if not prepared:
        workspace = workspace.with_images(_provisional_cohort(workspace.config))
    rows = [StepEstimate("prepare", prepared, _median_seconds(past, "prepare"))]
    for step in plan.build_steps(workspace):
        # without the cohort only a pool that is not learned from it can be there
        own = step.stage == "generate" and not step.workspace.generators_to_finetune
        there = (prepared or own) and is_done(step)
        if step.stage == "generate" and not there:
            rows.append(_estimate_pool(step, past))
        else:
            rows.append(StepEstimate(step.title, there, _median_seconds(past, step.stage)))
    first = next((i for i, row in enumerate(rows) if row.title.startswith("evaluate ")), None)
    if first is not None:
        judge = prepared and train.build_label_fidelity_job(workspace).done
        rows.insert(first, StepEstimate("train the judge", judge, _median_seconds(past, "judge")))
    return rows


def _estimate_pool(step: plan.Step, history: "_History") -> StepEstimate:
    """A pool that is not complete: seconds and dollars of the images that it lacks."""
    ((name, generator),) = step.workspace.generators.items()
    ended = step.workspace.pool_store(name).map_entries(
        lambda entry: entry.outcome in pool.FINAL_OUTCOMES
    )
    final = {image for image, is_final in ended.items() if is_final}
    wanted = generate.build_requests(step.workspace)
    lacking = [request for request in wanted if request.image_id not in final]
    each = _seconds_per_image(history, generator)
    seconds = None if each is None else each * len(lacking)
    if isinstance(generator, PaidGenerator):
        return _estimate_paid_pool(step.title, generator, lacking, seconds)
    return StepEstimate(step.title, False, seconds)


def _estimate_paid_pool(
    title: str, generator: PaidGenerator, missing_requests: Sequence[Request], seconds: float | None
) -> StepEstimate:
    found = generator.estimate(missing_requests)
    return StepEstimate(title, False, found.seconds if seconds is None else seconds, found.usd)


_History = Mapping[str, Sequence[RunRecord]]


def _load_history(output: Path) -> _History:
    """Every finished job, by stage."""
    by_stage: dict[str, list[RunRecord]] = {}
    for record in load_finished_records(output):
        by_stage.setdefault(record.stage, []).append(record)
    return by_stage


def _median_seconds(history: _History, stage: str) -> float | None:
    found = [_total_seconds(record) for record in history.get(stage, [])]
    seconds = [one for one in found if one is not None]
    return median(seconds) if seconds else None


def _total_seconds(record: RunRecord) -> float | None:
    """Time that a job took, before an interruption included; None where that is not known."""
    result = record.result
    spent = result.get("ledger", {})
    times = [record.seconds, result.get("fit_seconds", 0.0), spent.get("seconds", 0.0)]
    known = [float(time) for time in times if time is not None]
    return max(known) if len(known) == len(times) else None


def _seconds_per_image(history: _History, generator: Generator) -> float | None:
    """Median seconds per image of this generator with these settings."""
    own = digest(identity(generator))
    records = [r for r in history.get("generate", []) if digest(r.identity["generator"]) == own]
    # of the pool's ledger, not of the job: its images may have been made by many jobs, or before
    rates = [r.result.get("ledger", {}).get("images_per_hour") for r in records]
    each = [3600 / rate for rate in rates if rate]
    return median(each) if each else None


def _is_prepared(workspace: Workspace) -> bool:
    # The external job is named after the cohort, which must be there to be asked for.
    return prepare.build_job(workspace).done and all(job.done for job in prepare.jobs(workspace))


def _provisional_cohort(config: Config) -> Manifest:
    """The images before any has been read: split by the patients that their sources name."""
    found = [
        map_labels(s.rows(), s.labels, config.classes, name=s.name).assign(name=s.name)
        for s in config.sources()
    ]
    rows = pd.concat(found, ignore_index=True)
    ids = rows["name"] + "-" + rows["image_id"].astype(str)
    patients = rows.get("patient_id", pd.Series("", rows.index)).fillna("").astype(str)
    rows = rows.assign(image_id=ids, path=ids, patient_id=patients.where(patients != "", ids))
    if "source" not in rows:
        rows = rows.assign(source=rows["name"])
    fractions = {"val": config.splits.val_fraction, "test": config.splits.test_fraction}
    groups = patient_keys(rows)
    split = assign_splits(rows["label"], groups, fractions=fractions, seed=config.splits.seed)
    return Manifest(rows.assign(split=split), Path("."), tuple(config.classes))


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
