"""Work that is done once: jobs and their run.json, image stores, and who does which shard.

A `job.Job` is known by what decides its result; `store` is a folder of images that survives being
killed; `shards` and `distributed` share work over jobs and processes; `launchers` and `sweeps` are
Hydra's.

    >>> from xraysynth.jobs.shards import Shard
    >>> Shard(index=1, count=4).count
    4
"""

__all__ = [
    "distributed",
    "job",
    "launchers",
    "provenance",
    "shards",
    "store",
    "sweeps",
]
