"""The report of a study: one self-contained HTML page, results.csv and results.parquet.

Collects the jobs of the study that are done and says which are not. Takes the same options as the
study; writes below paths.output/studies/<study.name>.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.audit import Audit
from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.evaluation.reader_study import reading
from xraysynth.evaluation.results import PoolEvaluation
from xraysynth.files import publish
from xraysynth.generation import pool
from xraysynth.generation.generators.base import FineTuning, Generator, Learner
from xraysynth.generation.ledger import Ledger
from xraysynth.jobs.job import Job
from xraysynth.manifest import Manifest
from xraysynth.records import from_json
from xraysynth.report.agreement import rank_agreement
from xraysynth.report.audit import CohortAudit, SourceCount, SourceTells, SplitCount
from xraysynth.report.content import Content, JobRun, PoolView
from xraysynth.stages import (
    evaluate,
    finetune,
    generate,
    prepare,
    probe,
    train,
)
from xraysynth.stages._study import arms, plan
from xraysynth.stages._workspace import Workspace

SECTIONS = ("study", "source", "generator", "data", "classifier", "trainer", "evaluate")
"""The options that this stage reads: those of the study."""

PAGE = 2
"""Raised whenever what the page or its tables say is changed, so that they are written anew."""

FILES = ("report.html", "results.csv", "results.parquet", "measures.csv", "tradeoffs.csv")


@dataclass(frozen=True)
class _Pool:
    """A generator's pool and the jobs that made and measured it."""

    generator: Generator
    manifest: Manifest
    outcomes: Mapping[str, Mapping[str, int]]
    refusals: Mapping[str, Mapping[str, tuple[int, int]]]
    ledger: Ledger
    taught: Job | None
    made: Job
    measured: Job

    @property
    def key(self) -> str:
        """What names the pool's folder besides the generator."""
        return self.manifest.folder.name.rpartition("-")[2]


@dataclass(frozen=True)
class _Jobs:
    """The jobs of a study that are done, and the names of those that are not."""

    prepared: Job
    arms: Sequence[tuple[plan.ArmConfig, Mapping[int, Job]]]
    pools: Sequence[_Pool]
    probed: Job | None
    missing: Sequence[str]

    def named(self) -> list[tuple[str, Job]]:
        """Every finished job with a name for the reader."""
        trained = [
            (f"{arm.title}, seed {seed}", job)
            for arm, jobs in self.arms
            for seed, job in jobs.items()
        ]
        taught = [(p.generator.name, p.taught) for p in self.pools if p.taught]
        made = [(p.generator.name, p.made) for p in self.pools]
        measured = [(p.generator.name, p.measured) for p in self.pools]
        probed = [("shortcuts", self.probed)] if self.probed else []
        return [("cohort", self.prepared), *probed, *taught, *made, *trained, *measured]


def run(workspace: Workspace, *, failures: Sequence[str] = ()) -> dict[str, Any]:
    """Write the page and the tables, or find them written for the same finished jobs."""
    workspace = plan.with_count(workspace)
    jobs = _collect(workspace)
    failures = failures or jobs.missing
    this = _job(workspace, jobs, failures)
    line = workspace.perform(this, partial(work, workspace, jobs, failures, this))
    return line | _publish(workspace.config, this)


def _job(workspace: Workspace, jobs: _Jobs, failures: Sequence[str]) -> Job:
    config = workspace.config
    decides = {
        "jobs": {name: job.key for name, job in jobs.named()},
        "seen": _pools_seen(jobs),
        "failures": list(failures),
        "study": {k: v for k, v in config.plain()["study"].items() if k != "workers"},
        "replicates": config.evaluate.replicates,
        "page": PAGE,
    }
    if readings := _readings(workspace, jobs):
        decides["readings"] = [reading.content(folder) for folder in readings]
    return Job("report", decides, config.output, leaves=FILES)


def _collect(workspace: Workspace) -> _Jobs:
    config = workspace.config
    planned, missing = [], []
    for arm in plan.arms(config, workspace.cohort):
        jobs = {
            seed: train.lasting_job(workspace.derive(replace(arm.config, seed=seed)))
            for seed in config.study.seeds
        }
        planned.append((arm, {seed: job for seed, job in jobs.items() if job.done}))
        missing += [
            f"train {arm.title}, seed {s}: not done" for s, job in jobs.items() if not job.done
        ]
    pools = []
    for key in config.generator:
        try:
            pools += _pools(plan.measuring_workspace(workspace, key))
        except XraysynthError as error:
            missing.append(f"{key}: {error}")
    done = [(arm, jobs) for arm, jobs in planned if jobs]
    if not done or done[0][0].config.data.share:
        raise XraysynthError(
            "the report compares with the real-only arm, of which no training is done; run: "
            + workspace.command("study")
        )
    probed = probe.job(workspace)
    if not probed.done:
        missing.append("probe: not done")
    return _Jobs(prepare.job(workspace), done, pools, probed if probed.done else None, missing)


def _pools_seen(jobs: _Jobs) -> dict[str, Mapping[str, str]]:
    """What every training saw of the pools, which may be trained again under its key."""
    trained = ((name, job) for name, job in jobs.named() if job.stage == "train")
    return {name: used for name, job in trained if (used := train.pools_seen(job))}


def _readings(workspace: Workspace, jobs: _Jobs) -> list[Path]:
    """Folders of the analysed readings of this study's images."""
    keys = [p.key for p in jobs.pools]
    return reading.of_study(workspace.output, workspace.cohort.digest(), keys)


