"""View of the generators' refusals, and galleries of their images."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.manifest import Manifest
from xraysynth.report import thumbnails
from xraysynth.report.content import PoolResults
from xraysynth.report.formatting import format_percent
from xraysynth.report.thumbnails import Thumbnail
from xraysynth.report.views.cells import Heading, build_headings

MAX_PROMPTS = 20
"""Number of refused prompts that a table shows."""


@dataclass(frozen=True)
class RefusalRow:
    """The refusals of one class or one prompt.

    Attributes:
        name: The class or the prompt.
        refused: Number of refused requests.
        answered: Number of answered requests, refusals included.
        share: Percentage of refusals.
    """

    name: str
    refused: int
    answered: int
    share: str


@dataclass(frozen=True)
class RefusalTable:
    """The refusals of one generator.

    Attributes:
        generator: Name of the generator.
        headings: Headings of the columns.
        classes: Refusals by class.
        prompts: Refusals by prompt.
        more_prompts: Number of refused prompts that are not shown.
    """

    generator: str
    headings: Sequence[Heading]
    classes: Sequence[RefusalRow]
    prompts: Sequence[RefusalRow]
    more_prompts: int

    @property
    def title(self) -> str:
        """The name of the table for screen readers."""
        return f"Refusals of {self.generator}"


@dataclass(frozen=True)
class ImageGroup:
    """Images of one class: real ones, or those of one generator."""

    name: str
    images: Sequence[Thumbnail]

    @property
    def has_prompts(self) -> bool:
        """Whether any of the images was made from a prompt."""
        return any(image.prompt for image in self.images)


@dataclass(frozen=True)
class ClassGallery:
    """The images of one class, real images first."""

    label: str
    groups: Sequence[ImageGroup]


@dataclass(frozen=True)
class Galleries:
    """Images by class; `credits` names the data sets of the real images, with their licences."""

    classes: Sequence[ClassGallery]
    credits: str


def refusal_tables(pools: Sequence[PoolResults]) -> list[RefusalTable]:
    """Returns one table for each generator that refused a request."""
    return [_refusal_table(pool) for pool in pools if pool.refusals.label]


def build_galleries(
    cohort: Manifest, pools: Sequence[PoolResults], classes: Sequence[str], real: str
) -> Galleries:
    """Returns galleries of real training images and of each generator's images, by class.

    Args:
        cohort: The real images, of which those of the train split are shown.
        pools: The generators' images.
        classes: The classes in order.
        real: What real images are called.
    """
    real_images = cohort.where(~cohort.table["is_synthetic"]).split("train")
    sets = [(real, real_images)]
    for pool in pools:
        sets.append((pool.generator, pool.manifest))
    galleries = []
    for label in classes:
        groups = []
        for name, manifest in sets:
            images = thumbnails.thumbnail_grid(manifest, label, group_name=name)
            groups.append(ImageGroup(name, images))
        galleries.append(ClassGallery(label, groups))
    return Galleries(galleries, ", ".join(_list_credits(cohort)))


def _refusal_table(pool: PoolResults) -> RefusalTable:
    """Returns the refusals of one generator by class and prompt."""
    prompts = [_refusal_row(name, *counts) for name, counts in pool.refusals.prompt.items()]
    return RefusalTable(
        generator=pool.generator,
        headings=build_headings("", "refused", "answered", "percentage"),
        classes=[_refusal_row(name, *counts) for name, counts in pool.refusals.label.items()],
        prompts=prompts[:MAX_PROMPTS],
        more_prompts=max(0, len(prompts) - MAX_PROMPTS),
    )


def _refusal_row(name: str, refused: int, answered: int) -> RefusalRow:
    return RefusalRow(name, refused, answered, format_percent(refused / answered))


def _list_credits(cohort: Manifest) -> list[str]:
    """Returns the data sets of the real images, with their licences."""
    licences = cohort.table[["source", "license"]].drop_duplicates()
    names = []
    for source, licence in licences.to_numpy():
        names.append(f"{source} ({licence or 'licence not recorded'})")
    return names
