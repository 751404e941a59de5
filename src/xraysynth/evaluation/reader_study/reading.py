"""Holds an analysed reading: what pages show of it, and the folder that keeps it."""

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
from xraysynth.files import read_csv, write_csv
from xraysynth.records import JsonObject, formerly, from_json, to_json
from xraysynth.seeds import digest

ALL = ""
"""The name of all generators or classes together in results."""

SIMULATED_PREFIX = "simulated"
"""The start of the pseudonym of every simulated reader."""

READING_FILE = "reading.json"


@formerly(total="of")
@dataclass(frozen=True)
class SessionProgress:
    """How far a reader has come in one session.

    Attributes:
        reader: The reader's pseudonym.
        session: The number of the session, from 1.
        answered: The number of answered items.
        total: The number of items in the session.
        finished: Whether all items are answered.
    """

    reader: str
    session: int
    answered: int
    total: int
    finished: bool = False


@dataclass(frozen=True)
class Reading:
    """An analysed reading, as its page shows it and as its folder keeps it.

    Attributes:
        name: The name of the reading, review.name.
        created: The time of the analysis.
        classes: The classes of the images.
        simulated_images: Whether the real images are simulated, which the page says at the top.
        simulated_readers: Whether all readers are simulated, which the page says at the top.
        results: The table `analysis.Analysis.results`.
        readers: The table `analysis.Analysis.readers`.
        pairs: The table `analysis.Analysis.pairs`.
        marks: The table `analysis.Analysis.marks`.
        exports: The progress of each session.
        command: The command that made the analysis.
        plans: The designs of a next reading, by generator and measure.
        notes: The limitations of the reading, one sentence each.
        pools: The key of each generator's pool, as in the answer key.
        cohort: The digest of the real images, as in the answer key.
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
        """The generators that have answered images, by name."""
        rows = self.results[self.results["name"] == "log_seconds"]["generator"]
        return [name for name in dict.fromkeys(rows) if name not in (ALL, REAL)]

    @property
    def groups(self) -> list[str]:
        """The rows of most tables: real images, each generator's, and all of them where several."""
        groups = [REAL, *self.generators]
        if len(self.generators) > 1:
            groups.append(ALL)
        return groups

    def get(self, name: str, generator: str = ALL, label: str = ALL) -> ReadingResult | None:
        """Returns the result of a measure, a generator and a class; None if it was not measured."""
        return self._index.get((name, generator, label))

    @cached_property
    def _index(self) -> dict[tuple[str, str, str], ReadingResult]:
        index = {}
        for result in from_table(self.results):
            index[result.name, result.generator, result.label] = result
        return index

    def has_measure(self, name: str) -> bool:
        """Whether any result of this measure has a value."""
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
    """Builds the record of an analysed reading.

    Args:
        key: The answer key.
        exports: The exports that came back.
        answers: The answers of the exports, as from `exports.join_with_key`.
        analysis: The analysis of these answers.
        created: The time of the analysis.
        command: The command that made it.
    """
    return Reading(
        name=key.name,
        created=created,
        classes=key.classes,
        simulated_images=key.simulated,
        simulated_readers=all(map(_is_simulated, exports)),
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


def _is_simulated(export: Export) -> bool:
    """Whether the pseudonym says that an export is from a simulated reader."""
    return export.reader.lower().startswith(SIMULATED_PREFIX)


def _session_progress(exports: Sequence[Export], key: AnswerKey) -> list[SessionProgress]:
    """Returns the progress of every session, also those not begun, of readers who sent an export."""
    export_of_kit = {export.kit: export for export in exports}
    readers = {export.reader for export in exports}
    progress = []
    for kit_id, kit in key.kits.items():
        if kit.reader not in readers:
            continue
        export = export_of_kit.get(kit_id)
        session = SessionProgress(
            reader=kit.reader,
            session=kit.session,
            answered=len(export.rows) if export else 0,
            total=len(kit.items),
            finished=export.is_complete if export else False,
        )
        progress.append(session)
    return progress


def _limitations(answers: pd.DataFrame, key: AnswerKey) -> list[str]:
    """Returns one sentence per limitation of this reading that its results must be read with."""
    limitations = []
    readers = set(answers["reader"])
    if len(readers) == 1:
        limitations.append(
            "There is one reader, so nothing is known about how far readers differ from one another."
        )
    missing = sorted({kit.reader for kit in key.kits.values()} - readers)
    if missing:
        limitations.append(f"No answers have come back from {', '.join(missing)}.")
    cases = map(key.cases.__getitem__, sorted(set(answers["case"])))
    patients = [case.patient_id for case in cases if case.origin == "real"]
    n_patients = len(set(patients))
    if n_patients < len(patients):
        limitations.append(
            f"The {len(patients)} real images are of {n_patients} patients, but intervals count each image "
            "as a case of its own, so they are somewhat too narrow."
        )
    return limitations


def save_reading(reading: Reading, folder: Path) -> None:
    """Writes results.csv, results.parquet, marks.csv and reading.json into a folder."""
    write_csv(reading.results, folder / "results.csv")
    reading.results.to_parquet(folder / "results.parquet", index=False)
    write_csv(reading.marks, folder / "marks.csv")
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
    """Loads the reading that `save_reading` wrote into a folder."""
    facts = json.loads((folder / READING_FILE).read_text())
    return Reading(
        readers=pd.DataFrame(facts.pop("readers")),
        pairs=pd.DataFrame(facts.pop("pairs"), columns=list(PAIR_COLUMNS)),
        results=pd.read_parquet(folder / "results.parquet"),
        marks=read_csv(folder / "marks.csv"),
        exports=[from_json(SessionProgress, session) for session in facts.pop("exports")],
        plans=_parse_plans(facts.pop("plans", {})),
        **facts.pop("key"),
        **facts,
    )


def _parse_plans(plans: JsonObject) -> dict[str, dict[str, list[Plan]]]:
    """Converts plans by generator and measure from JSON."""
    parsed: dict[str, dict[str, list[Plan]]] = {}
    for generator, designs_by_measure in plans.items():
        parsed[generator] = {}
        for measure, designs in designs_by_measure.items():
            parsed[generator][measure] = [Plan(**design) for design in designs]
    return parsed


def reading_digest(folder: Path) -> str:
    """Returns a digest that changes when the analysed reading in a folder changes."""
    return digest((folder / READING_FILE).read_text())


def find_readings(output: Path, cohort: str, pools: Sequence[str]) -> list[Path]:
    """Returns the folders of analysed readings of a cohort and some pools.

    Args:
        output: The folder paths.output.
        cohort: The digest of the cohort.
        pools: The keys of the pools; all images of a reading must be from these.
    """
    folders = []
    for path in sorted((output / "reviews").glob(f"*/analysis/{READING_FILE}")):
        key = json.loads(path.read_text())["key"]
        if key["cohort"] == cohort and set(key["pools"].values()) <= set(pools):
            folders.append(path.parent)
    return folders
