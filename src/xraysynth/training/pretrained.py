"""Pretrained weights of timm's models, which are loaded whole but for the classifier's last layer."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
from safetensors import SafetensorError

from xraysynth.errors import DataNotFoundError
from xraysynth.whole_weights import require_whole

_KEYS = re.compile(r"(Missing|Unexpected) keys \((.*)\) ")
"""What timm logs, and returns to nobody, of weights that a file lacks or has too many."""


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
        with _logged_keys() as keys:
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
def _logged_keys() -> Iterator[dict[str, list[str]]]:
    """Collects the names of missing and unexpected weights that timm logs."""
    keys: dict[str, list[str]] = {"missing_keys": [], "unexpected_keys": []}

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = _KEYS.match(record.getMessage())
            if found:
                keys[f"{found[1].lower()}_keys"] += found[2].split(", ")

    log, handler = logging.getLogger("timm.models._builder"), Collector()
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield keys
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


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
