"""Where images come from, in words that hold on any machine."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from xraysynth import __version__
from xraysynth.generation.generators.base import Generator
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.records import JsonObject
from xraysynth.release.images import DISCLAIMER, TRAINED_ALGORITHMIC_MEDIA
from xraysynth.seeds import digest, identity

EMBEDDED = "embedded"
_EXCLUDED_SETTINGS = ("type", "name", "content", "model", "revision", "mirrors", "taught_by")


@dataclass(frozen=True)
class Origin:
    """A generator: `model` is a hub id, "embedded", or the name of a local folder (`is_local`).

    `revision` is the commit of a hub id, else the start of the digest of what it was made with.
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
        """True when the model is a hub id."""
        return "/" in self.model

    def png_text(self, licence: str) -> dict[str, str]:
        """What every image of this generator says of itself."""
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
    """What a generator is, without the folders of this machine."""
    decides = identity(generator)
    model = str(getattr(generator, "model", "") or getattr(generator, "origin", generator.name))
    is_local = model != EMBEDDED and (Path(model).expanduser().exists() or model[0] in "./~")
    commit = None if is_local else getattr(generator, "revision", None)
    settings = {
        name: value
        for name, value in decides.items()
        if name not in _EXCLUDED_SETTINGS and isinstance(value, str | int | float)
    }
    return Origin(
        name=generator.name,
        title=generator.card.title,
        model=Path(model).name if is_local else model,
        revision=str(commit or f"digest {digest(decides)[:12]}"),
        is_local=is_local,
        seeds_reproducible=generator.card.seeds_reproducible,
        settings=settings,
    )


@dataclass(frozen=True)
class GroupCounts:
    """The images of a class or of a source, whose `licence` is given."""

    name: str
    images: int
    patients: int
    licence: str = ""


@dataclass(frozen=True)
class TrainSplitSummary:
    """What a generator of a study has learned from, in numbers.

    `digest` is the `seen_digest` of a generator that saw all of it.
    """

    images: int
    patients: int
    classes: Sequence[GroupCounts]
    sources: Sequence[GroupCounts]
    digest: str


def summarize_train_split(cohort: Manifest) -> TrainSplitSummary:
    """The numbers of a cohort's train split."""
    table = cohort.split("train").table
    table = table.assign(patient=patient_keys(table))
    return TrainSplitSummary(
        images=len(table),
        patients=int(table["patient"].nunique()),
        classes=[_count_group(name, rows) for name, rows in table.groupby("label")],
        sources=[
            replace(_count_group(name, rows), licence=_join_licences(rows))
            for name, rows in table.groupby("source")
        ],
        digest=compute_training_digest(set(table["sha256"]) - {""}),
    )


def _count_group(name: str, rows: pd.DataFrame) -> GroupCounts:
    return GroupCounts(str(name), len(rows), int(rows["patient"].nunique()))


def _join_licences(rows: pd.DataFrame) -> str:
    named = sorted(set(rows["license"]) - {""})
    return "; ".join(named[:20]) or "not recorded"


def compute_training_digest(hashes: Iterable[str]) -> str:
    """One SHA-256 over the sorted list of the hashes of all images that were learned from.

    Whoever holds the same cohort can make the list and compare; nobody else learns anything from it.
    It is one digest of the whole list, so no single image or patient can be looked up in it, and
    patient ids, of which there are few enough to be guessed, are not part of it.
    """
    return digest(sorted(hashes))


def read_adapter_settings(weights: Path) -> Mapping[str, JsonObject]:
    """The adapters' settings in the header of a LoRA file: module -> options of peft's LoraConfig."""
    data = weights.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    flat = json.loads(header.get("__metadata__", {}).get("lora_adapter_metadata", "{}"))
    found: dict[str, dict[str, object]] = {}
    for name, value in flat.items():
        module, _, option = name.partition(".")
        found.setdefault(module, {})[option] = value
    return found
