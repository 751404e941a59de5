"""Results as W&B artifacts: the lineage of results, without the results themselves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest


@dataclass(frozen=True)
class ArtifactRecord:
    """What W&B stores of a result: its kind, its key and where it lies, but not its files.

    Attributes:
        kind: Type of the artifact: cohort, lora, pool, classifier, predictions or measures.
        key: Key of the job, the store or the cohort.
        metadata: Further facts, such as `folder`, relative to paths.output.
    """

    kind: str
    key: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_artifact(self) -> Any:
        """Returns the W&B artifact; equal records make the same version of it in every run."""
        import wandb

        artifact = wandb.Artifact(
            f"{self.kind}-{self.key}", type=self.kind, metadata=dict(self.metadata)
        )
        with artifact.new_file("record.json") as file:
            json.dump({"kind": self.kind, "key": self.key, **self.metadata}, file, sort_keys=True)
        return artifact


def cohort_artifact(cohort: Manifest) -> ArtifactRecord:
    """Returns the record of a cohort, by its digest."""
    return ArtifactRecord("cohort", cohort.digest()[:12])


def lora_artifact(key: str) -> ArtifactRecord:
    """Returns the record of a fine-tuned adapter, by the key of the finetune job."""
    return ArtifactRecord("lora", key, {"folder": f"finetune/{key}"})


def pool_artifact(store: ImageStore) -> ArtifactRecord:
    """Returns the record of a pool, by the key of its store."""
    return ArtifactRecord("pool", store.key, {"folder": f"pools/{store.folder.name}"})


def log_artifact(run: Any, record: ArtifactRecord) -> None:
    """Records a result as an output of the run."""
    run.log_artifact(record.to_artifact())


def use_artifact(run: Any, record: ArtifactRecord) -> None:
    """Records a result as an input of the run.

    Unlike `run.use_artifact` of W&B, it works offline and does not wait for the server.
    """
    run._log_artifact(record.to_artifact(), is_user_created=True, use_after_commit=True)
