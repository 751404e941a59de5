"""Finds the finished jobs of a study, and reads their records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from xraysynth.errors import DamageError, XraysynthError
from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.pool import Refusals
from xraysynth.jobs.job import Job
from xraysynth.manifest import Manifest
from xraysynth.report.content import JobRun
from xraysynth.report.seeds_until import SeedsUntil
from xraysynth.stages import evaluate, finetune, generate, prepare, probe, train
from xraysynth.stages._study import plan
from xraysynth.stages._study.arm_configs import ArmConfig, build_arms
from xraysynth.stages._study.seed_rounds import SeedRounds, SeedsOfArms
from xraysynth.stages._workspace import Workspace


@dataclass(frozen=True)
class FinishedPool:
    """A generator's pool and the finished jobs that made and measured it.

    Attributes:
        generator: The generator.
        manifest: The images that the study uses.
        outcomes: Number of requests by class and outcome.
        refusals: Refused and answered requests by class and by prompt.
        ledger: What the pool has cost.
        finetune_job: The job that fine-tuned the generator; None if it is not fine-tuned.
        generate_job: The job that filled the pool.
        evaluate_job: The job that measured it.
    """

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
        """The key of the pool, the last part of its folder's name."""
        return self.manifest.folder.name.rpartition("-")[2]


@dataclass(frozen=True)
class FinishedJobs:
    """The jobs of a study that are done, and the names of those that are not.

    Attributes:
        prepare_job: The preparation of the cohort.
        arms: Each arm with at least one finished training, and its finished trainings by seed.
        pools: The pools that are filled and measured.
        probe_job: The search for shortcuts in the cohort; None if it is not done.
        missing: One message per job that is not done or cannot be used.
        damaged: Those of the messages on work that was done and cannot be used any more.
        seeds_until: Why no more seeds are added; None unless study.until is given.
    """

    prepare_job: Job
    arms: Sequence[tuple[ArmConfig, Mapping[int, Job]]]
    pools: Sequence[FinishedPool]
    probe_job: Job | None
    missing: Sequence[str]
    damaged: Sequence[str] = ()
    seeds_until: SeedsUntil | None = None

    def named_jobs(self) -> list[tuple[str, Job]]:
        """List the finished jobs with their names in the report, in the order in which they run."""
        named_jobs = [("cohort", self.prepare_job)]
        if self.probe_job is not None:
            named_jobs.append(("shortcuts", self.probe_job))
        for finished_pool in self.pools:
            if finished_pool.finetune_job is not None:
                named_jobs.append((finished_pool.generator.name, finished_pool.finetune_job))
        for finished_pool in self.pools:
            named_jobs.append((finished_pool.generator.name, finished_pool.generate_job))
        named_jobs += self.named_trainings()
        for finished_pool in self.pools:
            named_jobs.append((finished_pool.generator.name, finished_pool.evaluate_job))
        return named_jobs

    def named_trainings(self) -> list[tuple[str, Job]]:
        """List the finished trainings of all arms with their names in the report."""
        named_jobs = []
        for arm, jobs in self.arms:
            for seed, job in jobs.items():
                named_jobs.append((f"{arm.title}, seed {seed}", job))
        return named_jobs


def collect_finished_jobs(workspace: Workspace, seeds: SeedsOfArms | None = None) -> FinishedJobs:
    """Collect the finished jobs of the study; nothing is trained or measured.

    Args:
        workspace: The study's workspace, with the number of images per class.
        seeds: The seeds of its arms, where they are known; by default they are found.

    Raises:
        XraysynthError: If no training of the real-only arm is done; all arms are compared with it.
    """
    gaps = _Gaps()
    seeds = seeds or SeedRounds(workspace).find()
    arms = _collect_trainings(workspace, seeds.by_arm, gaps)
    pools = _collect_pools(workspace, gaps)
    # Real-only arms come first: if one has finished, the first finished arm is real-only.
    finished_arms = [arm for arm, _ in arms]
    if not finished_arms or finished_arms[0].config.data.synthetic_fraction:
        raise XraysynthError(
            "the report compares every arm with the real-only arm, but no training of that arm is done; "
            f"run: {workspace.command('study')}"
        )
    probe_job = probe.build_job(workspace)
    probe_is_done = gaps.check(probe_job, "probe", workspace.command("probe"))
    return FinishedJobs(
        prepare_job=prepare.build_job(workspace),
        arms=arms,
        pools=pools,
        probe_job=probe_job if probe_is_done else None,
        missing=gaps.missing,
        damaged=gaps.damaged,
        seeds_until=seeds.end,
    )


