"""A real Stable Diffusion pipeline with random weights, small enough for tests."""

import json
from pathlib import Path


def save_tiny_sd(folder: Path, *, seed: int = 0, channels: int = 1) -> Path:
    """Write a diffusers folder of about 0.3 M parameters that draws 32 px images."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-,.:"
    vocabulary = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=32,
            bos_token_id=len(vocabulary) - 2,
            eos_token_id=len(vocabulary) - 1,
            pad_token_id=len(vocabulary) - 1,
        )
    )
    vae = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    return folder


def save_tiny_lora(model: Path, folder: Path, *, seed: int = 0, targets: tuple = ()) -> Path:
    """Write a LoRA of rank 2 for `model` with random weights, alpha not equal to the rank."""
    import torch
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = StableDiffusionPipeline.from_pretrained(model)
    torch.manual_seed(seed)
    modules = [*(targets or ("to_q", "to_k", "to_v", "to_out.0", "conv1"))]
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=5, target_modules=modules))
    for name, weight in pipeline.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    layers = get_peft_model_state_dict(pipeline.unet)
    metadata = pipeline.unet.peft_config["default"].to_dict()
    pipeline.save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=metadata)
    return folder
