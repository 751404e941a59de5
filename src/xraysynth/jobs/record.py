"""run.json, the record of a job: its options, how it went, and its result."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xraysynth.files import write_atomically
from xraysynth.records import JsonObject, Record, from_json, to_json
from xraysynth.seeds import digest

RECORD_FILE = "run.json"

_CHECKSUM = "checksum"
"""Entry of run.json with the digest of all its other entries; earlier versions wrote none."""


@dataclass(frozen=True)
class RunRecord:
    """The record of a job.

    Attributes:
        state: running, done or failed; "never run" if there is no run.json, and "damaged" if it
            cannot be read or was altered, which `error` explains.
        stage: Name of the stage.
        key: Key of the job.
        started: Time of the start, UTC, ISO 8601.
        command: The command line.
        overrides: The options on the command line.
        identity: What decides the result.
        config: The whole configuration.
        result: The result as JSON; `result_as` reads it.
        output_digests: SHA-256 of the outputs, by path relative to the folder of all jobs; empty in
            records of earlier versions.
        seconds: Run time; None until the job has ended.
        peak_memory_mb: Peak memory of the process; None until the job has ended.
        environment: `RunEnvironment` as JSON.
        error: Type and message of the error of a failed job.
        traceback: Traceback of an unexpected error.
    """

    state: str = "never run"
    stage: str = ""
    key: str = ""
    started: str = ""
    command: str = ""
    overrides: list[str] = field(default_factory=list)
    identity: JsonObject = field(default_factory=dict)
    config: JsonObject = field(default_factory=dict)
    result: JsonObject = field(default_factory=dict)
    output_digests: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None
    peak_memory_mb: float | None = None
    environment: JsonObject = field(default_factory=dict)
    error: str = ""
    traceback: str = ""

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """Reads run.json in the folder of a job; without one, the record of a job that never ran."""
        path = folder / RECORD_FILE
        try:
            values = json.loads(path.read_text())
            checksum = values.pop(_CHECKSUM, None)
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, AttributeError, TypeError) as error:  # not JSON, or no object
            return cls(state="damaged", error=f"{path} cannot be read ({error})")
        if checksum is not None and checksum != digest(values):
            return cls(state="damaged", error=f"{path} was altered: it differs from its checksum")
        for name in values.keys() - cls.__dataclass_fields__.keys():
            del values[name]  # another version wrote it
        return cls(**values)

    def write(self, folder: Path) -> None:
        """Writes run.json with a checksum, without empty fields."""
        values = {name: value for name, value in to_json(self).items() if value not in ("", None)}
        values = json.loads(json.dumps(values, default=str))  # as it will be read
        values[_CHECKSUM] = digest(values)
        write_atomically(folder / RECORD_FILE, json.dumps(values, indent=1).encode())

    def moved_to(self, output_root: Path) -> "RunRecord":
        """Returns the record with the paths in its result as they are in a folder of outputs.

        Args:
            output_root: The folder of all jobs now, which may have been moved or renamed since.
        """
        recorded_root = self.config.get("paths", {}).get("output", "")
        if not recorded_root or Path(recorded_root) == output_root:
            return self
        return replace(self, result=_move_paths(self.result, Path(recorded_root), output_root))

    def result_as(self, record_type: type[Record]) -> Record:
        """Returns the result as an instance of the stage's result class."""
        return from_json(record_type, self.result)


def _move_paths(value: Any, old_root: Path, new_root: Path) -> Any:
    """Replaces the folder at the start of every text in a JSON value that is a path below it."""
    if isinstance(value, dict):
        return {name: _move_paths(item, old_root, new_root) for name, item in value.items()}
    if isinstance(value, list):
        return [_move_paths(item, old_root, new_root) for item in value]
    if isinstance(value, str) and value.startswith(f"{old_root}/"):
        return str(new_root / value[len(f"{old_root}/") :])
    return value


def load_finished_records(output: Path, stage: str = "*") -> Iterator[RunRecord]:
    """Yields the records of finished jobs, in the order of their paths; a damaged one is reported.

    Args:
        output: Folder of all jobs, paths.output.
        stage: Name of the stage, or "*" for all stages.
    """
    for path in sorted(output.glob(f"{stage}/*/{RECORD_FILE}")):
        record = RunRecord.read(path.parent)
        if record.state == "damaged":
            print(f"{record.error}; it is not used", file=sys.stderr, flush=True)
        if record.state == "done":
            yield record
