"""Decides where and how the UNet runs: device, number format, and the engine of its forward pass."""

from typing import Any

from xraysynth.errors import ConfigError
from xraysynth.generation.generators._openvino import OpenVino
from xraysynth.jobs.distributed import select_gpu

ENGINES = ("torch", "compile", "openvino")
DTYPES = ("auto", "float32", "bfloat16", "float16")
MEMORY_MODES = ("none", "slicing", "offload", "sequential")
SMALL_UNET_PARAMETERS = 100_000_000
"""Number of parameters below which a UNet counts as small.

Half precision saves a small UNet no time; on a CPU only a small UNet gains from batches.
"""


def resolve_device(option: str, *, device: str, engine: str, memory: str) -> str:
    """Choose the device for `auto`, and check that engine and memory mode work on the device.

    Args:
        option: Prefix of the options, such as `generator.x`, for errors.
        device: `auto` or a device of torch, such as `cpu` or `cuda:1`.
        engine: One of `ENGINES`.
        memory: One of `MEMORY_MODES`.

    Returns:
        A device of torch. For `auto` a GPU if there is one and the engine can use it.

    Raises:
        ConfigError: If there is no GPU, or engine or memory mode cannot use the device.
    """
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"{option}.device={device}, but torch sees no GPU; set {option}.device=auto or "
            f"{option}.device=cpu"
        )
    if device == "auto":
        device = select_gpu() if torch.cuda.is_available() and engine != "openvino" else "cpu"
    if engine == "openvino" and device != "cpu":
        raise ConfigError(
            f"{option}.engine=openvino runs on the CPU; got {option}.device={device}; set "
            f"{option}.device=auto or {option}.device=cpu"
        )
    if memory in ("offload", "sequential") and not device.startswith("cuda"):
        raise ConfigError(
            f"{option}.memory={memory} moves weights between CPU and GPU, but the device is {device}; "
            f"set {option}.memory=none or {option}.memory=slicing, and a smaller {option}.batch_size"
        )
    return device


def resolve_dtype(dtype: str, *, device: str, parameters: int) -> str:
    """Choose the number format for `auto`: half precision where it saves time, else float32.

    Args:
        dtype: One of `DTYPES`.
        device: Device of torch.
        parameters: Number of parameters of the UNet.

    Returns:
        `float32`, `bfloat16` or `float16`.
    """
    import torch

    if dtype != "auto":
        return dtype
    if parameters < SMALL_UNET_PARAMETERS:
        return "float32"
    if device.startswith("cuda"):
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if has_bfloat16 else "float16"
    has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if device == "cpu" and has_bfloat16 else "float32"


def count_parameters(component: Any) -> int:
    """Count the parameters of a pipeline's component; 0 if it is no torch module, as a tokenizer."""
    import torch

    if not hasattr(component, "parameters"):
        return 0
    return sum(map(torch.numel, component.parameters()))


def configure_pipeline(pipeline: Any, *, engine: str, dtype: str, device: str, memory: str) -> Any:
    """Move a pipeline to its device and number format, and install its engine.

    Args:
        pipeline: Diffusers pipeline on the CPU.
        engine: One of `ENGINES`. With `openvino`, weights stay float32 and `dtype` is the precision of
            the arithmetic.
        dtype: Number format of `resolve_dtype`.
        device: Device of `resolve_device`.
        memory: One of `MEMORY_MODES`.

    Returns:
        The same pipeline.
    """
    import torch

    torch_dtype = torch.float32 if engine == "openvino" else getattr(torch, dtype)
    pipeline.to(dtype=torch_dtype)
    if torch_dtype == torch.float16 and pipeline.vae.config.get("force_upcast", False):
        pipeline.vae.to(_safe_decoder_dtype(device))  # float16 overflows there: black images
    if memory == "slicing":
        pipeline.vae.enable_slicing()
        pipeline.enable_attention_slicing()
    if memory == "offload":
        pipeline.enable_model_cpu_offload(device=device)
    elif memory == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if engine == "compile":
        pipeline.unet.compile()
    if engine == "openvino":
        pipeline.unet.forward = OpenVino(pipeline.unet, dtype).forward_unet
        pipeline.vae.decoder.forward = OpenVino(pipeline.vae.decoder, dtype).forward_decoder
    return pipeline


def _safe_decoder_dtype(device: str) -> Any:
    """Return the fastest number format in which the decoder does not overflow."""
    import torch

    on_gpu = device.startswith("cuda")
    if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32
