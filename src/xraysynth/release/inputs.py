"""What a release is about: a study, and each of its generators with what it made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.generation.generators.base import FinetunableGenerator, FineTuning, Generator
from xraysynth.generation.lora.folder import LORA_WEIGHT_NAME
from xraysynth.generation.pool import Refusals
from xraysynth.manifest import Manifest
from xraysynth.records import JsonObject, LearningRecord, sha256_bytes, to_json
from xraysynth.release.licences import Licence, resolve_licence
from xraysynth.release.origin import TrainSplitSummary, compute_training_digest
from xraysynth.release.recipe import ReleaseRecipe
from xraysynth.seeds import digest


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """What all parts share. `bound` are sources whose terms were acknowledged; `licence` is the one
    that was given, or ""; `repo` is owner/name, or "".
    """

    study: str
    classes: Sequence[str]
    simulated: Sequence[str]
    train_split: TrainSplitSummary
    credentialed_sources: Sequence[str] = ()
    licence: str = ""
    notes: Sequence[str] = ()
    repo: str = ""


@dataclass(frozen=True, kw_only=True)
class ReleasedGenerator:
    """A generator of the study and what it made.

    `learned` is its record of images seen (`leakage.learned_from`) and `evaluation` the result of an
    evaluation of `images` as its run.json has it. `weights` is the folder of a LoRA that the study
    taught, and `taught` how. Each is empty or None where there is none.
    """

    key: str
    generator: Generator
    images: Manifest | None = None
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)
    learning_record: LearningRecord | None = None
    evaluation: JsonObject = field(default_factory=dict)
    weights: Path | None = None
    finetuning: FineTuning = field(default_factory=FineTuning)

    @property
    def may_have_seen_real(self) -> bool:
        """True when it has learned from the study's images, or may have."""
        return self.learning_record is not None or isinstance(self.generator, FinetunableGenerator)

    def describe_training_data(self, study_info: StudyInfo) -> str:
        """What it has learned from, in words."""
        if not self.may_have_seen_real:
            return "It has seen none of the study's real images."
        if self.learning_record is None:
            return "That is not recorded; it may have seen real images of this study and of others."
        if self.has_seen_train_split(study_info):
            return (
                f"Radiographs of {study_info.train_split.patients} patients: the real train "
                "split of the study. "
                "Neither its images nor ids of its patients are part of this release."
            )
        images, patients = len(self.learning_record.sha256), len(self.learning_record.patients)
        return (
            f"{images} radiographs of {patients} patients, which are not this study's train split."
        )

    @property
    def training_digest(self) -> str:
        """One digest over the images that it is known to have learned from."""
        return compute_training_digest(self.learning_record.sha256 if self.learning_record else ())

    def has_seen_train_split(self, study_info: StudyInfo) -> bool:
        """True when it has learned from exactly the study's train split."""
        return (
            self.learning_record is not None
            and self.training_digest == study_info.train_split.digest
        )

    def content_digests(self) -> dict[str, str | dict[str, str]]:
        """What decides the parts of this generator, as digests."""
        weights = weight_files(self.weights) if self.weights else {}
        generator = self.generator
        described = [
            asdict(generator.card),
            isinstance(generator, FinetunableGenerator),
            generator.name,
        ]
        return {
            "weights": {name: sha256_bytes(path.read_bytes()) for name, path in weights.items()},
            "images": self.images.digest() if self.images is not None else "",
            "pool": digest(
                [self.outcomes, to_json(self.refusals), to_json(self.learning_record) or {}]
            ),
            "generator": digest(described),
            "evaluated": digest(self.evaluation),
        }


def weight_files(folder: Path) -> dict[str, Path]:
    """The LoRA in a folder, or one per class: name in the release -> file."""
    files = sorted([*folder.glob(LORA_WEIGHT_NAME), *folder.glob(f"*/{LORA_WEIGHT_NAME}")])
    if not files:
        raise DataNotFoundError(
            f"no {LORA_WEIGHT_NAME} in {folder}; make it with `xraysynth finetune`"
        )
    return {path.relative_to(folder).as_posix(): path for path in files}


def resolve_release_licence(
    study_info: StudyInfo, generators: Sequence[ReleasedGenerator], *, with_sources: bool = False
) -> Licence:
    """The licence that was given, or that of generators and of images that were learned from."""
    cards = {m.generator.name: m.generator.card for m in generators}
    licences = {f"generator {name}: {card.title}": card.licence for name, card in cards.items()}
    if with_sources or any(m.has_seen_train_split(study_info) for m in generators):
        licences |= {
            f"data set {source.name}": source.licence for source in study_info.train_split.sources
        }
    unknown = [
        m.generator.name
        for m in generators
        if m.may_have_seen_real and not m.has_seen_train_split(study_info)
    ]
    licences |= {f"images that {name} has learned from": "not recorded" for name in unknown}
    return resolve_licence(licences, stated=study_info.licence)


def part_names(recipe: ReleaseRecipe, generators: Sequence[ReleasedGenerator]) -> list[str]:
    """The folders of a release."""
    names = [f"model-{m.generator.name}" for m in generators if m.weights is not None]
    if "data" in recipe.parts:
        names += [f"data-{m.generator.name}" for m in generators]
    names += ["study"] if "study" in recipe.parts else []
    if not names:
        raise ConfigError(
            f"release.parts={recipe.parts}: there is nothing of that kind; only generators that the "
            "study fine-tunes (generator=sd_lora) have weights of their own"
        )
    return names
