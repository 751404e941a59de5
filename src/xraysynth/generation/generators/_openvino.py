"""Runs the forward pass of torch modules with OpenVINO on the CPU."""

import warnings
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from xraysynth.errors import DataNotFoundError

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""OpenVINO's name of the precision, by torch's name."""


class OpenVino:
    """Forward pass of a torch module by OpenVINO, compiled once for each shape of the inputs.

    The weights stay float32. OpenVINO uses as many threads as torch.
    """

    def __init__(self, module: Any, dtype: str) -> None:
        """Wrap a module.

        Args:
            module: UNet of a pipeline, or decoder of an autoencoder.
            dtype: Precision of the arithmetic: a key of `PRECISIONS`.

        Raises:
            DataNotFoundError: If the package openvino is not installed.
        """
        try:
            import openvino
        except ImportError as error:
            raise DataNotFoundError(
                "engine=openvino needs the package openvino; install it with "
                "pip install 'xraysynth[openvino]'"
            ) from error
        self._openvino = openvino
        self._dtype = dtype
        self._module = module
        self._forward = module.forward
        self._compiled: dict[tuple[tuple[int, ...], ...], Any] = {}
        self._lock = Lock()  # a compiled model serves one call at a time

    def forward_unet(
        self, sample: Any, timestep: Any, encoder_hidden_states: Any, **options: Any
    ) -> Any:
        """Predict noise as `UNet2DConditionModel.forward` does, with the arguments of the pipelines.

        Args:
            sample: Noisy latents `(B, c, h, w)`.
            timestep: Timestep, a number or a tensor.
            encoder_hidden_states: Embeddings of the prompts `(B, T, d)`.
            **options: `timestep_cond`, the embedded guidance of distilled models, and
                `added_cond_kwargs`, the additional conditions of XL; others are ignored.

        Returns:
            A tuple of the prediction `(B, c, h, w)`.
        """
        import torch

        forward = self._forward
        conditions = dict(options.get("added_cond_kwargs") or {})
        guidance = options.get("timestep_cond")
        has_guidance = guidance is not None

        def forward_positional(sample: Any, timestep: Any, states: Any, *extra: Any) -> Any:
            arguments: dict[str, object] = {}
            tensors = list(extra)
            if has_guidance:
                arguments["timestep_cond"] = tensors.pop(0)
            if conditions:
                arguments["added_cond_kwargs"] = dict(zip(conditions, tensors, strict=True))
            return forward(sample, timestep, states, return_dict=False, **arguments)[0]

        timesteps = torch.as_tensor(timestep, dtype=torch.float32).reshape(1)
        inputs = [sample, timesteps, encoder_hidden_states]
        if has_guidance:
            inputs.append(guidance)
        inputs.extend(conditions.values())
        return (self._run(forward_positional, inputs),)

    def forward_decoder(self, sample: Any, *_: Any) -> Any:
        """Decode latents `(B, c, h, w)` as `Decoder.forward` of an autoencoder does."""
        return self._run(self._forward, [sample])

    def _run(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Call a function of tensors, compiled for their shapes."""
        import torch

        shapes = tuple(tuple(tensor.shape) for tensor in inputs)
        with self._lock:
            if shapes not in self._compiled:
                self._compiled[shapes] = self._compile(function, inputs)
            outputs = self._compiled[shapes]([tensor.float().numpy() for tensor in inputs])
            return torch.from_numpy(outputs[0].copy())

    def _compile(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Compile a function of tensors for inputs of these shapes."""
        import torch

        model = self._convert(function, inputs)
        shapes = {}
        for number, tensor in enumerate(inputs):
            shapes[number] = self._openvino.PartialShape(list(tensor.shape))
        model.reshape(shapes)
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self._dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return self._openvino.Core().compile_model(model, "CPU", settings)

    def _convert(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Trace a function of tensors with torch, and convert the trace to an OpenVINO model."""
        import torch

        class PositionalModule(torch.nn.Module):
            def __init__(self, module: Any) -> None:
                super().__init__()
                self.module = module.requires_grad_(False)  # weights become constants

            def forward(self, *tensors: Any) -> Any:
                return function(*tensors)

        module = PositionalModule(self._module).eval()
        with torch.no_grad(), warnings.catch_warnings():
            # Tracing warns that shapes become constants, which is intended here.
            warnings.simplefilter("ignore")
            # OpenVINO would trace the module itself, and check its trace by three more passes.
            trace: Any = torch.jit.trace
            traced = trace(module, tuple(inputs), check_trace=False, strict=False)
            return self._openvino.convert_model(traced, example_input=tuple(inputs))
