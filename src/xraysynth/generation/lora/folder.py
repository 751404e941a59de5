"""Finds the files of a LoRA that exists: its weights, or one file per class, and the records next to them."""

import json
from dataclasses import dataclass
from pathlib import Path

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.files import explain_unreadable
from xraysynth.options import expand_path
from xraysynth.records import JsonObject
from xraysynth.whole_weights import pickle_conversion_command

LORA_WEIGHT_NAME = "pytorch_lora_weights.safetensors"
FINETUNE_IDENTITY_FILE = "lesson.json"
"""File next to the weights that says which base model they adapt, and by which recipe."""


@dataclass(frozen=True)
class LoraFolder:
    """Location of a LoRA.

    Attributes:
        name: Name of the generator, for errors.
        weights: Folder of the LoRA, or its safetensors file; None before fine-tuning.
    """

    name: str
    weights: str | None

    @property
    def path(self) -> Path:
        """Folder of the LoRA; `ConfigError` before fine-tuning, and for a pickle."""
        if self.weights is None:
            raise ConfigError(
                f"generator.{self.name} has no LoRA yet; it is made by xraysynth finetune with the same "
                f"options, or name one in generator.{self.name}.weights"
            )
        path = expand_path(self.weights)
        if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"):
            raise ConfigError(
                f"generator.{self.name}.weights: {path.name} is a pickle, which can run code when it is "
                f"read; only safetensors are loaded. Convert it: {pickle_conversion_command(path)}"
            )
        return path.parent if path.suffix == ".safetensors" else path

    @property
    def weight_files(self) -> list[Path]:
        """Weight file of the LoRA, or one file per class, in folders named by the classes.

        Raises `DataNotFoundError` if the folder has neither.
        """
        file = self.path / self._file_name
        files = [file] if file.exists() else sorted(self.path.glob(f"*/{LORA_WEIGHT_NAME}"))
        if not files:
            pickles = list(self.path.glob("*.bin"))
            hint = ""
            if pickles:
                command = pickle_conversion_command(pickles[0])
                hint = f"; {pickles[0].name} is a pickle and is not read (convert it: {command})"
            raise DataNotFoundError(
                f"generator.{self.name}.weights: there is no {file.name} in {self.path}{hint}; name the "
                "folder or file of a LoRA, or leave the option out and make one by xraysynth finetune with "
                "the same options"
            )
        return files

    @property
    def _file_name(self) -> str:
        name = Path(str(self.weights)).name
        return name if name.endswith(".safetensors") else LORA_WEIGHT_NAME

    def find_file(self, name: str) -> Path | None:
        """Find a file next to the weights; for the LoRA of one class, also in the folder of all classes."""
        for folder in (self.path, self.path.parent):
            if (folder / name).is_file():
                return folder / name
        return None

    @property
    def finetune_identity(self) -> JsonObject:
        """Record of base model and recipe (`SdLora.finetune_identity`); empty if there is none."""
        path = self.find_file(FINETUNE_IDENTITY_FILE)
        if path is None:
            return {}
        with explain_unreadable(path, "delete it and run again what was run, or fine-tune again"):
            return dict(json.loads(path.read_text()))
