"""Images per second of Stable Diffusion 1.5 (random weights, 512 px), against diffusers' own pipeline.

On a CPU: OpenVINO in bfloat16 where it is installed (else torch in bfloat16) against float32, with the
same steps and seeds; and four steps without guidance (as with LCM-LoRA) against fifty with it. On a
GPU: against float16, at batch 1 and 8. `--tiny` takes the embedded model; `--full` runs all of the
fifty steps that are otherwise computed from the time of one.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any

import torch

import xraysynth
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.records import Request

EMBEDDED = Path(xraysynth.__file__).parent / "assets" / "tiny-sd"
PEAK_TFLOPS = {"A100": 312, "H100": 989, "H200": 989, "L4": 121, "L40S": 362, "4090": 165, "T4": 65}
"""Dense float16 of the makers' data sheets."""
PROMPT, NEGATIVE = "frontal chest radiograph, normal", "text, watermark"


def save_sd15(folder: Path) -> None:
    """A model of the shape of Stable Diffusion 1.5 with random weights, 4.3 GB."""
    from diffusers import (
        AutoencoderKL,
        PNDMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    wide, text = (320, 640, 1280, 1280), {"vocab_size": 49408, "projection_dim": 768}
    StableDiffusionPipeline(
        unet=UNet2DConditionModel(sample_size=64, block_out_channels=wide, cross_attention_dim=768),
        vae=AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=512,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, **text)
        ),
        tokenizer=CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer"),
        scheduler=PNDMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def requests(count: int) -> list[Request]:
    """The same for both sides."""
    return [Request("normal", n, PROMPT, NEGATIVE, n) for n in range(count)]


@contextmanager
def timed(what: str):
    """Seconds of a stretch of work, told on stderr."""
    found: dict[str, float] = {}
    began = time.perf_counter()
    yield found
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    found["seconds"] = time.perf_counter() - began
    print(f"{what}: {found['seconds']:.2f} s", file=sys.stderr, flush=True)


def noise_prediction(pipeline: Any) -> torch.Tensor:
    """What the UNet says of one fixed input, in the shape of a guided step."""
    unet = pipeline.unet
    generator = torch.Generator().manual_seed(1)
    side, width = unet.config.sample_size, unet.config.cross_attention_dim
    sample = torch.randn(2, 4, side, side, generator=generator)
    states = torch.randn(2, 77, width, generator=generator)
    sample, states = (t.to(pipeline.device, unet.dtype) for t in (sample, states))
    with torch.no_grad():
        return unet(sample, torch.tensor(500), states, return_dict=False)[0].float().cpu()


