"""What the jobs of a multirun leave for the process that started them: a file each."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import yaml

from xraysynth.files import write_atomically
from xraysynth.records import JsonObject

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended, as its stage says it; a sweeper that optimises takes it for a number."""

    line: JsonObject
    score: float | None = None

    def __float__(self) -> float:
        if self.score is None:
            raise ValueError(self.line.get("error", "this stage has no validation macro-F1"))
        return self.score

    def write(self, folder: Path) -> None:
        """Write the line where the follower of the sweep looks for it."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RESULT_FILE, json.dumps(dict(self.line), default=str).encode())


def validation_score(result: JsonObject) -> float | None:
    """Macro-F1 on validation of the weights that were kept; none where nothing was trained."""
    kept = [e for e in result.get("history", []) if e.get("step") == result.get("kept_step")]
    values = [entry["val/macro_f1"] for entry in kept if "val/macro_f1" in entry]
    return float(values[-1]) if values else None


class SweepMonitor:
    """Prints the results of a sweep's jobs on stdout as they come, wherever the jobs run.

    `given` are the overrides of the sweep; those that are the same for all jobs are left out.
    """

    def __init__(self, folder: Path, sweep_overrides: Sequence[str]) -> None:
        self.folder = folder
        self._given = {text.removeprefix("++") for text in sweep_overrides}
        self.lines: list[JsonObject] = []
        for path in folder.rglob(RESULT_FILE):  # of an earlier sweep in the same folder
            path.unlink()
        self._seen: set[Path] = set()
        self._ended = Event()
        self._thread = Thread(target=self._poll, daemon=True)
        self._thread.start()

    def stop(self) -> list[JsonObject]:
        """The lines of all jobs that ended, once they are printed."""
        self._ended.set()
        self._thread.join()
        self._print_new()
        return self.lines

    def _poll(self) -> None:
        while not self._ended.wait(1):
            self._print_new()

    def _print_new(self) -> None:
        for path in sorted(set(self.folder.rglob(RESULT_FILE)) - self._seen):
            self._seen.add(path)
            line = json.loads(path.read_text())
            own = [text for text in line["overrides"] if text not in self._given]
            self.lines.append(line | {"overrides": own})
            print(json.dumps(self.lines[-1]), flush=True)


def format_summary(folder: Path, lines: Sequence[JsonObject]) -> str:
    """How many jobs there were, and every one that failed, with its error."""
    failed = sorted((e for e in lines if e["state"] == "failed"), key=lambda e: int(e["job"]))
    skipped = sum(bool(line.get("skipped")) for line in lines)
    head = f"{folder}: {len(lines)} jobs ended, {len(failed)} failed, {skipped} were done before"
    return "\n".join([head, *(_format_failure(line) for line in failed)])


def _format_failure(line: JsonObject) -> str:
    why = line.get("error") or "; ".join(line.get("failures", []))
    return f"failed: job {line['job']} ({' '.join(line['overrides'])}): {why}"


def print_summary(folder: Path, lines: Sequence[JsonObject]) -> None:
    """The summary on stderr, and on stdout the best options that a sweeper found."""
    print(format_summary(folder, lines), file=sys.stderr, flush=True)
    found = folder / "optimization_results.yaml"
    if found.exists():
        print(json.dumps({"sweep": str(folder), **yaml.safe_load(found.read_text())}), flush=True)
