"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import threading
from multiprocessing.process import BaseProcess


def exit_with_parent() -> None:
    """Make this worker process end as soon as the process that started it is gone.

    For the initializer of a pool of spawned processes. A pool whose process was killed leaves its
    workers waiting for the next task, with all the memory that they hold. In a process that
    multiprocessing did not start this does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # not sys.exit, which ends this thread alone; finished work is on disk already
