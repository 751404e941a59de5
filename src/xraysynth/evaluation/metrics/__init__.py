"""What a study measures, as functions on arrays: of classifiers, of images, and the intervals of each.

A module is one question. How well a classifier does: `classification` (over `scores`), `probes`,
`probe_arm`, `pointing_game`, `utility`. What images are like: `measures` and `copy_measures`, which give the
rows of a table, over `fidelity`, `kernels`, `compute_manifold_scores`, `diversity`,
`detect_memorization`, `copying`; `appearance`. What all of them rest on: `statistics`,
`resampling`, `class_mix`, `features`. Each function's docstring has its formula, its direction and
an example. Modules are imported by name, so that none costs what another needs.

    >>> from xraysynth.evaluation.metrics.statistics import proportion_interval
    >>> interval = proportion_interval(0.9, trials=50, n=50)
    >>> round(interval.low, 2), round(interval.high, 2)
    (0.79, 0.96)
"""

__all__ = [
    "appearance",
    "class_mix",
    "classification",
    "compute_manifold_scores",
    "copy_measures",
    "copying",
    "detect_memorization",
    "diversity",
    "features",
    "fidelity",
    "kernels",
    "measures",
    "pointing_game",
    "probe_arm",
    "probes",
    "resampling",
    "scores",
    "statistics",
    "utility",
]
