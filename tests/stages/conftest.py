"""A small study, run once for all tests of the stages."""

import shutil

import pytest
from small_study import overrides_for, write_cohort

from xraysynth.config import Config, compose
from xraysynth.stages import study


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_sd):
    """Folder, overrides and result of a finished study; tests must not change it."""
    folder = tmp_path_factory.mktemp("study")
    write_cohort(folder / "cohort")
    overrides = overrides_for(folder, tiny_sd)
    result = study.run(compose(overrides), overrides)
    return folder, overrides, result


@pytest.fixture
def copied(finished, tmp_path, tiny_sd):
    """A finished study in a folder of its own, to be changed at will."""
    folder, _, _ = finished
    shutil.copytree(folder, tmp_path / "study")

    def composed(*more: str) -> tuple[Config, list[str]]:
        overrides = overrides_for(tmp_path / "study", tiny_sd, *more)
        return compose(overrides), overrides

    return composed
