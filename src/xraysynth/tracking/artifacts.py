"""Results as W&B artifacts: what came of what, without the results themselves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest


@dataclass(frozen=True)
class Record:
    """A result as an artifact: its kind, its key and where it lies below paths.output, not itself."""

    kind: str
    key: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def made(self) -> Any:
        """The artifact; the same record makes the same version of it in every run."""
        import wandb

        artifact = wandb.Artifact(
            f"{self.kind}-{self.key}", type=self.kind, metadata=dict(self.facts)
        )
        with artifact.new_file("record.json") as file:
            json.dump({"kind": self.kind, "key": self.key, **self.facts}, file, sort_keys=True)
        return artifact


def of_cohort(cohort: Manifest) -> Record:
    """The record of a cohort."""
    return Record("cohort", cohort.digest()[:12])


def of_lora(key: str) -> Record:
    """The record of a generator's fine-tuning, by the key of its job."""
    return Record("lora", key, {"folder": f"finetune/{key}"})


def of_pool(store: ImageStore) -> Record:
    """The record of a pool."""
    return Record("pool", store.key, {"folder": f"pools/{store.folder.name}"})


def log(run: Any, record: Record) -> None:
    """The run has made this."""
    run.log_artifact(record.made())


def use(run: Any, record: Record) -> None:
    """The run rests on this.

    It is what `run.use_artifact` does, but offline as well, and without waiting for the server.
    """
    run._log_artifact(record.made(), is_user_created=True, use_after_commit=True)
