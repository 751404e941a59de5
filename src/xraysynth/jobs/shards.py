"""Work in parts: over the jobs of a sweep, and over the processes that torchrun starts for each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from filelock import FileLock, Timeout

from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.jobs.distributed import rank, world_size
from xraysynth.jobs.job import Job
from xraysynth.records import require_valid


@dataclass(frozen=True)
class Shard:
    """Do part `index` of `count` alone: each part on any machine that shares paths.output.

    The last part to end puts all of them together. The processes that torchrun starts share a part.
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
"""(index, count)."""

WHOLE_SHARD: ProcessShard = (0, 1)

STALL_TIMEOUT_SECONDS = 600.0
"""How long no process may work on a part that is waited for: more than starting one takes."""


def process_shard(shard: Shard) -> ProcessShard:
    """What this process does of its job's shard."""
    return job_shards(shard)[rank()]


def job_shards(shard: Shard) -> list[ProcessShard]:
    """What the processes of this job do of its shard, by rank."""
    size = world_size()
    return [(shard.index * size + rank, shard.count * size) for rank in range(size)]


def all_shards(shard: Shard) -> list[ProcessShard]:
    """The parts of all processes of all jobs."""
    count = shard.count * world_size()
    return [(index, count) for index in range(count)]


def wait_for_jobs(jobs: Sequence[Job]) -> None:
    """Return once all jobs are done; `XraysynthError` when nobody has worked on them for long.

    A process that dies lets go of its lock, so that this ends even where nothing has stopped the
    others, as torchrun does.
    """
    seen = time.monotonic()
    while waiting := [job for job in jobs if not job.done]:
        if any(map(_is_running, waiting)):
            seen = time.monotonic()
        if time.monotonic() - seen > STALL_TIMEOUT_SECONDS:
            raise XraysynthError(
                f"{waiting[0].stage} job {waiting[0].key} is a part of this one and not done, and no "
                "process works on it; look for its error, and start again: what is done is kept"
            )
        time.sleep(min(1.0, STALL_TIMEOUT_SECONDS))


def _is_running(job: Job) -> bool:
    if not job.folder.exists():
        return False
    try:
        with FileLock(job.folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True
