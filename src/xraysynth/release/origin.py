"""The origin of images: their generator and its training data, described for any machine."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from xraysynth import __version__
from xraysynth.generation.generators.base import Generator
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.options import expand_path
from xraysynth.records import JsonObject
from xraysynth.release.images import DISCLAIMER, TRAINED_ALGORITHMIC_MEDIA
from xraysynth.seeds import digest, identity

EMBEDDED = "embedded"
"""Name of the model that is part of this package."""

MAX_SHOWN_LICENCES = 20

_EXCLUDED_SETTINGS = ("type", "name", "content", "model", "revision", "mirrors", "taught_by")
"""Parts of a generator's identity that are shown elsewhere or mean nothing on other machines."""


@dataclass(frozen=True)
class Origin:
    """The generator of released images.

    Attributes:
        name: Name of the generator.
        title: Its title for people.
        model: The model's id on the Hub, "embedded", or the name of a local folder.
        revision: Commit of a model on the Hub; otherwise the start of a digest of the settings.
        is_local: Whether the model lies in a local folder.
        seeds_reproducible: Whether the same seed gives the same image.
        settings: Option -> value.
    """

    name: str
    title: str
    model: str
    revision: str
    is_local: bool
    seeds_reproducible: bool
    settings: Mapping[str, str | int | float]

    @property
    def on_hub(self) -> bool:
        """Whether the model is on the Hub."""
        return "/" in self.model

    def png_text(self, licence: str) -> dict[str, str]:
        """Returns the text that every PNG of this generator holds: keyword -> value.

        Args:
            licence: Name of the licence of the images.
        """
        return {
            "Software": f"xraysynth {__version__}",
            "Disclaimer": DISCLAIMER,
            "DigitalSourceType": TRAINED_ALGORITHMIC_MEDIA,
            "Copyright": licence,
            "Generator": f"{self.name}: {self.title}",
            "Model": self.model,
            "Revision": self.revision,
        }


def describe_origin(generator: Generator) -> Origin:
    """Describes a generator without naming folders of this machine."""
    identity_fields = identity(generator)
    model = str(getattr(generator, "model", "") or getattr(generator, "origin", generator.name))
    is_local = model != EMBEDDED and (expand_path(model).exists() or model[0] in "./~")
    commit = None if is_local else getattr(generator, "revision", None)
    return Origin(
        name=generator.name,
        title=generator.card.title,
        model=Path(model).name if is_local else model,
        revision=str(commit or f"digest {digest(identity_fields)[:12]}"),
        is_local=is_local,
        seeds_reproducible=generator.card.seeds_reproducible,
        settings=_shown_settings(identity_fields),
    )


def _shown_settings(identity_fields: JsonObject) -> dict[str, str | int | float]:
    settings: dict[str, str | int | float] = {}
    for name, value in identity_fields.items():
        if name not in _EXCLUDED_SETTINGS and isinstance(value, str | int | float):
            settings[name] = value
    return settings


@dataclass(frozen=True)
class GroupCounts:
    """Images and patients of one class or of one source.

    Attributes:
        name: Name of the class or source.
        images: Number of images.
        patients: Number of patients.
        licence: Licence of a source; "" for a class.
    """

    name: str
    images: int
    patients: int
    licence: str = ""


@dataclass(frozen=True)
class TrainSplitSummary:
    """The real train split of a study, in numbers.

    Attributes:
        images: Number of images.
        patients: Number of patients.
        classes: Counts per class.
        sources: Counts and licence per source.
        digest: `compute_training_digest` of all images.
    """

    images: int
    patients: int
    classes: Sequence[GroupCounts]
    sources: Sequence[GroupCounts]
    digest: str


def summarize_train_split(cohort: Manifest) -> TrainSplitSummary:
    """Counts the images and patients of a cohort's train split, per class and per source."""
    table = cohort.split("train").table
    table = table.assign(patient=patient_keys(table))
    sources = []
    for name, rows in table.groupby("source"):
        sources.append(replace(_count_group(name, rows), licence=_join_licences(rows)))
    return TrainSplitSummary(
        images=len(table),
        patients=int(table["patient"].nunique()),
        classes=[_count_group(name, rows) for name, rows in table.groupby("label")],
        sources=sources,
        digest=compute_training_digest(set(table["sha256"]) - {""}),
    )


def _count_group(name: str, rows: pd.DataFrame) -> GroupCounts:
    return GroupCounts(str(name), len(rows), int(rows["patient"].nunique()))


def _join_licences(rows: pd.DataFrame) -> str:
    licences = sorted(set(rows["license"]) - {""})
    return "; ".join(licences[:MAX_SHOWN_LICENCES]) or "not recorded"


def compute_training_digest(hashes: Iterable[str]) -> str:
    """Computes one SHA-256 over the sorted hashes of all images that were trained on.

    People who have the same cohort can compute the digest and compare; others learn nothing from
    it. It covers the whole list, so that no single image or patient can be looked up in it.
    Patient ids are not part of it, as there are few enough of them to be guessed.

    Args:
        hashes: SHA-256 of each image, in any order.
    """
    return digest(sorted(hashes))


def read_adapter_settings(weights: Path) -> Mapping[str, JsonObject]:
    """Reads the adapters' settings from the header of a LoRA file.

    Args:
        weights: A safetensors file.

    Returns:
        Module of the pipeline -> options of peft's LoraConfig.
    """
    data = weights.read_bytes()
    header_size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_size])
    flat_settings = json.loads(header.get("__metadata__", {}).get("lora_adapter_metadata", "{}"))
    settings: dict[str, dict[str, object]] = {}
    for name, value in flat_settings.items():
        module, _, option = name.partition(".")
        settings.setdefault(module, {})[option] = value
    return settings
