"""What a release is about: a study, and each of its generators with what it made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.generation.generators.base import FineTuning, Generator, Learner
from xraysynth.generation.lora.folder import WEIGHTS
from xraysynth.generation.pool import Refusals
from xraysynth.manifest import Manifest
from xraysynth.records import JsonObject, LearningRecord, sha256_bytes, to_json
from xraysynth.release.licences import Licence, licence
from xraysynth.release.origin import TrainSplit, seen_digest
from xraysynth.release.recipe import ReleaseRecipe
from xraysynth.seeds import digest


@dataclass(frozen=True, kw_only=True)
class Background:
    """What all parts share. `bound` are sources whose terms were acknowledged; `licence` is the one
    that was given, or ""; `repo` is owner/name, or "".
    """

    study: str
    classes: Sequence[str]
    simulated: Sequence[str]
    trained: TrainSplit
    bound: Sequence[str] = ()
    licence: str = ""
    notes: Sequence[str] = ()
    repo: str = ""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A generator of the study and what it made.

    `learned` is its record of images seen (`leakage.learned_from`) and `evaluated` the result of an
    evaluation of `images` as its run.json has it. `weights` is the folder of a LoRA that the study
    taught, and `taught` how. Each is empty or None where there is none.
    """

    key: str
    generator: Generator
    images: Manifest | None = None
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)
    learned: LearningRecord | None = None
    evaluated: JsonObject = field(default_factory=dict)
    weights: Path | None = None
    taught: FineTuning = field(default_factory=FineTuning)

    @property
    def derived(self) -> bool:
        """True when it has learned from the study's images, or may have."""
        return self.learned is not None or isinstance(self.generator, Learner)

    def learned_of(self, about: Background) -> str:
        """What it has learned from, in words."""
        if not self.derived:
            return "It has seen none of the study's real images."
        if self.learned is None:
            return "That is not recorded; it may have seen real images of this study and of others."
        if self.saw(about):
            return (
                f"Radiographs of {about.trained.patients} patients: the real train split of the study. "
                "Neither its images nor ids of its patients are part of this release."
            )
        images, patients = len(self.learned.sha256), len(self.learned.patients)
        return (
            f"{images} radiographs of {patients} patients, which are not this study's train split."
        )

    @property
    def seen_digest(self) -> str:
        """One digest over the images that it is known to have learned from."""
        return seen_digest(self.learned.sha256 if self.learned else ())

    def saw(self, about: Background) -> bool:
        """True when it has learned from exactly the study's train split."""
        return self.learned is not None and self.seen_digest == about.trained.digest

    def digests(self) -> dict[str, str | dict[str, str]]:
        """What decides the parts of this generator, as digests."""
        weights = weight_files(self.weights) if self.weights else {}
        generator = self.generator
        described = [asdict(generator.card), isinstance(generator, Learner), generator.name]
        return {
            "weights": {name: sha256_bytes(path.read_bytes()) for name, path in weights.items()},
            "images": self.images.digest() if self.images is not None else "",
            "pool": digest([self.outcomes, to_json(self.refusals), to_json(self.learned) or {}]),
            "generator": digest(described),
            "evaluated": digest(self.evaluated),
        }


def weight_files(folder: Path) -> dict[str, Path]:
    """The LoRA in a folder, or one per class: name in the release -> file."""
    files = sorted([*folder.glob(WEIGHTS), *folder.glob(f"*/{WEIGHTS}")])
    if not files:
        raise DataNotFoundError(f"no {WEIGHTS} in {folder}; make it with `xraysynth finetune`")
    return {path.relative_to(folder).as_posix(): path for path in files}


def licence_of(about: Background, made: Sequence[Made], *, with_sources: bool = False) -> Licence:
    """The licence that was given, or that of generators and of images that were learned from."""
    cards = {m.generator.name: m.generator.card for m in made}
    licences = {f"generator {name}: {card.title}": card.licence for name, card in cards.items()}
    if with_sources or any(m.saw(about) for m in made):
        licences |= {f"data set {source.name}": source.licence for source in about.trained.sources}
    unknown = [m.generator.name for m in made if m.derived and not m.saw(about)]
    licences |= {f"images that {name} has learned from": "not recorded" for name in unknown}
    return licence(licences, given=about.licence)


def part_names(recipe: ReleaseRecipe, made: Sequence[Made]) -> list[str]:
    """The folders of a release."""
    names = [f"model-{m.generator.name}" for m in made if m.weights is not None]
    if "data" in recipe.parts:
        names += [f"data-{m.generator.name}" for m in made]
    names += ["study"] if "study" in recipe.parts else []
    if not names:
        raise ConfigError(
            f"release.parts={recipe.parts}: there is nothing of that kind; only generators that the "
            "study fine-tunes (generator=sd_lora) have weights of their own"
        )
    return names
