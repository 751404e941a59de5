"""Data sets and competitions of Kaggle, by its own package, which keeps the login."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xraysynth.data.fetching.recipe import Fetch
from xraysynth.errors import DataNotFoundError, DownloadError

CACHE_VARIABLE = "KAGGLEHUB_CACHE"

LOGIN = (
    "log in with: python -c 'import kagglehub; kagglehub.login()', or set KAGGLE_API_TOKEN to a token "
    "from https://www.kaggle.com/settings"
)


def fetch(fetch: Fetch, work: Path, homepage: str) -> Path:
    """Download a data set (owner/name) or a competition (name) of Kaggle.

    It is downloaded below `work`, so that a broken download is continued and nothing is kept twice.

    Returns:
        The folder with its files.

    Raises:
        DownloadError: Kaggle does not give it, for example because its rules have not been accepted.
        DataNotFoundError: The package kagglehub is missing.
    """
    try:
        import kagglehub
    except ImportError as error:
        raise DataNotFoundError(
            f"downloads from Kaggle need the package kagglehub ({error}); install it with: "
            "pip install 'xraysynth[kaggle]'"
        ) from error
    is_dataset = "/" in fetch.kaggle
    download = kagglehub.dataset_download if is_dataset else kagglehub.competition_download
    with _cache_below(work / "kagglehub"):
        try:
            return Path(download(fetch.kaggle))
        except Exception as error:  # kagglehub, kagglesdk and requests have classes of their own
            raise DownloadError(_explain(fetch.kaggle, homepage, error)) from error


@contextmanager
def _cache_below(folder: Path) -> Iterator[None]:
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHE_VARIABLE]
        else:
            os.environ[CACHE_VARIABLE] = before


def _explain(handle: str, homepage: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    status = getattr(getattr(error, "response", None), "status_code", None)
    is_refused = status in (401, 403) or "Unauthenticated" in type(error).__name__
    if not is_refused:
        return f"Kaggle ({handle}): {reason}; run the same command again to go on where it stopped"
    return (
        f"Kaggle ({handle}) gives it only to people who have accepted its terms ({reason}): read and accept "
        f"them yourself at {homepage}, {LOGIN}, and run the same command again"
    )
