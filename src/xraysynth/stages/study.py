"""Run the whole comparison: every generator, synthetic fraction, mode and seed, and a report.

Combines study.synthetic_fractions, study.modes, study.real_fractions and study.seeds with the
selected generators, and adds real-only arms and controls. Runs the jobs that are missing (prepare,
probe, finetune, generate, train, evaluate), skips those that are done, continues when one fails, and
ends in one HTML page below paths.output/studies/<study.name>. plan=true prints what would run, and
runs nothing. With hydra/launcher=joblib|submitit_local|slurm|ray the jobs run where that launcher
puts them, otherwise in study.workers processes.
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
from uuid import uuid4

from xraysynth.errors import XraysynthError
from xraysynth.jobs import launchers
from xraysynth.jobs.job import ResultLine
from xraysynth.processes import exit_with_parent
from xraysynth.stages import report, train
from xraysynth.stages._study import arm_configs, forecast, plan
from xraysynth.stages._study.seed_rounds import SeedRounds
from xraysynth.stages._workspace import Workspace, job_workspace
from xraysynth.threads import share_cores

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
    """Run the missing steps and write the report; with plan=true, only print the plan.

    Returns:
        The result of the report, with state "failed" and the messages in "failures" if steps failed.
    """
    config = workspace.config
    if config.plan:
        return forecast.run(workspace)
    for reason in arm_configs.sources_not_left_out(config, workspace.cohort).values():
        print(reason, file=sys.stderr, flush=True)
    steps = forecast.missing_steps(plan.build_steps(workspace))
    failures = _run_steps(steps, config.study.workers)
    rounds = SeedRounds(plan.with_images_per_class(workspace), train.build_job)
    while not failures and (steps := rounds.missing_steps()):
        failures = _run_steps(steps, config.study.workers)
    seeds = rounds.find()
    if seeds.end is not None:
        print(seeds.end.describe(), file=sys.stderr, flush=True)
    result = report.run(workspace, failures=failures, seeds=seeds)
    state = "failed" if failures else result["state"]
    failures = failures or result.get("failures", [])
    return result | {"stage": "study", "state": state, "failures": failures}


def _run_steps(steps: Sequence[plan.Step], workers: int) -> list[str]:
    """Run every step after the steps that it needs have ended, whether or not they failed.

    Args:
        steps: The missing steps in the order of the plan.
        workers: Number of processes, unless a launcher of Hydra runs the steps.

    Returns:
        One message per step that failed.
    """
    launcher = launchers.launcher_name()
    if launcher == launchers.BASIC_LAUNCHER:
        return _run_in_processes(steps, workers)
    # Of the launchers, only submitit_local starts all steps at once, however many there are.
    max_parallel = workers if launcher == "submitit_local" else len(steps)
    return _run_in_waves(steps, max_parallel)


class _StepQueue:
    """The steps that have not begun, in the order of the plan; true while there are any."""

    def __init__(self, steps: Sequence[plan.Step]) -> None:
        self._steps_by_title = {step.title: step for step in steps}
        self._order: TopologicalSorter[str] = TopologicalSorter()
        for step in steps:
            missing_needs = [title for title in step.needs if title in self._steps_by_title]
            self._order.add(step.title, *missing_needs)
        self._order.prepare()
        self._ready_titles: list[str] = []
        self._begun = 0

    def __bool__(self) -> bool:
        return self._begun < len(self._steps_by_title)

    def take(self, limit: int) -> list[plan.Step]:
        """Remove and return at most `limit` steps that can begin, and print a line for each."""
        titles = list(self._steps_by_title)
        ready_titles = [*self._ready_titles, *self._order.get_ready()]
        ready_titles.sort(key=titles.index)
        taken_titles, self._ready_titles = ready_titles[:limit], ready_titles[limit:]
        for title in taken_titles:
            self._begun += 1
            print(f"[{self._begun}/{len(titles)}] {title}", file=sys.stderr, flush=True)
        return [self._steps_by_title[title] for title in taken_titles]

    def mark_ended(self, step: plan.Step) -> None:
        """Let the steps that need this one begin."""
        self._order.done(step.title)


def _run_in_waves(steps: Sequence[plan.Step], max_parallel: int) -> list[str]:
    """Run the steps through Hydra's launcher, in waves of steps that do not need each other."""
    queue, run_id = _StepQueue(steps), uuid4().hex
    failures = []
    while queue:
        wave = queue.take(max_parallel)
        errors = launchers.submit([partial(_run_step, step, run_id) for step in wave])
        for step, error in zip(wave, errors, strict=True):
            if error:
                failures.append(_report_failure(step, error))
            queue.mark_ended(step)
    return failures


def _run_in_processes(steps: Sequence[plan.Step], workers: int) -> list[str]:
    """Run the steps in processes of this machine; with one worker, one after another in this process."""
    queue, run_id = _StepQueue(steps), uuid4().hex
    failures = []
    running: dict[Future[None], plan.Step] = {}
    with _build_executor(workers) as executor:
        while queue or running:
            for step in queue.take(workers - len(running)):
                running[executor.submit(_run_step, step, run_id)] = step
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                step = running.pop(future)
                failure = _failure_message(future, step)
                if failure:
                    failures.append(failure)
                queue.mark_ended(step)
    return failures


def _run_step(step: plan.Step, run_id: str) -> None:
    """Run the stage of a step; `run_id` is the same for all steps of one run of the study."""
    stage = importlib.import_module(f"xraysynth.stages.{step.stage}")
    with job_workspace(step.workspace, run_id) as workspace:
        stage.run(workspace)


def _failure_message(future: "Future[None]", step: plan.Step) -> str:
    """Return the message of a step that failed with an expected error, else ""; raise other errors."""
    try:
        future.result()
    except BrokenProcessPool as error:
        raise XraysynthError(
            f"a process was killed while the step {step.title} ran, perhaps because memory ran out; "
            "run the study again, if need be with fewer study.workers (finished jobs are kept)"
        ) from error
    except XraysynthError as error:
        return _report_failure(step, error)
    return ""


def _report_failure(step: plan.Step, error: str | XraysynthError) -> str:
    """Print that a step has failed, and return the message for the report."""
    message = f"{step.title}: {error}"
    print(f"failed: {message}", file=sys.stderr, flush=True)
    return message


def _build_executor(workers: int) -> Executor:
    """Build an executor with this number of processes; one worker means this process."""
    if workers == 1:
        return _InlineExecutor()
    # Forking a process that has used torch can hang; spawning workers costs seconds once.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=partial(_start_worker, workers)
    )


def _start_worker(workers: int) -> None:
    exit_with_parent()
    share_cores(workers)


class _InlineExecutor(Executor):
    """Runs each call when it is submitted, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run the call, and return a future that is already done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
