"""Data sets of the Hugging Face Hub, at a commit, with their sizes and checksums checked."""

import fnmatch
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xraysynth.data.fetching.checksums import checksum_fault
from xraysynth.data.fetching.recipe import Fetch
from xraysynth.data.fetching.unpacking import unpack
from xraysynth.errors import DownloadError
from xraysynth.files import move_into_place
from xraysynth.privacy import public_address, require_encrypted
from xraysynth.records import require_inside

HUB_URL = "https://huggingface.co"
TOKEN_VARIABLE = "HF_TOKEN"


@dataclass(frozen=True)
class HubFile:
    """A file of a data set; `sha256` is "" for small files, which git keeps under the SHA-1 `blob_id`."""

    path: str
    size_bytes: int
    sha256: str = ""
    blob_id: str = ""


@dataclass(frozen=True)
class HubDataset:
    """A data set at a commit.

    Attributes:
        repo: Its name, `owner/name`.
        commit: The commit, 40 hex digits.
        files: Its files.
        license: Its licence as its card says it; "" if it does not.
    """

    repo: str
    commit: str
    files: tuple[HubFile, ...]
    license: str = ""

    @property
    def url(self) -> str:
        """The address of its page."""
        return dataset_url(self.repo)


def dataset_url(repo: str) -> str:
    """Return the address of the page of a data set."""
    return f"{public_address(_endpoint()).rstrip('/')}/datasets/{repo}"


def open_dataset(repo: str, revision: str = "") -> HubDataset:
    """Ask the Hub for a data set's commit, files and licence.

    Args:
        repo: Its name, `owner/name`.
        revision: A commit, branch or tag; "" for the main branch.

    Raises:
        DownloadError: The Hub cannot be reached, or does not show the data set.
    """
    with explain_hub_errors(repo):
        info = _api().dataset_info(repo, revision=revision or None, files_metadata=True)
    files = []
    for sibling in info.siblings or []:
        sha256 = sibling.lfs.sha256 if sibling.lfs else ""
        files.append(HubFile(sibling.rfilename, sibling.size or 0, sha256, sibling.blob_id or ""))
    return HubDataset(repo, info.sha, tuple(files), _license(info))


def download_file(dataset: HubDataset, file: HubFile, *, local_dir: Path) -> Path:
    """Download a file of a data set, and check its size and SHA-256; a broken download is continued.

    Args:
        dataset: The data set.
        file: The file.
        local_dir: Folder in which it gets its path in the data set.

    Raises:
        DownloadError: It cannot be downloaded, or it is not what the Hub lists.
    """
    from huggingface_hub import hf_hub_download

    require_inside(local_dir, file.path)
    with explain_hub_errors(dataset.repo):
        downloaded = hf_hub_download(
            dataset.repo,
            file.path,
            repo_type="dataset",
            revision=dataset.commit,
            token=_token(),
            endpoint=_endpoint(),
            local_dir=local_dir,
        )
    path = Path(downloaded)
    fault = (
        checksum_fault(path, f"sha256:{file.sha256}") if file.sha256 else _blob_fault(path, file)
    )
    if path.stat().st_size != file.size_bytes:
        fault = f"it has {path.stat().st_size:,} bytes instead of {file.size_bytes:,}"
    if fault:
        path.unlink()
        raise DownloadError(
            f"Hugging Face Hub ({dataset.repo}): {file.path} is damaged: {fault}; run the same command "
            "again to download it once more"
        )
    return path


def _blob_fault(path: Path, file: HubFile) -> str:
    """How a small file differs from what git keeps; "" if it does not."""
    data = path.read_bytes()
    actual = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return "" if actual == file.blob_id else f"its git id is {actual} instead of {file.blob_id}"


def fetch_files(fetch: Fetch, work: Path) -> Path:
    """Download the files of a collection from the Hub, and unpack its archives, each into a folder.

    Returns:
        The folder of the files.

    Raises:
        DownloadError: A file cannot be downloaded, or the data set has none of a pattern.
        ArchiveError: An archive is damaged or hostile.
    """
    dataset = open_dataset(fetch.hub, fetch.revision)
    complete = work / "complete"
    for pattern, name in fetch.hub_files.items():
        matches = [file for file in dataset.files if fnmatch.fnmatch(file.path, pattern)]
        if not matches:
            raise DownloadError(
                f"Hugging Face Hub ({fetch.hub} at {fetch.revision}): it has no file {pattern}"
            )
        for file in matches:
            target = complete / (name or Path(file.path).stem)
            if not target.exists():
                _fetch_file(dataset, file, target, work / "hub")
    return complete


def _fetch_file(dataset: HubDataset, file: HubFile, target: Path, folder: Path) -> None:
    path = download_file(dataset, file, local_dir=folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.path.endswith((".zip", ".tar.gz")):
        unpack(path, target)
        path.unlink()
    else:
        move_into_place(path, target)


@contextmanager
def explain_hub_errors(repo: str) -> Iterator[None]:
    """Raise `DownloadError` with a remedy where the Hub's library fails.

    Raises:
        DownloadError: The Hub cannot be reached, or does not give the data set.
    """
    from huggingface_hub import errors

    require_encrypted(_endpoint(), "HF_ENDPOINT")
    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"Hugging Face Hub ({repo}): it is given only to people who have accepted its terms; accept them "
            f"yourself at {dataset_url(repo)}, and set {TOKEN_VARIABLE} to a token of your account from "
            f"{HUB_URL}/settings/tokens"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"Hugging Face Hub ({repo}): there is no such data set, or it is private; check its name at "
            f"{dataset_url(repo)}, or set {TOKEN_VARIABLE} to a token that may read it"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(
            f"Hugging Face Hub ({repo}): HF_HUB_OFFLINE is set, and not all of it is on this machine; unset "
            "HF_HUB_OFFLINE"
        ) from error
    except Exception as error:  # httpx, the Hub and its storage raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DownloadError(
            f"Hugging Face Hub ({repo}): {reason}; run the same command again to go on where it stopped"
        ) from error


def _license(info: Any) -> str:
    card = info.card_data
    license = card.get("license") if card else None
    return ", ".join(license) if isinstance(license, list) else license or ""


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint(), token=_token())


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or HUB_URL


def _token() -> str | bool:
    """The token of the environment, the only place in which it is looked for; False for none."""
    return os.environ.get(TOKEN_VARIABLE, "").strip() or False
