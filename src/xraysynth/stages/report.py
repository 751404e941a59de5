"""Write the report of a study: one self-contained HTML page, results.csv and results.parquet.

Collects the jobs of the study that are done, and says which are not. Takes the same options as the
study, and writes below paths.output/studies/<study.name>.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from xraysynth import tracking
from xraysynth.config import Config, with_deprecated_names
from xraysynth.data.audit import Audit
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.reader_study import reading
from xraysynth.evaluation.results import PoolEvaluation
from xraysynth.files import atomic_path, copy_atomically, write_atomically, write_csv
from xraysynth.generation.generators.base import FineTuning
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.report.arm_verdicts import ArmVerdict, arm_verdicts
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
from xraysynth.stages._study.screening import build_cohort_screening, load_screening
from xraysynth.stages._study.seed_rounds import SeedsOfArms
from xraysynth.stages._study.tested_arm import TestedArm
from xraysynth.stages._workspace import Workspace
from xraysynth.threads import one_thread

SECTIONS = ("study", "source", "generator", "data", "classifier", "trainer", "evaluate")
"""The options that this stage reads: those of the study."""

PAGE_VERSION = 5
"""Raised whenever the text of the page or its tables changes, so that old reports are written again."""

FILES = ("report.html", "results.csv", "results.parquet", "measures.csv", "tradeoffs.csv")


@dataclass(frozen=True)
class ReportResult:
    """The macro-F1 of each arm, which arms are compared by, and the verdicts on its differences.

    Reports of earlier versions have no list of verdicts.
    """

    macro_f1: dict[str, Interval]
    verdicts: list[ArmVerdict] = field(default_factory=list)


def run(
    workspace: Workspace, *, failures: Sequence[str] = (), seeds: SeedsOfArms | None = None
) -> ResultLine:
    """Write the page and the tables, unless they are written for the same finished jobs.

    Args:
        workspace: The study's configuration.
        failures: Messages of the steps that failed; by default the jobs that are not done are named.
        seeds: The seeds of the study's arms, where they are known.

    Returns:
        The job's result, with the paths of the page ("report") and of the table ("results"). Its state
        is "failed", with the messages in "failures", if finished work is damaged and left out.
    """
    workspace = plan.with_images_per_class(workspace)
    jobs = collect_finished_jobs(workspace, seeds)
    failures = failures or jobs.missing
    job = _build_job(workspace, jobs, failures)
    result = workspace.run_job(job, partial(work, workspace, jobs, failures, job))
    result |= _publish(workspace.config, job)
    if jobs.damaged:
        return result | {"state": "failed", "failures": list(jobs.damaged)}
    return result


def _build_job(workspace: Workspace, jobs: FinishedJobs, failures: Sequence[str]) -> Job:
    """Build the job that writes the report of these finished jobs.

    Its identity holds their keys, the pools' contents, the failures, the reader studies and what
    screening has found, so that the report is written again whenever one of them changes.
    """
    config = workspace.config
    study_options = config.to_dict()["study"]
    del study_options["workers"]
    if config.study.until is None:
        del study_options["until"], study_options["most_seeds"]
    identity: dict[str, Any] = {
        "jobs": {name: job.key for name, job in jobs.named_jobs()},
        "seen": collect_pool_digests(jobs),
        "failures": list(failures),
        "study": with_deprecated_names("study", study_options),
        "replicates": config.evaluate.replicates,
        "page": PAGE_VERSION,
    }
    identity |= load_screening(workspace).identity()
    reader_studies = _reader_study_folders(workspace, jobs)
    if reader_studies:
        identity["readings"] = list(map(reading.reading_digest, reader_studies))
    return Job("report", identity, config.output, outputs=FILES)


def _reader_study_folders(workspace: Workspace, jobs: FinishedJobs) -> list[Path]:
    """Return the folders of the analysed reader studies of this study's images."""
    pool_keys = [finished_pool.key for finished_pool in jobs.pools]
    return reading.find_readings(workspace.output, workspace.cohort.digest(), pool_keys)


def work(
    workspace: Workspace, jobs: FinishedJobs, failures: Sequence[str], job: Job
) -> ReportResult:
    """Compare the arms, and write the page and the tables to the job's folder.

    Args:
        workspace: The study's configuration.
        jobs: Its finished jobs.
        failures: Messages for the page on jobs that failed or are not done.
        job: The job whose folder takes the files.
    """
    from xraysynth.report import page, tables, tradeoffs

    with one_thread():
        content = _build_content(workspace, jobs, failures)
        results = tables.results_table(content)
        measures = tables.measures_table(content)
        trade_offs = tradeoffs.tradeoffs_table(content)
    folder = job.folder
    write_atomically(folder / "report.html", page.render(content).encode())
    write_csv(results, folder / "results.csv")
    with atomic_path(folder / "results.parquet") as partial:
        results.to_parquet(partial, index=False)
    write_csv(measures, folder / "measures.csv")
    write_csv(trade_offs, folder / "tradeoffs.csv")
    scores = {arm.name: arm.scores["macro_f1"] for arm in content.arms}
    result = ReportResult(scores, arm_verdicts(content.arms))
    with tracking.open_run(workspace.config, job) as run:
        tracking.log_report(run, result.verdicts, results, measures)
    return result


