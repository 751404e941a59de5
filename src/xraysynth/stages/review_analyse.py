"""What readers said: their exports joined with the answer key, checked, and turned into a page.

Reads review.exports, a folder or files that came back, and paths.output/reviews/<review.name>/
owner/key.json; no image and no cohort is needed. Exports of another study, changed rows, and two
different exports of one reader and session are refused by name; an unfinished one counts as far as
it goes. Writes page, tables and joined answers to paths.output/reviews/<review.name>/analysis/, and the
study's report shows what belongs to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xraysynth import tracking
from xraysynth.errors import ConfigError
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.files import copy_atomically
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.seeds import digest
from xraysynth.stages._workspace import Workspace

if TYPE_CHECKING:
    from xraysynth.evaluation.reader_study.exports import Export

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
MEASURES_VERSION = 2
"""Raised whenever a measure is added or changed, so that old answers are analysed anew."""


@dataclass(frozen=True)
class AnalysisResult:
    """Who answered how much, files of readers who have not finished, and each generator's verdict."""

    readers: list[str]
    answers: int
    unfinished: list[str]
    headline: dict[str, str]


def run(workspace: Workspace) -> ResultLine:
    """Analyse what came back, or find it analysed."""
    from xraysynth.evaluation.reader_study.exports import load_exports

    config = workspace.config
    place = analysis_folder(config.output, config.review.name)
    key = AnswerKey.read(place.parent / "owner" / "key.json")
    if not config.review.export_paths:
        raise ConfigError(
            "review.exports names the folder or files that the readers sent back; for example "
            f"xraysynth review analyse review.name={config.review.name} review.exports=answers/"
        )
    exports = load_exports(config.review.export_paths, key)
    identity = {
        "key": digest([key.study, sorted(key.kits)]),
        "answers": digest([export.rows for export in exports]),
        "measures": MEASURES_VERSION,
    }
    this = Job("review_analyse", identity, config.output, outputs=FILES)
    result = workspace.run_job(this, partial(work, workspace, key, exports, this))
    copy_atomically(FILES, source=this.folder, target=place)
    return result | {"page": str(place / "review.html"), "results": str(place / "results.csv")}


def analysis_folder(output: Path, name: str) -> Path:
    """Where the analysis of a reading lies."""
    return output / "reviews" / name / "analysis"


def work(
    workspace: Workspace, key: AnswerKey, exports: Sequence["Export"], job: Job
) -> AnalysisResult:
    """Join, analyse, and write page and tables."""
    from xraysynth.evaluation.reader_study import reading
    from xraysynth.evaluation.reader_study.analysis import analyse
    from xraysynth.evaluation.reader_study.exports import join_with_key
    from xraysynth.report.page import render_reading
    from xraysynth.report.readers import summary_sentences

    answers, command = join_with_key(exports, key), workspace.command("review analyse")
    asked = [question.id for question in key.questions]
    analysis = analyse(answers, classes=key.classes, question_ids=asked)
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    reading.save_reading(
        reading.build_reading(key, exports, answers, analysis, created=created, command=command),
        job.folder,
    )
    answers.to_csv(job.folder / "answers.csv", index=False)
    written = reading.load_reading(job.folder)
    (job.folder / "review.html").write_text(render_reading(written), encoding="utf-8")
    with tracking.open_run(workspace.config, job) as logged:
        tracking.log_reader_study(logged, analysis.results, analysis.marks)
    return AnalysisResult(
        readers=sorted({export.reader for export in exports}),
        answers=len(answers),
        unfinished=[export.path.name for export in exports if not export.is_complete],
        headline=dict(summary_sentences(written)),
    )
