"""The measures of a study, as functions on arrays: of classifiers and of images, with their intervals.

- How well a classifier does: `classification`, over `bootstrap_scores` and `scores`.
- What it has learned: `probes` of shortcuts, over `views`; `arm_probes`; `pointing_game`.
- How many real images a synthetic one replaces: `real_data_equivalent`.
- What images are like: `measures` and `copy_measures`, which build the rows of the table of measures
  from `point_estimates`, `fidelity`, `kernel_distances`, `manifold`, `diversity`, `memorization` and
  `copying`; `appearance`.
- What all of them rest on: `statistics`, `resampling`, `class_mix`, `neighbours`, `features`,
  `labelled_features`, `split_halves`, `measure_rows`.

Each function's docstring has its formula, its direction and an example. Modules are imported by name,
so that importing one does not load the dependencies of another.

    >>> from xraysynth.evaluation.metrics.statistics import proportion_interval
    >>> interval = proportion_interval(0.9, trials=50, n=50)
    >>> round(interval.low, 2), round(interval.high, 2)
    (0.79, 0.96)
"""

__all__ = [
    "appearance",
    "arm_probes",
    "bootstrap_scores",
    "class_mix",
    "classification",
    "copy_measures",
    "copying",
    "diversity",
    "features",
    "fidelity",
    "kernel_distances",
    "labelled_features",
    "manifold",
    "measure_rows",
    "measures",
    "memorization",
    "neighbours",
    "point_estimates",
    "pointing_game",
    "probes",
    "real_data_equivalent",
    "resampling",
    "scores",
    "split_halves",
    "statistics",
    "views",
]
