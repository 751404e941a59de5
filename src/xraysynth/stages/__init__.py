"""One file per command of the command line: the work it does, and the jobs that this work consists of.

Every stage has `run(workspace)`, which does the jobs that are not done yet, and most have
`jobs(workspace)`, which lists the jobs that must be done for the stage to count as done. A `Workspace`
resolves each thing that a configuration names, once; with `job_workspace`, the jobs of a run that one process
does share the real images. The private package `_study` plans a study,
estimates what it would take, and compares its arms.

    >>> from xraysynth.composition import compose
    >>> overrides = ["source=simulated", "generator=stable_diffusion"]
    >>> workspace = Workspace(compose(overrides), overrides)
    >>> workspace.command("prepare")
    'xraysynth prepare source=simulated generator=stable_diffusion'
    >>> sorted(workspace.generators)
    ['stable_diffusion']
"""

from xraysynth.stages._workspace import Workspace, job_workspace

__all__ = ["Workspace", "job_workspace"]
