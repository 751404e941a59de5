"""The command line, called in this process: a new one spends seconds on imports alone."""

import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO
from uuid import uuid4

import pytest

STREAMS: list[TextIO] = []
"""Standard output and error of all calls: loggers that are made during a call keep them."""


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def xraysynth(*words: str, cwd: Path | None = None) -> Ended:
    """What `xraysynth …` leaves, processes that it starts included."""
    from xraysynth.cli import main

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with pytest.MonkeyPatch.context() as patch, _written_to(out, err), _as_new():
            patch.setattr(sys, "argv", ["xraysynth", *words])
            patch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets
            patch.chdir(cwd or Path.cwd())
            code: Any = 0
            try:
                main()
            except SystemExit as end:
                code = end.code
            if isinstance(code, str):  # what Python does with a message
                print(code, file=sys.stderr)
        return Ended(1 if isinstance(code, str) else code or 0, *map(_text, (out, err)))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _open_streams() -> list[TextIO]:
    """The streams, opened anew if a library that held them has closed them."""
    if any(stream.closed for stream in STREAMS) or not STREAMS:
        STREAMS.clear()
        for number in (1, 2):
            STREAMS.append(open(number, "w", buffering=1, closefd=False))  # noqa: SIM115
    return STREAMS


@contextmanager
def _written_to(*files: IO[bytes]) -> Iterator[None]:
    """Whatever is printed goes to these files, also what other processes print."""
    streams, kept = (sys.stdout, sys.stderr), [os.dup(1), os.dup(2)]
    try:
        for number, file in enumerate(files, start=1):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = _open_streams()
        yield
    finally:
        for stream in STREAMS:
            if not stream.closed:
                stream.flush()
        sys.stdout, sys.stderr = streams
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)


@contextmanager
def _as_new() -> Iterator[None]:
    """Warnings are printed, as in a process of its own, and nothing is left of the call."""
    from hydra.core.hydra_config import HydraConfig

    # Hydra sets logging up anew, by which all handlers are closed, and some close pytest's files.
    root, known = logging.root.handlers[:], logging._handlerList[:]
    logging._handlerList.clear()

    def printed(*warning: Any) -> None:
        sys.stderr.write(warnings.formatwarning(*warning[:4]))

    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", category)
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.showwarning = printed
        try:
            yield
        finally:
            HydraConfig.instance().cfg = None  # by which later stages would choose a launcher
            logging._handlerList[:0] = known
            logging.root.handlers[:] = root


def torchrun(*words: str, forked: bool = False) -> Ended:
    """What `torchrun --nproc_per_node 2 --no-python xraysynth …` leaves.

    Its agent runs in this process. The two that it starts are new ones, or forked from this one, so
    that nothing is imported again.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    place = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": uuid4().hex}
    nodes = {"min_nodes": 1, "max_nodes": 1, "nproc_per_node": 2}
    start = {"start_method": "fork", "max_restarts": 0, "monitor_interval": 0.05}
    agent = elastic_launch(
        LaunchConfig(**place, **nodes, **start), entrypoint=_main if forked else sys.executable
    )
    arguments = words if forked else ("-c", "from xraysynth.cli import main; main()", *words)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}  # the agent sets its own
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            with _written_to(out, err):
                agent(*arguments)
            code = 0
        except ChildFailedError:
            code = 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Ended(code, *map(_text, (out, err)))


def _main(*words: str) -> None:
    from xraysynth.cli import main

    sys.argv = ["xraysynth", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"exit code {end.code}") from end
