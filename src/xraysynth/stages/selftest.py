"""Whether the measures measure, on simulated radiographs whose answers are known.

Identical sets must lie at 0, copies must be found, and noise, blur, inversion and wrong classes must move
each measure in its direction, step by step. Works offline, in about a minute, and needs no study; it
ends with an error if one check fails.
"""

import sys
from collections.abc import Sequence
from typing import Any

from xraysynth.jobs.job import ResultLine
from xraysynth.stages._workspace import Workspace

SECTIONS = ("paths",)
"""The options that this stage reads: none but where the other stages write."""

PATIENTS_PER_CLASS = 40


def run(workspace: Workspace) -> ResultLine:
    """Every check, a line each on stderr."""
    from xraysynth.evaluation import selftest
    from xraysynth.evaluation.encoders import build
    from xraysynth.progress import progress_bar

    def show_progress(locators: Sequence[str]) -> Any:
        with progress_bar("render", len(locators)) as bar:
            for locator in locators:
                yield locator
                bar.update()

    sets = {
        name: selftest.simulate_images(seed, PATIENTS_PER_CLASS, show_progress)
        for seed, name in enumerate(("train", "real", "other"), start=101)
    }
    failed, count = [], 0
    for check in selftest.run_checks(build("embedded"), **sets):
        count += 1
        mark = "ok    " if check.passed else "FAILED"
        print(f"{mark} {check.name}: {check.detail}", file=sys.stderr, flush=True)
        failed += [] if check.passed else [check.name]
    state = "failed" if failed else "done"
    return {"stage": "selftest", "state": state, "checks": count, "failed": failed}
