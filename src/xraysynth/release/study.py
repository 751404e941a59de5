"""The study part of a release: report, tables, configuration, versions, and how to repeat it."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from xraysynth.privacy import Scrubber, without_real_images
from xraysynth.records import JsonObject
from xraysynth.release.cards import TAGS, RealPictures, StudyCard, licence_header, write_card
from xraysynth.release.inputs import ReleasedGenerator, StudyInfo, resolve_release_licence

PRIVATE_OVERRIDES = ("release.", "paths.", "tracking")
"""Starts of options that concern this machine or this release, and not the study."""


@dataclass(frozen=True)
class StudyRecord:
    """A finished study.

    Attributes:
        report: Folder of its report.
        config: Its public options.
        overrides: The options with which the study was started.
        environment: Versions and platform with which the report was made, as in its run.json.
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
    """Writes the report and its tables, the configuration, the versions, and a card.

    Args:
        folder: Folder of this part.
        study_info: Facts about the study.
        generators: The generators of the study.
        study: The finished study.
        scrubber: Removes paths and names of this machine.
        with_pictures: Whether pictures may stay in the report. Pictures of real images stay only
            where all of them are simulated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator_names = [released.generator.name for released in generators]
    real_pictures = _choose_real_pictures(study_info, with_pictures=with_pictures)
    page = (study.report / "report.html").read_text(encoding="utf-8")
    if real_pictures != "kept":
        page = without_real_images(page, generator_names if with_pictures else [])
    _write_text(folder / "report.html", scrubber.scrub_html(page))
    for path in study.report.glob("*.csv"):
        _write_text(folder / path.name, scrubber.scrub_text(path.read_text(encoding="utf-8")))
    config = scrubber.scrub_values(study.config)
    _write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    _write_text(folder / "versions.txt", _format_versions(study.environment))
    card = StudyCard(
        study_info=study_info,
        generators=generator_names,
        has_measures=(folder / "measures.csv").exists(),
        real_pictures=real_pictures,
        command=_format_command(study.overrides, scrubber),
        licence=resolve_release_licence(study_info, generators, with_sources=True),
    )
    write_card(folder, _build_header(card), card)


def _choose_real_pictures(study_info: StudyInfo, *, with_pictures: bool) -> RealPictures:
    if not with_pictures:
        return "none"
    return "kept" if study_info.simulated else "removed"


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _build_header(card: StudyCard) -> JsonObject:
    """Returns the fields that the Hub reads from the head of a study's card."""
    return {
        **licence_header(card.licence),
        "pretty_name": f"{card.study_info.study}: a study with xraysynth",
        "tags": ["study", *TAGS],
        "viewer": False,
    }


def _format_command(overrides: Iterable[str], scrubber: Scrubber) -> str:
    """Returns the command that repeats the study, without private options and values."""
    words = ["xraysynth", "study"]
    for override in overrides:
        if not override.startswith(PRIVATE_OVERRIDES):
            name, _, value = override.partition("=")
            words.append(f"{name}={scrubber.scrub_option(name, value)}")
    return shlex.join(words)


def _format_versions(environment: JsonObject) -> str:
    """Returns one line with Python, platform and commit, and one line per package."""
    commit = f", commit {environment['git']}" if environment.get("git") else ""
    python, platform = environment.get("python", "?"), environment.get("platform", "?")
    lines = [f"# python {python}, {platform}{commit}"]
    lines += [f"{name}=={version}" for name, version in environment.get("versions", {}).items()]
    return "\n".join(lines) + "\n"
