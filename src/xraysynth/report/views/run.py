"""How long a study's jobs took, what memory they needed, and where they ran."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xraysynth.report.content import JobRun
from xraysynth.report.formatting import format_duration, format_number, is_finite
from xraysynth.report.views.cells import Heading, build_headings


@dataclass(frozen=True)
class StageRow:
    """The jobs of one stage: how many by state, and their time and memory."""

    stage: str
    jobs: int
    states: str
    time: str
    longest: str
    peak_memory: str


@dataclass(frozen=True)
class JobRow:
    """One job."""

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
    """Time and memory, and the environment of the last training."""

    stages: Sequence[StageRow]
    jobs: Sequence[JobRow]
    environment: Sequence[Fact]
    stage_headings: Sequence[Heading]
    job_headings: Sequence[Heading]

    @property
    def job_count(self) -> int:
        """All jobs."""
        return len(self.jobs)


def run_section(jobs: Sequence[JobRun], environment: Mapping[str, str]) -> RunSection:
    """What a study's jobs took."""
    return RunSection(
        stages=stage_rows(jobs),
        jobs=[
            JobRow(
                job.stage,
                job.name,
                format_duration(job.seconds),
                format_number(job.peak_memory_mb, 0),
                job.state,
            )
            for job in jobs
        ],
        environment=[Fact(name, value) for name, value in environment.items()],
        stage_headings=build_headings("stage", "jobs", "total time", "longest job", "peak memory"),
        job_headings=build_headings("stage", "job", "time", "peak memory", "state", text_columns=2),
    )


def stage_rows(jobs: Sequence[JobRun]) -> list[StageRow]:
    """Jobs, their states, total and longest seconds and the peak of memory, stage by stage."""
    by_stage: dict[str, list[JobRun]] = {}
    for job in jobs:
        by_stage.setdefault(job.stage, []).append(job)
    return [_stage_row(stage, own) for stage, own in by_stage.items()]


def _stage_row(stage: str, jobs: Sequence[JobRun]) -> StageRow:
    states = [job.state for job in jobs]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    by_count = sorted(counts.items(), key=lambda item: -item[1])
    seconds = [job.seconds for job in jobs if job.seconds is not None]
    memory = [float(job.peak_memory_mb or 0) for job in jobs if is_finite(job.peak_memory_mb)]
    return StageRow(
        stage=stage,
        jobs=len(jobs),
        states=", ".join(f"{count} {state}" for state, count in by_count),
        time=format_duration(sum(seconds)),
        longest=format_duration(max(seconds, default=None)),
        peak_memory=format_number(max(memory, default=None), 0),
    )
