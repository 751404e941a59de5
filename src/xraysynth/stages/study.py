"""The whole comparison: every generator x share x mode x seed, and a report.

Expands study.shares, study.modes and study.seeds over the selected generators into jobs, runs those
that are missing (prepare, generate, train, evaluate), skips what is done, goes on when a job fails,
and ends in one HTML page below paths.output/studies/<study.name>.
"""

import sys
from collections.abc import Sequence
from typing import Any

from xraysynth.config import Config
from xraysynth.errors import XraysynthError
from xraysynth.stages import plan, prepare, report

SECTIONS = ("study", "source", "generator", "data", "classifier", "trainer", "evaluate", "tracking")
"""The options that this stage reads; it hands all of them to the stages it runs."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Run what is missing and write the report; a failed step makes the study's state failed."""
    cohort, _ = prepare.cohort(config, overrides)
    steps = list(plan.steps(config, cohort, overrides))
    failures = []
    for number, step in enumerate(steps, start=1):
        print(f"[{number}/{len(steps)}] {step.title}", file=sys.stderr, flush=True)
        try:
            step.stage.run(step.config, step.overrides)
        except XraysynthError as error:
            failures.append(f"{step.title}: {error}")
            print(f"failed: {error}", file=sys.stderr, flush=True)
    result = report.run(config, overrides, failures=failures)
    state = "failed" if failures else "done"
    return result | {"stage": "study", "state": state, "failures": failures}
