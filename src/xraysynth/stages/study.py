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
from xraysynth.jobs.job import ResultLine
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


def run(workspace: Workspace) -> ResultLine:
    """Run what is missing and write the report; a failed step makes the study's state failed."""
    if workspace.config.plan:
        return forecast.run(workspace)
    for reason in plan.sources_not_left_out(workspace.config, workspace.cohort).values():
        print(reason, file=sys.stderr, flush=True)
    steps = forecast.missing_steps(plan.build_steps(workspace))
    failures = _run_all(steps, workspace.config.study.workers)
    result = report.run(workspace, failures=failures)
    state = "failed" if failures else "done"
    return result | {"stage": "study", "state": state, "failures": failures}


def _run_all(steps: Sequence[plan.Step], workers: int) -> list[str]:
    """Every step once those it needs have ended, well or not; the messages of those that failed."""
    launcher = launchers.launcher_name()
    if launcher == launchers.BASIC_LAUNCHER:
        return _run_in_processes(steps, workers)
    # This one alone starts at once whatever it gets.
    return _run_in_waves(steps, workers if launcher == "submitit_local" else len(steps))


class _StepQueue:
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

    def take(self, limit: int) -> list[plan.Step]:
        """Steps that can begin, each with a line of its own."""
        places = list(self._by_title)
        self._ready = sorted([*self._ready, *self._order.get_ready()], key=places.index)
        taken, self._ready = self._ready[:limit], self._ready[limit:]
        for title in taken:
            self._begun += 1
            print(f"[{self._begun}/{len(places)}] {title}", file=sys.stderr, flush=True)
        return [self._by_title[title] for title in taken]

    def mark_done(self, step: plan.Step) -> None:
        """What waits for this step may begin."""
        self._order.done(step.title)


def _run_in_waves(steps: Sequence[plan.Step], max_parallel: int) -> list[str]:
    """Through Hydra's launcher: all steps that need none of the others, up to `max_parallel`; and again."""
    waiting, failures = _StepQueue(steps), []
    while waiting:
        wave = waiting.take(max_parallel)
        errors = launchers.submit([partial(_run_step, step) for step in wave])
        failures += [_report_failure(step, e) for step, e in zip(wave, errors, strict=True) if e]
        for step in wave:
            waiting.mark_done(step)
    return failures


def _report_failure(step: plan.Step, error: str | XraysynthError) -> str:
    message = f"{step.title}: {error}"
    print(f"failed: {message}", file=sys.stderr, flush=True)
    return message


def _run_in_processes(steps: Sequence[plan.Step], workers: int) -> list[str]:
    """In processes of this machine, or one after another in this one."""
    waiting, failures = _StepQueue(steps), []
    running: dict[Future[None], plan.Step] = {}
    with _build_executor(workers) as executor:
        while waiting or running:
            for step in waiting.take(workers - len(running)):
                running[executor.submit(_run_step, step)] = step
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                step = running.pop(future)
                failures += [message] if (message := _failure_message(future, step)) else []
                waiting.mark_done(step)
    return failures


def _run_step(step: plan.Step) -> None:
    # A workspace of its own: what a generator has loaded goes with the step.
    workspace = step.workspace.with_config(step.workspace.config)
    importlib.import_module(f"xraysynth.stages.{step.stage}").run(workspace)


def _failure_message(future: "Future[None]", step: plan.Step) -> str:
    try:
        future.result()
    except BrokenProcessPool as error:
        raise XraysynthError(
            f"a process was killed, perhaps for want of memory, while {step.title} ran; start again, "
            "with fewer study.workers if need be: what is done is kept"
        ) from error
    except XraysynthError as error:
        return _report_failure(step, error)
    return ""


def _build_executor(workers: int) -> Executor:
    # Forking a process that has used torch can hang; spawned workers cost seconds, once.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context) if workers > 1 else _InlineExecutor()


class _InlineExecutor(Executor):
    """Runs at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
