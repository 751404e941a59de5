"""With how many seeds a study ended that adds seeds until its differences are known well enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xraysynth.report.formatting import format_number


@dataclass(frozen=True)
class KnownDifference:
    """How well a study knows the difference in macro-F1 between an arm and one that it is compared with.

    Attributes:
        arm: Name of the arm.
        reference: Name of the arm that it is compared with.
        seeds: Number of seeds of the arm.
        half_width: Half the width of the 95 % interval.
        patients_half_width: Half the width that remains with any number of seeds.
        needed_patients: Number of test patients with which the interval would be narrow enough.
    """

    arm: str
    reference: str
    seeds: int
    half_width: float
    patients_half_width: float
    needed_patients: int

    def format(self, half_width: float) -> str:
        """Return the difference with a half width: "±0.048 (sd_lora 0.5 replace against real only)"."""
        return f"±{format_number(half_width)} ({self.arm} against {self.reference})"


@dataclass(frozen=True)
class SeedsUntil:
    """The end of a study with `study.until`.

    Attributes:
        until: Half the width at which an interval is narrow enough.
        most_seeds: Largest number of seeds of an arm.
        test_patients: Number of test patients.
        test_images: Number of test images.
        differences: The differences that make a claim; empty while trainings are missing.
        is_complete: Whether all seeds are trained that the rule asks for.
    """

    until: float
    most_seeds: int
    test_patients: int = 0
    test_images: int = 0
    differences: Sequence[KnownDifference] = ()
    is_complete: bool = True

    def with_names(self, names: Mapping[str, str]) -> "SeedsUntil":
        """Return the same with other names of the arms, by title."""
        renamed = []
        for one in self.differences:
            renamed.append(replace(one, arm=names[one.arm], reference=names[one.reference]))
        return replace(self, differences=renamed)

    def describe(self) -> str:
        """Return one line on why no more seeds were added."""
        if not self.is_complete:
            return f"not every training is done; then seeds are added until ±{self.until:g}"
        if not self.differences:
            return "no arm makes a claim, so that no seed was added"
        limited = [one for one in self.differences if one.patients_half_width > self.until]
        wide = [
            one
            for one in self.differences
            if one.patients_half_width <= self.until < one.half_width
        ]
        lines = [*self._describe_limit_of_seeds(wide), *self._describe_limit_of_patients(limited)]
        return "; ".join(lines) or self._describe_success()

    def _describe_success(self) -> str:
        widest = max(self.differences, key=lambda one: one.half_width)
        return (
            f"stopped at {widest.seeds} seeds of {widest.arm}, where the widest interval is "
            f"{widest.format(widest.half_width)}"
        )

    def _describe_limit_of_seeds(self, wide: Sequence[KnownDifference]) -> list[str]:
        if not wide:
            return []
        widest = max(wide, key=lambda one: one.half_width)
        return [
            f"study.most_seeds={self.most_seeds} reached: {widest.format(widest.half_width)}"
            f"{_others(wide)}"
        ]

    def _describe_limit_of_patients(self, limited: Sequence[KnownDifference]) -> list[str]:
        if not limited:
            return []
        widest = max(limited, key=lambda one: one.patients_half_width)
        images = round(self.test_images * widest.needed_patients / max(1, self.test_patients))
        return [
            f"patients: {widest.format(widest.patients_half_width)} whatever the seeds{_others(limited)}; "
            f"±{self.until:g} takes about {widest.needed_patients} test patients ({images} images) "
            f"instead of {self.test_patients} ({self.test_images})"
        ]


def _others(differences: Sequence[KnownDifference]) -> str:
    """Return how many more differences are as the one that was named."""
    return f", and {len(differences) - 1} more are too wide" if len(differences) > 1 else ""
