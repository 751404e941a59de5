"""Batches that are prepared ahead in a thread, and halved when memory runs out."""

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
    """Raised within a batch whose consumer has stopped iterating."""


def prefetch(items: Iterable[T], stop: Event, *, depth: int = 1) -> Iterator[T]:
    """Iterate over items that a background thread produces ahead.

    An exception in the thread is raised here. When the iteration ends early, `stop` is set and the
    thread has ended before this generator returns.

    Args:
        items: Items; the thread iterates over them.
        stop: Event that asks the thread to end. The producer of `items` may watch it too.
        depth: Largest number of items that wait to be consumed.

    Yields:
        The items, in order.
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
        _drain_until_finished(queue, thread)


def _drain_until_finished(queue: "Queue[tuple[str, Any]]", thread: Thread) -> None:
    """Wait for a thread that may be waiting for room in the queue."""
    while thread.is_alive():
        try:
            queue.get(timeout=0.02)
        except Empty:
            continue
    thread.join()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is one that Python, torch or OpenVINO raises when memory runs out."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


class AdaptiveBatches:
    """Batch size that is halved, for good, whenever memory runs out.

    Attributes:
        size: Number of items per batch, at present.
    """

    def __init__(self, size: int, *, remedy: str) -> None:
        """Start with a batch size; `remedy` tells the user what to do if one item does not fit."""
        self.size = size
        self._reported_size = size
        self._remedy = remedy

    def run(self, function: Callable[[Any], T], items: Any) -> Iterator[T]:
        """Apply a function to batches of items.

        Args:
            function: Function of a slice of `items`.
            items: Sequence or tensor; it is sliced along its first axis.

        Yields:
            The result of each batch, in order.

        Raises:
            XraysynthError: If a single item does not fit into memory.
        """
        start = 0
        while start < len(items):
            batch = items[start : start + self.size]
            try:
                result = function(batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.size == 1:
                    raise XraysynthError(
                        f"there is too little memory for one image; {self._remedy}"
                    ) from error
                self.size //= 2
                result = None
            if result is None:  # outside the handler, which would keep the tensors alive
                _empty_gpu_cache()
                continue
            self._report_halving()
            start += len(batch)
            yield result

    def _report_halving(self) -> None:
        if self.size < self._reported_size:
            print(f"memory ran out; batches now have {self.size} images", file=sys.stderr)
            self._reported_size = self.size


def _empty_gpu_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
