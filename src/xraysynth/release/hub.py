"""Sending a release to the Hugging Face Hub."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xraysynth.errors import ConfigError, XraysynthError

TOKEN_VARIABLE = "HF_TOKEN"


def read_token() -> str:
    """The token in the environment, which is the only place it is read from."""
    found = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not found:
        raise ConfigError(
            "release.push=true needs a token with write access in the environment variable "
            f"{TOKEN_VARIABLE}, "
            "which is not set; make one at https://huggingface.co/settings/tokens, or leave out "
            "release.push to write the folder only"
        )
    return found


def repo_type(part: str) -> str:
    """What a part is on the Hub: a model, or a data set (a study is one too)."""
    return "model" if part.startswith("model-") else "dataset"


def repo_id(repo: str, part: str) -> str:
    """The repository of a part: `owner/name-<part>`."""
    return f"{repo}-{part}"


def repo_url(repo: str, part: str) -> str:
    """Where a part can be seen; empty without a repository."""
    if not repo:
        return ""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    place = "datasets/" if repo_type(part) == "dataset" else ""
    return f"{endpoint.rstrip('/')}/{place}{repo_id(repo, part)}"


def push(
    folder: Path, parts: Sequence[str], *, repo: str, private: bool, token: str
) -> dict[str, str]:
    """Send every part to its repository; part -> address.

    Started again it goes on: what is there already is not sent twice. An existing repository keeps
    its visibility.
    """
    api = _hub_api(token)
    for part in parts:
        name, what = repo_id(repo, part), repo_type(part)
        try:
            api.create_repo(name, repo_type=what, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=name,
                folder_path=folder / part,
                repo_type=what,
                commit_message="Release by xraysynth",
            )
        except Exception as error:  # httpx, the hub and its storage raise kinds of their own
            first = (str(error).strip() or repr(error)).splitlines()[0].replace(token, "***")
            raise XraysynthError(
                f"{part} could not be sent to {name}: {first}; the folder {folder} is complete, and "
                "started again only what is missing is sent"
            ) from None
    return {part: repo_url(repo, part) for part in parts}


def _hub_api(token: str) -> Any:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise ConfigError("release.push=true needs the Hub, but HF_HUB_OFFLINE is set; unset it")
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
