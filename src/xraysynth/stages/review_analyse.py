"""Analyse a reader study: join the readers' exports with the answer key, and write a page.

Reads review.exports, the folder or files that the readers sent back, and
paths.output/reviews/<review.name>/owner/key.json; no image and no cohort is needed. Exports of another
study, changed rows, and two different exports of one reader and session are refused by name. An
unfinished export counts with the answers that it has. Writes page, tables and joined answers to
paths.output/reviews/<review.name>/analysis/, and the study's report shows the results too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xraysynth import tracking
from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.files import copy_atomically, write_csv
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
"""Raised whenever a measure is added or changed, so that old answers are analysed again."""


@dataclass(frozen=True)
class AnalysisResult:
    """An analysed reader study.

    Attributes:
        readers: Pseudonyms of the readers whose answers came back.
        answers: Number of answers, without those for calibration.
        unfinished: Names of the exports of readers who have not finished.
        headline: What each generator's images were taken for, in a sentence.
    """

    readers: list[str]
    answers: int
    unfinished: list[str]
    headline: dict[str, str]


def run(workspace: Workspace) -> ResultLine:
    """Analyse the readers' answers, unless they are analysed.

    Returns:
        The job's result, with the paths of the page ("page") and of the table ("results").

    Raises:
        ConfigError: If review.exports names nothing.
        XraysynthError: If the key is missing, or an export does not belong to it.
    """
    from xraysynth.evaluation.reader_study.exports import load_exports

    config = workspace.config
    folder = analysis_folder(config.output, config.review.name)
    key_path = folder.parent / "owner" / "key.json"
    if not key_path.exists():
        raise DataNotFoundError(
            f"{key_path}: there is no such key, which only the study's owner has; check review.name, or "
            f"write the kits and their key with: {workspace.command('review build')}"
        )
    key = AnswerKey.read(key_path)
    if not config.review.export_paths:
        raise ConfigError(
            "review.exports names the folder or files that the readers sent back, and none is given; for "
            f"example {workspace.command('review analyse', 'review.exports=answers/')}"
        )
    exports = load_exports(config.review.export_paths, key)
    identity = {
        "key": digest([key.study, sorted(key.kits)]),
        "answers": digest([export.rows for export in exports]),
        "measures": MEASURES_VERSION,
    }
    job = Job("review_analyse", identity, config.output, outputs=FILES)
    result = workspace.run_job(job, partial(work, workspace, key, exports, job))
    copy_atomically(FILES, source=job.folder, target=folder)
    return result | {"page": str(folder / "review.html"), "results": str(folder / "results.csv")}


def analysis_folder(output: Path, name: str) -> Path:
    """Return the folder of the analysis of a reader study, by the study's review.name."""
    return output / "reviews" / name / "analysis"


def work(
    workspace: Workspace, key: AnswerKey, exports: Sequence["Export"], job: Job
) -> AnalysisResult:
    """Join answers and key, analyse them, and write page and tables to the job's folder.

    Args:
        workspace: The configuration.
        key: The answer key of the reader study.
        exports: The answers, one export per reader and session.
        job: The job whose folder takes the files.
    """
    from xraysynth.evaluation.reader_study import reading
    from xraysynth.evaluation.reader_study.analysis import analyse
    from xraysynth.evaluation.reader_study.exports import join_with_key
    from xraysynth.report.page import render_reading
    from xraysynth.report.readers import summary_sentences

    answers = join_with_key(exports, key)
    question_ids = [question.id for question in key.questions]
    analysis = analyse(answers, classes=key.classes, question_ids=question_ids)
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    command = workspace.command("review analyse")
    new_reading = reading.build_reading(
        key, exports, answers, analysis, created=created, command=command
    )
    reading.save_reading(new_reading, job.folder)
    write_csv(answers, job.folder / "answers.csv")
    # The page is made from the files, as the study's report will read them.
    saved_reading = reading.load_reading(job.folder)
    (job.folder / "review.html").write_text(render_reading(saved_reading), encoding="utf-8")
    with tracking.open_run(workspace.config, job) as run:
        tracking.log_reader_study(run, analysis.results, analysis.marks)
    return AnalysisResult(
        readers=sorted({export.reader for export in exports}),
        answers=len(answers),
        unfinished=[export.path.name for export in exports if not export.is_complete],
        headline=dict(summary_sentences(saved_reading)),
    )
