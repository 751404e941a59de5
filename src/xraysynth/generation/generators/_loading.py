"""Loads pipelines, adapters and tiny VAEs, after their files were checked."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xraysynth.errors import ConfigError, DataNotFoundError, format_some
from xraysynth.generation.generators._hub import WeightsLocation
from xraysynth.generation.generators._weight_files import pipeline_files, single_file, tensor_shapes


def fetch_pipeline(weights: WeightsLocation) -> Path:
    """Return a complete diffusers folder on this machine; download it if it is missing.

    Raises:
        ConfigError: If the revision of a hub id is not a commit.
        DataNotFoundError: If the model cannot be found, or its files are incomplete.
    """
    import diffusers
    import transformers

    for library in (diffusers, transformers):  # their bars and warnings would break ours
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
    options = {"use_safetensors": True, "safety_checker": None}
    return weights.fetch(diffusers.DiffusionPipeline.download, pipeline_files, **options)


def read_pipeline(option: str, folder: Path, dtype: Any) -> Any:
    """Load the pipeline of a diffusers folder, on the CPU, without its safety checker.

    Args:
        option: Option that names the model, for errors.
        folder: Complete diffusers folder.
        dtype: Torch dtype of the weights.

    Raises:
        DataNotFoundError: If diffusers cannot load the folder.
    """
    import diffusers

    pipeline_class: Any = diffusers.DiffusionPipeline
    options = {"dtype": dtype, "safety_checker": None, "use_safetensors": True}
    try:
        pipeline = pipeline_class.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataNotFoundError(
            f"{option}: {folder} cannot be loaded ({reason}); download the model again"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def fuse_adapter(pipeline: Any, weights: WeightsLocation) -> Path:
    """Fuse a LoRA into the pipeline's weights, so that it costs no time.

    Returns:
        The file of the LoRA.

    Raises:
        ConfigError: If the LoRA was made for another model.
        DataNotFoundError: If the file cannot be found, or is damaged.
    """
    file = _fetch_file(weights)
    try:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    except Exception as error:  # peft and torch raise different kinds
        raise ConfigError(
            f"{weights.option}: {file} is no LoRA for this model ({str(error).splitlines()[0]}); "
            "name one that was made for it"
        ) from error
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    return file


def fuse_finetuned_lora(
    pipeline: Any, file: Path, *, scale: float, option_prefix: str, base: str
) -> None:
    """Fuse a fine-tuned LoRA into the pipeline's weights, so that it costs no time.

    Args:
        pipeline: Pipeline of the base model.
        file: Safetensors file of the LoRA.
        scale: Strength of the adaptation; 0 leaves the base model unchanged.
        option_prefix: Prefix of the generator's options, such as `generator.sd_lora`, for errors.
        base: Value of the generator's option `model`, for errors.

    Raises:
        ConfigError: If the file is damaged or of another model, or diffusers drops some of its weights.
    """
    try:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    except Exception as error:  # safetensors and torch raise different kinds
        raise ConfigError(
            f"{option_prefix}.weights: {file} cannot be put on {base}: {str(error).splitlines()[0]}. "
            "The file is damaged, or the LoRA of another model; fine-tune again, or name the LoRA's "
            f"base model in {option_prefix}.model"
        ) from error
    _require_all_lora_weights(pipeline, file, option_prefix)
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()


def _require_all_lora_weights(pipeline: Any, file: Path, option_prefix: str) -> None:
    """Raise `ConfigError` if diffusers has dropped weights of a LoRA, which it does silently."""
    loaded = 0
    for component in pipeline.components.values():
        if hasattr(component, "parameters"):
            loaded += sum("lora_" in name for name, _ in component.named_parameters())
    stored = sum(not name.endswith("alpha") for name in tensor_shapes(file))
    if loaded != stored:
        raise ConfigError(
            f"{option_prefix}.weights: of {stored} weights in {file} diffusers has put {loaded} on the "
            "model, and dropped the others; save the LoRA with peft's names (lora_A, lora_B) throughout"
        )


def use_tiny_vae(pipeline: Any, weights: WeightsLocation) -> Path:
    """Replace the pipeline's autoencoder by a tiny VAE (TAESD), which decodes faster.

    Returns:
        The file of the tiny VAE.

    Raises:
        ConfigError: If the file does not hold exactly the weights of an `AutoencoderTiny`.
        DataNotFoundError: If the file cannot be found, or is damaged.
    """
    import diffusers

    file = _fetch_file(weights)
    vae_class: Any = diffusers.AutoencoderTiny
    vae, loading_info = vae_class.from_pretrained(
        file.parent, use_safetensors=True, output_loading_info=True
    )
    _require_all_weights(weights.option, file, loading_info)
    pipeline.vae = vae
    return file


def _require_all_weights(
    option: str, file: Path, loading_info: Mapping[str, Iterable[str]]
) -> None:
    """Raise `ConfigError` for a file that leaves weights unset: diffusers does not report them."""
    unset = sorted(loading_info["missing_keys"])
    unknown = sorted(loading_info["unexpected_keys"])
    if unset or unknown:
        raise ConfigError(
            f"{option}: {file} is no tiny VAE (AutoencoderTiny): {len(unset)} of its weights are missing, "
            f"and {len(unknown)} belong to another model ({format_some([*unset, *unknown])}); name a "
            "TAESD that diffusers reads"
        )


def _fetch_file(weights: WeightsLocation) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "config.json"]
    path = weights.fetch(snapshot_download, single_file, allow_patterns=patterns)
    return single_file(weights.option, path)
