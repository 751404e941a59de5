"""Where and how the UNet runs: device, number format, and the engine behind its forward pass."""

import warnings
from threading import Lock
from typing import Any

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.jobs.distributed import select_gpu

ENGINES = ("torch", "compile", "openvino")
DTYPES = ("auto", "float32", "bfloat16", "float16")
MEMORY_MODES = ("none", "slicing", "offload", "sequential")
SMALL_UNET_PARAMETERS = 100_000_000
"""Parameters of a UNet below which half precision and large machines gain nothing."""


def resolve_device(option: str, *, device: str, engine: str, memory: str) -> str:
    """The device that is meant by `auto`; `ConfigError` where engine or memory cannot have it."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"{option}.device={device}, but torch sees no GPU; use auto or cpu")
    if device == "auto":
        device = select_gpu() if torch.cuda.is_available() and engine != "openvino" else "cpu"
    if engine == "openvino" and device != "cpu":
        raise ConfigError(f"{option}.engine=openvino runs on the CPU; got {option}.device={device}")
    if memory in ("offload", "sequential") and not device.startswith("cuda"):
        raise ConfigError(
            f"{option}.memory={memory} moves weights between CPU and GPU, but the device is {device}; "
            f"use none or slicing, and a smaller {option}.batch_size"
        )
    return device


def resolve_dtype(dtype: str, *, device: str, parameters: int) -> str:
    """The number format that is meant by `auto`: half precision where it saves time, else float32."""
    import torch

    if dtype != "auto":
        return dtype
    if parameters < SMALL_UNET_PARAMETERS:
        return "float32"
    if device.startswith("cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if native else "float16"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if device == "cpu" and fast else "float32"


def count_parameters(component: Any) -> int:
    """Of a torch module; 0 for a tokenizer and the like."""
    return sum(p.numel() for p in component.parameters()) if hasattr(component, "parameters") else 0


def configure_pipeline(pipeline: Any, *, engine: str, dtype: str, device: str, memory: str) -> Any:
    """The pipeline on its device, in its number format and with its engine."""
    import torch

    work = torch.float32 if engine == "openvino" else getattr(torch, dtype)
    pipeline.to(dtype=work)
    if work == torch.float16 and pipeline.vae.config.get("force_upcast", False):
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
    import torch

    native = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


class OpenVino:
    """The forward pass of a torch module by OpenVINO on the CPU, compiled once for each shape.

    Weights stay float32; `dtype` is the precision of the arithmetic. It takes as many threads as
    torch does.
    """

    def __init__(self, module: Any, dtype: str) -> None:
        try:
            import openvino
        except ImportError as error:
            raise DataNotFoundError(
                "engine=openvino needs the package openvino; install it with "
                "pip install 'xraysynth[openvino]'"
            ) from error
        self._openvino, self._dtype = openvino, dtype
        self._module, self._forward = module, module.forward
        self._compiled: dict[tuple[tuple[int, ...], ...], Any] = {}
        self._lock = Lock()  # a compiled model serves one call at a time

    def forward_unet(
        self, sample: Any, timestep: Any, encoder_hidden_states: Any, **more: Any
    ) -> Any:
        """`UNet2DConditionModel.forward`, as the pipelines of Stable Diffusion call it."""
        import torch

        forward, added = self._forward, more.get("added_cond_kwargs") or {}
        embedded = more.get("timestep_cond")
        rest = [*([] if embedded is None else [embedded]), *added.values()]

        def forward_positional(sample: Any, timestep: Any, states: Any, *rest: Any) -> Any:
            extra = {}
            if embedded is not None:
                extra["timestep_cond"], *rest = rest  # type: ignore[assignment]
            if added:
                extra["added_cond_kwargs"] = dict(zip(added, rest, strict=True))
            return forward(sample, timestep, states, return_dict=False, **extra)[0]

        step = torch.as_tensor(timestep, dtype=torch.float32).reshape(1)
        return (self._run(forward_positional, sample, step, encoder_hidden_states, *rest),)

    def forward_decoder(self, sample: Any, *_: Any) -> Any:
        """`Decoder.forward` of an autoencoder."""
        return self._run(self._forward, sample)

    def _run(self, function: Any, *inputs: Any) -> Any:
        import torch

        shapes = tuple(tuple(tensor.shape) for tensor in inputs)
        with self._lock:
            if shapes not in self._compiled:
                self._compiled[shapes] = self._compile(function, inputs)
            outputs = self._compiled[shapes]([tensor.float().numpy() for tensor in inputs])
            return torch.from_numpy(outputs[0].copy())

    def _compile(self, function: Any, inputs: Any) -> Any:
        import torch

        class PositionalModule(torch.nn.Module):
            def __init__(self, module: Any) -> None:
                super().__init__()
                self.module = module.requires_grad_(False)  # weights become constants

            def forward(self, *given: Any) -> Any:
                return function(*given)

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: shapes are fixed here, which is meant
            flat = PositionalModule(self._module).eval()
            # Traced here, since OpenVINO would have the trace checked by three more passes.
            trace: Any = torch.jit.trace
            traced = trace(flat, tuple(inputs), check_trace=False, strict=False)
            model = self._openvino.convert_model(traced, example_input=tuple(inputs))
        shape = self._openvino.PartialShape
        model.reshape({n: shape(list(tensor.shape)) for n, tensor in enumerate(inputs)})
        precision = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[self._dtype]
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return self._openvino.Core().compile_model(model, "CPU", settings)
