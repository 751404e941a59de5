"""Look at people's files: what they are, what is wrong with them, and the command that runs a study.

A PATH is a folder of images, a table that lists them, a folder of DICOM files, a MedMNIST file, or a zip
or tar archive of these; several are joined into one study. Nothing needs to be set up. Headers of all
images are read, and the pixels of as many as take half a minute (--all: of every image). Writes a page
with contact sheets, summary.json and problems.csv below paths.output/inspections/<name>-<key>; archives
are unpacked there. Options such as classes=[…] or source.table.columns.label=… go on to the study.
Ends with exit code 0 if a study can run, and with 1 if none can.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xraysynth.composition import compose
from xraysynth.config import Config
from xraysynth.data.inspection.classes import ClassChoice
from xraysynth.data.inspection.looking import Eyes
from xraysynth.data.inspection.proposals import propose
from xraysynth.data.inspection.rehearsal import Need
from xraysynth.errors import ConfigError
from xraysynth.files import write_atomically, write_csv
from xraysynth.jobs.job import ResultLine
from xraysynth.report.inspection import Command, render_inspection
from xraysynth.seeds import short_digest
from xraysynth.stages._inspect.choices import name_sources, slug
from xraysynth.stages._inspect.gathering import Gathered, gather, list_rows
from xraysynth.stages._inspect.neighbours import format_join_hint
from xraysynth.stages._inspect.opening import open_path
from xraysynth.stages._inspect.page import (
    Findings,
    build_page,
    format_summary,
    list_facts,
    problem_rows,
)
from xraysynth.stages._inspect.patient_sources import describe_patients
from xraysynth.stages._inspect.planning import (
    StudyPlan,
    choose_study_classes,
    rehearse_study,
    with_classes,
    without_study,
)
from xraysynth.stages._inspect.problems import find_problems

SECTIONS = (
    "classes",
    "size_px",
    "missing_patient_id",
    "acknowledge_confounding",
    "source",
    "screening",
    "splits",
    "paths",
)
"""The options that this stage reads."""

MAX_NAME_LENGTH = 60

LONG_ENTRIES = ("facts", "commands")
"""Entries of the summary that the last line on stdout leaves to summary.json."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        paths: The paths to be inspected together.
        overrides: Options of the study.
        everything: Whether the pixels of all images are decoded.
    """

    paths: Sequence[Path]
    overrides: Sequence[str] = ()
    everything: bool = False

    @property
    def name(self) -> str:
        """A name made of those of the paths, which a folder and a shell take without quotes."""
        return slug("-".join(path.resolve().name for path in self.paths))[:MAX_NAME_LENGTH]

    @property
    def has_classes(self) -> bool:
        """Whether the classes are given."""
        return any(override.startswith("classes=") for override in self.overrides)


_OVERRIDE = re.compile(r"[+~]*[\w.-]+(@[\w.]+)?=")


def parse_arguments(arguments: Sequence[str]) -> Request:
    """Tell paths from options; a word with "=" is a path if there is something at it.

    Raises:
        ConfigError: There is no path, or an unknown switch.
    """
    paths, overrides = [], []
    for word in arguments:
        if word.startswith("-") and word != "--all":
            raise ConfigError(
                f"xraysynth inspect has no switch {word}; it takes paths, --all and option=value"
            )
        path = Path(word).expanduser()
        is_option = _OVERRIDE.match(word) and not os.path.lexists(path)
        if is_option:
            overrides.append(word)
        elif word != "--all":
            paths.append(path)
    if not paths:
        raise ConfigError("name what to inspect: xraysynth inspect PATH")
    return Request(paths, overrides, everything="--all" in arguments)


def run(request: Request) -> ResultLine:
    """Inspect the paths, print a summary, and write the page.

    Raises:
        DataNotFoundError: There is nothing at a path that a source reads; the message says what is there.
        ManifestError: A table cannot be read as a list of images.
    """
    output = compose(
        [word for word in request.overrides if word.startswith("paths.output=")]
    ).output
    needs = _output_needs(request, output)
    output = Path(str(needs[0].value)) if needs else output
    key = short_digest([str(path.resolve()) for path in request.paths])
    folder = output / "inspections" / f"{request.name}-{key}"
    proposals = [propose(open_path(path, folder)) for path in request.paths]
    plan = StudyPlan(request.name, name_sources(proposals), request.overrides, needs=needs)
    config = plan.compose()
    sources = config.sources()
    rows, problems = list_rows(sources)
    with Eyes(len(rows)) as eyes:
        gathered = gather(sources, rows, everything=request.everything, eyes=eyes)
        findings = _judge(plan, gathered, config, request, problems)
        return _write(findings, folder, eyes)


def _output_needs(request: Request, output: Path) -> list[Need]:
    """The option that keeps results out of an inspected folder, where they would be taken for its images."""
    if any(override.startswith("paths.output=") for override in request.overrides):
        return []
    for path in request.paths:
        folder = path.resolve()
        if folder.is_dir() and output.resolve().is_relative_to(folder):
            reason = f"results in {output} would lie among the images of {folder}"
            outside = folder.parent / f"{slug(folder.name)}_outputs"
            return [Need("paths.output", str(outside), reason)]
    return []


def _judge(
    plan: StudyPlan,
    gathered: Gathered,
    config: Config,
    request: Request,
    problems: Sequence[str],
) -> Findings:
    """Choose the classes, rehearse the preparation, and write the commands.

    Args:
        plan: The study as far as its sources are known.
        gathered: The images.
        config: The configuration of the plan.
        request: What the command line asks for.
        problems: Why images have no labels; empty if they have.
    """
    choice = choose_study_classes(gathered, config, is_given=request.has_classes)
    obstacles = _label_obstacles(problems, gathered, config) or _class_obstacles(choice, config)
    rehearsal, commands = without_study(gathered), _join_commands(choice, request, problems)
    if not obstacles:
        plan = with_classes(plan, gathered, choice, config)
        rehearsal = rehearse_study(plan, gathered, plan.compose())
        plan = replace(plan, needs=[*plan.needs, *rehearsal.needs])
        obstacles, commands = rehearsal.obstacles, plan.commands()
    return Findings(
        name=", ".join(path.resolve().name for path in request.paths),
        contents=[source.proposal.description for source in plan.sources],
        gathered=gathered,
        choice=choice,
        rehearsal=rehearsal,
        groups=find_problems(gathered, rehearsal),
        commands=commands if len(choice.classes) < 2 or not obstacles else [],
        obstacles=obstacles,
        notes=_notes(plan, gathered),
        patients=describe_patients(gathered, rehearsal),
    )


def _notes(plan: StudyPlan, gathered: Gathered) -> list[str]:
    """What the owner should know of each path, and how its source was read."""
    notes = []
    for named, source in zip(plan.sources, gathered.sources, strict=True):
        prefix = f"{named.proposal.path.name}: " if len(plan.sources) > 1 else ""
        notes += [prefix + note for note in named.proposal.notes]
        notes += filter(None, [getattr(source, "note", "")])
    return notes


def _label_obstacles(problems: Sequence[str], gathered: Gathered, config: Config) -> list[str]:
    """Why images without labels make no study, and whether they are too few besides."""
    count, needed = len(gathered.used_rows()), 2 * config.splits.minimum_per_class
    obstacles = [*problems]
    if problems and count < needed:
        obstacles.append(
            f"{count} images are too few: a study needs {needed} or more of two classes "
            "(splits.minimum_per_class of each)"
        )
    return obstacles


def _class_obstacles(choice: ClassChoice, config: Config) -> list[str]:
    """Why these classes make no study."""
    if len(choice.classes) > 1:
        return []
    minimum = config.splits.minimum_per_class
    held = ", ".join(f"{name} ({count:,})" for name, count in choice.counts.items()) or "no image"
    if len(choice.counts) == 1:
        (name,) = choice.counts
        return [
            f"all images are of one class, {name}, and a classifier needs two: join them to others, or "
            "use them as an external test set (test_source)"
        ]
    return [
        f"a study needs two classes of {minimum} images or more (splits.minimum_per_class), and there are "
        f"{held}; add images, or join them to others"
    ]


def _join_commands(choice: ClassChoice, request: Request, problems: Sequence[str]) -> list[Command]:
    """The command that joins images of one class to others."""
    if problems or not choice.counts:
        return []
    text = format_join_hint(request.paths, list(choice.counts))
    return [Command("To join them to others, which must hold another class", text)]


def _write(findings: Findings, folder: Path, eyes: Eyes) -> ResultLine:
    """Write the page, the table of problems and the summary, and print the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    page, problems = folder / "inspection.html", folder / "problems.csv"
    inspection = build_page(findings, eyes, problems.name)
    write_csv(problem_rows(findings.gathered, findings.groups), problems)
    write_atomically(page, render_inspection(inspection).encode())
    summary = _summarise(findings)
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1).encode())
    print(format_summary(findings, page), flush=True)
    short = {name: value for name, value in summary.items() if name not in LONG_ENTRIES}
    return {"stage": "inspect", "state": "done", **short, "page": str(page)}


def _summarise(findings: Findings) -> dict[str, Any]:
    """The findings as plain values."""
    return {
        "can_run": not findings.obstacles,
        "contents": list(findings.contents),
        "images": len(findings.gathered.rows),
        "used": len(findings.rehearsal.table),
        "classes": {name: findings.choice.counts.get(name, 0) for name in findings.choice.classes},
        "looked_at": len(findings.gathered.looks),
        "facts": list_facts(findings),
        "problems": {
            f"{group.status}: {group.title}": len(group.numbers) for group in findings.groups
        },
        "obstacles": list(findings.obstacles),
        "command": findings.commands[0].text if findings.commands else "",
        "commands": [command.text for command in findings.commands],
    }