def _pools(workspace: Workspace) -> list[_Pool]:
    found = []
    for name, images in workspace.pools().items():
        measured = evaluate.job(workspace, images)
        measured.result(workspace.command("evaluate"))
        store = workspace.store(name)
        found.append(
            _Pool(
                workspace.generators[name],
                images,
                pool.outcomes(store),
                pool.refusals(store),
                pool.ledger(store),
                finetune.job(workspace, name) if name in workspace.learners else None,
                generate.job(workspace, name),
                measured,
            )
        )
    return found


def work(workspace: Workspace, jobs: _Jobs, failures: Sequence[str], this: Job) -> dict[str, Any]:
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
    return {"macro_f1": {arm.name: arm.scores["macro_f1"] for arm in content.arms}}


def _content(workspace: Workspace, jobs: _Jobs, failures: Sequence[str]) -> Content:
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
        jobs=_job_runs(jobs),
        environment=_environment(jobs),
        limits=_limits(config, audit, jobs),
        failures=failures,
        worth=arms.worth(scorer, tested, compared),
        left_out=arms.left_out(scorer, tested),
        shortcuts=_shortcuts(jobs.probed) if jobs.probed else [],
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


def _view(found: _Pool) -> PoolView:
    measured = from_json(PoolEvaluation, found.measured.record()["result"])
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
        taught=from_json(FineTuning, found.taught.record()["result"]) if found.taught else None,
        usable=measured.usable,
    )


def _shortcuts(probed: Job) -> list[Shortcut]:
    return [from_json(Shortcut, row) for row in probed.record()["result"]["shortcuts"]]


def _job_runs(jobs: _Jobs) -> list[JobRun]:
    runs = []
    for name, job in jobs.named():
        record = job.record()
        runs.append(
            JobRun(
                job.stage,
                name,
                record.get("seconds"),
                record.get("peak_memory_mb"),
                record["state"],
            )
        )
    return runs


def _environment(jobs: _Jobs) -> dict[str, str]:
    """Of the last training: versions differ only if the study was continued after an update."""
    _, last = jobs.arms[-1]
    found = dict(list(last.values())[-1].record()["environment"])
    versions = found.pop("versions")
    return {name: str(value) for name, value in (found | versions).items()}


def _what_intervals_cover(jobs: _Jobs) -> str:
    """By the seeds that are finished, which may be fewer than the study asks for."""
    finished = {arm.title: len(seeds) for arm, seeds in jobs.arms}
    fewest, most = min(finished.values()), max(finished.values())
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    sentence = f"{count} training {'seed' if most == 1 else 'seeds'} finished per arm; "
    if most == 1:
        return sentence + (
            "intervals cover the choice of test patients alone, not that of the seed, of the training "
            "images or of the pool's seed, so no arm is called better or worse."
        )
    sentence += (
        "intervals cover the choice of test patients and of seeds, not that of the training images or "
        "of the pool's seed"
    )
    if single := [title for title, number in finished.items() if number == 1]:
        sentence += f"; those of {', '.join(single)} cover patients alone"
    return f"{sentence}."


def _limits_of_pools(jobs: _Jobs) -> list[str]:
    """Arms whose trainings saw different images of one pool, as when some were made later.

    Compared are the seeds of an arm, and the arm with its permuted control, which take the same images.
    """
    contents: dict[tuple[Any, ...], list[Mapping[str, str]]] = {}
    titles: dict[tuple[Any, ...], str] = {}
    for arm, trained in jobs.arms:
        data = arm.config.data
        place = (arm.generator, data.share, data.mode, data.real_fraction)
        titles.setdefault(place, arm.title)
        known = [used for job in trained.values() if (used := train.pools_seen(job))]
        contents.setdefault(place, []).extend(known)
    torn = [titles[place] for place, seen in contents.items() if any(s != seen[0] for s in seen)]
    if not torn:
        return []
    return [
        f"The trainings of {', '.join(torn)} saw different images of a pool, to which some were added "
        "between them; run the study again to train all on the same."
    ]


def _limits(config: Config, audit: Audit, jobs: _Jobs) -> list[str]:
    limits = []
    if audit.simulated:
        limits.append(
            "The images called real here are simulated: projections of one chest CT with findings put in. "
            "Nothing on this page says how well a generator serves real patients."
        )
    limits += [f"Confounded: {sentence}." for sentence in audit.acknowledged]
    limits += list(audit.notes)
    if config.missing_patient_id.value == "cluster":
        limits.append(
            "Images without a patient id count as one patient each unless they are near duplicates."
        )
    limits.append(_what_intervals_cover(jobs))
    limits += _limits_of_pools(jobs)
    limits += [
        f"What {p.generator.name} was fine-tuned on is not recorded; it may have seen test images."
        for p in jobs.pools
        if isinstance(p.generator, Learner) and p.generator.learned() is None
    ]
    if set(config.evaluate.encoders) <= {"classifier", "embedded"}:
        limits.append(
            "Fidelity is measured with the study's own classifier and with the embedded autoencoder; this "
            "is no FID and cannot be compared with published values."
        )
    if any(arm.config.data.real_fraction < 1 for arm, _ in jobs.arms):
        limits += [
            f"{p.generator.name} was fine-tuned on the whole train split, also for the arms that train their "
            "classifier on a part of it."
            for p in jobs.pools
            if p.taught
        ]
    return limits
