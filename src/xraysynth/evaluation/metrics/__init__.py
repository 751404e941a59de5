"""What a study measures, as functions on arrays: of classifiers, of images, and the intervals of each.

A module is one question. How well a classifier does: `classification` (over `scores`), `probes`,
`arm_probes`, `pointing`, `utility`. What images are like: `measures` and `copy_measures`, which give the
rows of a table, over `fidelity`, `kernels`, `manifold`, `diversity`, `memorization`, `copying`;
`appearance`. What all of them rest on: `statistics`, `resampling`, `class_mix`, `features`. Each
function's docstring has its formula, its direction and an example. Modules are imported by name, so
that none costs what another needs.

    >>> from xraysynth.evaluation.metrics.statistics import share_interval
    >>> found = share_interval(0.9, trials=50, n=50)
    >>> round(found.low, 2), round(found.high, 2)
    (0.79, 0.96)
"""

__all__ = [
    "appearance",
    "arm_probes",
    "class_mix",
    "classification",
    "copy_measures",
    "copying",
    "diversity",
    "features",
    "fidelity",
    "kernels",
    "manifold",
    "measures",
    "memorization",
    "pointing",
    "probes",
    "resampling",
    "scores",
    "statistics",
    "utility",
]
