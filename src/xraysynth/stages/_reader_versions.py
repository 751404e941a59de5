"""The versions of what reads images: a file that one version cannot read, another may."""

from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from xraysynth.seeds import short_digest

DECODERS = (
    *("numpy", "pillow", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg"),
    *("pylibjpeg-rle", "python-gdcm", "torchxrayvision"),
)
"""Packages that decide which files can be read."""


@cache
def reader_versions() -> str:
    """Return a digest of the versions of this package and of the decoders that are installed.

    A file that could not be used is read again by other ones.
    """
    from xraysynth import __version__

    versions = {"xraysynth": __version__}
    for name in DECODERS:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return short_digest(versions)
