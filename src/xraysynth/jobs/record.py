"""run.json, the record of a job: its options, how it went, and its result."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xraysynth.files import write_atomically
from xraysynth.records import JsonObject, Record, from_json, to_json

RECORD_FILE = "run.json"


@dataclass(frozen=True)
class RunRecord:
    """The record of a job.

    Attributes:
        state: running, done or failed; "never run" if there is no run.json.
        stage: Name of the stage.
        key: Key of the job.
        started: Time of the start, UTC, ISO 8601.
        command: The command line.
        overrides: The options on the command line.
        identity: What decides the result.
        config: The whole configuration.
        result: The result as JSON; `result_as` reads it.
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
    seconds: float | None = None
    peak_memory_mb: float | None = None
    environment: JsonObject = field(default_factory=dict)
    error: str = ""
    traceback: str = ""

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """Reads run.json in the folder of a job; without one, the record of a job that never ran."""
        try:
            values = json.loads((folder / RECORD_FILE).read_text())
        except FileNotFoundError:
            return cls()
        for name in values.keys() - cls.__dataclass_fields__.keys():
            del values[name]  # another version wrote it
        return cls(**values)

    def write(self, folder: Path) -> None:
        """Writes run.json, without empty fields."""
        values = {name: value for name, value in to_json(self).items() if value not in ("", None)}
        write_atomically(folder / RECORD_FILE, json.dumps(values, indent=1, default=str).encode())

    def result_as(self, record_type: type[Record]) -> Record:
        """Returns the result as an instance of the stage's result class."""
        return from_json(record_type, self.result)


def load_finished_records(output: Path, stage: str = "*") -> Iterator[RunRecord]:
    """Yields the records of finished jobs, in the order of their paths.

    Args:
        output: Folder of all jobs, paths.output.
        stage: Name of the stage, or "*" for all stages.
    """
    for path in sorted(output.glob(f"{stage}/*/{RECORD_FILE}")):
        record = RunRecord.read(path.parent)
        if record.state == "done":
            yield record