@dataclass
class _Gaps:
    """The sentences on jobs that are not done or cannot be used, as they are found."""

    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def check(self, job: Job, title: str, command: str) -> bool:
        """Return whether the job is done and intact; else note it under its title."""
        try:
            job.require_intact(command)
        except DamageError as error:
            self.add(title, error)
            return False
        if not job.done:
            self.missing.append(f"{title}: not done")
        return job.done

    def add(self, title: str, error: XraysynthError) -> None:
        """Note the error by which the job under this title cannot be used."""
        self.missing.append(f"{title}: {error}")
        if isinstance(error, DamageError):
            self.damaged.append(f"{title}: {error}")


def _collect_trainings(
    workspace: Workspace, seeds_by_arm: Mapping[str, Sequence[int]], gaps: _Gaps
) -> list[tuple[ArmConfig, Mapping[int, Job]]]:
    """Return the arms with their finished trainings by seed; note the others."""
    arms: list[tuple[ArmConfig, Mapping[int, Job]]] = []
    for arm in build_arms(workspace.config, workspace.cohort):
        finished_jobs = {}
        for seed in seeds_by_arm[arm.title]:
            training_workspace = workspace.with_config(replace(arm.config, seed=seed))
            job = train.build_unchecked_job(training_workspace)
            title = f"train {arm.title}, seed {seed}"
            if gaps.check(job, title, workspace.command("study")):
                finished_jobs[seed] = job
        if finished_jobs:
            arms.append((arm, finished_jobs))
    return arms


def _collect_pools(workspace: Workspace, gaps: _Gaps) -> list[FinishedPool]:
    """Return the measured pools; note the others."""
    pools = []
    for key in workspace.config.generator:
        try:
            pools.append(_load_finished_pool(plan.evaluation_workspace(workspace, key)))
        except XraysynthError as error:
            gaps.add(key, error)
    return pools


def _load_finished_pool(workspace: Workspace) -> FinishedPool:
    """Load the pool of the workspace's only generator; raise an error if it is not measured."""
    ((name, images),) = workspace.pools().items()
    evaluate_job = evaluate.build_job(workspace, images)
    evaluate_job.require_done(workspace.command("evaluate"))
    finetune_job = None
    if name in workspace.generators_to_finetune:
        finetune_job = finetune.build_job(workspace, name)
        finetune_job.require_intact(workspace.command("finetune"))
    generate_job = generate.build_job(workspace, name)
    generate_job.require_intact(workspace.command("generate"))
    store = workspace.pool_store(name)
    return FinishedPool(
        generator=workspace.generators[name],
        manifest=images,
        outcomes=pool.count_outcomes(store),
        refusals=pool.count_refusals(store),
        ledger=pool.compute_ledger(store),
        finetune_job=finetune_job,
        generate_job=generate_job,
        evaluate_job=evaluate_job,
    )


def collect_pool_digests(jobs: FinishedJobs) -> dict[str, Mapping[str, str]]:
    """Return name of the training -> pool -> digest of the pool's images at that training.

    A training may be repeated under the same key after its pools have changed. Trainings without a
    pool are left out, and so are those that did not record the digests.
    """
    digests = {}
    for name, job in jobs.named_trainings():
        digests[name] = train.trained_pool_digests(job)
    return {name: by_pool for name, by_pool in digests.items() if by_pool}


def load_shortcuts(probe_job: Job) -> list[Shortcut]:
    """Load the results of all probes of the cohort."""
    return list(probe_job.record().result_as(probe.ProbeResult).shortcuts)


def job_runs(jobs: FinishedJobs) -> list[JobRun]:
    """Return time, peak memory and state of each finished job."""
    runs = []
    for name, job in jobs.named_jobs():
        record = job.record()
        runs.append(JobRun(job.stage, name, record.seconds, record.peak_memory_mb, record.state))
    return runs


def last_training_environment(jobs: FinishedJobs) -> dict[str, str]:
    """Return machine and package versions of the last training.

    Those of other jobs are the same, unless the study was continued on another machine or after an
    update.

    Returns:
        Facts of the machine, such as "python" and "platform", and the version of each main package.
    """
    _, last_arm_jobs = jobs.arms[-1]
    last_job = list(last_arm_jobs.values())[-1]
    environment = dict(last_job.record().environment)
    versions = environment.pop("versions")
    return {name: str(value) for name, value in (environment | versions).items()}
