"""run.json: what a job was asked for, how it went, and what came of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from xraysynth.files import write_atomically
from xraysynth.records import JsonObject, Record, from_json, to_json

RECORD_FILE = "run.json"


@dataclass(frozen=True)
class RunRecord:
    """The record of a job; `state` is running, done or failed, and "never run" where there is none.

    `identity`, `config` and `result` are JSON as the stage gave them; `result_as` reads the result.
    `error` and `traceback` are those of a job that failed, `seconds` and `peak_memory_mb` are None
    until it ended.
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
        """The record in the folder of a job; that of a job that never ran where there is none."""
        try:
            values = json.loads((folder / RECORD_FILE).read_text())
        except FileNotFoundError:
            return cls()
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def write(self, folder: Path) -> None:
        """The record as run.json; what is empty is left out."""
        values = {name: value for name, value in to_json(self).items() if value not in ("", None)}
        write_atomically(folder / RECORD_FILE, json.dumps(values, indent=1, default=str).encode())

    def result_as(self, record_type: type[Record]) -> Record:
        """The result as the record that the stage made."""
        return from_json(record_type, self.result)


def load_finished_records(output: Path, stage: str = "*") -> Iterator[RunRecord]:
    """Records of the jobs of a stage, or of all, that ended well, in the order of their paths."""
    for path in sorted(output.glob(f"{stage}/*/{RECORD_FILE}")):
        record = RunRecord.read(path.parent)
        if record.state == "done":
            yield record
