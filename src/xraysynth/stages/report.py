"""The report of a study: one self-contained HTML page, results.csv and results.parquet.

Collects the jobs of the study that are done and says which are not. Takes the same options as the
study; writes below paths.output/studies/<study.name>.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from xraysynth import pool
from xraysynth.config import Config
from xraysynth.errors import XraysynthError
from xraysynth.generators.base import Generator, Learner
from xraysynth.job import Job
from xraysynth.manifest import Manifest
from xraysynth.report.content import Arm, Content, PoolView
from xraysynth.stages import evaluate, finetune, generate, plan, prepare, train
from xraysynth.store import exclusive

SECTIONS = ("study", "source", "generator", "data", "classifier", "trainer", "evaluate")
"""The options that this stage reads: those of the study."""

FILES = ("report.html", "results.csv", "results.parquet")


@dataclass(frozen=True)
class _Pool:
    """A generator's pool and the jobs that made and measured it."""

    generator: Generator
    manifest: Manifest
    outcomes: Mapping[str, Mapping[str, int]]
    refusals: Mapping[str, Mapping[str, tuple[int, int]]]
    ledger: Mapping[str, Any]
    taught: Job | None
    made: Job
    measured: Job


@dataclass(frozen=True)
class _Jobs:
    """The jobs of a study that are done, and the names of those that are not."""

    prepared: Job
    arms: Sequence[tuple[plan.ArmConfig, Mapping[int, Job]]]
    pools: Sequence[_Pool]
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
        return [("cohort", self.prepared), *taught, *made, *trained, *measured]


def run(
    config: Config, overrides: Sequence[str], *, failures: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the page and the tables, or find them written for the same finished jobs."""
    cohort, audit = prepare.cohort(config, overrides)
    config = plan.with_count(config, cohort)
    jobs = _collect(config, cohort, overrides)
    failures = failures or jobs.missing
    decides = {
        "jobs": {name: job.key for name, job in jobs.named()},
        "failures": list(failures),
        "study": {k: v for k, v in config.plain()["study"].items() if k != "workers"},
        "replicates": config.evaluate.replicates,
    }
    this = Job("report", decides, config.output, leaves=FILES)
    command = " ".join(["xraysynth study", *overrides])
    result = this.run(
        lambda: _work(config, cohort, audit, jobs, failures, command, this),
        config=config.plain(),
        overrides=overrides,
    )
    return result | _publish(config, this)


def _collect(config: Config, cohort: Manifest, overrides: Sequence[str]) -> _Jobs:
    arms, missing = [], []
    for arm in plan.arms(config):
        jobs = {s: train.job(replace(arm.config, seed=s), cohort) for s in config.study.seeds}
        arms.append((arm, {seed: job for seed, job in jobs.items() if job.done}))
        missing += [
            f"train {arm.title}, seed {s}: not done" for s, job in jobs.items() if not job.done
        ]
    pools = []
    for key in config.generator:
        one = replace(plan.only(config, key), seed=config.study.seeds[0])
        try:
            pools += _pools(one, cohort, overrides)
        except XraysynthError as error:
            missing.append(f"{key}: {error}")
    done = [(arm, jobs) for arm, jobs in arms if jobs]
    if not done or done[0][0].config.data.share:
        raise XraysynthError(
            "the report compares with the real-only arm, of which no training is done; run: "
            + " ".join(["xraysynth study", *overrides])
        )
    return _Jobs(prepare.job(config), done, pools, missing)


def _pools(config: Config, cohort: Manifest, overrides: Sequence[str]) -> list[_Pool]:
    counts = generate.counts(config, overrides)
    classifier = train.job(train.real_only(config), cohort)
    manifests = generate.pools(config, overrides, counts)
    found = []
    taught = {n: finetune.job(config, g, cohort) for n, g in finetune.untaught(config).items()}
    for name, generator in finetune.bound(config, cohort).items():
        measured = evaluate.job(config, cohort, manifests[name], classifier)
        measured.result(" ".join(["xraysynth evaluate", *overrides]))
        made = generate.job(config, generator, counts)
        store = generate.store(config, generator)
        found.append(
            _Pool(
                generator,
                manifests[name],
                pool.outcomes(store),
                pool.refusals(store),
                pool.ledger(store),
                taught.get(name),
                made,
                measured,
            )
        )
    return found


def _work(
    config: Config,
    cohort: Manifest,
    audit: Mapping[str, Any],
    jobs: _Jobs,
    failures: Sequence[str],
    command: str,
    this: Job,
) -> dict[str, Any]:
    from xraysynth.report import page, tables

    reference = [_predictions(job) for job in jobs.arms[0][1].values()]
    content = Content(
        title=config.study.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        classes=config.classes,
        simulated=bool(audit["simulated"]),
        acknowledged_confounding=audit["acknowledged"],
        cohort=cohort,
        audit=audit,
        arms=[_arm(config, arm, found, reference) for arm, found in jobs.arms],
        pools=[_view(found) for found in jobs.pools],
        stages=_stages(jobs),
        environment=_environment(jobs),
        limits=_limits(config, audit, jobs),
        failures=failures,
    )
    (this.folder / "report.html").write_text(page.render(content), encoding="utf-8")
    results = tables.results(content)
    results.to_csv(this.folder / "results.csv", index=False)
    results.to_parquet(this.folder / "results.parquet", index=False)
    scores = {arm.name: arm.scores["macro_f1"].as_dict() for arm in content.arms}
    return {"macro_f1": scores}


def _publish(config: Config, this: Job) -> dict[str, str]:
    """Copy the files to the folder that carries the study's name."""
    folder = config.output / "studies" / config.study.name
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock"):
        for name in FILES:
            partial = folder / f".{name}.partial"
            shutil.copyfile(this.folder / name, partial)
            os.replace(partial, folder / name)
    return {"report": str(folder / FILES[0]), "results": str(folder / FILES[1])}


def _predictions(job: Job) -> pd.DataFrame:
    return pd.read_parquet(job.folder / train.PREDICTIONS)


def _arm(
    config: Config, arm: plan.ArmConfig, jobs: Mapping[int, Job], reference: Sequence[pd.DataFrame]
) -> Arm:
    from xraysynth.metrics.classification import arm_difference, arm_scores

    columns = [f"p_{name}" for name in config.classes]
    tables = [_predictions(job) for job in jobs.values()]
    runs = [table[columns].to_numpy() for table in tables]
    targets = pd.Categorical(tables[0]["label"], categories=config.classes).codes.astype(int)
    patients = train.patient_keys(tables[0])
    options: dict[str, Any] = {
        "classes": config.classes,
        "replicates": config.evaluate.replicates,
    }
    others = [table[columns].to_numpy() for table in reference]
    results = [job.record()["result"] for job in jobs.values()]
    share = arm.config.data.share
    difference = arm_difference(runs, others, targets, patients, **options) if share else {}
    return Arm(
        generator=arm.generator,
        share=share,
        mode=arm.config.data.mode.value,
        seeds=list(jobs),
        real_images=results[0]["real_images"],
        synthetic_images=results[0]["synthetic_images"],
        predictions=tables,
        scores=arm_scores(runs, targets, patients, **options),
        difference=difference,
        scores_by_seed=[
            {name: found["value"] for name, found in result["scores"].items()} for result in results
        ],
        seconds=[job.record()["seconds"] for job in jobs.values()],
    )


def _view(found: _Pool) -> PoolView:
    measured = found.measured.record()["result"]
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
        fidelity=pd.DataFrame(measured["fidelity"]),
        diversity=pd.DataFrame(measured["diversity"]).rename(columns={"n": "pairs"}),
        memorization=measured["memorization"],
        appearance=measured["appearance"],
        ledger=found.ledger,
        taught=found.taught.record()["result"] if found.taught else {},
    )


