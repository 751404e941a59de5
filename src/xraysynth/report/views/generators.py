"""What generators refused, and galleries of what they made."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.manifest import Manifest
from xraysynth.report import thumbnails
from xraysynth.report.content import PoolResults
from xraysynth.report.formatting import format_percent
from xraysynth.report.thumbnails import Thumbnail
from xraysynth.report.views.cells import Heading, build_headings

MAX_PROMPTS = 20
"""Refused prompts that are shown."""


@dataclass(frozen=True)
class RefusalRow:
    """What was refused of one class or prompt."""

    name: str
    refused: int
    answered: int
    share: str


@dataclass(frozen=True)
class RefusalTable:
    """What one generator refused; `more_prompts` are not shown."""

    generator: str
    headings: Sequence[Heading]
    classes: Sequence[RefusalRow]
    prompts: Sequence[RefusalRow]
    more_prompts: int

    @property
    def title(self) -> str:
        """What the table is called where it scrolls."""
        return f"Refusals of {self.generator}"


@dataclass(frozen=True)
class ImageGroup:
    """Images of one class that are real, or of one generator."""

    name: str
    images: Sequence[Thumbnail]

    @property
    def has_prompts(self) -> bool:
        """Whether any was made of a prompt."""
        return any(image.prompt for image in self.images)


@dataclass(frozen=True)
class ClassGallery:
    """The images of one class, real ones first."""

    label: str
    groups: Sequence[ImageGroup]


@dataclass(frozen=True)
class Galleries:
    """Images class by class; `credits` are the data sets behind the real ones, with licences."""

    classes: Sequence[ClassGallery]
    credits: str


def refusal_tables(pools: Sequence[PoolResults]) -> list[RefusalTable]:
    """Of the generators that refused anything."""
    return [_refusal_table(pool) for pool in pools if pool.refusals.label]


def build_galleries(
    cohort: Manifest, pools: Sequence[PoolResults], classes: Sequence[str], real: str
) -> Galleries:
    """Real training images, called `real`, and each generator's, class by class."""
    training = cohort.where(~cohort.table["is_synthetic"]).split("train")
    sets = [(real, training), *((pool.generator, pool.manifest) for pool in pools)]
    shown = []
    for label in classes:
        grids = [
            (who, thumbnails.thumbnail_grid(images, label, group_name=who)) for who, images in sets
        ]
        shown.append(ClassGallery(label, [ImageGroup(*grid) for grid in grids]))
    return Galleries(shown, ", ".join(_list_credits(cohort)))


def _refusal_table(pool: PoolResults) -> RefusalTable:
    prompts = [_refusal_row(name, *counts) for name, counts in pool.refusals.prompt.items()]
    return RefusalTable(
        generator=pool.generator,
        headings=build_headings("", "refused", "answered", "share"),
        classes=[_refusal_row(name, *counts) for name, counts in pool.refusals.label.items()],
        prompts=prompts[:MAX_PROMPTS],
        more_prompts=max(0, len(prompts) - MAX_PROMPTS),
    )


def _refusal_row(name: str, refused: int, answered: int) -> RefusalRow:
    return RefusalRow(name, refused, answered, format_percent(refused / answered))


def _list_credits(cohort: Manifest) -> list[str]:
    """Data sets and licences behind the real images."""
    named = cohort.table[["source", "license"]].drop_duplicates()
    return [f"{source} ({terms or 'licence not recorded'})" for source, terms in named.to_numpy()]