def _build_content(workspace: Workspace, jobs: FinishedJobs, failures: Sequence[str]) -> Content:
    """Score and compare the arms, and collect everything else that the page shows."""
    config, audit = workspace.config, workspace.audit
    tested_arms = [TestedArm.from_jobs(arm, trainings) for arm, trainings in jobs.arms]
    scorer = arms.Scorer(config, tested_arms, linked_patients=workspace.linked_patients)
    report_arms = []
    comparisons = arms.compare_all(scorer, tested_arms)
    for tested_arm, arm_comparisons in zip(tested_arms, comparisons, strict=True):
        report_arms.append(arms.build_arm(scorer, tested_arm, arm_comparisons))
    equivalents = real_data_equivalent.compute_real_data_equivalents(
        scorer, tested_arms, report_arms
    )
    pools = list(map(_build_pool_results, jobs.pools))
    names = {tested.title: arm.name for tested, arm in zip(tested_arms, report_arms, strict=True)}
    reader_studies = _reader_study_folders(workspace, jobs)
    return Content(
        title=config.study.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=workspace.command("study"),
        classes=config.classes,
        simulated=bool(audit.simulated),
        acknowledged_confounding=audit.acknowledged,
        cohort=workspace.cohort,
        audit=replace(_cohort_audit(audit), screening=build_cohort_screening(workspace)),
        arms=report_arms,
        pools=pools,
        jobs=job_runs(jobs),
        environment=last_training_environment(jobs),
        limits=study_limits(config, audit, jobs),
        failures=failures,
        equivalents=equivalents,
        left_out_sources=real_data_equivalent.compare_left_out_sources(scorer, tested_arms),
        shortcuts=load_shortcuts(jobs.probe_job) if jobs.probe_job else [],
        encoder_agreement=rank_agreement(pools),
        machine_usd_per_hour=config.study.machine_usd_per_hour,
        readings=list(map(reading.load_reading, reader_studies)),
        spread_of_seeds=scorer.spread_of_seeds(),
        seeds_until=jobs.seeds_until and jobs.seeds_until.with_names(names),
    )


def _publish(config: Config, job: Job) -> dict[str, str]:
    """Copy the files to the folder that has the study's name, and return the paths of the main ones."""
    folder = config.output / "studies" / config.study.name
    copy_atomically(FILES, source=job.folder, target=folder)
    return {"report": str(folder / "report.html"), "results": str(folder / "results.csv")}


def _cohort_audit(audit: Audit) -> CohortAudit:
    """Turn the audit, whose entries are JSON, into the records that the page shows."""
    return CohortAudit(
        by_split=list(map(_split_count, audit.counts)),
        by_source=list(map(_source_count, audit.by_source)),
        cramers_v=audit.cramers_v,
        source_confounding=_source_confounding(audit),
        exact_duplicates=audit.exact_duplicates,
        near_duplicates=audit.near_duplicates,
        near_duplicates_across_sources=audit.near_duplicates_across_sources,
        notes=audit.notes,
    )


def _split_count(row: Mapping[str, str | int]) -> SplitCount:
    """Turn a row of the audit into a record; audits of earlier versions do not count patients."""
    patients = int(row["patients"]) if "patients" in row else None
    return SplitCount(str(row["class"]), str(row["split"]), int(row["images"]), patients)


def _source_count(row: Mapping[str, str | int]) -> SourceCount:
    """Turn a row of the audit into a record."""
    return SourceCount(str(row["source"]), str(row["label"]), int(row["images"]))


def _source_confounding(audit: Audit) -> list[SourceConfounding]:
    """Return how well the source predicts each class; audits of earlier versions lack `by_chance`."""
    rows = []
    for label, scores in audit.source_confounding.items():
        rows.append(
            SourceConfounding(
                label, scores["accuracy"], scores["balanced_accuracy"], scores.get("by_chance")
            )
        )
    return rows


def _build_pool_results(pool: FinishedPool) -> PoolResults:
    """Join what is recorded of a pool, of its measuring and of its generator's fine-tuning."""
    evaluation = pool.evaluate_job.record().result_as(PoolEvaluation)
    finetuning = None
    if pool.finetune_job is not None:
        finetuning = pool.finetune_job.record().result_as(FineTuning)
    outcomes: Counter[str] = Counter()
    for class_outcomes in pool.outcomes.values():
        outcomes.update(class_outcomes)
    return PoolResults(
        generator=pool.generator.name,
        card=pool.generator.card,
        manifest=pool.manifest,
        outcomes=dict(outcomes),
        refusals=pool.refusals,
        measures=evaluation.measures,
        diversity=evaluation.diversity,
        nearest_similarity=evaluation.nearest_similarity,
        not_assessable_reason=evaluation.not_assessable_reason,
        closest=evaluation.closest,
        label_fidelity=evaluation.faithfulness,
        confusion_matrix=evaluation.confusion_matrix,
        fidelity_classifier=evaluation.fidelity_classifier,
        real_classifier_scores=evaluation.real_classifier_scores,
        appearance=evaluation.appearance,
        ledger=pool.ledger,
        finetuning=finetuning,
        usable_share=evaluation.usable,
    )
