"""Steps per second of LoRA training: xraysynth.generation.lora against the loop that diffusers' example has.

The example (examples/text_to_image/train_text_to_image_lora.py) decodes files in a DataLoader and
runs the autoencoder and the text encoder at every step; its structure is rebuilt here. Both sides
take the same model, files, images, captions, noise and timesteps, and start from the same LoRA
weights. Their steps alternate in one process, so that a busy machine slows both; preparing the
cache is not in our rate, and is reported as `prepared_seconds`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.optimization import get_scheduler
from diffusers.training_utils import cast_training_params, compute_snr
from diffusers.utils import logging
from peft import LoraConfig
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.utils import logging as transformers_logging

from xraysynth.data.sources.simulated import Simulated
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.generation.lora.examples import Examples
from xraysynth.generation.lora.latents import Latents
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.generation.lora.training import train
from xraysynth.generation.prompts import PromptBank
from xraysynth.images import encode_png
from xraysynth.records import CLASSES, CaptionedImages

PROMPTS = Path(__file__).parents[1] / "conf" / "prompts" / "curated.yaml"
CAPTIONS_PER_IMAGE = 4
RENDER_PX = 64
CUDA = torch.cuda.is_available()


def embedded() -> Any:
    """The tiny model that ships with the package: one channel, 64 px."""
    return StableDiffusionPipeline.from_pretrained(StableDiffusion().model_folder)


def large() -> Any:
    """A pipeline of the shape of Stable Diffusion 1.5 with random weights: 512 px."""
    small = embedded()
    small.tokenizer.model_max_length = 77
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        bos_token_id=small.text_encoder.config.bos_token_id,
        eos_token_id=small.text_encoder.config.eos_token_id,
        pad_token_id=small.text_encoder.config.pad_token_id,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=512,
    )
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=small.tokenizer,
        unet=unet,
        scheduler=small.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def radiographs(n: int) -> tuple[list[np.ndarray], list[list[str]]]:
    """Simulated images `(64, 64)`, and captions of their classes."""
    bank = PromptBank(**yaml.safe_load(PROMPTS.read_text()))
    rows = Simulated(patients_per_class=-(-n // len(CLASSES))).rows()
    rows = rows.groupby("label").head(-(-n // len(CLASSES))).head(n)
    images = [Simulated().load(locator, RENDER_PX).pixels for locator in rows["locator"]]
    captions = [
        [bank.prompt(label, i * CAPTIONS_PER_IMAGE + k, seed=0) for k in range(CAPTIONS_PER_IMAGE)]
        for i, label in enumerate(rows["label"])
    ]
    return images, captions


def write_files(images: list[np.ndarray], folder: Path, side_px: int) -> list[Path]:
    """The images as PNG files of another side, with the fine noise of a detector."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for number, image in enumerate(images):
        if side_px != RENDER_PX:
            large = Image.fromarray(image).resize((side_px, side_px), Image.Resampling.BICUBIC)
            noisy = np.asarray(large, np.float32) + rng.normal(0, 1.5, (side_px, side_px))
            image = noisy.clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{number:04d}.png")
        paths[-1].write_bytes(encode_png(image))
    return paths


