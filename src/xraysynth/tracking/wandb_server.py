"""The W&B server, for what is no run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from xraysynth.config import Config
from xraysynth.errors import ConfigError, XraysynthError


@contextmanager
def convert_wandb_errors() -> Iterator[None]:
    """Turns what W&B refuses, or a server that is not there, into a `XraysynthError`."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        yield
    except (wandb.Error, WandbApiFailedError) as error:
        raise XraysynthError(
            f"W&B did not take the dashboard: {error}; it is on disk, and can be saved again when "
            "WANDB_API_KEY, tracking.entity and tracking.project are right"
        ) from error


def require_api_key() -> None:
    """Raises `ConfigError` without a key in the environment: one from a file is not taken."""
    if not os.environ.get("WANDB_API_KEY"):
        raise ConfigError(
            "saving the dashboard at W&B needs a key in the environment variable WANDB_API_KEY; "
            "or write it to disk alone with tracking=offline"
        )


def resolve_entity(config: Config) -> str:
    """Whose project it is: tracking.entity, or who the key belongs to."""
    if config.tracking.entity:
        return config.tracking.entity
    import wandb

    return str(wandb.Api().default_entity)
