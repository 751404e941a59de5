"""An event loop in its own thread, whose results are handed to the caller one by one."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

from xraysynth.errors import XraysynthError
from xraysynth.generation.images_api.client import ApiRun
from xraysynth.generation.images_api.outcomes import ApiError
from xraysynth.generation.images_api.redaction import clean_text
from xraysynth.records import GenerationResult, Request

RESULT_BUFFER_SIZE = 24
"""Finished images that may wait for the caller, in addition to calls in flight: a bound of memory."""


def stream_results(
    run: ApiRun, requests: Sequence[Request], *, in_flight: int
) -> Iterator[GenerationResult]:
    """Yields results as they come, in any order, while a thread makes the calls.

    After a keyboard interrupt no further call is made; the answers to calls in flight, which are
    paid for, are still yielded before the interrupt is raised again. A second interrupt is raised
    at once.

    Args:
        run: The calls, the budget and the response cache.
        requests: The images to request.
        in_flight: Most calls in flight.

    Raises:
        ApiError: If the thread has failed.
        KeyboardInterrupt: After the last result, if there was an interrupt.
    """
    background = _BackgroundLoop(run, requests, in_flight + RESULT_BUFFER_SIZE)
    background.thread.start()
    interrupted = False
    try:
        while True:
            try:
                result = background.peek()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                run.stop("interrupted")
                continue
            if result is None:
                break
            yield result
            run.response_cache.remove(result.request.image_id)
            background.pop()
    finally:
        background.stop()
    if background.error:
        raise ApiError(background.error)
    if interrupted:
        raise KeyboardInterrupt


class _BackgroundLoop:
    """The thread with the event loop, and the results that wait for the caller.

    Args:
        run: The calls.
        requests: The images to request.
        slot_count: Most requests that are in flight or wait for the caller.
    """

    def __init__(self, run: ApiRun, requests: Sequence[Request], slot_count: int) -> None:
        self._run = run
        self._requests = requests
        self._slot_count = slot_count
        self._ready: deque[GenerationResult] = deque()
        self._has_news = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self.error = ""
        self.thread = threading.Thread(target=self._main, name="images-api", daemon=True)

    def peek(self) -> GenerationResult | None:
        """Waits for the oldest result and returns it; returns None after the last one.

        The result stays until `pop`, so that an interrupt in between loses none.
        """
        while not self._ready:
            if self._ended and not self._ready:
                return None
            self._has_news.wait()
            self._has_news.clear()
        return self._ready[0]

    def pop(self) -> None:
        """Removes the oldest result, which makes room for one more request."""
        self._ready.popleft()
        if self._loop is not None and not self._loop.is_closed():
            with suppress(RuntimeError):  # the loop was closed in between
                self._loop.call_soon_threadsafe(self._slots.release)

    def stop(self) -> None:
        """Cancels the calls that are still running and waits for the thread."""
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._task.cancel)
        self.thread.join()

    def _put(self, result: GenerationResult) -> None:
        self._ready.append(result)
        self._has_news.set()

    def _main(self) -> None:
        try:
            asyncio.run(self._process_all())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.error = _describe_root_cause(error, self._run.settings.secret)
        finally:
            self._ended = True
            self._has_news.set()

    async def _process_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._slots = asyncio.Semaphore(self._slot_count)
        await self._run.process_all(self._requests, self._put, self._slots)


def _describe_root_cause(error: BaseException, secret: str | None) -> str:
    """Names the first exception inside nested groups of exceptions."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, XraysynthError):
        return str(error)
    return clean_text(f"{type(error).__name__}: {error}", secret)
