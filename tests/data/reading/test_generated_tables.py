"""Tables drawn at random are read as their owner means them, or refused by name."""

import random

import pandas as pd
import pytest
from generated_tables import generate_table, write_files

from xraysynth.data.reading.ages import parse_age_years
from xraysynth.data.reading.splits import split_of_word
from xraysynth.data.reading.tables import read_table
from xraysynth.data.sources.table import TableSource
from xraysynth.errors import DataNotFoundError, ManifestError


def require_name(table, error):
    """The message of a refusal, which must name the table."""
    assert table.path.name in str(error), table.description
    return str(error)


def check(table):
    """What became of a table: "read", or "refused" by a message that names it."""
    source = TableSource(
        name="mine", path=str(table.path), root=str(table.root), columns=table.columns
    )
    try:
        rows = source.rows()
    except (ManifestError, DataNotFoundError) as error:
        return require_name(table, error)
    meant = table.meant
    assert [locator.rpartition("#")[0] for locator in rows["locator"]] == meant["file"].tolist(), (
        table.description
    )
    assert rows["label"].tolist() == meant["label"].tolist(), table.description
    assert rows["patient_id"].tolist() == meant["patient"].tolist(), table.description
    if "split" in rows:
        splits = [split_of_word(word) for word in rows["split"]]
        assert splits == meant["split"].tolist(), table.description
    else:
        assert not meant["split"].any(), table.description
    if "age" in rows:
        ages = [parse_age_years(age) for age in meant["age"]]
        assert rows["age"].astype(object).where(rows["age"].notna(), None).tolist() == ages
    assert not {"left_out", "unusable"} & set(rows), table.description
    return ""


def require_read(folder, seeds):
    """All tables are read as meant, but for those with spaces in which an empty cell cannot be seen."""
    root = folder / "X-rays (2024)"
    files = write_files(root)
    n_refused = 0
    for seed in seeds:
        (folder / str(seed)).mkdir()
        table = generate_table(folder / str(seed), root, files, seed)
        refusal = check(table)
        if refusal:
            n_refused += 1
            assert table.description.get("separator") == " ", table.description
            assert "cells, but there are" in refusal
    assert n_refused < 0.06 * len(seeds)


def test_two_hundred_tables_are_read_as_meant_or_refused_by_name(tmp_path):
    require_read(tmp_path, range(200))


@pytest.mark.slow
def test_two_thousand_tables_are_read_as_meant_or_refused_by_name(tmp_path):
    require_read(tmp_path, range(1000, 3000))


def damaged(data, rng):
    """Bytes with a few changed, cut out or repeated."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        end = min(len(data), at + rng.randint(1, 40))
        change = rng.randrange(4)
        if change == 0:
            data[at] = rng.randrange(256)
        elif change == 1 and len(data) > 60:
            del data[at:end]
        elif change == 2:
            data[at:at] = data[at:end]
        else:
            data[at:at] = rng.choice([b'"', b"\0", b"\xff", b"\r", b";", b"\xef\xbb\xbf"])
    return bytes(data)


def test_damaged_tables_are_read_or_refused_by_name(tmp_path):
    root = tmp_path / "films"
    files = write_files(root)
    rng = random.Random(5)
    outcomes = []
    for seed in range(60):
        (tmp_path / str(seed)).mkdir()
        table = generate_table(tmp_path / str(seed), root, files, seed)
        table.path.write_bytes(damaged(table.path.read_bytes(), rng))
        try:
            outcomes.append(isinstance(read_table(table.path), pd.DataFrame))
            TableSource(name="mine", path=str(table.path), root=str(root)).rows()
        except (ManifestError, DataNotFoundError) as error:
            require_name(table, error)
    assert sum(outcomes) > 5
