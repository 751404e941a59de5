"""Results as W&B artifacts: what came of what, without the results themselves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest


@dataclass(frozen=True)
class ArtifactRecord:
    """A result as an artifact: its kind, its key and where it lies below paths.output, not itself."""

    kind: str
    key: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_artifact(self) -> Any:
        """The artifact; the same record makes the same version of it in every run."""
        import wandb

        artifact = wandb.Artifact(
            f"{self.kind}-{self.key}", type=self.kind, metadata=dict(self.metadata)
        )
        with artifact.new_file("record.json") as file:
            json.dump({"kind": self.kind, "key": self.key, **self.metadata}, file, sort_keys=True)
        return artifact


def cohort_artifact(cohort: Manifest) -> ArtifactRecord:
    """The record of a cohort."""
    return ArtifactRecord("cohort", cohort.digest()[:12])


def lora_artifact(key: str) -> ArtifactRecord:
    """The record of a generator's fine-tuning, by the key of its job."""
    return ArtifactRecord("lora", key, {"folder": f"finetune/{key}"})


def pool_artifact(store: ImageStore) -> ArtifactRecord:
    """The record of a pool."""
    return ArtifactRecord("pool", store.key, {"folder": f"pools/{store.folder.name}"})


def log_artifact(run: Any, record: ArtifactRecord) -> None:
    """The run has made this."""
    run.log_artifact(record.to_artifact())


def use_artifact(run: Any, record: ArtifactRecord) -> None:
    """The run rests on this.

    It is what `run.use_artifact` does, but offline as well, and without waiting for the server.
    """
    run._log_artifact(record.to_artifact(), is_user_created=True, use_after_commit=True)
