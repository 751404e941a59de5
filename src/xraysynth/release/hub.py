"""Upload of a release to the Hugging Face Hub."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.privacy import public_address, require_encrypted

TOKEN_VARIABLE = "HF_TOKEN"
HUB_URL = "https://huggingface.co"


def read_token() -> str:
    """Reads the token from the environment, the only place in which it is looked for.

    Raises:
        ConfigError: If the variable is not set.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise ConfigError(
            "release.push=true needs a token with write access in the environment variable "
            f"{TOKEN_VARIABLE}, which is not set; make one at {HUB_URL}/settings/tokens, or leave "
            "out release.push to write the folder only"
        )
    return token


def repo_type(part: str) -> str:
    """Returns the Hub's kind of repository for a part: "model", or "dataset" (also for a study)."""
    return "model" if part.startswith("model-") else "dataset"


def repo_id(repo: str, part: str) -> str:
    """Returns the id of the repository of a part: `owner/name-<part>`."""
    return f"{repo}-{part}"


def repo_url(repo: str, part: str) -> str:
    """Returns the address at which a part can be seen; "" if `repo` is empty."""
    if not repo:
        return ""
    endpoint = public_address(os.environ.get("HF_ENDPOINT") or HUB_URL)
    section = "datasets/" if repo_type(part) == "dataset" else ""
    return f"{endpoint.rstrip('/')}/{section}{repo_id(repo, part)}"


def push(
    folder: Path, parts: Sequence[str], *, repo: str, private: bool, token: str
) -> dict[str, str]:
    """Uploads every part to its repository; when repeated, uploads only files that are missing.

    Args:
        folder: The folder of the release.
        parts: Names of its subfolders.
        repo: Start of the repositories' names, as owner/name.
        private: Whether new repositories are private; existing ones keep their visibility.
        token: A token with write access.

    Returns:
        Part -> address on the Hub.

    Raises:
        ConfigError: If the Hub is switched off by HF_HUB_OFFLINE, or HF_ENDPOINT is plain http.
        XraysynthError: If a part could not be uploaded.
    """
    api = _hub_api(token)
    for part in parts:
        try:
            _push_part(api, folder / part, repo_id(repo, part), private=private)
        except Exception as error:  # httpx, the Hub and its storage raise their own kinds
            reason = (str(error).strip() or repr(error)).splitlines()[0].replace(token, "***")
            raise XraysynthError(
                f"{part} could not be uploaded to {repo_id(repo, part)}: {reason}; the folder "
                f"{folder} is complete. Run the release again: it uploads only what is missing"
            ) from None
    return {part: repo_url(repo, part) for part in parts}


def _push_part(api: Any, folder: Path, repository: str, *, private: bool) -> None:
    kind = repo_type(folder.name)
    api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        repo_type=kind,
        commit_message="Release by xraysynth",
    )


def _hub_api(token: str) -> Any:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise ConfigError("release.push=true needs the Hub, but HF_HUB_OFFLINE is set; unset it")
    require_encrypted(os.environ.get("HF_ENDPOINT") or HUB_URL, "HF_ENDPOINT")
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
