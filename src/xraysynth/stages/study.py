"""The whole comparison: every generator x share x mode x seed, and a report.

Expands study.shares, study.modes, study.real_fractions and study.seeds over the selected generators
into jobs, beside them real-only arms and the controls, runs those that are missing (prepare, probe,
finetune, generate, train, evaluate), skips what is done, goes on when a job fails, and ends in one
HTML page below paths.output/studies/<study.name>. plan=true says what there is to do, and does
nothing. With hydra/launcher=joblib|submitit_local|slurm|ray the jobs run where that launcher puts
them, else in study.workers processes.
"""

import importlib
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from xraysynth.config import Config
from xraysynth.errors import XraysynthError
from xraysynth.jobs import launchers
from xraysynth.stages import forecast, plan, prepare, report

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


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Run what is missing and write the report; a failed step makes the study's state failed."""
    if config.plan:
        return forecast.run(config, overrides)
    cohort, _ = prepare.cohort(config, overrides)
    external = prepare.external(config, overrides)
    for reason in plan.kept_in(config, cohort).values():
        print(reason, file=sys.stderr, flush=True)
    steps = plan.steps(config, cohort, overrides)
    steps = forecast.missing(steps, cohort, external)
    failures = _run_all(steps, config.study.workers)
    result = report.run(config, overrides, failures=failures)
    state = "failed" if failures else "done"
    return result | {"stage": "study", "state": state, "failures": failures}


def _run_all(steps: Sequence[plan.Step], workers: int) -> list[str]:
    """Every step once those it needs have ended, well or not; the messages of those that failed."""
    launcher = launchers.chosen()
    if launcher == launchers.BASIC:
        return _side_by_side(steps, workers)
    # This one alone starts at once whatever it gets.
    return _in_waves(steps, workers if launcher == "submitit_local" else len(steps))


def _in_waves(steps: Sequence[plan.Step], at_once: int) -> list[str]:
    """Through Hydra's launcher: all steps that need none of the others, up to `at_once`; and again."""
    waiting, failures = list(steps), []
    while waiting:
        titles = {step.title for step in waiting}
        wave = [step for step in waiting if titles.isdisjoint(step.needs)][:at_once]
        waiting = [step for step in waiting if step not in wave]
        for step in wave:
            print(f"[{len(steps) - len(waiting)}/{len(steps)}] {step.title}", file=sys.stderr)
        errors = launchers.hand_over([partial(_run, step) for step in wave])
        failures += [_told(step, e) for step, e in zip(wave, errors, strict=True) if e]
    return failures


def _told(step: plan.Step, error: str | XraysynthError) -> str:
    message = f"{step.title}: {error}"
    print(f"failed: {message}", file=sys.stderr, flush=True)
    return message


def _side_by_side(steps: Sequence[plan.Step], workers: int) -> list[str]:
    """In processes of this machine, or one after another in this one."""
    waiting, failures = list(steps), []
    running: dict[Future[None], plan.Step] = {}
    with _executor(workers) as executor:
        while waiting or running:
            unfinished = {step.title for step in [*waiting, *running.values()]}
            ready = [step for step in waiting if unfinished.isdisjoint(step.needs)]
            for step in ready[: workers - len(running)]:
                waiting.remove(step)
                number = len(steps) - len(waiting)
                print(f"[{number}/{len(steps)}] {step.title}", file=sys.stderr, flush=True)
                running[executor.submit(_run, step)] = step
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            failures += [m for future in ended if (m := _failure(future, running.pop(future)))]
    return failures


def _run(step: plan.Step) -> None:
    importlib.import_module(f"xraysynth.stages.{step.stage}").run(step.config, step.overrides)


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
