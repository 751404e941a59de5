"""What readers said: their exports joined with the answer key, checked, and turned into a page.

Reads review.exports, a folder or files that came back, and paths.output/reviews/<review.name>/
owner/key.json; no image and no cohort is needed. Exports of another study, changed rows, and two
different exports of one reader and session are refused by name; an unfinished one counts as far as
it goes. Writes page, tables and joined answers to paths.output/reviews/<review.name>/analysis/, and the
study's report shows what belongs to it.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.errors import ConfigError
from xraysynth.evaluation.reader_study.key import Key
from xraysynth.files import publish
from xraysynth.jobs.job import Job
from xraysynth.seeds import digest

if TYPE_CHECKING:
    from xraysynth.evaluation.reader_study.exports import Export
    from xraysynth.report.readers import Reading

SECTIONS = ("review", "tracking")
"""The options that this stage reads."""

FILES = (
    "review.html",
    "results.csv",
    "results.parquet",
    "marks.csv",
    "answers.csv",
    "reading.json",
)
MEASURES = 2
"""Raised whenever a measure is added or changed, so that old answers are analysed anew."""

SIMULATED = "simulated"
"""What the names of readers begin with who are no persons."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Analyse what came back, or find it analysed."""
    from xraysynth.evaluation.reader_study import exports

    place = folder(config.output, config.review.name)
    key = Key.read(place.parent / "owner" / "key.json")
    if not config.review.export_paths:
        raise ConfigError(
            "review.exports names the folder or files that the readers sent back; for example "
            f"xraysynth review analyse review.name={config.review.name} review.exports=answers/"
        )
    found = exports.load(config.review.export_paths, key)
    decides = {
        "key": digest([key.study, sorted(key.kits)]),
        "answers": digest([export.rows for export in found]),
        "measures": MEASURES,
    }
    this = Job("review_analyse", decides, config.output, leaves=FILES)
    command = " ".join(["xraysynth review analyse", *overrides])
    result = this.run(
        lambda: _work(config, key, found, command, this),
        config=config.plain(),
        overrides=overrides,
    )
    return result | _publish(this, place)


def folder(output: Path, name: str) -> Path:
    """Where the analysis of a reading lies."""
    return output / "reviews" / name / "analysis"


def _work(
    config: Config, key: Key, found: Sequence["Export"], command: str, this: Job
) -> dict[str, Any]:
    from xraysynth.evaluation.reader_study import exports
    from xraysynth.evaluation.reader_study.analysis import analyse
    from xraysynth.report.page import render_reading

    answers = exports.join(found, key)
    asked = [str(question["id"]) for question in key.questions]
    analysis = analyse(answers, classes=key.classes, asked=asked)
    facts = {
        "name": key.name,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "classes": key.classes,
        "simulated_images": key.simulated,
        "simulated_readers": all(e.reader.lower().startswith(SIMULATED) for e in found),
        "exports": _sessions(found, key),
        "command": command,
        "plans": _plain(analysis.plans),
        "notes": _notes(answers, key),
        "key": {"pools": key.pools, "cohort": key.cohort},
    }
    analysis.results.to_csv(this.folder / "results.csv", index=False)
    analysis.results.to_parquet(this.folder / "results.parquet", index=False)
    analysis.marks.to_csv(this.folder / "marks.csv", index=False)
    answers.to_csv(this.folder / "answers.csv", index=False)
    tables = {"readers": analysis.readers, "pairs": analysis.pairs}
    kept = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
    (this.folder / "reading.json").write_text(json.dumps(facts | kept, ensure_ascii=False))
    reading = read(this.folder)
    (this.folder / "review.html").write_text(render_reading(reading), encoding="utf-8")
    with tracking.tracked(config, this) as logged:
        tracking.log_review(logged, analysis.results, analysis.marks)
    return {
        "readers": sorted({export.reader for export in found}),
        "answers": len(answers),
        "unfinished": [export.path.name for export in found if not export.finished],
        "headline": _headline(reading),
    }


def _sessions(found: Sequence["Export"], key: Key) -> list[dict[str, Any]]:
    """Every session of every reader who sent something, also those not begun."""
    sent = {export.kit: export for export in found}
    readers = {export.reader for export in found}
    return [
        {
            "reader": kit.reader,
            "session": kit.session,
            "answered": len(sent[name].rows) if name in sent else 0,
            "of": len(kit.items),
            "finished": name in sent and sent[name].finished,
        }
        for name, kit in key.kits.items()
        if kit.reader in readers
    ]


def _plain(plans: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        generator: {measure: [asdict(plan) for plan in found] for measure, found in kinds.items()}
        for generator, kinds in plans.items()
    }


def _notes(answers: Any, key: Key) -> list[str]:
    """What the design of this reading leaves open."""
    found = []
    read_by = answers["reader"].nunique()
    if read_by == 1:
        found.append("One reader: nothing is known about how readers differ.")
    missing = sorted({kit.reader for kit in key.kits.values()} - set(answers["reader"]))
    if missing:
        found.append(f"Nothing has come back from {', '.join(missing)}.")
    cases = [key.cases[name] for name in sorted(set(answers["case"]))]
    patients = [case.patient_id for case in cases if case.origin == "real"]
    if len(set(patients)) < len(patients):
        found.append(
            f"The {len(patients)} real images are of {len(set(patients))} patients, and intervals take each "
            "image as a case of its own: they are somewhat too narrow."
        )
    return found


def read(place: Path) -> "Reading":
    """An analysed reading, from the folder that holds it."""
    import pandas as pd

    from xraysynth.report.readers import Reading

    facts = json.loads((place / "reading.json").read_text())
    facts.pop("key")
    columns = ["question", "reader", "other", "value", "images"]
    facts["readers"] = pd.DataFrame(facts["readers"])
    facts["pairs"] = pd.DataFrame(facts["pairs"], columns=columns)
    results = pd.read_parquet(place / "results.parquet")
    return Reading(
        results=results, marks=pd.read_csv(place / "marks.csv", keep_default_na=False), **facts
    )


def content(place: Path) -> str:
    """What tells an analysed reading from another state of it."""
    return digest((place / "reading.json").read_text())


def of_study(output: Path, cohort: str, pools: Sequence[str]) -> list[Path]:
    """Folders of analysed readings of this cohort's digest whose images are all of these pools."""
    found = []
    for place in sorted((output / "reviews").glob("*/analysis")):
        if (place / "reading.json").exists():
            key = json.loads((place / "reading.json").read_text())["key"]
            if key["cohort"] == cohort and set(key["pools"].values()) <= set(pools):
                found.append(place)
    return found


def _headline(reading: "Reading") -> dict[str, str]:
    from xraysynth.report.readers import sentences

    return dict(sentences(reading))


def _publish(this: Job, place: Path) -> dict[str, str]:
    """Copy the files to the folder that carries the reading's name."""
    publish(FILES, source=this.folder, target=place)
    return {"page": str(place / "review.html"), "results": str(place / "results.csv")}
