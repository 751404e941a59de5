"""A job: one unit of work with an identity, a folder that is named by it, and its run.json."""

import shlex
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from xraysynth.errors import DamageError, XraysynthError
from xraysynth.files import exclusive_lock, file_digest, file_fault
from xraysynth.jobs.distributed import broadcast, is_main, receive_broadcast
from xraysynth.jobs.provenance import collect_environment, peak_memory_mb
from xraysynth.jobs.record import RECORD_FILE, RunRecord
from xraysynth.records import JsonObject, Record, to_json
from xraysynth.seeds import digest

ResultLine = dict[str, Any]
"""The JSON object that a stage prints at its end: stage, key, state, and the fields of the result."""


@dataclass(frozen=True)
class Job:
    """One unit of work of a stage, found again by a key made of what decides its result.

    Attributes:
        stage: Name of the stage.
        identity: The settings that decide the result and the digests of the inputs, as JSON.
        output_root: Folder of all jobs, paths.output.
        outputs: Files or folders that must exist for the job to count as done; text is a path
            relative to the folder of the job.
        input_digests: Entries of the result that say what the inputs held. The job does not count
            as done if its run.json records other values; an entry that it lacks does not matter.
        further_outputs: Further files whose digests run.json records, although the job counts as
            done without them; text is a pattern in the folder of the job.
        outputs_grow: Whether something may be appended to the outputs after the job, as it is to the
            journal of a pool; what they held at its end must stay.
    """

    stage: str
    identity: JsonObject
    output_root: Path
    outputs: tuple[str | Path, ...] = ()
    input_digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    further_outputs: tuple[str | Path, ...] = ()
    outputs_grow: bool = False

    @cached_property
    def key(self) -> str:
        """First 12 hex digits of the digest of stage and identity."""
        return digest([self.stage, self.identity])[:12]

    @property
    def folder(self) -> Path:
        """Folder of the job, `<output_root>/<stage>/<key>`."""
        return self.output_root / self.stage / self.key

    def record(self) -> RunRecord:
        """Reads run.json; paths in the result follow a folder of outputs that was moved."""
        return RunRecord.read(self.folder).moved_to(self.output_root)

    @property
    def done(self) -> bool:
        """Whether the job has finished without error, and its outputs still exist."""
        return self._is_done(self.record())

    @property
    def intact(self) -> bool:
        """Whether the job is done, and no output was altered; all outputs are read once."""
        record = self.record()
        return self._is_done(record) and not self._damage(record)

    def require_intact(self, command: str) -> None:
        """Raises `DamageError` naming file and command if run.json or an output was altered.

        Call it before outputs are used. Outputs of earlier versions, which recorded no digests, pass.
        """
        damage = self._damage(self.record())
        if damage:
            raise DamageError(f"{damage}; it is made again by: {command}")

    def _damage(self, record: RunRecord, *, or_missing: bool = False) -> str:
        """Says which file was altered (or is missing) since the job ended; "" if none was."""
        if record.state == "damaged":
            return record.error
        for name, recorded_digest in record.output_digests.items():
            fault = file_fault(self.output_root / name, recorded_digest)
            # Further outputs may be deleted; whoever runs the job again gets them back.
            if fault and (or_missing or fault != "missing"):
                reason = ": its SHA-256 is not that in run.json" if fault == "altered" else ""
                return f"{self.output_root / name} is {fault}{reason}"
        return ""

    def _output_digests(self) -> dict[str, str]:
        """Returns the digests of the output files, by path relative to the folder of all jobs."""
        digests = {}
        for path in self._output_files():
            name = path.absolute().relative_to(self.output_root.absolute())
            digests[name.as_posix()] = file_digest(path, grows=self.outputs_grow)
        return digests

    def _output_files(self) -> list[Path]:
        files = {self._output_path(output) for output in self.outputs}
        for output in self.further_outputs:
            files.update(self.folder.glob(output) if isinstance(output, str) else [output])
        return sorted(path for path in files if path.is_file() and not _is_working_file(path))

    def _output_path(self, output: str | Path) -> Path:
        return self.folder / output if isinstance(output, str) else output

    def _is_done(self, record: RunRecord) -> bool:
        return record.state == "done" and self._outputs_exist() and self._inputs_match(record)

    def _outputs_exist(self) -> bool:
        return all(self._output_path(output).exists() for output in self.outputs)

    def _inputs_match(self, record: RunRecord) -> bool:
        for name, digests in self.input_digests.items():
            # A record of an earlier version may not say what the inputs held.
            if record.result.get(name, digests) != digests:
                return False
        return True

    def result(self, record_type: type[Record], command: str) -> Record:
        """Returns the result of a finished job; `require_done` says what is raised without one."""
        self.require_done(command)
        return self.record().result_as(record_type)

    def require_done(self, command: str) -> None:
        """Raises `XraysynthError` naming the command that does the job, unless the job is intact."""
        self.require_intact(command)
        record = self.record()
        if self._is_done(record):
            return
        state = "done, but its files are gone" if record.state == "done" else record.state
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
        """Does the work unless the job is done; processes on the same job wait for each other.

        Args:
            work: Does the work; what it returns becomes the result in run.json.
            config: The whole configuration, for run.json.
            overrides: The options on the command line, for run.json.
            on_other_ranks: Given, processes that torchrun started do the work together: the first
                one calls `work` and writes run.json, and each other one calls `on_other_ranks`.

        Returns:
            The line to print: stage, key, state, whether the job was `skipped` because it was done
            already, and, but on other ranks, folder, seconds and the fields of the result.
        """
        if on_other_ranks is not None and not is_main():
            return self._run_on_other_rank(on_other_ranks)
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.folder / ".lock"):
            record = self.record()
            damage = self._damage(record, or_missing=True)
            is_done = self._is_done(record) and not damage
            if damage:
                print(f"{damage}; the job is done again", file=sys.stderr, flush=True)
            if on_other_ranks is not None:
                broadcast(self._topic, "done" if is_done else "work")
            if is_done:
                return self._result_line(record, skipped=True)
            record = self._start_record(config, overrides)
            record.write(self.folder)
            return self._result_line(self._run_and_record(work, record), skipped=False)

    @property
    def _topic(self) -> str:
        return f"{self.stage}/{self.key}"

    def _start_record(self, config: JsonObject, overrides: Sequence[str]) -> RunRecord:
        return RunRecord(
            state="running",
            stage=self.stage,
            key=self.key,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            command=shlex.join(["xraysynth", *self.stage.split("_"), *overrides]),
            overrides=list(overrides),
            identity=self.identity,
            config=config,
        )

    def _run_on_other_rank(self, work: Callable[[], object]) -> ResultLine:
        """Does the work if the first process says that there is any; its result is not read."""
        skipped = receive_broadcast(self._topic) == "done"
        if not skipped:
            work()
        return {"stage": self.stage, "key": self.key, "state": "done", "skipped": skipped}

    def _run_and_record(self, work: Callable[[], object], record: RunRecord) -> RunRecord:
        """Does the work, and writes run.json whether it succeeds or fails."""
        start = time.perf_counter()
        try:
            record = replace(record, result=to_json(work()), state="done")
            record = replace(record, output_digests=self._output_digests())
        except BaseException as error:
            record = replace(record, state="failed", error=f"{type(error).__name__}: {error}")
            if not isinstance(error, XraysynthError):
                record = replace(record, traceback=traceback.format_exc())
            raise
        finally:
            record = replace(
                record,
                seconds=round(time.perf_counter() - start, 3),
                peak_memory_mb=round(peak_memory_mb(), 1),
                environment=to_json(collect_environment()),
            )
            record.write(self.folder)
        return record

    def _result_line(self, record: RunRecord, *, skipped: bool) -> ResultLine:
        return {
            "stage": self.stage,
            "key": self.key,
            "state": record.state,
            "skipped": skipped,
            "folder": str(self.folder),
            "seconds": record.seconds,
            **record.result,
        }


def _is_working_file(path: Path) -> bool:
    """Whether a file is run.json, or only there to resume from."""
    return path.name == RECORD_FILE or path.name.startswith("checkpoint.")
