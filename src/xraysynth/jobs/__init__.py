"""Work that is done once: jobs and their run.json, image stores, and who does which shard.

A `job.Job` is known by what decides its result, and `record` is its run.json, with the `provenance` of
what it ran with; `store` is a folder of images that survives being killed; `shards` and `distributed`
share work over jobs and processes; `launchers` and `sweeps` are Hydra's.

    >>> from pathlib import Path
    >>> from xraysynth.jobs.job import Job
    >>> Job("train", {"seed": 0}, Path("outputs")).folder.as_posix()
    'outputs/train/4e3a372e21ad'
"""

__all__ = [
    "distributed",
    "job",
    "launchers",
    "provenance",
    "record",
    "shards",
    "store",
    "sweeps",
]
