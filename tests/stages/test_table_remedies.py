"""What a message on a table tells to set can be pasted as it is printed, and works."""

import re
import shlex
import shutil

import pandas as pd
import pytest
from command import xraysynth
from small_study import write_cohort


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "X-ray films"
    write_cohort(folder, per_class=16)
    return folder


def two_columns(table, folder):
    return table.rename(columns={"label": "Finding "}).assign(diagnosis=table["label"][::-1].array)


def unknown_column(table, folder):
    return table.rename(columns={"label": "result, in words"}).replace(
        {"normal": "A", "pneumonia": "B", "covid19": "C", "tuberculosis": "D"}
    )


def other_folders(table, folder):
    for number, path in enumerate(table["path"]):
        target = folder / f"{number % 3}" / path.replace("/", "-")
        target.parent.mkdir(exist_ok=True)
        shutil.move(folder / path, target)
    return table.assign(path="site/" + table["path"].str.replace("/", "-"))


def words_for_splits(table, folder):
    return table.assign(split=[f"fold {number % 4}" for number in range(len(table))])


def odd_label(table, folder):
    return table.replace({"pneumonia": "COVID-19, or 'ARDS'?"})


def missing_files(table, folder):
    for path in table["path"][:5]:
        (folder / path).unlink()
    return table


CASES = {
    "several columns": (
        two_columns,
        "several columns",
        r"source\.table\.columns\.label=Finding",
    ),
    "no column": (
        unknown_column,
        "no column holds",
        r"source\.table\.columns\.label=\"result, in words\"",
    ),
    "folders": (other_folders, "none of the 64 files", r"source\.table\.by_name=true"),
    "splits": (words_for_splits, "'fold 0'", r"splits\.official=false"),
    "labels": (odd_label, "unknown label", r"source\.table\.labels=\{.*\}"),
    "missing": (missing_files, "5 of 64", r"screening\.most_left_out=[\d.]+"),
}
MAPPED = {
    "several columns": [],
    "no column": ["source.table.labels={A: normal, B: pneumonia, C: covid19, D: tuberculosis}"],
    "labels": ["classes=[normal,covid19,tuberculosis]"],
}
"""Options that the case needs besides, since its classes are changed too."""


def pasted(message, pattern):
    """The option in a message that a shell would make of what is printed."""
    options = []
    for quoted in re.findall(r"'(?:[^']|'\"'\"')*'|[^\s;,:]+", message):
        try:
            words = shlex.split(quoted)
        except ValueError:
            continue
        if len(words) == 1 and re.fullmatch(pattern, words[0]):
            options.append(words[0])
    return options[-1]  # the rule that is broken may be named before


@pytest.mark.parametrize("case", CASES)
def test_an_option_that_a_message_prints_works(images, tmp_path, case):
    change, says, option = CASES[case]
    folder = tmp_path / "X-ray films"
    shutil.copytree(images, folder)
    table = change(pd.read_csv(folder / "manifest.csv"), folder)
    table.to_csv(folder / "manifest.csv", index=False)
    command = [
        "prepare",
        "source=table",
        f"source.table.path={folder / 'manifest.csv'}",
        f"paths.output={tmp_path / 'out'}",
        "size_px=32",
        "splits.minimum_per_class=8",
        *MAPPED.get(case, []),
    ]
    failed = xraysynth(*command)
    assert failed.returncode != 0
    assert says in failed.stderr
    assert "Traceback" not in failed.stderr
    ended = xraysynth(*command, pasted(failed.stderr, option))
    assert ended.returncode == 0, ended.stderr[-2000:]
