"""The W&B server: its key, its account, and its errors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from xraysynth.config import Config
from xraysynth.errors import ConfigError, XraysynthError


@contextmanager
def convert_wandb_errors() -> Iterator[None]:
    """Turns errors of W&B, refused or without an answer, into an `XraysynthError` with a remedy."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        yield
    except (wandb.Error, WandbApiFailedError) as error:
        raise XraysynthError(
            f"W&B has not saved the dashboard: {error}; the dashboard is on disk: correct "
            "WANDB_API_KEY, tracking.entity and tracking.project, and run the command again"
        ) from error


def require_api_key() -> None:
    """Raises `ConfigError` if WANDB_API_KEY is not set; keys in files are not used."""
    if not os.environ.get("WANDB_API_KEY"):
        raise ConfigError(
            "saving the dashboard at W&B needs a key in the environment variable WANDB_API_KEY; set "
            "it, or write the dashboard to disk only with tracking=offline"
        )


def resolve_entity(config: Config) -> str:
    """Returns the account of the project: tracking.entity, or the account of the key."""
    if config.tracking.entity:
        return config.tracking.entity
    import wandb

    return str(wandb.Api().default_entity)
