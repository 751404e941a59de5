"""The jobs of a study that are done, and what they say of themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.pool import Refusals
from xraysynth.jobs.job import Job
from xraysynth.manifest import Manifest
from xraysynth.report.content import JobRun
from xraysynth.stages import evaluate, finetune, generate, prepare, probe, train
from xraysynth.stages._study import plan
from xraysynth.stages._workspace import Workspace


@dataclass(frozen=True)
class FinishedPool:
    """A generator's pool and the jobs that made and measured it."""

    generator: Generator
    manifest: Manifest
    outcomes: Mapping[str, Mapping[str, int]]
    refusals: Refusals
    ledger: Ledger
    finetune_job: Job | None
    generate_job: Job
    evaluate_job: Job

    @property
    def key(self) -> str:
        """What names the pool's folder besides the generator."""
        return self.manifest.folder.name.rpartition("-")[2]


@dataclass(frozen=True)
class FinishedJobs:
    """The jobs of a study that are done, and the names of those that are not."""

    prepare_job: Job
    arms: Sequence[tuple[plan.ArmConfig, Mapping[int, Job]]]
    pools: Sequence[FinishedPool]
    probe_job: Job | None
    missing: Sequence[str]

    def named_jobs(self) -> list[tuple[str, Job]]:
        """Every finished job with a name for the reader."""
        trained = [
            (f"{arm.title}, seed {seed}", job)
            for arm, jobs in self.arms
            for seed, job in jobs.items()
        ]
        taught = [(p.generator.name, p.finetune_job) for p in self.pools if p.finetune_job]
        made = [(p.generator.name, p.generate_job) for p in self.pools]
        measured = [(p.generator.name, p.evaluate_job) for p in self.pools]
        probed = [("shortcuts", self.probe_job)] if self.probe_job else []
        return [("cohort", self.prepare_job), *probed, *taught, *made, *trained, *measured]


def collect_finished_jobs(workspace: Workspace) -> FinishedJobs:
    config = workspace.config
    planned, missing = [], []
    for arm in plan.build_arms(config, workspace.cohort):
        jobs = {
            seed: train.build_unchecked_job(workspace.with_config(replace(arm.config, seed=seed)))
            for seed in config.study.seeds
        }
        planned.append((arm, {seed: job for seed, job in jobs.items() if job.done}))
        missing += [
            f"train {arm.title}, seed {s}: not done" for s, job in jobs.items() if not job.done
        ]
    pools = []
    for key in config.generator:
        try:
            pools += _collect_pools(plan.evaluation_workspace(workspace, key))
        except XraysynthError as error:
            missing.append(f"{key}: {error}")
    done = [(arm, jobs) for arm, jobs in planned if jobs]
    if not done or done[0][0].config.data.synthetic_fraction:
        raise XraysynthError(
            "the report compares with the real-only arm, of which no training is done; run: "
            + workspace.command("study")
        )
    probed = probe.build_job(workspace)
    if not probed.done:
        missing.append("probe: not done")
    return FinishedJobs(
        prepare.build_job(workspace), done, pools, probed if probed.done else None, missing
    )


def collect_pool_digests(jobs: FinishedJobs) -> dict[str, Mapping[str, str]]:
    """What every training saw of the pools, which may be trained again under its key."""
    trained = ((name, job) for name, job in jobs.named_jobs() if job.stage == "train")
    return {name: used for name, job in trained if (used := train.trained_pool_digests(job))}


def _collect_pools(workspace: Workspace) -> list[FinishedPool]:
    found = []
    for name, images in workspace.pools().items():
        measured = evaluate.build_job(workspace, images)
        measured.require_done(workspace.command("evaluate"))
        store = workspace.pool_store(name)
        found.append(
            FinishedPool(
                workspace.generators[name],
                images,
                pool.count_outcomes(store),
                pool.count_refusals(store),
                pool.compute_ledger(store),
                finetune.build_job(workspace, name)
                if name in workspace.generators_to_finetune
                else None,
                generate.build_job(workspace, name),
                measured,
            )
        )
    return found


def load_shortcuts(probe_job: Job) -> list[Shortcut]:
    return list(probe_job.record().result_as(probe.ProbeResult).shortcuts)


def job_runs(jobs: FinishedJobs) -> list[JobRun]:
    runs = []
    for name, job in jobs.named_jobs():
        record = job.record()
        runs.append(
            JobRun(
                job.stage,
                name,
                record.seconds,
                record.peak_memory_mb,
                record.state,
            )
        )
    return runs


def last_training_environment(jobs: FinishedJobs) -> dict[str, str]:
    """Of the last training: versions differ only if the study was continued after an update."""
    _, last = jobs.arms[-1]
    found = dict(list(last.values())[-1].record().environment)
    versions = found.pop("versions")
    return {name: str(value) for name, value in (found | versions).items()}
