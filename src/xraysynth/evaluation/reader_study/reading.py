"""An analysed reading: what pages show of it, and the folder that keeps it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from xraysynth.evaluation.reader_study.analysis import PAIR_COLUMNS, Analysis
from xraysynth.evaluation.reader_study.exports import Export
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.evaluation.reader_study.results import REAL, ReadingResult, from_table
from xraysynth.evaluation.reader_study.sample_size import Plan
from xraysynth.records import from_json, to_json
from xraysynth.seeds import digest

ALL = ""
SIMULATED_PREFIX = "simulated"
"""What the names of readers begin with who are no persons."""

READING_FILE = "reading.json"


@dataclass(frozen=True)
class SessionProgress:
    """How far a reader has come in a session; `of` images were shown."""

    reader: str
    session: int
    answered: int
    total: int
    finished: bool = False


@dataclass(frozen=True)
class Reading:
    """An analysed reading; the tables are those of `analysis.Analysis`.

    `exports` has an entry per session. `simulated_images` and `simulated_readers` are said at the
    top of the page. `plans` has the designs of a next reading by generator and measure. `pools` and
    `cohort` name the images, as the answer key does.
    """

    name: str
    created: str
    classes: Sequence[str]
    simulated_images: bool
    simulated_readers: bool
    results: pd.DataFrame
    readers: pd.DataFrame
    pairs: pd.DataFrame
    marks: pd.DataFrame
    exports: Sequence[SessionProgress]
    command: str = ""
    plans: Mapping[str, Mapping[str, Sequence[Plan]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    pools: Mapping[str, str] = field(default_factory=dict)
    cohort: str = ""

    @property
    def generators(self) -> list[str]:
        """Generators with answered images, without real images and all together."""
        rows = self.results[self.results["name"] == "log_seconds"]["generator"]
        return [name for name in dict.fromkeys(rows) if name not in (ALL, REAL)]

    @property
    def groups(self) -> list[str]:
        """Rows of most tables: real images, each generator's, and all together where several."""
        together = [ALL] if len(self.generators) > 1 else []
        return [REAL, *self.generators, *together]

    def get(self, name: str, generator: str = ALL, label: str = ALL) -> ReadingResult | None:
        """One result, None where it was not measured."""
        return self._index.get((name, generator, label))

    @cached_property
    def _index(self) -> dict[tuple[str, str, str], ReadingResult]:
        results = from_table(self.results)
        return {(result.name, result.generator, result.label): result for result in results}

    def has_measure(self, name: str) -> bool:
        """Whether any row of this measure has a value."""
        return bool(self.results[self.results["name"] == name]["value"].notna().any())


def build_reading(
    key: AnswerKey,
    exports: Sequence[Export],
    answers: pd.DataFrame,
    analysis: Analysis,
    *,
    created: str,
    command: str,
) -> Reading:
    """The reading of a key from what came back, its joined `answers` and their analysis."""
    readers = {export.reader for export in exports}
    return Reading(
        name=key.name,
        created=created,
        classes=key.classes,
        simulated_images=key.simulated,
        simulated_readers=all(reader.lower().startswith(SIMULATED_PREFIX) for reader in readers),
        results=analysis.results,
        readers=analysis.readers,
        pairs=analysis.pairs,
        marks=analysis.marks,
        exports=_session_progress(exports, key),
        command=command,
        plans=analysis.plans,
        notes=_limitations(answers, key),
        pools=key.pools,
        cohort=key.cohort,
    )


def _session_progress(exports: Sequence[Export], key: AnswerKey) -> list[SessionProgress]:
    """Every session of every reader who sent something, also those not begun."""
    sent = {export.kit: export for export in exports}
    readers = {export.reader for export in exports}
    return [
        SessionProgress(
            reader=kit.reader,
            session=kit.session,
            answered=len(sent[name].rows) if name in sent else 0,
            total=len(kit.items),
            finished=name in sent and sent[name].is_complete,
        )
        for name, kit in key.kits.items()
        if kit.reader in readers
    ]


def _limitations(answers: pd.DataFrame, key: AnswerKey) -> list[str]:
    """What the design of this reading leaves open."""
    limits = []
    if len(set(answers["reader"])) == 1:
        limits.append("One reader: nothing is known about how readers differ.")
    missing = sorted({kit.reader for kit in key.kits.values()} - set(answers["reader"]))
    if missing:
        limits.append(f"Nothing has come back from {', '.join(missing)}.")
    cases = [key.cases[name] for name in sorted(set(answers["case"]))]
    patients = [case.patient_id for case in cases if case.origin == "real"]
    if len(set(patients)) < len(patients):
        limits.append(
            f"The {len(patients)} real images are of {len(set(patients))} patients, and intervals take each "
            "image as a case of its own: they are somewhat too narrow."
        )
    return limits


def save_reading(reading: Reading, folder: Path) -> None:
    """Write results.csv, results.parquet, marks.csv and reading.json into a folder."""
    reading.results.to_csv(folder / "results.csv", index=False)
    reading.results.to_parquet(folder / "results.parquet", index=False)
    reading.marks.to_csv(folder / "marks.csv", index=False)
    facts = {
        "name": reading.name,
        "created": reading.created,
        "classes": reading.classes,
        "simulated_images": reading.simulated_images,
        "simulated_readers": reading.simulated_readers,
        "exports": reading.exports,
        "command": reading.command,
        "plans": reading.plans,
        "notes": reading.notes,
        "key": {"pools": reading.pools, "cohort": reading.cohort},
        "readers": json.loads(reading.readers.to_json(orient="records")),
        "pairs": json.loads(reading.pairs.to_json(orient="records")),
    }
    (folder / READING_FILE).write_text(json.dumps(to_json(facts), ensure_ascii=False))


def load_reading(folder: Path) -> Reading:
    """The reading that `write` left in a folder."""
    facts = json.loads((folder / READING_FILE).read_text())
    plans = {
        generator: {
            measure: [Plan(**plan) for plan in designs] for measure, designs in kinds.items()
        }
        for generator, kinds in facts.pop("plans", {}).items()
    }
    return Reading(
        readers=pd.DataFrame(facts.pop("readers")),
        pairs=pd.DataFrame(facts.pop("pairs"), columns=list(PAIR_COLUMNS)),
        results=pd.read_parquet(folder / "results.parquet"),
        marks=pd.read_csv(folder / "marks.csv", keep_default_na=False),
        exports=[from_json(SessionProgress, session) for session in facts.pop("exports")],
        plans=plans,
        **facts.pop("key"),
        **facts,
    )


def reading_digest(folder: Path) -> str:
    """What tells an analysed reading from another state of it."""
    return digest((folder / READING_FILE).read_text())


def find_readings(output: Path, cohort: str, pools: Sequence[str]) -> list[Path]:
    """Folders of analysed readings of this cohort's digest whose images are all of these pools."""
    folders = []
    for path in sorted((output / "reviews").glob(f"*/analysis/{READING_FILE}")):
        key = json.loads(path.read_text())["key"]
        if key["cohort"] == cohort and set(key["pools"].values()) <= set(pools):
            folders.append(path.parent)
    return folders
