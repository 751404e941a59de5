"""A stand-in for idc-index 0.13.4, with the signatures of its `IDCClient`."""

import types
from pathlib import Path

import pandas as pd


def build(series, lost=0, write=None):
    """The package with series (collection, modality, patient, uid, number of files); `lost` never come."""
    package = types.ModuleType("idc_index")
    package.downloads = []

    class IDCClient:
        def sql_query(self, sql_query):
            names = ["collection_id", "Modality", "PatientID", "SeriesInstanceUID", "instanceCount"]
            table = pd.DataFrame(series, columns=names)
            conditions = [
                f"collection_id = '{collection}'" for collection in table["collection_id"]
            ]
            chosen = [condition in sql_query for condition in conditions]
            assert "Modality IN ('CR', 'DX')" in sql_query
            return table[pd.Series(chosen) & table["Modality"].isin(["CR", "DX"])]

        def download_dicom_series(
            self,
            seriesInstanceUID,
            downloadDir,
            dry_run=False,
            quiet=True,
            show_progress_bar=True,
            use_s5cmd_sync=False,
            dirTemplate="%collection_id/%PatientID/%StudyInstanceUID/%Modality_%SeriesInstanceUID",
            source_bucket_location="aws",
        ):
            package.downloads.append(seriesInstanceUID)
            assert use_s5cmd_sync
            missing = lost if len(package.downloads) == 1 else 0
            for _, modality, patient, uid, count in series:
                if uid not in seriesInstanceUID:
                    continue
                folder = dirTemplate.replace("%PatientID", patient).replace(
                    "%StudyInstanceUID", "1"
                )
                folder = folder.replace("%Modality", modality).replace("%SeriesInstanceUID", uid)
                for number in range(count - missing):
                    file = Path(downloadDir, folder, f"{number}.dcm")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    (write or Path.touch)(file)

    package.IDCClient = IDCClient
    return package
