"""Work that is done once: jobs and their run.json, image stores, and work in several processes.

A `job.Job` is found again by what decides its result. `record` is its run.json, with the `provenance`
of the result. `store` is a folder of images that survives being killed. `shards` and `distributed`
divide work over jobs and processes; `launchers` and `sweeps` connect it to Hydra.

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
