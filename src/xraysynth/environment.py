"""Variables of the environment that other programs have set: schedulers, launchers, other people's jobs.

Slurm, MPI, torchrun, W&B, Lightning and accelerate speak to libraries through variables. A job here does
what it would do without them: each library is called where only the variables that are meant for it can
be seen. What a user does set for this program (keys, addresses, folders, threads) stays.
"""

import codecs
import locale
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xraysynth.threads import use_one_thread_by_default

STARTED_TOGETHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_", "GROUP_")
"""Variables by which torchrun tells a process which of several it is."""

MPI = ("PMI_", "PMIX_", "OMPI_", "MV2_", "MPI_")
"""Variables by which mpirun, and srun in its place, do the same."""


THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@contextmanager
def hidden_variables(*prefixes: str, keep: tuple[str, ...] = ()) -> Iterator[None]:
    """Hide variables of the environment from the block, and put them back afterwards.

    Args:
        prefixes: How the names of the hidden variables begin.
        keep: How the names of those begin that stay all the same.
    """
    hidden = {}
    for name in list(os.environ):
        if name.startswith(prefixes) and not (keep and name.startswith(keep)):
            hidden[name] = os.environ.pop(name)
    try:
        yield
    finally:
        os.environ.update(hidden)


def prepare_process() -> None:
    """Prepare a process of the command line, before it imports anything large."""
    read_files_as_utf8()
    ensure_home()
    use_one_thread_by_default()
    bypass_proxy_for_this_machine()
    tolerate_warnings()


def read_files_as_utf8() -> None:
    """Start this command again in Python's UTF-8 mode, where a locale has another encoding.

    In such a locale Python would read tables, and write names and messages, in that encoding.
    """
    if codecs.lookup(locale.getencoding()).name != "utf-8" and sys.flags.utf8_mode == 0:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def ensure_home() -> None:
    """Give a user without a home folder, as containers have them, the one for temporary files."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


def tolerate_warnings() -> None:
    """Let warnings be warnings, also where PYTHONWARNINGS makes errors of them for other programs.

    Those of the libraries that are used here would end a job.
    """
    sys.warnoptions[:] = [option for option in sys.warnoptions if not option.startswith("error")]
    if "PYTHONWARNINGS" in os.environ:  # of processes that are started
        os.environ["PYTHONWARNINGS"] = ",".join(sys.warnoptions)
    filters: Any = warnings.filters
    filters[:] = [entry for entry in filters if entry[0] != "error"]


def bypass_proxy_for_this_machine() -> None:
    """Let calls to servers on this machine pass by a proxy, which cannot reach them.

    Browsers do so; Python's libraries do only what the variable no_proxy says.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = list(filter(None, map(str.strip, known.split(","))))
    hosts += [host for host in THIS_MACHINE if host not in hosts]
    os.environ.update(no_proxy=",".join(hosts), NO_PROXY=",".join(hosts))
