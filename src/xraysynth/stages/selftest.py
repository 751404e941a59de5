"""Check that the measures measure, on simulated radiographs whose answers are known.

Identical sets must have distance 0, copies must be flagged, and noise, blur, inversion and wrong
classes must move each measure in its direction, step by step. Works offline, takes about a minute, and
needs no study; ends with an error if one check fails.
"""

import sys
from collections.abc import Sequence
from typing import Any

from xraysynth.jobs.job import ResultLine
from xraysynth.stages._workspace import Workspace

SECTIONS = ("paths",)
"""The options that this stage reads; it has none of its own."""

PATIENTS_PER_CLASS = 40

SEEDS = {"train": 101, "real": 102, "other": 103}
"""Seeds of the image sets that the checks need, by the set's role."""


def run(workspace: Workspace) -> ResultLine:
    """Run every check, and print a line for each on stderr.

    Returns:
        The number of checks, and the names of those that failed.
    """
    from xraysynth.evaluation import selftest
    from xraysynth.evaluation.encoders import build

    image_sets = {}
    for role, seed in SEEDS.items():
        image_sets[role] = selftest.simulate_images(seed, PATIENTS_PER_CLASS, _show_progress)
    count, failed = 0, []
    for check in selftest.run_checks(build("embedded"), **image_sets):
        count += 1
        if not check.passed:
            failed.append(check.name)
        mark = "ok    " if check.passed else "FAILED"
        print(f"{mark} {check.name}: {check.detail}", file=sys.stderr, flush=True)
    state = "failed" if failed else "done"
    return {"stage": "selftest", "state": state, "checks": count, "failed": failed}


def _show_progress(locators: Sequence[str]) -> Any:
    """Give the locators one by one, with a progress bar on stderr."""
    from xraysynth.progress import progress_bar

    with progress_bar("render", len(locators)) as bar:
        for locator in locators:
            yield locator
            bar.update()
