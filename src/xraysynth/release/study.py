"""A study as it is released: report, tables, configuration, versions, and how to repeat it."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from xraysynth.privacy import Scrubber, without_real_images
from xraysynth.records import JsonObject
from xraysynth.release.cards import TAGS, StudyCard, licence_header, write_card
from xraysynth.release.inputs import ReleasedGenerator, StudyInfo, resolve_release_licence


@dataclass(frozen=True)
class StudyRecord:
    """The folder of a study's report, its public options, its overrides, and what it was run with.

    `environment` is that of the report's run.json.
    """

    report: Path
    config: JsonObject
    overrides: Sequence[str]
    environment: JsonObject


def write_study(
    folder: Path,
    study_info: StudyInfo,
    generators: Sequence[ReleasedGenerator],
    *,
    study: StudyRecord,
    scrubber: Scrubber,
    with_pictures: bool,
) -> None:
    """The report and its tables, the configuration, versions, and a card that says how to repeat it.

    Pictures of real images stay only where all of them are simulated; without `with_pictures` none
    do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, pictures = (study.report / "report.html").read_text(encoding="utf-8"), "kept"
    if not study_info.simulated or not with_pictures:
        shown = [m.generator.name for m in generators] if with_pictures else []
        page, pictures = without_real_images(page, shown), "removed" if with_pictures else "none"
    (folder / "report.html").write_text(scrubber.scrub_html(page), encoding="utf-8")
    for path in study.report.glob("*.csv"):
        text = scrubber.scrub_text(path.read_text(encoding="utf-8"))
        (folder / path.name).write_text(text, encoding="utf-8")
    options = yaml.safe_dump(
        scrubber.scrub_values(study.config), sort_keys=False, allow_unicode=True
    )
    (folder / "config.yaml").write_text(options, encoding="utf-8")
    (folder / "versions.txt").write_text(_format_versions(study.environment), encoding="utf-8")
    licence = resolve_release_licence(study_info, generators, with_sources=True)
    header = {
        **licence_header(licence),
        "pretty_name": f"{study_info.study}: a study with xraysynth",
        "tags": ["study", *TAGS],
        "viewer": False,
    }
    card = StudyCard(
        study_info=study_info,
        generators=[m.generator.name for m in generators],
        has_measures=(folder / "measures.csv").exists(),
        real_pictures=pictures,
        command=_format_command(study.overrides, scrubber),
        licence=licence,
    )
    write_card(folder, header, card)


def _format_command(overrides: Iterable[str], scrubber: Scrubber) -> str:
    private = ("release.", "paths.", "tracking")
    kept = [text.partition("=") for text in overrides if not text.startswith(private)]
    words = [f"{name}={scrubber.scrub_option(name, value)}" for name, _, value in kept]
    return shlex.join(["xraysynth", "study", *words])


def _format_versions(environment: JsonObject) -> str:
    versions = environment.get("versions", {})
    head = f"# python {environment.get('python', '?')}, {environment.get('platform', '?')}"
    git = f", commit {environment['git']}" if environment.get("git") else ""
    return "\n".join([head + git, *(f"{name}=={v}" for name, v in versions.items())]) + "\n"
