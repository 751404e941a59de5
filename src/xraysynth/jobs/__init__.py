"""Work that is done once: jobs and their run.json, image stores, and who does which part.

A `job.Job` is known by what decides its result; `store` is a folder of images that survives being
killed; `parts` and `processes` share work over jobs and processes; `launchers` and `sweeps` are
Hydra's.

    >>> from xraysynth.jobs.parts import Shard
    >>> Shard(index=1, count=4).count
    4
"""

__all__ = [
    "job",
    "launchers",
    "parts",
    "process_group",
    "processes",
    "provenance",
    "store",
    "sweeps",
]
