"""Batches made ahead in a thread, and halved when memory runs out."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeVar

from xraysynth.errors import XraysynthError

T = TypeVar("T")
_OUT_OF_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|out of memory|bad_alloc", re.I
)


class CancelledSampling(Exception):
    """Nobody wants the batch any more."""


def prefetch(items: Iterable[T], stop: Event, *, depth: int = 1) -> Iterator[T]:
    """The items, made in a thread of their own, of which at most `depth` wait to be taken.

    An error in the thread is raised here. When the caller stops early, `stop` is set, and the thread
    has ended before this returns.
    """
    queue: Queue[tuple[str, Any]] = Queue(depth)

    def produce() -> None:
        try:
            for item in items:
                queue.put(("item", item))
                if stop.is_set():
                    return
            queue.put(("end", None))
        except BaseException as error:
            queue.put(("error", error))

    thread = Thread(target=produce, daemon=True, name="denoise")
    thread.start()
    try:
        while True:
            kind, value = queue.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        while thread.is_alive():  # it may be waiting for a place in the queue
            try:
                queue.get(timeout=0.02)
            except Empty:
                continue
        thread.join()


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch, Python and OpenVINO raise when memory runs out."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


class AdaptiveBatches:
    """A batch size that is halved, for good, when memory runs out."""

    def __init__(self, size: int, *, remedy: str) -> None:
        self.size = self._reported_size = size
        self._remedy = remedy

    def run(self, function: Callable[[Any], T], items: Any) -> Iterator[T]:
        """`work` on slices of `items` of at most the size that fits."""
        start = 0
        while start < len(items):
            part = items[start : start + self.size]
            try:
                result = function(part)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.size == 1:
                    raise XraysynthError(f"out of memory with one image; {self._remedy}") from error
                self.size //= 2
                result = None
            if result is None:  # outside the handler, which would keep the tensors alive
                _empty_gpu_cache()
                continue
            self._report_halving()
            start += len(part)
            yield result

    def _report_halving(self) -> None:
        if self.size < self._reported_size:
            print(f"out of memory: going on with batches of {self.size}", file=sys.stderr)
            self._reported_size = self.size


def _empty_gpu_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
