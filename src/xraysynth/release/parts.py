"""The parts of a release: a model, a data set and a study, each a folder with its card."""

import json
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from xraysynth import __version__
from xraysynth.errors import DataNotFoundError, PoolError
from xraysynth.generation.generators.base import Generator, Learner
from xraysynth.generation.generators.sd_lora import BASE, WEIGHTS
from xraysynth.generation.generators.stable_diffusion import SCHEDULERS
from xraysynth.generation.pool import originals
from xraysynth.manifest import Manifest
from xraysynth.privacy import Scrubber, without_real
from xraysynth.records import sha256_bytes
from xraysynth.release import cards, hub
from xraysynth.release.croissant import write_croissant
from xraysynth.release.images import write_images
from xraysynth.release.licences import Licence, licence
from xraysynth.release.origin import EMBEDDED, adapter_settings, origin, seen_digest

CARD, SETTINGS = "README.md", "adapter_config.json"

USES = (
    "Research on whether synthetic radiographs help to train classifiers that are tested on real ones.",
    "Research on generators: fidelity, diversity, memorisation, and telling synthetic images from real.",
)
LIMITS = (
    "Not for diagnosis, not for teaching people to read radiographs, and not to be passed off as "
    "images of patients.",
    "A label is the class that was asked for; no radiologist has confirmed that it can be seen.",
    "Scores of a classifier on these images say nothing of its scores on patients: test on real ones.",
    "What the generator has learned comes with it: its scanners, populations and labelling errors.",
)


@dataclass(frozen=True, kw_only=True)
class Background:
    """What all parts share. `trained` is `origin.trained_on`; `bound` are sources whose terms were
    acknowledged; `licence` is the one that was given, or ""; `repo` is owner/name, or "".
    """

    study: str
    classes: Sequence[str]
    simulated: Sequence[str]
    trained: Mapping[str, Any]
    bound: Sequence[str] = ()
    licence: str = ""
    notes: Sequence[str] = ()
    repo: str = ""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A generator of the study and what it made.

    `learned` is its record of images seen (`mixing.learned_from`), `evaluated` the result of an
    evaluation of `images`, `weights` the folder of a LoRA that the study taught, `taught` the result
    of that; each is empty or None where there is none.
    """

    key: str
    generator: Generator
    images: Manifest | None = None
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    refusals: Mapping[str, Any] = field(default_factory=dict)
    learned: Mapping[str, Any] = field(default_factory=dict)
    evaluated: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    taught: Mapping[str, Any] = field(default_factory=dict)

    @property
    def derived(self) -> bool:
        """True when it has learned from the study's images, or may have."""
        return bool(self.learned) or isinstance(self.generator, Learner)

    def learned_of(self, about: Background) -> str:
        """What it has learned from, in words."""
        if not self.derived:
            return "It has seen none of the study's real images."
        if not self.learned:
            return "That is not recorded; it may have seen real images of this study and of others."
        if self.saw(about):
            return (
                f"Radiographs of {about.trained['patients']} patients: the real train split of the study. "
                "Neither its images nor ids of its patients are part of this release."
            )
        images, patients = (len(self.learned.get(name, ())) for name in ("sha256", "patients"))
        return (
            f"{images} radiographs of {patients} patients, which are not this study's train split."
        )

    def saw(self, about: Background) -> bool:
        """True when it has learned from exactly the study's train split."""
        return bool(self.learned) and seen_digest(self.learned) == about.trained["digest"]


def weight_files(folder: Path) -> dict[str, Path]:
    """The LoRA in a folder, or one per class: name in the release -> file."""
    files = sorted([*folder.glob(WEIGHTS), *folder.glob(f"*/{WEIGHTS}")])
    if not files:
        raise DataNotFoundError(f"no {WEIGHTS} in {folder}; make it with `xraysynth finetune`")
    return {path.relative_to(folder).as_posix(): path for path in files}


