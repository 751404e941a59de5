"""A LoRA as files: its weights, or those of each class, and the records beside them."""

import json
from dataclasses import dataclass
from pathlib import Path

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.records import JsonObject

LORA_WEIGHT_NAME = "pytorch_lora_weights.safetensors"
FINETUNE_IDENTITY_FILE = "lesson.json"
"""File beside the weights that says which model they adapt, and by which recipe."""


@dataclass(frozen=True)
class LoraFolder:
    """The LoRA that generator `name` finds at `weights`: a folder, or a file in one."""

    name: str
    weights: str | None

    @property
    def path(self) -> Path:
        """The folder; `ConfigError` where there is none yet, or for a pickle."""
        if self.weights is None:
            raise ConfigError(
                f"generator.{self.name} has no LoRA yet; make it with `xraysynth finetune`, or name one "
                f"in generator.{self.name}.weights"
            )
        path = Path(self.weights).expanduser()
        if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"):
            raise ConfigError(
                f"generator.{self.name}.weights: {path.name} is a pickle, which can run code when it is "
                "read; only safetensors are loaded. Convert it where you trust it"
            )
        return path.parent if path.suffix == ".safetensors" else path

    @property
    def weight_files(self) -> list[Path]:
        """The LoRA, or one per class."""
        folder = self.path
        name = Path(str(self.weights)).name
        file = folder / (name if name.endswith(".safetensors") else LORA_WEIGHT_NAME)
        files = [file] if file.exists() else sorted(folder.glob(f"*/{LORA_WEIGHT_NAME}"))
        if not files:
            pickles = [p.name for p in folder.glob("*.bin")]
            hint = f"; {pickles[0]} is a pickle and is not read" if pickles else ""
            raise DataNotFoundError(
                f"generator.{self.name}.weights: no {file.name} in {folder}{hint}; make it with "
                "`xraysynth finetune`, or name the folder or file of a LoRA"
            )
        return files

    def find_file(self, name: str) -> Path | None:
        """A file beside the LoRA, or beside all of those of the classes, if there is one."""
        folder = self.path
        return next((f / name for f in (folder, folder.parent) if (f / name).is_file()), None)

    @property
    def finetune_identity(self) -> JsonObject:
        """What the weights were made by (`Learner.finetune_identity`); empty where that is not recorded."""
        path = self.find_file(FINETUNE_IDENTITY_FILE)
        return {} if path is None else dict(json.loads(path.read_text()))
