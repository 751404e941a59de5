"""Results of the jobs of a multirun, which reach the process that started them as one file each."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from threading import Event, Thread

import yaml

from xraysynth.files import explain_unreadable, write_atomically
from xraysynth.records import JsonObject

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended; `float` gives a sweeper that optimises the score.

    Attributes:
        line: The JSON object that the stage prints; for a failed job, its error or failures.
        score: Macro-F1 on validation; None where nothing was trained.
    """

    line: JsonObject
    score: float | None = None

    def __float__(self) -> float:
        if self.score is None:
            raise ValueError(self.line.get("error", "this stage has no validation macro-F1"))
        return self.score

    def write(self, folder: Path) -> None:
        """Writes the line to the folder of the job, where `SweepMonitor` looks for it."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RESULT_FILE, json.dumps(dict(self.line), default=str).encode())


def validation_score(result: JsonObject) -> float | None:
    """Returns macro-F1 on validation of the saved weights; None where nothing was trained."""
    score = None
    for entry in result.get("history", []):
        if entry.get("step") == result.get("kept_step") and "val/macro_f1" in entry:
            score = float(entry["val/macro_f1"])
    return score


class SweepMonitor:
    """Prints the results of a sweep's jobs on stdout as they come, wherever the jobs run.

    Args:
        folder: Folder of the sweep; results of an earlier sweep in it are deleted.
        sweep_overrides: Options of the sweep; those with one value are not printed for every job.

    Attributes:
        lines: The results so far.
    """

    def __init__(self, folder: Path, sweep_overrides: Sequence[str]) -> None:
        self.folder = folder
        self._shared_overrides = set(map(_without_plus, sweep_overrides))
        self.lines: list[JsonObject] = []
        for path in folder.rglob(RESULT_FILE):  # of an earlier sweep in the same folder
            path.unlink()
        self._printed: set[Path] = set()
        self._stop_event = Event()
        self._thread = Thread(target=self._poll, daemon=True)
        self._thread.start()

    def stop(self) -> list[JsonObject]:
        """Returns the lines of all jobs that have ended, once they are printed."""
        self._stop_event.set()
        self._thread.join()
        self._print_new()
        return self.lines

    def _poll(self) -> None:
        while not self._stop_event.wait(1):
            self._print_new()

    def _print_new(self) -> None:
        for path in sorted(set(self.folder.rglob(RESULT_FILE)) - self._printed):
            self._printed.add(path)
            with explain_unreadable(path, "delete it and run its job again; finished work is kept"):
                line = json.loads(path.read_text())
            is_shared = self._shared_overrides.__contains__
            overrides = list(filterfalse(is_shared, line["overrides"]))
            self.lines.append(line | {"overrides": overrides})
            print(json.dumps(self.lines[-1]), flush=True)


def _without_plus(override: str) -> str:
    """Returns the override as the lines of jobs have it, without the "++" that Hydra is given."""
    return override.removeprefix("++")


def format_summary(folder: Path, lines: Sequence[JsonObject]) -> str:
    """Returns a text that counts the jobs, and names every job that failed with its error."""
    n_skipped = sum(bool(line.get("skipped")) for line in lines)
    failed = [line for line in lines if line["state"] == "failed"]
    failed.sort(key=lambda line: int(line["job"]))
    counts = f"{len(lines)} jobs ended, {len(failed)} failed, {n_skipped} were done before"
    return "\n".join([f"{folder}: {counts}", *map(_format_failure, failed)])


def _format_failure(line: JsonObject) -> str:
    reason = line.get("error") or "; ".join(line.get("failures", []))
    return f"failed: job {line['job']} ({shlex.join(line['overrides'])}): {reason}"


def print_summary(folder: Path, lines: Sequence[JsonObject]) -> None:
    """Prints the summary on stderr, and on stdout the best options, if a sweeper has optimised."""
    print(format_summary(folder, lines), file=sys.stderr, flush=True)
    best_options = folder / "optimization_results.yaml"
    if best_options.exists():
        values = yaml.safe_load(best_options.read_text())
        print(json.dumps({"sweep": str(folder), **values}), flush=True)
