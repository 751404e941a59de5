"""One Weights & Biases run per job, inside the job's folder, closed whatever happens."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xraysynth.config import Config, TrackingMode
from xraysynth.job import Job
from xraysynth.manifest import Manifest
from xraysynth.store import ImageStore

IMAGES_PER_CLASS = 8
"""Images of a class in a W&B table, in the order of their hashes: none is picked."""


@contextmanager
def tracked(config: Config, job: Job) -> Iterator[Any]:
    """The W&B run of a job, grouped by study; None where tracking is disabled.

    All files stay below the job's folder: without these variables the images of offline tables land
    in the home folder and are lost. The run is closed in any case, or the jobs of a multirun become
    one run.
    """
    if config.tracking.mode is TrackingMode.disabled:
        yield None
        return
    folder = job.folder / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("DATA", "CACHE", "CONFIG"):
        os.environ[f"WANDB_{name}_DIR"] = str(folder / name.lower())
    os.environ["WANDB_SILENT"] = "true"  # its address and hints would mix with the progress
    import wandb

    run = wandb.init(
        mode=config.tracking.mode.value,
        project=config.tracking.project,
        entity=config.tracking.entity,
        group=config.study.name,
        job_type=job.stage,
        name=f"{job.stage}-{job.key}",
        tags=[job.stage, *config.source, *config.generator, *config.tracking.tags],
        config=config.plain(),
        dir=str(job.folder),
        settings=wandb.Settings(console="off", save_code=False),
    )
    failed = True
    try:
        yield run
        failed = False
    finally:
        run.finish(exit_code=int(failed))


def lightning_logger(run: Any) -> Any:
    """The run as a Lightning logger, for the curves of training."""
    if run is None:
        return None
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(experiment=run)


@dataclass(frozen=True)
class Learning:
    """Curves and sample grids of a fine-tuning, for the W&B run; silent where there is none."""

    run: Any

    def log(self, entry: Mapping[str, float], *, prefix: str) -> None:
        """Values of a step under `finetune/`."""
        if self.run is not None:
            self.run.log({f"finetune/{prefix}{name}": value for name, value in entry.items()})

    def samples(
        self, images: np.ndarray, captions: Sequence[str], *, step: int, prefix: str
    ) -> None:
        """Images `(N, H, W)` in [0, 1] made at a step, with their captions."""
        if self.run is not None:
            import wandb

            shown = [
                wandb.Image((image * 255).clip(0, 255).astype(np.uint8), caption=caption)
                for image, caption in zip(images, captions, strict=True)
            ]
            self.run.log({f"finetune/{prefix}samples": shown, f"finetune/{prefix}step": step})


def log_pool(run: Any, pool: Manifest, store: ImageStore, summary: Mapping[str, Any]) -> None:
    """Image table, outcomes and the pool as an artifact."""
    if run is None:
        return
    import wandb

    table = pool.table.sort_values("sha256").groupby("label").head(IMAGES_PER_CLASS)
    chosen = table.sort_values(["label", "sha256"])
    shown = wandb.Table(columns=["image", "label", "prompt", "seed", "image_id"])
    for row in chosen.itertuples():
        shown.add_data(
            wandb.Image(str(pool.folder / str(row.path))),
            row.label,
            row.prompt,
            row.seed,
            row.image_id,
        )
    run.log({"images": shown})
    run.summary.update(dict(summary))
    _artifact(run, _Artifact(f"pool-{store.key}", "pool", store.folder), made_from=[])


def log_training(
    run: Any,
    summary: Mapping[str, Any],
    probabilities: np.ndarray,
    targets: np.ndarray,
    *,
    job: Job,
    cohort: Manifest,
    pools: Sequence[ImageStore],
) -> None:
    """Test scores with intervals, confusion matrix, PR curves, and weights and predictions."""
    if run is None:
        return
    import wandb

    classes = list(cohort.classes)
    guesses = probabilities.argmax(axis=1).tolist()
    confusion = wandb.plot.confusion_matrix(
        y_true=targets.tolist(), preds=guesses, class_names=classes
    )
    curves = wandb.plot.pr_curve(targets.tolist(), probabilities.tolist(), labels=classes)
    losses: Any = [
        [entry["step"], entry["train/loss"]]
        for entry in summary["history"]
        if "train/loss" in entry
    ]
    run.log(
        {
            "test/confusion": confusion,
            "test/pr": curves,
            "train/loss": wandb.Table(columns=["step", "loss"], data=losses),
        }
    )
    scores = {f"test/{name}": value for name, value in summary["scores"].items()}
    plain = {k: v for k, v in summary.items() if k not in ("scores", "history")}
    run.summary.update(plain | scores)
    made_from = [_Artifact(f"cohort-{cohort.digest()[:12]}", "cohort", cohort.folder)]
    made_from += [_Artifact(f"pool-{s.key}", "pool", s.folder) for s in pools]
    _artifact(
        run, _Artifact(f"classifier-{job.key}", "classifier", job.folder), made_from=made_from
    )


def log_evaluation(run: Any, summary: Mapping[str, Any]) -> None:
    """Fidelity, diversity, memorisation and appearance as tables, fidelity in the summary too."""
    if run is None:
        return
    import wandb

    for name in ("fidelity", "diversity", "memorization", "appearance"):
        rows: Sequence[Mapping[str, Any]] = summary[name]
        columns: Any = list(rows[0]) if rows else []
        data: Any = [[row[column] for column in columns] for row in rows]
        run.log({name: wandb.Table(columns=columns, data=data)})
    run.summary.update({row["metric"]: row["value"] for row in summary["fidelity"]})


class _Artifact(NamedTuple):
    """A folder that is logged by reference."""

    name: str
    kind: str
    folder: Path

    def made(self, **metadata: Any) -> Any:
        import wandb

        artifact = wandb.Artifact(self.name, type=self.kind, metadata=metadata)
        artifact.add_reference(f"file://{self.folder.resolve()}", checksum=False)
        return artifact


def _artifact(run: Any, result: _Artifact, *, made_from: Sequence[_Artifact]) -> None:
    """Log a result with its lineage, which offline runs cannot link: there it is metadata."""
    if not run.offline:
        for source in made_from:
            run.use_artifact(source.made())
    run.log_artifact(result.made(made_from=[source.name for source in made_from]))
