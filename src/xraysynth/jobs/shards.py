"""Shards of a stage's work: over the jobs of a sweep, and over the processes of each job."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.files import is_locked
from xraysynth.jobs.distributed import rank, world_size
from xraysynth.jobs.job import Job
from xraysynth.options import require_valid


@dataclass(frozen=True)
class Shard:
    """Shard `index`, from 0, of the `count` shards that the work of a stage is divided into.

    Each shard is a job of its own, on any machine that shares paths.output; the last one to finish
    merges all of them. Processes that torchrun starts divide the shard of their job.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        require_valid(self, "shard")
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"shard.index must lie in [0, shard.count); got {self.index} of {self.count}"
            )


ProcessShard = tuple[int, int]
"""(index, count): the shard of one process among those of all processes of all jobs."""

WHOLE_SHARD: ProcessShard = (0, 1)

STALL_TIMEOUT_SECONDS = 600.0
"""Waiting for a shard ends when no process has worked on it for so long; starting one takes less."""


def process_shard(shard: Shard) -> ProcessShard:
    """Returns the shard of this process, a part of the shard of its job."""
    return job_shards(shard)[rank()]


def job_shards(shard: Shard) -> list[ProcessShard]:
    """Returns the shards of the processes of this job, by rank."""
    n_processes = world_size()
    first = shard.index * n_processes
    return all_shards(shard)[first : first + n_processes]


def all_shards(shard: Shard) -> list[ProcessShard]:
    """Returns the shards of all processes of all jobs."""
    count = shard.count * world_size()
    return [(index, count) for index in range(count)]


def wait_for_jobs(jobs: Sequence[Job]) -> None:
    """Waits until all jobs are done.

    A process that dies releases its lock, so that waiting also ends where no torchrun stops the
    other processes.

    Raises:
        XraysynthError: No process has worked on an unfinished job for `STALL_TIMEOUT_SECONDS`.
    """
    last_activity = time.monotonic()
    unfinished = _unfinished_jobs(jobs)
    while unfinished:
        if any(map(_is_running, unfinished)):
            last_activity = time.monotonic()
        if time.monotonic() - last_activity > STALL_TIMEOUT_SECONDS:
            job = unfinished[0]
            raise XraysynthError(
                f"{job.stage} job {job.key} is a shard of this job and is not done, and no process "
                "works on it; look for its error, fix it and run the command again; finished "
                "shards are kept"
            )
        time.sleep(min(1.0, STALL_TIMEOUT_SECONDS))
        unfinished = _unfinished_jobs(jobs)


def _unfinished_jobs(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if not job.done]


def _is_running(job: Job) -> bool:
    """Returns whether a process holds the lock of the job."""
    return job.folder.exists() and is_locked(job.folder / ".lock")
