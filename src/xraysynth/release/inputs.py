"""What is released: a study, and each of its generators with its images and weights."""

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
    """Facts about the study that the cards of all parts share.

    Attributes:
        study: Name of the study.
        classes: Its classes.
        simulated: Names of its sources if all real images are simulated, else empty.
        train_split: The real train split in numbers.
        credentialed_sources: Sources under a data use agreement whose terms were acknowledged.
        licence: The licence that the user states, or "".
        notes: Sentences about limits of the study.
        repo: Start of the repositories' names as owner/name, or "".
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
    """A generator of the study, with its images, its weights and what was measured.

    Attributes:
        key: Key of the generator in the configuration.
        generator: The generator.
        images: Its pool, or None.
        outcomes: Class -> outcome -> requests.
        refusals: Refused requests by class and prompt.
        learning_record: The real images that it has learned from, or None.
        evaluation: Result of an evaluation of `images`, as its run.json has it, or empty.
        weights: Folder of a LoRA that the study fine-tuned, or None.
        finetuning: How that fine-tuning went.
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
        """Whether the generator has learned from the study's real images, or may have."""
        return self.learning_record is not None or isinstance(self.generator, FinetunableGenerator)

    def describe_training_data(self, study_info: StudyInfo) -> str:
        """Describes for a card which real images the generator has learned from."""
        if not self.may_have_seen_real:
            return "It has seen none of the study's real images."
        if self.learning_record is None:
            return "That is not recorded; it may have seen real images of this study and of others."
        if self.has_seen_train_split(study_info):
            return (
                f"Radiographs of {study_info.train_split.patients} patients: the real train split "
                "of the study. Neither its images nor ids of its patients are part of this release."
            )
        images, patients = len(self.learning_record.sha256), len(self.learning_record.patients)
        return (
            f"{images} radiographs of {patients} patients, which are not this study's train split."
        )

    @property
    def training_digest(self) -> str:
        """`compute_training_digest` of the images that the generator is known to have seen."""
        return compute_training_digest(self.learning_record.sha256 if self.learning_record else ())

    def has_seen_train_split(self, study_info: StudyInfo) -> bool:
        """Whether the generator has learned from exactly the study's train split."""
        return (
            self.learning_record is not None
            and self.training_digest == study_info.train_split.digest
        )

    def content_digests(self) -> dict[str, str | dict[str, str]]:
        """Returns digests of everything that decides the parts of this generator."""
        weights: dict[str, str] = {}
        if self.weights:
            for name, path in weight_files(self.weights).items():
                weights[name] = sha256_bytes(path.read_bytes())
        description = [
            asdict(self.generator.card),
            isinstance(self.generator, FinetunableGenerator),
            self.generator.name,
        ]
        pool = [self.outcomes, to_json(self.refusals), to_json(self.learning_record) or {}]
        return {
            "weights": weights,
            "images": self.images.digest() if self.images is not None else "",
            "pool": digest(pool),
            "generator": digest(description),
            "evaluated": digest(self.evaluation),
        }


def weight_files(folder: Path) -> dict[str, Path]:
    """Finds the LoRA in a folder, or one LoRA per class in its subfolders.

    Returns:
        Name in the release -> file.

    Raises:
        DataNotFoundError: If there is none.
    """
    files = sorted([*folder.glob(LORA_WEIGHT_NAME), *folder.glob(f"*/{LORA_WEIGHT_NAME}")])
    if not files:
        raise DataNotFoundError(
            f"there is no {LORA_WEIGHT_NAME} in {folder}; it is made by xraysynth finetune with the same "
            "options"
        )
    return {path.relative_to(folder).as_posix(): path for path in files}


def resolve_release_licence(
    study_info: StudyInfo, generators: Sequence[ReleasedGenerator], *, with_sources: bool = False
) -> Licence:
    """Returns the stated licence, or the most restrictive licence of generators and training data.

    Args:
        study_info: Holds the stated licence and the licences of sources.
        generators: The generators of the released images or weights.
        with_sources: Whether the sources count even if no generator has learned from them.
    """
    licences: dict[str, str] = {}
    for released in generators:
        card = released.generator.card
        licences[f"generator {released.generator.name}: {card.title}"] = card.licence
    if with_sources or any(released.has_seen_train_split(study_info) for released in generators):
        for source in study_info.train_split.sources:
            licences[f"data set {source.name}"] = source.licence
    for released in generators:
        if released.may_have_seen_real and not released.has_seen_train_split(study_info):
            name = released.generator.name
            licences[f"images that {name} has learned from"] = "not recorded"
    return resolve_licence(licences, stated=study_info.licence)


def part_names(recipe: ReleaseRecipe, generators: Sequence[ReleasedGenerator]) -> list[str]:
    """Returns the names of the folders in a release.

    Raises:
        ConfigError: If nothing of the chosen parts exists.
    """
    names = [f"model-{m.generator.name}" for m in generators if m.weights is not None]
    if "data" in recipe.parts:
        names += [f"data-{released.generator.name}" for released in generators]
    if "study" in recipe.parts:
        names.append("study")
    if not names:
        raise ConfigError(
            f"release.parts={recipe.parts} selects nothing: only generators that the study fine-tunes "
            "(generator=sd_lora) have weights of their own; set release.parts=[model,data,study]"
        )
    return names
