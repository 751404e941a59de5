"""The report of a study: one self-contained HTML page, results.csv and results.parquet.

Collects the jobs of the study that are done and says which are not. Takes the same options as the
study; writes below paths.output/studies/<study.name>.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from xraysynth import tracking
from xraysynth.config import Config, with_former_names
from xraysynth.data.audit import Audit
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.reader_study import reading
from xraysynth.evaluation.results import PoolEvaluation
from xraysynth.files import publish
from xraysynth.generation.generators.base import FineTuning
from xraysynth.jobs.job import Job, Line
from xraysynth.report.audit import CohortAudit, SourceCount, SourceTells, SplitCount
from xraysynth.report.content import Content, PoolView
from xraysynth.report.encoder_agreement import rank_agreement
from xraysynth.stages._study import arms, plan, real_data_equivalent
from xraysynth.stages._study.finished import (
    FinishedJobs,
    FinishedPool,
    collect,
    environment,
    job_runs,
    pools_seen,
    shortcuts,
)
from xraysynth.stages._study.limits import limits_of
from xraysynth.stages._workspace import Workspace

SECTIONS = ("study", "source", "generator", "data", "classifier", "trainer", "evaluate")
"""The options that this stage reads: those of the study."""

PAGE = 3
"""Raised whenever what the page or its tables say is changed, so that they are written anew."""

FILES = ("report.html", "results.csv", "results.parquet", "measures.csv", "tradeoffs.csv")


@dataclass(frozen=True)
class Reported:
    """The score that arms are compared by, by arm."""

    macro_f1: dict[str, Interval]


def run(workspace: Workspace, *, failures: Sequence[str] = ()) -> Line:
    """Write the page and the tables, or find them written for the same finished jobs."""
    workspace = plan.with_count(workspace)
    jobs = collect(workspace)
    failures = failures or jobs.missing
    this = _job(workspace, jobs, failures)
    line = workspace.perform(this, partial(work, workspace, jobs, failures, this))
    return line | _publish(workspace.config, this)


def _job(workspace: Workspace, jobs: FinishedJobs, failures: Sequence[str]) -> Job:
    config = workspace.config
    study = config.plain()["study"]
    del study["workers"]
    decides = {
        "jobs": {name: job.key for name, job in jobs.named()},
        "seen": pools_seen(jobs),
        "failures": list(failures),
        "study": with_former_names("study", study),
        "replicates": config.evaluate.replicates,
        "page": PAGE,
    }
    if readings := _readings(workspace, jobs):
        decides["readings"] = [reading.content(folder) for folder in readings]
    return Job("report", decides, config.output, leaves=FILES)


def _readings(workspace: Workspace, jobs: FinishedJobs) -> list[Path]:
    """Folders of the analysed readings of this study's images."""
    keys = [p.key for p in jobs.pools]
    return reading.of_study(workspace.output, workspace.cohort.digest(), keys)


def work(workspace: Workspace, jobs: FinishedJobs, failures: Sequence[str], this: Job) -> Reported:
    """Compare the arms, and write page and tables."""
    from xraysynth.report import page, tables, tradeoffs

    content = _content(workspace, jobs, failures)
    (this.folder / "report.html").write_text(page.render(content), encoding="utf-8")
    results = tables.results(content)
    results.to_csv(this.folder / "results.csv", index=False)
    results.to_parquet(this.folder / "results.parquet", index=False)
    measures = tables.measures(content)
    measures.to_csv(this.folder / "measures.csv", index=False)
    tradeoffs.table(content).to_csv(this.folder / "tradeoffs.csv", index=False)
    with tracking.tracked(workspace.config, this) as run:
        tracking.log_report(run, results, measures)
    return Reported({arm.name: arm.scores["macro_f1"] for arm in content.arms})


def _content(workspace: Workspace, jobs: FinishedJobs, failures: Sequence[str]) -> Content:
    config, audit = workspace.config, workspace.audit
    tested = [arms.Tested.of(arm, found) for arm, found in jobs.arms]
    scorer = arms.Scorer(config, tested, linked=workspace.linked)
    comparisons = arms.compare_all(scorer, tested)
    compared = [arms.arm(scorer, one, c) for one, c in zip(tested, comparisons, strict=True)]
    pools = [_view(found) for found in jobs.pools]
    return Content(
        title=config.study.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=workspace.command("study"),
        classes=config.classes,
        simulated=bool(audit.simulated),
        acknowledged_confounding=audit.acknowledged,
        cohort=workspace.cohort,
        audit=_audit(audit),
        arms=compared,
        pools=pools,
        jobs=job_runs(jobs),
        environment=environment(jobs),
        limits=limits_of(config, audit, jobs),
        failures=failures,
        worth=real_data_equivalent.worth(scorer, tested, compared),
        left_out=real_data_equivalent.left_out(scorer, tested),
        shortcuts=shortcuts(jobs.probed) if jobs.probed else [],
        agreement=rank_agreement(pools),
        machine_usd_per_hour=config.study.machine_usd_per_hour,
        readings=[reading.read(folder) for folder in _readings(workspace, jobs)],
    )


def _publish(config: Config, this: Job) -> dict[str, str]:
    """Copy the files to the folder that carries the study's name."""
    folder = config.output / "studies" / config.study.name
    publish(FILES, source=this.folder, target=folder)
    return {"report": str(folder / FILES[0]), "results": str(folder / FILES[1])}


def _audit(audit: Audit) -> CohortAudit:
    return CohortAudit(
        by_split=[
            SplitCount(str(row["class"]), str(row["split"]), int(row["images"]), _people(row))
            for row in audit.counts
        ],
        by_source=[
            SourceCount(str(row["source"]), str(row["label"]), int(row["images"]))
            for row in audit.by_source
        ],
        cramers_v=audit.cramers_v,
        source_tells=[
            SourceTells(
                label, tells["accuracy"], tells["balanced_accuracy"], tells.get("by_chance")
            )
            for label, tells in audit.source_tells.items()
        ],
        exact_duplicates=audit.exact_duplicates,
        near_duplicates=audit.near_duplicates,
        near_duplicates_across_sources=audit.near_duplicates_across_sources,
        notes=audit.notes,
    )


def _people(row: Mapping[str, str | int]) -> int | None:
    return int(row["patients"]) if "patients" in row else None


def _view(found: FinishedPool) -> PoolView:
    measured = found.measured.record().result_as(PoolEvaluation)
    totals: dict[str, int] = {}
    for outcomes in found.outcomes.values():
        for outcome, number in outcomes.items():
            totals[outcome] = totals.get(outcome, 0) + number
    return PoolView(
        generator=found.generator.name,
        card=found.generator.card,
        manifest=found.manifest,
        outcomes=totals,
        refusals=found.refusals,
        measures=measured.measures,
        diversity=measured.diversity,
        nearest_similarity=measured.nearest_similarity,
        assessable=measured.assessable,
        closest=measured.closest,
        faithfulness=measured.faithfulness,
        seen=measured.seen,
        judge=measured.judge,
        tested_on=measured.tested_on_scores,
        appearance=measured.appearance,
        ledger=found.ledger,
        taught=found.taught.record().result_as(FineTuning) if found.taught else None,
        usable=measured.usable,
    )
