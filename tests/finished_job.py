"""A finished training without a folder, for tests of what is computed from its predictions."""

from dataclasses import dataclass
from pathlib import Path

from xraysynth.evaluation.classifier_evaluation import TrainResult
from xraysynth.jobs.record import RunRecord
from xraysynth.records import to_json


@dataclass(frozen=True)
class FinishedJob:
    """A training that ended, with as many images as its record says."""

    real_images: int = 40
    folder = Path("no folder")

    def record(self) -> RunRecord:
        result = TrainResult(
            accuracy=0.5,
            macro_f1=0.5,
            test_images=160,
            test_evaluations=1,
            predictions="",
            scores={},
            kept_step=9,
            optimiser_steps=9,
            weights="",
            history=[],
            real_images=self.real_images,
            synthetic_images=40,
        )
        return RunRecord(state="done", seconds=1.0, result=to_json(result))
