"""The whole comparison: every generator x synthetic fraction x mode x seed, and a report.

Expands study.synthetic_fractions, study.modes, study.real_fractions and study.seeds over the selected
generators into jobs, beside them real-only arms and the controls, runs those that are missing
(prepare, probe, finetune, generate, train, evaluate), skips what is done, goes on when a job fails,
and ends in one HTML page below paths.output/studies/<study.name>. plan=true says what there is to do,
and does nothing. With hydra/launcher=joblib|submitit_local|slurm|ray the jobs run where that launcher puts
them, else in study.workers processes.
"""

import importlib
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

from xraysynth.errors import XraysynthError
from xraysynth.jobs import launchers
from xraysynth.jobs.job import Line
from xraysynth.stages import report
from xraysynth.stages._study import forecast, plan
from xraysynth.stages._workspace import Workspace

SECTIONS = (
    "plan",
    "study",
    "source",
    "generator",
    "data",
    "classifier",
    "trainer",
    "evaluate",
    "tracking",
)
"""The options that this stage reads; it hands all of them to the stages it runs."""


def run(workspace: Workspace) -> Line:
    """Run what is missing and write the report; a failed step makes the study's state failed."""
    if workspace.config.plan:
        return forecast.run(workspace)
    for reason in plan.kept_in(workspace.config, workspace.cohort).values():
        print(reason, file=sys.stderr, flush=True)
    steps = forecast.missing(plan.steps(workspace))
    failures = _run_all(steps, workspace.config.study.workers)
    result = report.run(workspace, failures=failures)
    state = "failed" if failures else "done"
    return result | {"stage": "study", "state": state, "failures": failures}


def _run_all(steps: Sequence[plan.Step], workers: int) -> list[str]:
    """Every step once those it needs have ended, well or not; the messages of those that failed."""
    launcher = launchers.chosen()
    if launcher == launchers.BASIC:
        return _side_by_side(steps, workers)
    # This one alone starts at once whatever it gets.
    return _in_waves(steps, workers if launcher == "submitit_local" else len(steps))


class _Waiting:
    """The steps that are not begun, in the order of the plan, as far as those they need allow."""

    def __init__(self, steps: Sequence[plan.Step]) -> None:
        self._by_title = {step.title: step for step in steps}
        needs = {s.title: [n for n in s.needs if n in self._by_title] for s in steps}
        self._order = TopologicalSorter(needs)
        self._order.prepare()
        self._ready: list[str] = []
        self._begun = 0

    def __bool__(self) -> bool:
        return self._begun < len(self._by_title)

    def take(self, at_most: int) -> list[plan.Step]:
        """Steps that can begin, each with a line of its own."""
        places = list(self._by_title)
        self._ready = sorted([*self._ready, *self._order.get_ready()], key=places.index)
        taken, self._ready = self._ready[:at_most], self._ready[at_most:]
        for title in taken:
            self._begun += 1
            print(f"[{self._begun}/{len(places)}] {title}", file=sys.stderr, flush=True)
        return [self._by_title[title] for title in taken]

    def ended(self, step: plan.Step) -> None:
        """What waits for this step may begin."""
        self._order.done(step.title)


def _in_waves(steps: Sequence[plan.Step], at_once: int) -> list[str]:
    """Through Hydra's launcher: all steps that need none of the others, up to `at_once`; and again."""
    waiting, failures = _Waiting(steps), []
    while waiting:
        wave = waiting.take(at_once)
        errors = launchers.hand_over([partial(_run, step) for step in wave])
        failures += [_told(step, e) for step, e in zip(wave, errors, strict=True) if e]
        for step in wave:
            waiting.ended(step)
    return failures


def _told(step: plan.Step, error: str | XraysynthError) -> str:
    message = f"{step.title}: {error}"
    print(f"failed: {message}", file=sys.stderr, flush=True)
    return message


def _side_by_side(steps: Sequence[plan.Step], workers: int) -> list[str]:
    """In processes of this machine, or one after another in this one."""
    waiting, failures = _Waiting(steps), []
    running: dict[Future[None], plan.Step] = {}
    with _executor(workers) as executor:
        while waiting or running:
            for step in waiting.take(workers - len(running)):
                running[executor.submit(_run, step)] = step
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                step = running.pop(future)
                failures += [message] if (message := _failure(future, step)) else []
                waiting.ended(step)
    return failures


def _run(step: plan.Step) -> None:
    # A workspace of its own: what a generator has loaded goes with the step.
    workspace = step.workspace.derive(step.workspace.config)
    importlib.import_module(f"xraysynth.stages.{step.stage}").run(workspace)


def _failure(future: "Future[None]", step: plan.Step) -> str:
    try:
        future.result()
    except BrokenProcessPool as error:
        raise XraysynthError(
            f"a process was killed, perhaps for want of memory, while {step.title} ran; start again, "
            "with fewer study.workers if need be: what is done is kept"
        ) from error
    except XraysynthError as error:
        return _told(step, error)
    return ""


def _executor(workers: int) -> Executor:
    # Forking a process that has used torch can hang; spawned workers cost seconds, once.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context) if workers > 1 else _Inline()


class _Inline(Executor):
    """Runs at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