class Files(Dataset[dict[str, torch.Tensor]]):
    """Files and tokens as the example has them: decoded, resized and normalised at every access."""

    def __init__(self, paths: list[Path], tokens: torch.Tensor, side_px: int, channels: int):
        self.paths, self.tokens, self.mode = paths, tokens, {1: "L", 3: "RGB"}[channels]
        self.transform = transforms.Compose(
            [
                transforms.Resize(side_px, interpolation=transforms.InterpolationMode.LANCZOS),
                transforms.CenterCrop(side_px),
                transforms.Lambda(lambda image: image),  # in place of a flip, which is off
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Any) -> dict[str, torch.Tensor]:
        image, caption = key
        with Image.open(self.paths[image]) as file:
            pixels = self.transform(file.convert(self.mode))
        return {"pixel_values": pixels, "input_ids": self.tokens[caption]}


def their_steps(
    pipeline: Any, files: Files, draws: Examples, recipe: LoraRecipe, start: dict[str, Any]
) -> Iterator[float]:
    """Losses of the example's loop, one at each `peek`."""
    accelerator = Accelerator(cpu=not CUDA, mixed_precision="bf16" if CUDA else "no")
    dtype = torch.bfloat16 if CUDA else torch.float32
    unet, vae, text_encoder = pipeline.unet, pipeline.vae, pipeline.text_encoder
    for module in (unet, vae, text_encoder):
        module.requires_grad_(False)
        module.to(accelerator.device, dtype=dtype)
    config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=recipe.targets)
    unet.add_adapter(config)
    cast_training_params(unet, dtype=torch.float32)
    unet.load_state_dict(start, strict=False)
    lora_layers = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        lora_layers, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    warmup = round(recipe.warmup_fraction * recipe.steps)
    counts = {"num_warmup_steps": warmup, "num_training_steps": recipe.steps}
    schedule = get_scheduler("cosine", optimizer, **counts)
    batches = [draws.draw(step, recipe) for step in range(recipe.steps)]
    order = [list(zip(_images(b), b.caption_ids.tolist(), strict=True)) for b in batches]
    loader = DataLoader(files, batch_sampler=order, num_workers=0)
    unet, optimizer, schedule = accelerator.prepare(unet, optimizer, schedule)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    unet.train()
    for batch, drawn in zip(loader, batches, strict=True):
        with accelerator.accumulate(unet):
            pixels = batch["pixel_values"].to(accelerator.device, dtype)
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
            noise = drawn.noise.to(latents)
            timesteps = drawn.timesteps.to(latents.device)
            noisy = scheduler.add_noise(latents, noise, timesteps)
            with torch.no_grad():
                states = text_encoder(batch["input_ids"].to(latents.device), return_dict=False)[0]
            prediction = unet(noisy, timesteps, states, return_dict=False)[0]
            snr = compute_snr(scheduler, timesteps)
            limit = recipe.min_snr_gamma * torch.ones_like(timesteps)
            weight = torch.stack([snr, limit], dim=1).min(dim=1)[0] / snr
            loss = torch.nn.functional.mse_loss(prediction.float(), noise.float(), reduction="none")
            loss = (loss.mean(dim=list(range(1, loss.ndim))) * weight).mean()
            average = accelerator.gather(loss.repeat(recipe.batch_size)).mean()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(lora_layers, recipe.gradient_clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        yield average.item()


def _images(batch: Any) -> list[int]:
    return [round(value) for value in batch.latents.flatten(1)[:, 0].tolist()]


def numbered(captions: list[list[str]], shape: tuple[int, ...]) -> tuple[list[str], Examples]:
    """The prompts as `train` numbers them, and examples whose latents are the image's number."""
    prompts = sorted({text for texts in captions for text in texts} | {""})
    number = {text: index for index, text in enumerate(prompts)}
    means = torch.arange(len(captions)).float().view(-1, 1, 1, 1, 1).expand(-1, 1, *shape)
    numbers = [[number[text] for text in texts] for texts in captions]
    return prompts, Examples(Latents(means, torch.zeros_like(means)), numbers, number[""], 1000)


def compare(
    images: list[np.ndarray],
    captions: list[list[str]],
    folder: Path,
    *,
    side_px: int,
    **options: Any,
) -> dict[str, float]:
    """Both sides on files of one side; seconds a step, and how far the losses are apart."""
    build = large if CUDA else embedded
    mine, other = build(), build()
    drawn_px = mine.unet.config.sample_size * mine.vae_scale_factor
    recipe = LoraRecipe(**options)
    shape = (mine.unet.config.in_channels, *(mine.unet.config.sample_size,) * 2)
    prompts, draws = numbered(captions, shape)
    words = other.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
    channels = mine.vae.config.in_channels
    files = Files(
        write_files(images, folder / "files", side_px), words.input_ids, drawn_px, channels
    )
    pixels = [files[number, 0]["pixel_values"][0] for number in range(len(images))]
    arrays = (torch.stack(pixels) * 127.5 + 127.5).round().byte().numpy()
    theirs: list[float] = []
    their_losses: list[float] = []
    memory: dict[str, float] = {}

    def their_step(entry: dict[str, float]) -> None:
        begun = time.perf_counter()
        their_losses.append(next(loop))
        theirs.append(time.perf_counter() - begun)

    # One step of our side shows the weights it starts from, and warms both sides up.
    free = torch.cuda.memory_allocated() if CUDA else 0
    cache, data = folder / "cache", CaptionedImages(arrays, captions)
    begun = time.perf_counter()
    first = LoraRecipe(**options | {"steps": 1, "learning_rate": 1e-20})
    warm = build()
    train(warm, data, None, first, folder=folder / "warm", cache=cache)
    prepared = time.perf_counter() - begun
    start = {n: p.detach().clone() for n, p in warm.unet.named_parameters() if p.requires_grad}
    if CUDA:
        memory["ours_gib"] = round((torch.cuda.max_memory_allocated() - free) / 2**30, 2)
    del warm
    loop = their_steps(other, files, draws, recipe, start)
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        free = torch.cuda.memory_allocated()
        next(their_steps(other, files, draws, recipe, start))
        memory["theirs_gib"] = round((torch.cuda.max_memory_allocated() - free) / 2**30, 2)
        other.unload_lora_weights()
    result = train(mine, data, None, recipe, folder=folder / "run", cache=cache, on_log=their_step)
    our_losses = [entry["loss"] for entry in result.history]
    return {
        "ours": result.seconds_per_step,
        "theirs": float(np.mean(theirs)),
        "our_loss": float(np.mean(our_losses)),
        "their_loss": float(np.mean(their_losses)),
        "largest_difference": float(np.abs(np.subtract(our_losses, their_losses)).max()),
        "prepared_seconds": prepared,
        **memory,
    }


def compiled_step(
    images: np.ndarray, captions: list[list[str]], **options: Any
) -> dict[str, float]:
    """Seconds of a step of our loop once torch has compiled the UNet, and what compiling took."""
    times, last = [], [time.perf_counter()]

    def log(_: dict[str, float]) -> None:
        now = time.perf_counter()
        times.append(now - last[0])
        last[0] = now

    recipe = LoraRecipe(**options, compile=True, val_every_steps=options["steps"])
    side_px = RENDER_PX if not CUDA else 512
    arrays = np.stack([np.asarray(Image.fromarray(i).resize((side_px, side_px))) for i in images])
    with tempfile.TemporaryDirectory() as folder:
        data = CaptionedImages(arrays, captions)
        pipeline = large() if CUDA else embedded()
        train(pipeline, data, None, recipe, folder=Path(folder), cache=Path(folder), on_log=log)
    return {"step": float(np.median(times)), "compiling_seconds": times[0]}


def main() -> None:
    """Files of 1024 px, as public sets ship them, and of the side the embedded model draws at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--compile", action="store_true", help="also our loop with torch.compile")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    images, captions = radiographs(options.images)
    sides = (1024, 512) if CUDA else (1024, RENDER_PX)
    recipe = {"steps": options.steps, "batch_size": options.batch_size, "learning_rate": 1e-3}
    found = {}
    for side_px in sides:
        with tempfile.TemporaryDirectory() as folder:
            figures = compare(images, captions, Path(folder), side_px=side_px, **recipe)
        found[side_px] = figures | {"ratio": figures["theirs"] / figures["ours"]}
        print(f"files of {side_px} px: {found[side_px]}", file=sys.stderr)
    figures = found[sides[0]]
    device = torch.cuda.get_device_name() if CUDA else f"cpu, {torch.get_num_threads()} threads"
    result = {
        "name": "lora_training",
        "ratio": round(figures["ratio"], 2),
        f"ratio_of_{sides[1]}_px_files": round(found[sides[1]]["ratio"], 2),
        "ours": round(1 / figures["ours"], 2),
        "theirs": round(1 / figures["theirs"], 2),
        "unit": f"steps/s from files of {sides[0]} px",
        "device": device,
        "n": options.steps,
        "our_loss": round(figures["our_loss"], 4),
        "their_loss": round(figures["their_loss"], 4),
        "largest_difference": round(figures["largest_difference"], 4),
        "prepared_seconds": round(figures["prepared_seconds"], 1),
        **{name: value for name, value in figures.items() if name.endswith("_gib")},
    }
    if options.compile:
        compiled = compiled_step(images, captions, **recipe)
        result["ratio_compiled"] = round(figures["theirs"] / compiled["step"], 2)
        result["compiling_seconds"] = round(compiled["compiling_seconds"], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