def _stages(jobs: _Jobs) -> pd.DataFrame:
    rows = []
    for name, job in jobs.named():
        record = job.record()
        facts = {key: record.get(key) for key in ("seconds", "peak_memory_mb", "state")}
        rows.append({"stage": job.stage, "job": name, **facts})
    return pd.DataFrame(rows)


def _environment(jobs: _Jobs) -> dict[str, str]:
    """Of the last training: versions differ only if the study was continued after an update."""
    _, last = jobs.arms[-1]
    found = dict(list(last.values())[-1].record()["environment"])
    versions = found.pop("versions")
    return {name: str(value) for name, value in (found | versions).items()}


def _limits(config: Config, audit: Mapping[str, Any], jobs: _Jobs) -> list[str]:
    limits = []
    if audit["simulated"]:
        limits.append(
            "The images called real here are simulated: projections of one chest CT with findings put in. "
            "Nothing on this page says how well a generator serves real patients."
        )
    limits += [f"Confounded: {sentence}." for sentence in audit["acknowledged"]]
    limits += list(audit["notes"])
    if config.missing_patient_id.value == "cluster":
        limits.append(
            "Images without a patient id count as one patient each unless they are near duplicates."
        )
    limits.append(
        f"{len(config.study.seeds)} training seeds per arm; intervals cover the choice of test patients "
        "and of seeds, not that of the training images or of the pool's seed."
    )
    limits += [
        f"What {p.generator.name} was fine-tuned on is not recorded; it may have seen test images."
        for p in jobs.pools
        if isinstance(p.generator, Learner) and not p.generator.learned()
    ]
    if config.evaluate.encoders == ["classifier"]:
        limits.append(
            "Fidelity is measured with the study's own classifier; it is no FID and cannot be compared "
            "with published values."
        )
    return limits
