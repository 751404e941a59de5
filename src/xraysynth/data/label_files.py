"""Labels in a file of their own: which class of the study each label of a source is.

A yaml or JSON file maps labels to classes; a table (CSV, Excel, …) has the columns label and class.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xraysynth.errors import ConfigError, ManifestError, did_you_mean
from xraysynth.options import expand_path
from xraysynth.quoting import quote_override
from xraysynth.yaml_texts import load_yaml

TEXT_SUFFIXES = (".yaml", ".yml", ".json")
_NO_CLASS = ("", "null", "~")
"""What a table says in the column class of a label whose images are dropped."""


def read_labels(file: str, option: str) -> dict[str, str | None]:
    """Read the classes of labels from a file.

    Args:
        file: Its path; a leading ~ is the home folder.
        option: Full name of the option that names it, for errors.

    Returns:
        Label -> class of the study; None drops the images.

    Raises:
        ConfigError: The file is missing or holds no labels and classes.
    """
    path = expand_path(file)
    if not path.is_file():
        raise ConfigError(_missing_file(file, path, option))
    labels = _read_text(path) if path.suffix.lower() in TEXT_SUFFIXES else _read_table(path)
    if not isinstance(labels, Mapping) or not labels:
        raise ConfigError(f"{option}={file}: the file must have lines such as 'No Finding: normal'")
    for label, name in labels.items():
        if not isinstance(name, str | None):
            raise ConfigError(
                f"{option}={file}: {label!r} must have one class, or null; got {name!r}"
            )
    return dict(labels)


def _missing_file(file: str, path: Path, option: str) -> str:
    example = quote_override(option, {"No Finding": "normal", "other": None})
    names = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
    return (
        f"{option}={file}: there is no such file{did_you_mean(path.name, names)}; name a file of "
        f"labels and classes, or write them: {example}"
    )


def _read_text(path: Path) -> Any:
    try:
        return load_yaml(path.read_text(encoding="utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {error.reason}; save it as a text in UTF-8") from error


def _read_table(path: Path) -> dict[str, str | None]:
    from xraysynth.data.reading.tables import read_table

    try:
        table = read_table(path)
    except ManifestError as error:
        raise ConfigError(str(error)) from error
    column_of_name = {str(column).strip().casefold(): column for column in table.columns}
    if not {"label", "class"} <= set(column_of_name):
        raise ConfigError(
            f"{path}: a table of labels needs the columns label and class; it has "
            f"{', '.join(map(str, table.columns))}"
        )
    pairs = table[[column_of_name["label"], column_of_name["class"]]]
    labels: dict[str, str | None] = {}
    for label, name in pairs.itertuples(index=False, name=None):
        found = None if name.lower() in _NO_CLASS else name
        if labels.setdefault(label, found) != found:
            raise ConfigError(f"{path}: {label!r} has two classes, {labels[label]} and {found}")
    return labels
