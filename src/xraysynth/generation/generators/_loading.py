"""Loads pipelines, adapters and tiny VAEs, after their files were checked."""

import re
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from xraysynth.errors import ConfigError, DataNotFoundError, format_some
from xraysynth.generation.generators._hub import WeightsLocation
from xraysynth.generation.generators._weight_files import (
    component_class,
    conversion_command,
    pipeline_files,
    read_model_index,
    single_file,
    tensor_shapes,
    variant_of,
)
from xraysynth.records import JsonObject
from xraysynth.whole_weights import require_whole

DOWNLOADED_VARIANTS = ("fp16", "bf16")
"""Variants that are downloaded of a model whose weights the hub has in no other form."""


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
    return weights.fetch(partial(_download_variant, weights.option), pipeline_files, **options)


def _download_variant(option: str, repo_id: str, **options: Any) -> str:
    """Download a model of the hub: without variant, or else in the one that its components have."""
    import diffusers

    failures: list[Exception] = []
    for variant in (None, *DOWNLOADED_VARIANTS):
        try:
            folder = diffusers.DiffusionPipeline.download(repo_id, variant=variant, **options)
            pipeline_files(option, Path(folder))
            return str(folder)
        except (DataNotFoundError, OSError, ValueError) as error:
            failures.append(error)
            if not re.search(
                "safetensors|variant", str(error)
            ):  # it is not for want of these weights
                break
    if "necessary `safetensors` weights" in str(failures[0]):
        command = conversion_command(repo_id, options["revision"])
        raise DataNotFoundError(
            f"it has no weights as safetensors, and pickles are not read; convert them: {command}"
        )
    raise failures[0]


def read_pipeline(option: str, folder: Path, dtype: Any) -> Any:
    """Load the pipeline of a diffusers folder, on the CPU, without its safety checker.

    Args:
        option: Option that names the model, for errors.
        folder: Complete diffusers folder.
        dtype: Torch dtype of the weights.

    Raises:
        DataNotFoundError: If diffusers cannot load the folder, or not the whole of it.
    """
    import diffusers

    pipeline_class: Any = diffusers.DiffusionPipeline
    _require_tokenizers(option, folder, read_model_index(option, folder))
    try:
        components = _read_components(option, folder, dtype)
        pipeline = pipeline_class.from_pretrained(
            folder, local_files_only=True, dtype=dtype, safety_checker=None, **components
        )
    except (AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise DataNotFoundError(
            f"{option}: {folder} cannot be loaded ({reason}); download the model again"
        ) from error
    _require_vocabulary(option, folder, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _read_components(option: str, folder: Path, dtype: Any) -> dict[str, Any]:
    """Load the components that have weights, each in its own variant and whole."""
    index = read_model_index(option, folder)
    components = {}
    for name, files in pipeline_files(option, folder).items():
        library, class_name = component_class(index, name) or ("", "")
        component_type: Any = getattr(import_module(library), class_name)
        components[name], info = component_type.from_pretrained(
            folder / name,
            variant=files.variant,
            use_safetensors=True,
            local_files_only=True,
            dtype=dtype,
            output_loading_info=True,
        )
        place = f"{option}: {folder / name}"
        remedy = "download the model again, or give its folder the config.json that belongs to it"
        require_whole(place, info, expected=f"the {name} of this model", remedy=remedy)
    return components


def _require_tokenizers(option: str, folder: Path, index: JsonObject) -> None:
    """Raise `DataNotFoundError` where a text encoder has no tokenizer.

    In the place of one whose folder is not there, transformers makes one without a vocabulary.
    """
    for encoder in ("text_encoder", "text_encoder_2"):
        name = encoder.replace("text_encoder", "tokenizer")
        has_files = (folder / name).is_dir() and any((folder / name).iterdir())
        if component_class(index, encoder) and not (component_class(index, name) and has_files):
            raise DataNotFoundError(
                f"{option}: {folder} has no {name}, which its {encoder} needs; download the model again"
            )


def _require_vocabulary(option: str, folder: Path, pipeline: Any) -> None:
    """Raise `DataNotFoundError` where a tokenizer lacks its vocabulary, so that prompts mean nothing."""
    for encoder in ("text_encoder", "text_encoder_2"):
        name = encoder.replace("text_encoder", "tokenizer")
        if getattr(pipeline, encoder, None) is None:
            continue
        size, expected = len(getattr(pipeline, name)), getattr(pipeline, encoder).config.vocab_size
        if size < expected / 2:
            raise DataNotFoundError(
                f"{option}: {folder / name} knows {size} of the {expected} tokens of the {encoder}; "
                "download the model again, with its vocabulary (tokenizer.json, or vocab.json and merges.txt)"
            )


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
    _require_all_lora_weights(pipeline, file, weights.option)
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
    _require_all_lora_weights(pipeline, file, f"{option_prefix}.weights")
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()


def _require_all_lora_weights(pipeline: Any, file: Path, option: str) -> None:
    """Raise `ConfigError` if diffusers has dropped weights of a LoRA, which it does silently."""
    loaded: set[str] = set()
    for component in pipeline.components.values():
        if hasattr(component, "parameters"):
            names = [name for name, _ in component.named_parameters() if "lora_" in name]
            loaded.update(map(_without_adapter_name, names))
    stored = [name for name in tensor_shapes(file) if not name.endswith("alpha")]
    if len(loaded) == len(stored):
        return
    dropped = [name for name in stored if not name.endswith(tuple(loaded) or ("\0",))] or stored
    raise ConfigError(
        f"{option}: of {len(stored)} weights in {file} diffusers has put {len(loaded)} on the model, and "
        f"dropped the others ({format_some(dropped, limit=3)}); name a LoRA of this model, saved with "
        "peft's names (unet.….lora_A.weight, lora_B) throughout"
    )


def _without_adapter_name(parameter: str) -> str:
    """Return the name of a parameter as a file has it: "a.lora_A.weight" for "a.lora_A.default_0.weight"."""
    return re.sub(r"(lora_\w+)\.[^.]+\.weight$", r"\1.weight", parameter)


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
    options = {"use_safetensors": True, "variant": variant_of(file), "output_loading_info": True}
    try:
        vae, loading_info = vae_class.from_pretrained(file.parent, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{weights.option}: {file} cannot be loaded as a tiny VAE ({str(error).splitlines()[0]}); name a "
            "folder of diffusers' AutoencoderTiny, with config.json and diffusion_pytorch_model.safetensors"
        ) from error
    require_whole(
        f"{weights.option}: {file}",
        loading_info,
        expected="a tiny VAE (AutoencoderTiny)",
        remedy="name a TAESD that diffusers reads",
        error=ConfigError,
    )
    pipeline.vae = vae
    return file


def _fetch_file(weights: WeightsLocation) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "config.json"]
    path = weights.fetch(snapshot_download, single_file, allow_patterns=patterns)
    return single_file(weights.option, path)