def write_model(folder: Path, about: Background, made: Made, *, prompt: str) -> None:
    """The weights as they were taught, their settings, and a model card."""
    assert made.weights is not None
    generator: Any = made.generator
    files = [_copied(name, path, folder) for name, path in weight_files(made.weights).items()]
    lesson = made.weights / BASE
    recipe: dict[str, Any] = {}
    if lesson.is_file():  # by it, xraysynth knows the model that the LoRA belongs to
        shutil.copyfile(lesson, folder / BASE)
        recipe = json.loads(lesson.read_text()).get("recipe", {})
    source = origin(generator)
    terms = licence(_licences(about, [made]), given=about.licence)
    name, options = SCHEDULERS[generator.scheduler]
    header = {
        **cards.licence_header(terms),
        **({"base_model": source.model} if source.on_hub else {}),
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["lora", "peft", "diffusers", *cards.TAGS],
    }
    card = cards.render(
        "model",
        header,
        **_shared(about, made, terms),
        base={"embedded": source.model == EMBEDDED},
        files=files,
        key=made.key,
        prompt=prompt,
        scale=generator.scale,
        steps=generator.steps,
        guidance=generator.guidance,
        scheduler={"name": name, "options": options},
        terminal=bool(recipe.get("zero_terminal_snr")),
        recipe=recipe,
        taught=made.taught,
        seen=seen_digest(made.learned),
        trained=about.trained,
    )
    (folder / CARD).write_text(card, encoding="utf-8")


def _copied(name: str, path: Path, folder: Path) -> dict[str, str]:
    """A file copied and compared, its adapter settings beside it; their names and its SHA-256."""
    target, data = folder / name, path.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    sha256 = sha256_bytes(data)
    if sha256_bytes(target.read_bytes()) != sha256:
        raise PoolError(f"{target} differs from {path}; the disk may be damaged")
    settings = target.with_name(SETTINGS)
    settings.write_text(json.dumps(adapter_settings(path), indent=1) + "\n", encoding="utf-8")
    beside = settings.relative_to(folder).as_posix()
    return {"name": name, "settings": beside, "sha256": sha256}


