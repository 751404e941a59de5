"""Stable Diffusion with low-rank adaptation to the study's own training images."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth.errors import ConfigError
from xraysynth.files import write_atomically
from xraysynth.generation.generators._loading import parameters, shapes
from xraysynth.generation.generators.base import Card, FineTuning, Listener
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.lora.folder import BASE, LoraFolder
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.generation.schedulers import ZERO_TERMINAL, takes, zero_terminal
from xraysynth.records import (
    LEARNED,
    Captioned,
    Generated,
    JsonObject,
    LearningRecord,
    Request,
    sha256_bytes,
    to_json,
)
from xraysynth.seeds import digest

if TYPE_CHECKING:  # torch takes seconds to import
    from xraysynth.generation.lora.training import LoraResult


@dataclass(frozen=True)
class SdLora(StableDiffusion):
    """Stable Diffusion whose UNet carries a LoRA (Hu et al., arXiv:2106.09685).

    Without `weights` it learns from the train split by the recipe `lora` (`xraysynth finetune`);
    `weights` names the folder of one that exists: of an earlier run, or any that diffusers reads.
    `scale` is the strength of the adaptation. `taught_by` is the key of the job that made the
    weights, set by the stages: it stands for them before they exist.
    """

    name: str = "sd_lora"
    weights: str | None = field(default=None, metadata={"identity": False})
    scale: float = 1.0
    lora: LoraRecipe = field(default_factory=LoraRecipe, metadata={"identity": False})
    taught_by: str | None = None

    @property
    def card(self) -> Card:
        """How this generator can be had and steered."""
        return replace(
            super().card,
            title=f"{super().card.title} with LoRA",
            set_up="fine-tune once on the train split",
            hardware="two CPU cores" if self.folder else "a GPU of 12 GB",
        )

    def content_digest(self) -> str:
        """Of the base model, and of the weights or of the job that makes them."""
        by: Any = self.taught_by
        if by is None:
            by = [sha256_bytes(path.read_bytes()) for path in self._folder.weight_files]
        # Earlier versions drew these images from a schedule that ended with signal left.
        redrawn = ["zero terminal SNR"] if self._redrawn else []
        return digest([super().content_digest(), by, *redrawn])

    @property
    def _zero_terminal_snr(self) -> bool:
        """Whether the LoRA was trained, or will be, with zero terminal SNR."""
        if self.taught_by is not None:
            return self.lora.zero_terminal_snr
        return bool(self._folder.lesson.get("recipe", {}).get("zero_terminal_snr"))

    @property
    def _redrawn(self) -> bool:
        """Whether zero terminal SNR is set, and the model's own scheduler cannot be given it."""
        if not self._zero_terminal_snr:
            return False
        if self.folder is None:  # on a hub: unknown before it is downloaded
            return True
        import diffusers

        _, kind = json.loads((self.folder / "model_index.json").read_text())["scheduler"]
        return not takes(getattr(diffusers, kind), *ZERO_TERMINAL)

    def lesson(self) -> JsonObject:
        """What decides the weights, besides the images and captions."""
        return {"base": super().content_digest(), "recipe": to_json(self.lora)}

    def taught(self, by: str, folder: Path) -> "SdLora":
        """This generator with the weights that job `by` leaves in `folder`."""
        return replace(self, weights=str(folder), taught_by=by)

    @property
    def untaught(self) -> bool:
        """True while nobody has said where the weights are."""
        return self.weights is None

    @property
    def caption_column(self) -> str | None:
        """Column of the manifest with captions; None for the prompt bank."""
        return None if self.lora.captions == "prompts" else self.lora.captions

    @property
    def captions_per_image(self) -> int:
        """Captions from the prompt bank for every image."""
        return self.lora.captions_per_image

    @property
    def _folder(self) -> LoraFolder:
        return LoraFolder(self.name, self.weights)

    def learned(self) -> LearningRecord | None:
        """The record of what it has seen; None for a LoRA that came without."""
        path = self._folder.find(LEARNED)
        return None if path is None else LearningRecord.read(path)

    def measured(self) -> Ledger:
        """As for the base, and how many parameters were trained."""
        model = super().measured()
        trained_parameters = sum(map(parameters, self._folder.weight_files))
        parts = [StableDiffusion.measured(part) for part in self._by_class.values()]
        loaded = [part for part in parts if part.load_seconds is not None]
        if loaded:  # each class loads a pipeline of its own
            load_seconds = sum(part.load_seconds or 0.0 for part in loaded)
            model = replace(loaded[-1], load_seconds=load_seconds)
        return replace(model, trained_parameters=trained_parameters)

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """One result per request, in order; with one LoRA a class, each class by its own."""
        if not self._by_class:
            yield from super().generate(requests)
            return
        for label, group in groupby(requests, key=lambda r: r.label):
            if label not in self._by_class:
                raise ConfigError(
                    f"generator.{self.name}.weights: {self._folder.path} has a LoRA for "
                    f"{', '.join(self._by_class)}, but none for class {label}; fine-tune again"
                )
            yield from self._by_class[label].generate(list(group))

    @cached_property
    def _by_class(self) -> "dict[str, SdLora]":
        """A generator a class where every class has a LoRA of its own, else none."""
        files = self._folder.weight_files
        if files[0].parent == self._folder.path:
            return {}
        return {path.parent.name: replace(self, weights=str(path)) for path in files}

    def teach(
        self,
        examples: Callable[[int], tuple[Captioned, Captioned]],
        *,
        folder: Path,
        cache: Path,
        listener: Listener,
    ) -> FineTuning:
        """Fine-tune on `examples(side_px)`, a training and a validation set; weights go to `folder`.

        Killed and started again with the same folder, it goes on from its last checkpoint.
        """
        import torch

        pipeline = self.load_pipeline(torch.float32)
        training, validation = examples(self._side_px(pipeline))
        results = {}
        for part in sorted(set(training.labels)) if self.lora.per_class else [""]:
            pair = (training.of(part), validation.of(part)) if part else (training, validation)
            fresh = pipeline or self.load_pipeline(torch.float32)
            results[part] = self._teach_one(fresh, pair, folder / part, cache, listener)
            pipeline = None  # it is adapted now
        write_atomically(folder / BASE, json.dumps(self.lesson()).encode())
        return _add_up(results)

    def _teach_one(
        self,
        pipeline: Any,
        examples: tuple[Captioned, Captioned],
        folder: Path,
        cache: Path,
        listener: Listener,
    ) -> "LoraResult":
        from xraysynth.generation.lora.training import train

        training, validation = examples
        prefix = f"{folder.name}/" if self.lora.per_class else ""

        def show(tuned: Any, step: int) -> None:
            listener.samples(*self._samples(tuned, training), step=step, prefix=prefix)

        return train(
            pipeline,
            training,
            validation,
            self.lora,
            folder=folder,
            cache=cache,
            on_log=lambda entry: listener.log(entry, prefix=prefix),
            on_validation=show if self.lora.samples_per_class else None,
        )

    def _samples(self, pipeline: Any, training: Captioned) -> tuple[np.ndarray, list[str]]:
        """A few images of every class by the weights so far, always from the same noise."""
        import torch

        captions = [
            caption
            for label in sorted(set(training.labels))
            for caption in training.of(label).captions[0][: self.lora.samples_per_class]
        ]
        images = pipeline(
            captions,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=[torch.Generator("cpu").manual_seed(n) for n in range(len(captions))],
            output_type="np",
        ).images
        return np.asarray(images).mean(axis=-1), captions

    def _adapted(self, pipeline: Any) -> Any:
        """The pipeline with the LoRA fused into its weights, so that it costs no time."""
        self._require_same_base()
        (path,) = self._folder.weight_files
        try:
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
        except Exception as error:  # safetensors and torch raise different kinds
            raise ConfigError(
                f"generator.{self.name}.weights: {path} cannot be put on {self.model}: "
                f"{str(error).splitlines()[0]}. The file is damaged, or the LoRA of another model; "
                "fine-tune again or name its own base in "
                f"generator.{self.name}.model"
            ) from error
        self._require_all_loaded(pipeline, path)
        pipeline.fuse_lora(lora_scale=self.scale)
        pipeline.unload_lora_weights()
        if self._zero_terminal_snr:
            # The scheduler that samples is built from this one's config.
            pipeline.scheduler = zero_terminal(pipeline.scheduler)
        return pipeline

    def _require_all_loaded(self, pipeline: Any, path: Path) -> None:
        """Diffusers passes over weights whose names it cannot place, and says nothing."""
        modules = [part for part in pipeline.components.values() if hasattr(part, "parameters")]
        placed = sum("lora_" in name for part in modules for name, _ in part.named_parameters())
        weights = sum(not name.endswith("alpha") for name in shapes(path))
        if placed != weights:
            raise ConfigError(
                f"generator.{self.name}.weights: of {weights} weights in {path} diffusers has put {placed} "
                "on the model, and passed over the others; save the LoRA in peft's names "
                "(lora_A, lora_B) throughout"
            )

    def _require_same_base(self) -> None:
        own = StableDiffusion.content_digest(self)
        base = self._folder.lesson.get("base", own)  # else the shapes are checked when it is loaded
        if base != own:
            raise ConfigError(
                f"generator.{self.name}.weights: the LoRA in {self._folder.path} adapts another model than "
                f"generator.{self.name}.model={self.model} (weights {base[:12]}, not {own[:12]}); name "
                "its base, or fine-tune again"
            )


def _add_up(results: "Mapping[str, LoraResult]") -> FineTuning:
    """One LoRA's figures, or those of one a class together."""
    history: list[Mapping[str, float | str]] = []
    for part, result in results.items():
        history += [{"part": part, **entry} for entry in result.history]
    return FineTuning(
        steps=sum(result.steps for result in results.values()),
        seconds=sum(result.seconds for result in results.values()),
        trained_parameters=sum(result.trained_parameters for result in results.values()),
        history=history,
    )
