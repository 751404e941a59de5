"""An arm of a study whose trainings are finished, with the predictions of each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from xraysynth.evaluation.classifier_evaluation import TrainResult
from xraysynth.files import explain_unreadable
from xraysynth.jobs.job import Job
from xraysynth.stages import train
from xraysynth.stages._study.arm_configs import ArmConfig
from xraysynth.training.recipe import Control, DataRecipe, MixMode
from xraysynth.training.run import ImageCounts


def load_predictions(job: Job, name: str = train.PREDICTIONS) -> pd.DataFrame:
    """Load what a finished training predicted.

    Args:
        job: The training.
        name: `train.PREDICTIONS` for the study's test images, `train.EXTERNAL_PREDICTIONS` for those of
            the external test sets.

    Returns:
        One row per image with its label, source, patient_id and a probability `p_<class>` per class.
    """
    path = job.folder / name
    with explain_unreadable(path, "delete it and run the study again, which trains this arm again"):
        return pd.read_parquet(path)


@dataclass(frozen=True)
class TestedArm:
    """An arm of the study with its finished trainings.

    Attributes:
        arm_config: How the arm is trained.
        jobs: The finished trainings by seed.
        predictions: Their predictions for the test images, one table per seed in the order of `jobs`.
    """

    arm_config: ArmConfig
    jobs: Mapping[int, Job]
    predictions: Sequence[pd.DataFrame]

    @classmethod
    def from_jobs(cls, arm_config: ArmConfig, jobs: Mapping[int, Job]) -> "TestedArm":
        """Load the predictions of an arm's finished trainings."""
        return cls(arm_config, jobs, [load_predictions(job) for job in jobs.values()])

    @property
    def results(self) -> list[TrainResult]:
        """The recorded results of the trainings, one per seed."""
        return [job.record().result_as(TrainResult) for job in self.jobs.values()]

    @property
    def title(self) -> str:
        """The name of the arm, unique within a study."""
        return self.arm_config.title

    @property
    def training_images(self) -> int:
        """Number of training images, repeats included, which is the same for all seeds."""
        first_job = next(iter(self.jobs.values()))
        counts = first_job.record().result_as(ImageCounts)
        return counts.real_images + counts.real_repeats + counts.synthetic_images

    @property
    def generator(self) -> str:
        """Name of the generator whose images are mixed in; empty for real images only."""
        if not self.arm_config.generator:
            return ""
        (name,) = self.arm_config.config.generators()
        return name

    @property
    def data(self) -> DataRecipe:
        """How the training images were chosen and mixed."""
        return self.arm_config.config.data

    @property
    def is_real_only(self) -> bool:
        """Whether the arm sees real images of all sources and nothing else, as a reference for others."""
        return not self.data.synthetic_fraction and not self.data.leave_out

    @property
    def is_generator_arm(self) -> bool:
        """Whether the arm sees a generator's images with their own labels."""
        return bool(self.generator) and self.data.control is Control.none

    @property
    def makes_claim(self) -> bool:
        """Whether a difference of the arm is claimed as a finding, and so adjusted for multiplicity.

        Controls, and arms that leave a source out, are only compared by number.
        """
        return self.is_generator_arm and not self.data.leave_out

    @property
    def is_size_matched_control(self) -> bool:
        """Whether the arm is as small as one that leaves a source out, with images of all sources."""
        return bool(self.data.leave_out) and self.data.control is Control.size_matched

    def is_permuted_control_of(self, other: "TestedArm") -> bool:
        """Return whether this arm is the other one with the labels of its synthetic images permuted."""
        permuted_data = replace(other.data, control=Control.permuted)
        return self.generator == other.generator and self.data == permuted_data

    def is_duplicate_control_of(self, other: "TestedArm") -> bool:
        """Return whether this arm repeats real images where the other one has synthetic images."""
        return (
            self.data.control is Control.duplicate
            and self.data.synthetic_fraction == other.data.synthetic_fraction
            and self.data.real_fraction == other.data.real_fraction
            # Modes "add" and "pretrain" have the same control.
            and (self.data.mode is MixMode.replace) == (other.data.mode is MixMode.replace)
        )


def select_source(predictions: Sequence[pd.DataFrame], source: str) -> list[pd.DataFrame]:
    """Return the predictions for the images of one source, one table per seed."""
    return [table[table["source"] == source] for table in predictions]
