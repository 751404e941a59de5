"""One file per command: what it makes, in which order, and what makes its work done.

Every stage has `run(workspace)`, which does what is missing, and `jobs(workspace)`, the jobs that
must be done for its work to be done. `Workspace` resolves what a configuration names, once; a study
is planned, counted and compared in `_study`.

    >>> from xraysynth.composition import compose
    >>> overrides = ["source=simulated", "generator=stable_diffusion"]
    >>> workspace = Workspace(compose(overrides), overrides)
    >>> workspace.command("prepare")
    'xraysynth prepare source=simulated generator=stable_diffusion'
    >>> list(workspace.generators)
    ['stable_diffusion']
"""

from xraysynth.stages._workspace import Workspace

__all__ = ["Workspace"]
