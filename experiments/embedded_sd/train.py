"""Train the embedded Stable Diffusion: `vae`, then `unet`, then `export`; each resumes.

`render.py` has to have run. Every step draws from a generator seeded with its own number, so a
resumed run is the run that was never stopped.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.training_utils import EMAModel
from tokenizer import build_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

ROOT = Path(__file__).parents[2]
ASSET = ROOT / "src" / "xraysynth" / "assets" / "tiny-sd"
BANK = ROOT / "conf" / "prompts" / "curated.yaml"
SEX = {"F": "woman", "M": "man"}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NO_CAPTION = 0.12
CHECKPOINT_SECONDS = 180


def make_vae() -> AutoencoderKL:
    """One grey channel, latents 4 x 16 x 16."""
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
    )


def make_unet() -> UNet2DConditionModel:
    """Attention at 8 x 8 and 4 x 4 only: at 16 x 16 it would take half of the time on a CPU."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,  # heads per block, for historical reasons named so
        norm_num_groups=8,
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Stays as initialised: a random transformer keeps words apart.

    Trained on captions whose findings tell nothing, it learns to make all findings look the
    same, and then no LoRA on the UNet can tell the classes by their prompts.
    """
    torch.manual_seed(0)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def load_images(work: Path) -> torch.Tensor:
    """`(N, 1, 64, 64)` in -1..1."""
    return torch.from_numpy(np.load(work / "images.npy"))[:, None].float() / 127.5 - 1


def train(
    name: str,
    modules: dict[str, torch.nn.Module],
    loss_of: Callable[[torch.Generator], dict[str, torch.Tensor]],
    *,
    work: Path,
    steps: int,
    rate: float,
    decay: float,
) -> None:
    """AdamW with warm-up and cosine decay, an EMA, and a checkpoint every few minutes."""
    parameters = [p for module in modules.values() for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.99), weight_decay=1e-3)
    ema = EMAModel(parameters, decay=decay, use_ema_warmup=True, power=0.75)
    path, start = work / f"{name}.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        for key, module in modules.items():
            module.load_state_dict(state[key])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema_state"])
        start = state["step"]
    began = saved = time.monotonic()
    total: dict[str, float] = {}
    for step in range(start, steps):
        factor = min(1, (step + 1) / 200) * (0.02 + 0.49 * (1 + np.cos(np.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = float(rate * factor)
        losses = loss_of(torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.step(parameters)
        for key, value in losses.items():
            total[key] = total.get(key, 0.0) + value.item()
        last = step + 1 == steps
        if (step + 1) % 100 == 0 or last:
            speed = (step + 1 - start) / (time.monotonic() - began)
            means = {key: round(value / 100, 5) for key, value in total.items()}
            left = (steps - step - 1) / speed / 60
            print(
                f"{name} {step + 1}/{steps} {means} {speed:.2f} steps/s, {left:.1f} min left",
                flush=True,
            )
            total = {}
        if last or time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            save(path, modules, optimizer, ema, parameters, step + 1)


def save(path, modules, optimizer, ema, parameters, step) -> None:
    """Weights as trained (to resume) and averaged (to use), replaced atomically."""
    state = {key: module.state_dict() for key, module in modules.items()}
    state = {key: {k: v.clone() for k, v in value.items()} for key, value in state.items()}
    state |= {"optimizer": optimizer.state_dict(), "ema_state": ema.state_dict(), "step": step}
    ema.store(parameters)
    ema.copy_to(parameters)
    averaged = {key: module.state_dict() for key, module in modules.items()}
    state |= {
        f"{key}_ema": {k: v.clone() for k, v in value.items()} for key, value in averaged.items()
    }
    ema.restore(parameters)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def edges(x: torch.Tensor) -> list[torch.Tensor]:
    """Differences between neighbours at two scales, where small findings live."""
    out = []
    for _ in range(2):
        out += [x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]]
        x = F.avg_pool2d(x, 2)
    return out


def train_vae(work: Path, steps: int) -> None:
    torch.manual_seed(0)
    images, vae = load_images(work), make_vae()
    vae.to(memory_format=torch.channels_last)

    def loss_of(g: torch.Generator) -> dict[str, torch.Tensor]:
        x = images[torch.randint(len(images), (8,), generator=g)]
        with torch.autocast("cpu", torch.bfloat16):  # 1.5 times as fast where the CPU has it
            posterior = vae.encode(x.to(memory_format=torch.channels_last)).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=g)
            y = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        detail = [F.l1_loss(a, b) for a, b in zip(edges(y), edges(x), strict=True)]
        return {
            "l1": F.l1_loss(y, x),
            "edge": 0.5 * sum(detail),
            "kl": 2e-4 * posterior.kl().float().mean() / posterior.mean[0].numel(),
        }

    train("vae", {"vae": vae}, loss_of, work=work, steps=steps, rate=1.5e-3, decay=0.998)


def load_vae(work: Path) -> AutoencoderKL:
    vae = make_vae()
    vae.load_state_dict(torch.load(work / "vae.pt", weights_only=True)["vae_ema"])
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def encode(work: Path) -> torch.Tensor:
    """Latent means of all training images, scaled to unit variance; the scale is kept too."""
    path = work / "latents.pt"
    if not path.exists():
        vae = load_vae(work)
        latents = torch.cat([vae.encode(x).latent_dist.mean for x in load_images(work).split(64)])
        scale = 1 / latents.std().item()
        torch.save({"latents": latents * scale, "scale": scale}, path)
    return torch.load(path, weights_only=True)["latents"]


@torch.no_grad()
def captions(work: Path) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
    """Encoded prompts as the bank words them: view, sex, age are true, the finding is at random.

    So the words of every disease are known to the model and tell nothing.
    """
    bank = yaml.safe_load(BANK.read_text())
    tokenizer = build_tokenizer(BANK)
    encoder = make_text_encoder(tokenizer).eval()
    findings = [phrase for phrases in bank["findings"].values() for phrase in phrases]
    facts = [
        (view, SEX[sex], min(bank["ages"], key=lambda known: abs(known - age)))
        for view, sex, age in json.loads((work / "captions.json").read_text())
    ]

    def encoded(texts: list[str]) -> torch.Tensor:
        tokens = tokenizer(texts, padding="max_length", truncation=True).input_ids
        return encoder(torch.tensor(tokens)).last_hidden_state

    def variants(view: str, sex: str, age: int) -> list[str]:
        return [
            template.format(view=view, sex=sex, age=age, finding=finding)
            for template in bank["templates"]
            for finding in findings
        ]

    nothing = encoded([""])[0]
    known = {person: encoded(variants(*person)) for person in sorted(set(facts))}

    def draw(index: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        rng = np.random.default_rng(g.initial_seed())
        rows = [known[facts[i]] for i in index.tolist()]
        rows = [
            nothing if rng.random() < NO_CAPTION else row[rng.integers(len(row))] for row in rows
        ]
        return torch.stack(rows)

    return draw


def train_unet(work: Path, steps: int) -> None:
    latents, draw = encode(work), captions(work)
    torch.manual_seed(0)
    unet = make_unet().to(memory_format=torch.channels_last)
    schedule = DDPMScheduler(num_train_timesteps=1000, **BETAS)
    signal = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    weights = signal.clamp(max=5) / signal  # min-SNR, Hang et al., arXiv:2303.09556

    def loss_of(g: torch.Generator) -> dict[str, torch.Tensor]:
        index = torch.randint(len(latents), (16,), generator=g)
        clean = latents[index]
        noise = torch.randn(clean.shape, generator=g)
        t = torch.randint(1000, (16,), generator=g)
        noisy = schedule.add_noise(clean, noise, t).to(memory_format=torch.channels_last)
        error = unet(noisy, t, draw(index, g)).sample - noise
        return {"noise": (weights[t, None, None, None] * error**2).mean()}

    train("unet", {"unet": unet}, loss_of, work=work, steps=steps, rate=8e-4, decay=0.9995)


def export(work: Path, folder: Path) -> None:
    """Write the diffusers folder in half precision from the latest averaged weights."""
    tokenizer = build_tokenizer(BANK)
    unet, text_encoder, vae = make_unet(), make_text_encoder(tokenizer), load_vae(work)
    state = torch.load(work / "unet.pt", weights_only=True)
    unet.load_state_dict(state["unet_ema"])
    vae.register_to_config(
        scaling_factor=torch.load(work / "latents.pt", weights_only=True)["scale"]
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(num_train_timesteps=1000, **BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder)
    _load_in_single_precision(folder / "text_encoder" / "config.json")
    (folder / "README.md").write_text((Path(__file__).parent / "card.md").read_text())
    files = [file for file in folder.rglob("*") if file.is_file()]
    for file in files:
        file.chmod(0o644)  # safetensors writes for the owner alone
    size = sum(file.stat().st_size for file in files)
    print(f"{folder}: {size / 1e6:.2f} MB after {state['step']} steps")


def _load_in_single_precision(config: Path) -> None:
    """Make transformers widen the stored halves as diffusers does: mixed, the parts do not run."""
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"dtype": "float32"}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["vae", "unet", "export"])
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ASSET, help="where export writes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.stage == "export":
        export(args.work, args.folder)
    else:
        {"vae": train_vae, "unet": train_unet}[args.stage](args.work, args.steps)


if __name__ == "__main__":
    main()
