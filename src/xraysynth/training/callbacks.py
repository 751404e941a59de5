"""Lightning callbacks of a training: its record, its checkpoints, and early stopping."""

import shlex
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping

from xraysynth.errors import DamageError
from xraysynth.files import atomic_path, remove_leftovers, sha256_file, write_atomically
from xraysynth.training.classifier import threads_for_batch

CHECKPOINT_FILE = "last.ckpt"
"""File that a killed training resumes from."""

CHECKPOINT_DIGESTS_FILE = "last.ckpt.sha256"
"""File with the SHA-256 of the checkpoint, and of the one that it replaces, one per line."""

BEST_WEIGHTS_FILE = "best.safetensors"
"""File of the weights with the best validation score so far."""

MONITOR = "val/macro_f1"
"""Score that decides early stopping and the best weights, on real validation images only."""


class RealImageEarlyStopping(EarlyStopping):
    """Early stopping that ignores scores from before the first step on real images."""

    @property
    def state_key(self) -> str:
        """Key of its state in a checkpoint: that of Lightning's class, as earlier versions wrote it."""
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts the validation, if real images were trained on before it."""
        if trainer.global_step > _first_real_step(trainer):
            super().on_validation_end(trainer, pl_module)


class ThreadChooser(Callback):
    """Sets the number of threads by the size of the network and its batches, at the first step."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Chooses the number, once."""
        if batch_idx == 0:
            torch.set_num_threads(threads_for_batch(module, batch["image"]))


class FitRecorder(Callback):
    """Records every validation, saves the best weights, and writes the checkpoint to resume from.

    Attributes:
        history: One entry per validation: step, time, scores, and the training loss since the last.
        first_real_step: Number of steps before the first on real images.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start_time = time.monotonic()
        self._seconds_before: float | None = 0.0
        self._losses: list[torch.Tensor] = []
        self._best_sha256 = ""
        self.history: list[dict[str, float]] = []
        self.first_real_step = 0

    @property
    def state_key(self) -> str:
        """Key of its state in a checkpoint, as earlier versions wrote it."""
        return "_Keeper"

    @property
    def best_validation(self) -> dict[str, float] | None:
        """The validation with the highest score; the latest of several.

        Only weights that have seen real images count; None if there are none yet.
        """
        best = None
        for entry in self.history:
            if entry["step"] <= self.first_real_step:
                continue
            if best is None or entry[MONITOR] >= best[MONITOR]:
                best = entry
        return best

    @property
    def seconds(self) -> float | None:
        """Time of training so far, including that before an interruption; None if unknown."""
        if self._seconds_before is None:
            return None
        return self._seconds_before + time.monotonic() - self._start_time

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Reads from the data module where real images begin."""
        self.first_real_step = _first_real_step(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Returns what the checkpoint holds of the record."""
        state = {"history": self.history, "seconds": self.seconds}
        return state | {"best_sha256": self._best_sha256}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues the record of a checkpoint."""
        self.history = list(state_dict["history"])
        self._seconds_before = state_dict.get("seconds")  # earlier versions kept none
        self._best_sha256 = state_dict.get("best_sha256", "")  # likewise

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        """Collects the training loss."""
        if trainer.global_step == self.first_real_step + 1:
            self._losses = []  # a mean over both phases would be the loss of neither
        self._losses.append(outputs["loss"].detach())

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Records the validation, and saves the best weights and the checkpoint."""
        entry = {"step": trainer.global_step, "seconds": time.time()}
        for name, value in trainer.callback_metrics.items():
            entry[name] = float(value)
        if self._losses:
            loss = torch.stack(self._losses).mean()
            entry["train/loss"] = float(trainer.strategy.reduce(loss, reduce_op="mean"))
            self._losses = []
        self.history.append(entry)
        if self.best_validation is entry and trainer.is_global_zero:
            module.save(self._folder / BEST_WEIGHTS_FILE)
            self._best_sha256 = sha256_file(self._folder / BEST_WEIGHTS_FILE)
        if trainer.state.fn == "fit":
            self._save_checkpoint(trainer)

    def best_weights(self) -> Path:
        """Returns the file of the best weights; `DamageError` if it was altered."""
        path = self._folder / BEST_WEIGHTS_FILE
        if not path.is_file() or self._best_sha256 not in ("", sha256_file(path)):
            raise _damaged_checkpoint(path)
        return path

    def _save_checkpoint(self, trainer: pl.Trainer) -> None:
        path = self._folder / CHECKPOINT_FILE
        if trainer.is_global_zero:
            remove_leftovers(path)
            with atomic_path(path) as partial:
                trainer.save_checkpoint(partial)
                # Before the file is replaced: killed in between, either of the two is there.
                self._write_digests(sha256_file(partial))
        else:
            trainer.save_checkpoint(path)  # writes nothing, and waits for the first process

    def _write_digests(self, sha256: str) -> None:
        """Records the SHA-256 of the next checkpoint before that of the present one."""
        path = self._folder / CHECKPOINT_DIGESTS_FILE
        digests = [sha256]
        if path.exists():
            digests.append(path.read_text().split("\n")[0])
        write_atomically(path, "\n".join(digests).encode())


def find_checkpoint(folder: Path) -> Path | None:
    """Returns the checkpoint that a training resumes from; None if there is none yet.

    Raises:
        DamageError: The checkpoint was altered or cut short; the message has the remedy.
    """
    path, digests_path = folder / CHECKPOINT_FILE, folder / CHECKPOINT_DIGESTS_FILE
    if not path.exists():
        return None
    try:
        if digests_path.exists():
            is_intact = sha256_file(path) in digests_path.read_text().split("\n")
        else:  # an earlier version wrote it
            torch.load(path, map_location="cpu", weights_only=True)
            is_intact = True
    except Exception:  # torch and pickle raise different kinds
        is_intact = False
    if not is_intact:
        raise _damaged_checkpoint(path)
    return path


def _damaged_checkpoint(path: Path) -> DamageError:
    checkpoint = shlex.quote(str(path.with_name(CHECKPOINT_FILE)))
    return DamageError(
        f"{path} is damaged: it is not what the training has written. To train from the start, remove "
        f"the checkpoint (rm {checkpoint}) and run it again"
    )


def _first_real_step(trainer: pl.Trainer) -> int:
    """Steps before the first on real images; 0 for a data module that has no phases."""
    return int(getattr(trainer.datamodule, "first_real_step", 0))  # type: ignore[attr-defined]
