"""Pretrained weights of timm's models, which are loaded whole but for the classifier's last layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import timm
import torch
from safetensors import SafetensorError

from xraysynth.errors import DataNotFoundError
from xraysynth.whole_weights import require_whole


def create_pretrained(name: str, **options: Any) -> Any:
    """Builds a timm model with its pretrained weights.

    Args:
        name: Name of the model.
        **options: Further arguments of `timm.create_model`. The last layer is new where
            `num_classes` differs from that of the weights.

    Raises:
        DataNotFoundError: The weights are not on this machine and cannot be downloaded, or they are
            damaged or those of another model.
    """
    try:
        with _recorded_keys() as keys:
            model = timm.create_model(name, pretrained=True, **options)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _explain(name, error) from error
    config: Any = model.pretrained_cfg
    heads = config.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    require_whole(
        f"classifier.pretrained=true: the file of {config.get('hf_hub_id') or name}",
        keys,
        expected=f"all weights of {name}",
        remedy=_remedy(config.get("hf_hub_id") or name),
        may_lack=tuple(f"{head}." for head in heads),
    )
    return model


@contextmanager
def _recorded_keys() -> Iterator[dict[str, list[str]]]:
    """Records which weights are missing and unexpected while state dicts are loaded.

    timm says so in a log alone, which the program's own logging switches off. Loaders of a model's own
    format, such as JAX's, fail where a weight is missing.
    """
    keys: dict[str, list[str]] = {"missing_keys": [], "unexpected_keys": []}
    load_state_dict = torch.nn.Module.load_state_dict

    def load_and_record(module: Any, *args: Any, **options: Any) -> Any:
        result = load_state_dict(module, *args, **options)
        keys["missing_keys"] += result.missing_keys
        keys["unexpected_keys"] += result.unexpected_keys
        return result

    with patch.object(torch.nn.Module, "load_state_dict", load_and_record):
        yield keys


def _explain(name: str, error: Exception) -> DataNotFoundError:
    reason = " ".join(str(error).split())[:300]
    if isinstance(error, SafetensorError) or "state_dict" in reason:
        hub_id = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None) or name
        return DataNotFoundError(
            f"classifier.pretrained=true: the file of {hub_id} does not hold all weights of {name} "
            f"({reason}); {_remedy(hub_id)}"
        )
    return DataNotFoundError(
        f"classifier.pretrained=true: the weights of {name} are not in the Hugging Face "
        f"cache and cannot be downloaded ({type(error).__name__}); download them "
        "where there is a network, or set classifier.pretrained=false"
    )


def _remedy(hub_id: str) -> str:
    return f"run hf cache rm model/{hub_id} to have it downloaded again, or set classifier.pretrained=false"
