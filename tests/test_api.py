"""What `import xraysynth` offers, and that it costs nothing until it is asked for."""

import subprocess
import sys

import pytest

import xraysynth
import xraysynth.launch  # which imports what composes


@pytest.mark.parametrize("name", xraysynth.__all__)
def test_every_public_name_is_a_function_or_a_class(name):
    assert callable(getattr(xraysynth, name))
    assert getattr(xraysynth, name).__doc__


def test_what_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = xraysynth.nothing


def test_importing_the_package_imports_nothing_else_of_it():
    code = "import sys, xraysynth; print([m for m in sys.modules if m.startswith('xraysynth.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
