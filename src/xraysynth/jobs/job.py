"""A job: one piece of work with an identity, a folder named by it, and a run.json in it."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from xraysynth.errors import XraysynthError
from xraysynth.files import exclusive_lock
from xraysynth.jobs.distributed import broadcast, is_main, receive_broadcast
from xraysynth.jobs.provenance import collect_environment, peak_memory_mb
from xraysynth.jobs.record import RunRecord
from xraysynth.records import JsonObject, Record, to_json
from xraysynth.seeds import digest

ResultLine = dict[str, Any]
"""What a stage prints in the end, one object of JSON: the job's facts and the fields of its result."""


@dataclass(frozen=True)
class Job:
    """`identity` holds the settings that decide the result and the digests of its inputs, as JSON.

    `leaves` are files or folders without which a finished job does not count as done; a relative
    path starts at the job's own folder. `made_of` are entries of its result that tell what the inputs
    named in the identity held: where one of them is recorded as something else, it does not either.
    """

    stage: str
    identity: JsonObject
    output_root: Path
    outputs: tuple[str | Path, ...] = ()
    input_digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """First 12 hex digits of the identity's digest."""
        return digest([self.stage, self.identity])[:12]

    @property
    def folder(self) -> Path:
        """Where the job writes."""
        return self.output_root / self.stage / self.key

    def record(self) -> RunRecord:
        """What run.json says."""
        return RunRecord.read(self.folder)

    @property
    def done(self) -> bool:
        """True when the job has finished without error, and what it made is still there."""
        return self._is_done(self.record())

    def _is_done(self, record: RunRecord) -> bool:
        there = all(self._absolute_path(path).exists() for path in self.outputs)
        # A record of an earlier version may not say what the inputs held.
        current = all(
            record.result.get(n, value) == value for n, value in self.input_digests.items()
        )
        return there and record.state == "done" and current

    def _absolute_path(self, path: str | Path) -> Path:
        return self.folder / path if isinstance(path, str) else Path(path).absolute()

    def result(self, record_type: type[Record], command: str) -> Record:
        """The result of a finished job, or an error that says which command makes it."""
        self.require_done(command)
        return self.record().result_as(record_type)

    def require_done(self, command: str) -> None:
        """Raise an error that says which command does the job, unless it is done."""
        record = self.record()
        if not self._is_done(record):
            gone = "done, but its files are gone"
            state = gone if record.state == "done" else record.state
            raise XraysynthError(
                f"{self.stage} job {self.key} is needed but was {state}; run: {command}"
            )

    def run(
        self,
        work: Callable[[], object],
        *,
        config: JsonObject,
        overrides: Sequence[str],
        on_other_ranks: Callable[[], object] | None = None,
    ) -> ResultLine:
        """Do the work unless it is done; processes on the same job wait for each other.

        What `work` returns becomes the result in run.json. With `beside`, processes that torchrun
        started do the work together: the first does `work` and keeps the record, each other one does
        `beside` while it does.
        """
        if on_other_ranks is not None and not is_main():
            return self._run_on_other_rank(on_other_ranks)
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.folder / ".lock"):
            record = self.record()
            done = self._is_done(record)
            if on_other_ranks is not None:
                broadcast(self._topic, "done" if done else "work")
            if done:
                return self._result_line(record, skipped=True)
            record = RunRecord(
                state="running",
                stage=self.stage,
                key=self.key,
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                command=" ".join(["xraysynth", self.stage.replace("_", " "), *overrides]),
                overrides=list(overrides),
                identity=self.identity,
                config=config,
            )
            record.write(self.folder)
            return self._result_line(self._run_and_record(work, record), skipped=False)

    @property
    def _topic(self) -> str:
        return f"{self.stage}/{self.key}"

    def _run_on_other_rank(self, work: Callable[[], object]) -> ResultLine:
        """Take part where the first process says that there is work; it tells the result."""
        skipped = receive_broadcast(self._topic) == "done"
        if not skipped:
            work()
        return {"stage": self.stage, "key": self.key, "state": "done", "skipped": skipped}

    def _run_and_record(self, work: Callable[[], object], record: RunRecord) -> RunRecord:
        began = time.perf_counter()
        try:
            record = replace(record, result=to_json(work()), state="done")
        except BaseException as error:
            record = replace(record, state="failed", error=f"{type(error).__name__}: {error}")
            if not isinstance(error, XraysynthError):
                record = replace(record, traceback=traceback.format_exc())
            raise
        finally:
            record = replace(
                record,
                seconds=round(time.perf_counter() - began, 3),
                peak_memory_mb=round(peak_memory_mb(), 1),
                environment=to_json(collect_environment()),
            )
            record.write(self.folder)
        return record

    def _result_line(self, record: RunRecord, *, skipped: bool) -> ResultLine:
        head = {"stage": self.stage, "key": self.key, "state": record.state, "skipped": skipped}
        return head | {"folder": str(self.folder), "seconds": record.seconds, **record.result}
