"""View of the time and memory of a study's jobs, and of the environment that they ran in."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap

from xraysynth.report.content import JobRun
from xraysynth.report.formatting import format_duration, format_number, is_finite
from xraysynth.report.views.cells import Heading, build_headings


@dataclass(frozen=True)
class StageRow:
    """The jobs of one stage.

    Attributes:
        stage: Name of the stage.
        jobs: Number of jobs.
        states: Number of jobs by state, in words.
        time: Total time.
        longest: Time of the longest job.
        peak_memory: Largest peak memory in MB.
    """

    stage: str
    jobs: int
    states: str
    time: str
    longest: str
    peak_memory: str


@dataclass(frozen=True)
class JobRow:
    """One job with its time, its peak memory in MB and its state."""

    stage: str
    job: str
    time: str
    peak_memory: str
    state: str


@dataclass(frozen=True)
class Fact:
    """A name and its value; `term` is the glossary's term behind the name, empty for none."""

    name: str
    value: str
    term: str = ""


@dataclass(frozen=True)
class RunSection:
    """Time and memory by stage and job, and the environment of the last training."""

    stages: Sequence[StageRow]
    jobs: Sequence[JobRow]
    environment: Sequence[Fact]
    stage_headings: Sequence[Heading]
    job_headings: Sequence[Heading]

    @property
    def job_count(self) -> int:
        """Number of jobs."""
        return len(self.jobs)


def run_section(jobs: Sequence[JobRun], environment: Mapping[str, str]) -> RunSection:
    """Returns time and memory of a study's jobs, and the environment that they ran in."""
    facts = list(starmap(Fact, environment.items()))
    return RunSection(
        stages=stage_rows(jobs),
        jobs=list(map(_job_row, jobs)),
        environment=facts,
        stage_headings=build_headings("stage", "jobs", "total time", "longest job", "peak memory"),
        job_headings=build_headings("stage", "job", "time", "peak memory", "state", text_columns=2),
    )


def _job_row(job: JobRun) -> JobRow:
    time, memory = format_duration(job.seconds), format_number(job.peak_memory_mb, 0)
    return JobRow(job.stage, job.name, time, memory, job.state)


def stage_rows(jobs: Sequence[JobRun]) -> list[StageRow]:
    """Returns the numbers of jobs, their time and their peak memory by stage."""
    by_stage: dict[str, list[JobRun]] = {}
    for job in jobs:
        by_stage.setdefault(job.stage, []).append(job)
    return [_stage_row(stage, jobs_of_stage) for stage, jobs_of_stage in by_stage.items()]


def _stage_row(stage: str, jobs: Sequence[JobRun]) -> StageRow:
    """Returns the jobs of one stage by state, with their time and memory."""
    counts = Counter(job.state for job in jobs)
    states = [f"{count} {state}" for state, count in counts.most_common()]
    seconds, memory_mb = [], []
    for job in jobs:
        if job.seconds is not None:
            seconds.append(job.seconds)
        if job.peak_memory_mb is not None and is_finite(job.peak_memory_mb):
            memory_mb.append(float(job.peak_memory_mb))
    return StageRow(
        stage=stage,
        jobs=len(jobs),
        states=", ".join(states),
        time=format_duration(sum(seconds)),
        longest=format_duration(max(seconds, default=None)),
        peak_memory=format_number(max(memory_mb, default=None), 0),
    )