def stock(folder: Path, dtype: torch.dtype, batch: int, steps: int, device: str) -> dict[str, Any]:
    """diffusers' own pipeline as its documentation has it: seconds of a batch, a step, a decoding."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=dtype, safety_checker=None)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)

    def draw(count: int, output: str) -> Any:
        generators = [torch.Generator("cpu").manual_seed(n) for n in range(batch)]
        given = {"prompt": [PROMPT] * batch, "negative_prompt": [NEGATIVE] * batch}
        guided = {"guidance_scale": 7.5, "generator": generators}
        return pipeline(**given, **guided, num_inference_steps=count, output_type=output).images

    draw(1, "np")  # warm
    predicted = noise_prediction(pipeline)
    with timed(f"stock, batch {batch}, {steps} steps") as denoising:
        latents = draw(steps, "latent")
    with timed("stock, decoding") as decoding, torch.no_grad():
        pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor)
    step, decode = denoising["seconds"] / steps, decoding["seconds"]
    return {"step": step, "decode": decode, "batch": batch, "prediction": predicted}


def ours(folder: Path, count: int, **options: Any) -> dict[str, Any]:
    """The generator of this package: seconds an image over `count` images, a step, a decoding."""
    generator = StableDiffusion(model=str(folder), **options)
    batch, sampler = generator.batch_size, generator._sampler
    with timed(f"ours {options}, first batch"):
        list(generator.generate(requests(batch)))
    with timed("ours, denoising") as denoising:
        made = sampler._denoise(requests(batch), Event())
    with timed("ours, decoding") as decoding:
        sampler._decode_batch(made)
    with timed(f"ours, {count} images") as whole:
        results = list(generator.generate(requests(count)))
    assert len(results) == count
    return {
        "step": denoising["seconds"] / generator.steps,
        "decode": decoding["seconds"],
        "batch": batch,
        "image": whole["seconds"] / count,
        "generator": generator,
    }


def of(measured: dict[str, Any], steps: int) -> float:
    """Seconds an image at so many steps."""
    return float((steps * measured["step"] + measured["decode"]) / measured["batch"])


def on_cpu(folder: Path, *, steps: int, count: int, full: bool, tiny: bool) -> dict[str, Any]:
    """Both sides one after the other, since both in memory would be too much."""
    theirs = stock(folder, torch.float32, 1, 50 if full else steps, "cpu")
    engine = "openvino" if find_spec("openvino") else "torch"
    options = {"batch_size": 1, "device": "cpu", "engine": engine}
    guided = ours(folder, count, steps=steps, guidance=7.5, **options)
    error = noise_prediction(guided["generator"].pipeline) - theirs["prediction"]
    facts = guided.pop("generator").measured()
    quick = ours(folder, count, steps=4, guidance=1.0, scheduler="lcm", **options)
    return {
        "name": "generation",
        "ratio": round(of(theirs, steps) / guided["image"], 2),
        "ours": round(1 / guided["image"], 4),
        "theirs": round(1 / of(theirs, steps), 4),
        "unit": f"images/s, {'embedded model' if tiny else 'SD 1.5 shape, 512 px'}, {steps} steps",
        "device": f"{torch.get_num_threads()} CPU threads",
        "n": count,
        "engine": engine,
        "dtype": facts.dtype,
        "step_seconds": [round(guided["step"], 4), round(theirs["step"], 4)],
        "decode_seconds": [round(guided["decode"], 4), round(theirs["decode"], 4)],
        "ratio_at_50_steps": round(of(theirs, 50) / of(guided, 50), 2),
        "ratio_lcm_4_steps": round(of(theirs, 50) / quick["image"], 2),
        "lcm_seconds_per_image": round(quick["image"], 3),
        "prediction_error": round(float(error.norm() / theirs["prediction"].norm()), 5),
    }


def on_gpu(folder: Path, *, steps: int, count: int) -> dict[str, Any]:
    """At batch 1 and 8, with the share of the peak throughput that the UNet reaches."""
    found: dict[str, Any] = {}
    for batch in (1, 8):
        theirs = stock(folder, torch.float16, batch, steps, "cuda")
        torch.cuda.empty_cache()
        options = {"batch_size": batch, "device": "cuda", "engine": "compile", "guidance": 7.5}
        mine = ours(folder, count * batch, steps=steps, **options)
        flops = unet_flops(mine.pop("generator").pipeline, 2 * batch)
        found[f"batch_{batch}"] = {
            "ratio": round(of(theirs, steps) / mine["image"], 2),
            "images_per_s": [round(1 / mine["image"], 3), round(1 / of(theirs, steps), 3)],
            "peak_share": share_of_peak(flops / mine["step"]),
        }
        torch.cuda.empty_cache()
    best = found["batch_8"]
    return {
        "name": "generation",
        "ratio": best["ratio"],
        "ours": best["images_per_s"][0],
        "theirs": best["images_per_s"][1],
        "unit": f"images/s, SD 1.5 shape, 512 px, {steps} steps, batch 8",
        "device": torch.cuda.get_device_name(),
        "n": count * 8,
        **found,
    }


def unet_flops(pipeline: Any, rows: int) -> float:
    """Floating point operations of one forward pass, counted on meta tensors by torch."""
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(pipeline.unet.config)
        side, width = unet.config.sample_size, unet.config.cross_attention_dim
        inputs = torch.randn(rows, 4, side, side), torch.ones(rows), torch.randn(rows, 77, width)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(*inputs)
    return float(counter.get_total_flops())


def share_of_peak(flops_per_second: float) -> float | None:
    """Of the data sheet's figure; None for a GPU that is not in the table."""
    name = torch.cuda.get_device_name()
    peaks = [peak for key, peak in PEAK_TFLOPS.items() if key in name.split() or f" {key}" in name]
    return round(flops_per_second / (max(peaks) * 1e12), 3) if peaks else None


def main() -> None:
    """Run on the GPU where there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="the embedded model, on the CPU")
    parser.add_argument(
        "--full", action="store_true", help="run all 50 steps of the stock pipeline"
    )
    parser.add_argument("--steps", type=int, help="steps of both sides; 4 on a CPU, 50 on a GPU")
    parser.add_argument("--count", type=int, default=2, help="images, or batches, to time")
    given = parser.parse_args()
    on_device = torch.cuda.is_available() and not given.tiny
    with tempfile.TemporaryDirectory() as parent:
        folder = EMBEDDED if given.tiny else Path(parent) / "sd15"
        if not given.tiny:
            with timed("random weights"):
                save_sd15(folder)
        if on_device:
            result = on_gpu(folder, steps=given.steps or 50, count=given.count)
        else:
            more = {"full": given.full, "tiny": given.tiny}
            result = on_cpu(folder, steps=given.steps or 4, count=given.count, **more)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
