"""A job: one piece of work with an identity, a folder named by it, and a run.json in it."""

import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from xraysynth.errors import XraysynthError
from xraysynth.files import exclusive, write_atomically
from xraysynth.jobs.distributed import announce, announced, is_main
from xraysynth.jobs.provenance import environment, peak_memory_mb
from xraysynth.records import JsonObject, to_json
from xraysynth.seeds import digest


@dataclass(frozen=True)
class Job:
    """`identity` holds the settings that decide the result and the digests of its inputs.

    `leaves` are files or folders without which a finished job does not count as done; a relative
    path starts at the job's own folder. `made_of` are entries of its result that tell what the inputs
    named in the identity held: where one of them is recorded as something else, it does not either.
    """

    stage: str
    identity: JsonObject
    output: Path
    leaves: tuple[str | Path, ...] = ()
    made_of: JsonObject = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """First 12 hex digits of the identity's digest."""
        return digest([self.stage, self.identity])[:12]

    @property
    def folder(self) -> Path:
        """Where the job writes."""
        return self.output / self.stage / self.key

    def record(self) -> JsonObject:
        """What run.json says, empty if the job never ran."""
        try:
            record: JsonObject = json.loads((self.folder / "run.json").read_text())
        except FileNotFoundError:
            return {}
        return record

    @property
    def done(self) -> bool:
        """True when the job has finished without error, and what it made is still there."""
        there = all(self._absolute(path).exists() for path in self.leaves)
        record = self.record()
        return there and record.get("state") == "done" and self._is_current(record)

    def _is_current(self, record: JsonObject) -> bool:
        result = record.get("result", {})  # of an earlier version, it may not say
        return all(result.get(name, value) == value for name, value in self.made_of.items())

    def _absolute(self, path: str | Path) -> Path:
        return self.folder / path if isinstance(path, str) else Path(path).absolute()

    def result(self, command: str) -> dict[str, Any]:
        """The result of a finished job, or an error that says which command makes it."""
        record = self.record()
        if not self.done:
            state = record.get("state", "never run")
            state = "done, but its files are gone" if state == "done" else state
            raise XraysynthError(
                f"{self.stage} job {self.key} is needed but was {state}; run: {command}"
            )
        result: dict[str, Any] = record["result"]
        return result

    def run(
        self,
        work: Callable[[], Any],
        *,
        config: Mapping[str, Any],
        overrides: Sequence[str],
        beside: Callable[[], object] | None = None,
    ) -> dict[str, Any]:
        """Do the work unless it is done; processes on the same job wait for each other.

        With `beside`, processes that torchrun started do the work together: the first does `work`
        and keeps the record, each other one does `beside` while it does.
        """
        if beside is not None and not is_main():
            return self._beside(beside)
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / ".lock"):
            done = self.done
            if beside is not None:
                announce(self._subject, "done" if done else "work")
            if done:
                return self._line(self.record(), skipped=True)
            record = {
                "state": "running",
                "stage": self.stage,
                "key": self.key,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": " ".join(["xraysynth", self.stage.replace("_", " "), *overrides]),
                "overrides": list(overrides),
                "identity": dict(self.identity),
                "config": dict(config),
            }
            self._write(record)
            return self._line(self._work(work, record), skipped=False)

    @property
    def _subject(self) -> str:
        return f"{self.stage}/{self.key}"

    def _beside(self, work: Callable[[], object]) -> dict[str, Any]:
        """Take part where the first process says that there is work; it tells the result."""
        skipped = announced(self._subject) == "done"
        if not skipped:
            work()
        return {"stage": self.stage, "key": self.key, "state": "done", "skipped": skipped}

    def _work(self, work: Callable[[], Any], record: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        try:
            record |= {"result": to_json(work()), "state": "done"}
        except BaseException as error:
            record |= {"state": "failed", "error": f"{type(error).__name__}: {error}"}
            if not isinstance(error, XraysynthError):
                record["traceback"] = traceback.format_exc()
            raise
        finally:
            record |= {
                "seconds": round(time.perf_counter() - began, 3),
                "peak_memory_mb": round(peak_memory_mb(), 1),
                "environment": to_json(environment()),
            }
            self._write(record)
        return record

    def _write(self, record: JsonObject) -> None:
        text = json.dumps(record, indent=1, default=str)
        write_atomically(self.folder / "run.json", text.encode())

    def _line(self, record: JsonObject, *, skipped: bool) -> dict[str, Any]:
        head = {"stage": self.stage, "key": self.key, "state": record["state"], "skipped": skipped}
        return head | {"folder": str(self.folder), "seconds": record["seconds"], **record["result"]}
