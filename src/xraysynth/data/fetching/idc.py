"""Radiographs of the Imaging Data Commons, by its own package."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth.data.fetching.recipe import Fetch
from xraysynth.errors import DataNotFoundError, DownloadError

if TYPE_CHECKING:
    import pandas as pd

FOLDERS = "%PatientID/%StudyInstanceUID/%Modality_%SeriesInstanceUID"
"""Folders of the files, in the package's words."""

_SERIES = """
SELECT SeriesInstanceUID, instanceCount FROM index
WHERE collection_id = '{collection}' AND Modality IN ('CR', 'DX')
"""


def fetch(fetch: Fetch, work: Path) -> Path:
    """Download the radiographs (modality CR or DX) of a collection; files that are there are kept.

    Returns:
        The folder with one folder per patient.

    Raises:
        DownloadError: It could not be downloaded, or not all of it.
        DataNotFoundError: The package idc-index is missing.
    """
    client = _open_client()
    folder = work / "idc"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        series: pd.DataFrame = client.sql_query(_SERIES.format(collection=fetch.idc))
        if len(series):
            client.download_dicom_series(
                seriesInstanceUID=series["SeriesInstanceUID"].tolist(),
                downloadDir=str(folder.absolute()),
                use_s5cmd_sync=True,
                dirTemplate=FOLDERS,
            )
    except Exception as error:  # the package and its database raise classes of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DownloadError(_message(fetch.idc, reason)) from error
    expected = int(series["instanceCount"].sum())
    actual = len(list(folder.rglob("*.dcm")))
    if not expected or actual < expected:
        raise DownloadError(_message(fetch.idc, f"{actual:,} of {expected:,} files are there"))
    return folder


def _message(collection: str, reason: str) -> str:
    return (
        f"Imaging Data Commons ({collection}): {reason}; run the same command again to go on where it "
        "stopped"
    )


def _open_client() -> Any:
    try:
        from idc_index import IDCClient
    except ImportError as error:
        raise DataNotFoundError(
            f"downloads from the Imaging Data Commons need the package idc-index ({error}); install it with: "
            "pip install 'xraysynth[idc]'"
        ) from error
    return IDCClient()