def write_data(
    folder: Path, about: Background, made: Made, *, with_originals: bool, published: datetime
) -> None:
    """The images with their table, Croissant metadata and a data card."""
    assert made.images is not None
    images, source = made.images, origin(made.generator)
    terms = licence(_licences(about, [made]), given=about.licence)
    write_images(images, source.png_text(terms.name), folder)
    kept = _write_originals(images, folder / "originals") if with_originals else 0
    shared = _shared(about, made, terms)
    header = {
        **cards.licence_header(terms),
        "pretty_name": f"{about.study}: synthetic chest radiographs by {source.name}",
        "task_categories": ["text-to-image", "image-classification"],
        "size_categories": [cards.size_category(len(images))],
        "annotations_creators": ["machine-generated"],
        "tags": cards.TAGS,
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "train/**"}],
            }
        ],
    }
    limits = [*LIMITS, *about.notes]
    card = cards.render(
        "data",
        header,
        **shared,
        images=len(images),
        counts=images.counts(),
        pool=images.table["pool"].iloc[0],
        originals=bool(kept),
        outcomes=made.outcomes,
        outcome_names=sorted({name for found in made.outcomes.values() for name in found}),
        refusals=cards.refused(made.refusals),
        uses=USES,
        limits=limits,
        lesson=made.learned_of(about),
        trained=about.trained if made.saw(about) else None,
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    write_croissant(
        folder,
        name=f"{about.study}-{source.name}",
        description=f"Synthetic chest radiographs by {source.title}; not for diagnosis.",
        licence=terms.name,
        url=hub.url(about.repo, folder.name),
        version=__version__,
        published=published,
        rai={
            "personal_sensitive_information": [_personal(about, made, shared["privacy"])],
            "data_use_cases": list(USES),
            "data_limitations": limits,
            "data_biases": [LIMITS[-1]],
            "data_collection": f"Drawn by {source.title} from prompts; nothing was collected.",
        },
    )


def _write_originals(images: Manifest, folder: Path) -> int:
    """The files as the generator returned them, where they were kept; how many."""
    files = [path for path in originals(images) if path.parent.name == "archive"]
    for path in files:
        folder.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    return len(files)


def _personal(about: Background, made: Made, privacy: Mapping[str, Any]) -> str:
    figures = [
        f"{row['metric']} ({row.get('encoder', '')}) {cards.figure(row.get('value'))}"
        for row in privacy["rows"]
    ]
    return (
        f"The images show no person. What their generator has learned from: {made.learned_of(about)} "
        f"Memorisation: {'; '.join(figures) or privacy['reason']}."
    )


def write_study(
    folder: Path,
    about: Background,
    made: Sequence[Made],
    *,
    report: Path,
    config: Mapping[str, Any],
    overrides: Iterable[str],
    environment: Mapping[str, Any],
    scrubber: Scrubber,
    with_pictures: bool,
) -> None:
    """The report and its tables, the configuration, versions, and a card that says how to repeat it.

    Pictures of real images stay only where all of them are simulated; without `with_pictures` none
    do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, pictures = (report / "report.html").read_text(encoding="utf-8"), "kept"
    if not about.simulated or not with_pictures:
        shown = [m.generator.name for m in made] if with_pictures else []
        page, pictures = without_real(page, shown), "removed" if with_pictures else "none"
    (folder / "report.html").write_text(scrubber.html(page), encoding="utf-8")
    for path in report.glob("*.csv"):
        text = scrubber.text(path.read_text(encoding="utf-8"))
        (folder / path.name).write_text(text, encoding="utf-8")
    options = yaml.safe_dump(scrubber.values(config), sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(options, encoding="utf-8")
    (folder / "versions.txt").write_text(_versions(environment), encoding="utf-8")
    terms = licence(_licences(about, made, with_sources=True), given=about.licence)
    header = {
        **cards.licence_header(terms),
        "pretty_name": f"{about.study}: a study with xraysynth",
        "tags": ["study", *cards.TAGS],
        "viewer": False,
    }
    card = cards.render(
        "study",
        header,
        study=about.study,
        generators=[m.generator.name for m in made],
        classes=about.classes,
        simulated=about.simulated,
        trained=about.trained,
        notes=about.notes,
        bound=about.bound,
        measures=(folder / "measures.csv").exists(),
        real_pictures=pictures,
        command=_command(overrides, scrubber),
        licence=terms,
    )
    (folder / CARD).write_text(card, encoding="utf-8")


def _command(overrides: Iterable[str], scrubber: Scrubber) -> str:
    private = ("release.", "paths.", "tracking")
    kept = [text.partition("=") for text in overrides if not text.startswith(private)]
    words = [f"{name}={scrubber.option(name, value)}" for name, _, value in kept]
    return shlex.join(["xraysynth", "study", *words])


def _versions(environment: Mapping[str, Any]) -> str:
    versions = environment.get("versions", {})
    head = f"# python {environment.get('python', '?')}, {environment.get('platform', '?')}"
    git = f", commit {environment['git']}" if environment.get("git") else ""
    return "\n".join([head + git, *(f"{name}=={v}" for name, v in versions.items())]) + "\n"


def _shared(about: Background, made: Made, terms: Licence) -> dict[str, Any]:
    """What the cards of a model and of a data set have in common."""
    return {
        "study": about.study,
        "origin": origin(made.generator),
        "simulated": about.simulated,
        "privacy": cards.privacy(made.evaluated),
        "notes": about.notes,
        "bound": about.bound if made.derived else (),
        "licence": terms,
    }


def _licences(
    about: Background, made: Sequence[Made], *, with_sources: bool = False
) -> dict[str, str]:
    """What a part comes from -> its licence: generators, and images that were learned from."""
    cards_of = {m.generator.name: m.generator.card for m in made}
    found = {f"generator {name}: {card.title}": card.licence for name, card in cards_of.items()}
    if with_sources or any(m.saw(about) for m in made):
        found |= {f"data set {s['name']}": s["licence"] for s in about.trained["sources"]}
    unknown = [m.generator.name for m in made if m.derived and not m.saw(about)]
    return found | {f"images that {name} has learned from": "not recorded" for name in unknown}
