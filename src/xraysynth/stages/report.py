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
from xraysynth.config import Config, with_deprecated_names
from xraysynth.data.audit import Audit
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.reader_study import reading
from xraysynth.evaluation.results import PoolEvaluation
from xraysynth.files import copy_atomically
from xraysynth.generation.generators.base import FineTuning
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.report.audit import CohortAudit, SourceConfounding, SourceCount, SplitCount
from xraysynth.report.content import Content, PoolResults
from xraysynth.report.encoder_agreement import rank_agreement
from xraysynth.stages._study import arms, plan, real_data_equivalent
from xraysynth.stages._study.finished import (
    FinishedJobs,
    FinishedPool,
    collect_finished_jobs,
    collect_pool_digests,
    job_runs,
    last_training_environment,
    load_shortcuts,
)
from xraysynth.stages._study.limits import study_limits
from xraysynth.stages._workspace import Workspace

SECTIONS = ("study", "source", "generator", "data", "classifier", "trainer", "evaluate")
"""The options that this stage reads: those of the study."""

PAGE_VERSION = 4
"""Raised whenever what the page or its tables say is changed, so that they are written anew."""

FILES = ("report.html", "results.csv", "results.parquet", "measures.csv", "tradeoffs.csv")


@dataclass(frozen=True)
class ReportResult:
    """The score that arms are compared by, by arm."""

    macro_f1: dict[str, Interval]


def run(workspace: Workspace, *, failures: Sequence[str] = ()) -> ResultLine:
    """Write the page and the tables, or find them written for the same finished jobs."""
    workspace = plan.with_images_per_class(workspace)
    jobs = collect_finished_jobs(workspace)
    failures = failures or jobs.missing
    this = _build_job(workspace, jobs, failures)
    line = workspace.run_job(this, partial(work, workspace, jobs, failures, this))
    return line | _publish(workspace.config, this)


def _build_job(workspace: Workspace, jobs: FinishedJobs, failures: Sequence[str]) -> Job:
    config = workspace.config
    study = config.to_dict()["study"]
    del study["workers"]
    decides = {
        "jobs": {name: job.key for name, job in jobs.named_jobs()},
        "seen": collect_pool_digests(jobs),
        "failures": list(failures),
        "study": with_deprecated_names("study", study),
        "replicates": config.evaluate.replicates,
        "page": PAGE_VERSION,
    }
    if readings := _reader_study_folders(workspace, jobs):
        decides["readings"] = [reading.reading_digest(folder) for folder in readings]
    return Job("report", decides, config.output, outputs=FILES)


def _reader_study_folders(workspace: Workspace, jobs: FinishedJobs) -> list[Path]:
    """Folders of the analysed readings of this study's images."""
    keys = [p.key for p in jobs.pools]
    return reading.find_readings(workspace.output, workspace.cohort.digest(), keys)


def work(
    workspace: Workspace, jobs: FinishedJobs, failures: Sequence[str], job: Job
) -> ReportResult:
    """Compare the arms, and write page and tables."""
    from xraysynth.report import page, tables, tradeoffs

    content = _build_content(workspace, jobs, failures)
    (job.folder / "report.html").write_text(page.render(content), encoding="utf-8")
    results = tables.results_table(content)
    results.to_csv(job.folder / "results.csv", index=False)
    results.to_parquet(job.folder / "results.parquet", index=False)
    measures = tables.measures_table(content)
    measures.to_csv(job.folder / "measures.csv", index=False)
    tradeoffs.tradeoffs_table(content).to_csv(job.folder / "tradeoffs.csv", index=False)
    with tracking.open_run(workspace.config, job) as run:
        tracking.log_report(run, results, measures)
    return ReportResult({arm.name: arm.scores["macro_f1"] for arm in content.arms})


def _build_content(workspace: Workspace, jobs: FinishedJobs, failures: Sequence[str]) -> Content:
    config, audit = workspace.config, workspace.audit
    tested = [arms.TestedArm.from_jobs(arm, found) for arm, found in jobs.arms]
    scorer = arms.Scorer(config, tested, linked_patients=workspace.linked_patients)
    comparisons = arms.compare_all(scorer, tested)
    compared = [arms.build_arm(scorer, one, c) for one, c in zip(tested, comparisons, strict=True)]
    pools = [_build_pool_view(found) for found in jobs.pools]
    return Content(
        title=config.study.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=workspace.command("study"),
        classes=config.classes,
        simulated=bool(audit.simulated),
        acknowledged_confounding=audit.acknowledged,
        cohort=workspace.cohort,
        audit=_cohort_audit(audit),
        arms=compared,
        pools=pools,
        jobs=job_runs(jobs),
        environment=last_training_environment(jobs),
        limits=study_limits(config, audit, jobs),
        failures=failures,
        equivalents=real_data_equivalent.compute_real_data_equivalents(scorer, tested, compared),
        left_out_sources=real_data_equivalent.compare_left_out_sources(scorer, tested),
        shortcuts=load_shortcuts(jobs.probe_job) if jobs.probe_job else [],
        encoder_agreement=rank_agreement(pools),
        machine_usd_per_hour=config.study.machine_usd_per_hour,
        readings=[
            reading.load_reading(folder) for folder in _reader_study_folders(workspace, jobs)
        ],
    )


def _publish(config: Config, job: Job) -> dict[str, str]:
    """Copy the files to the folder that carries the study's name."""
    folder = config.output / "studies" / config.study.name
    copy_atomically(FILES, source=job.folder, target=folder)
    return {"report": str(folder / FILES[0]), "results": str(folder / FILES[1])}


def _cohort_audit(audit: Audit) -> CohortAudit:
    return CohortAudit(
        by_split=[
            SplitCount(
                str(row["class"]), str(row["split"]), int(row["images"]), _count_patients(row)
            )
            for row in audit.counts
        ],
        by_source=[
            SourceCount(str(row["source"]), str(row["label"]), int(row["images"]))
            for row in audit.by_source
        ],
        cramers_v=audit.cramers_v,
        source_confounding=[
            SourceConfounding(
                label, tells["accuracy"], tells["balanced_accuracy"], tells.get("by_chance")
            )
            for label, tells in audit.source_confounding.items()
        ],
        exact_duplicates=audit.exact_duplicates,
        near_duplicates=audit.near_duplicates,
        near_duplicates_across_sources=audit.near_duplicates_across_sources,
        notes=audit.notes,
    )


def _count_patients(row: Mapping[str, str | int]) -> int | None:
    return int(row["patients"]) if "patients" in row else None


def _build_pool_view(pool: FinishedPool) -> PoolResults:
    measured = pool.evaluate_job.record().result_as(PoolEvaluation)
    totals: dict[str, int] = {}
    for outcomes in pool.outcomes.values():
        for outcome, number in outcomes.items():
            totals[outcome] = totals.get(outcome, 0) + number
    return PoolResults(
        generator=pool.generator.name,
        card=pool.generator.card,
        manifest=pool.manifest,
        outcomes=totals,
        refusals=pool.refusals,
        measures=measured.measures,
        diversity=measured.diversity,
        nearest_similarity=measured.nearest_similarity,
        not_assessable_reason=measured.not_assessable_reason,
        closest=measured.closest,
        label_fidelity=measured.faithfulness,
        confusion_matrix=measured.confusion_matrix,
        fidelity_classifier=measured.fidelity_classifier,
        real_classifier_scores=measured.real_classifier_scores,
        appearance=measured.appearance,
        ledger=pool.ledger,
        finetuning=pool.finetune_job.record().result_as(FineTuning) if pool.finetune_job else None,
        usable_share=measured.usable,
    )
