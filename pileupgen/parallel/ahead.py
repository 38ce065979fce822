"""Work of a stream's neighbours at the same time, by one thread each, in unchanged order.

Decompression, compression and most of what numpy does to large arrays run without the interpreter's
lock, so that reading, drawing and writing fill two cores though they are one stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_AHEAD = 6
"""Items that are made before they are asked for. One is not enough where a block of a file is
unpacked for several items at once: the others of a block take no time, and the next blocks have to
be unpacked while they are used."""


def read_ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yield items in their order while a thread makes the next ones.

    The generator runs in one thread only, and is closed there. What it raises is raised here, after
    the items before it. ``_AHEAD + 1`` items more than without are held at a time.

    Parameters
    ----------
    items : generator
        Shares nothing that changes with who consumes it.
    """
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        coming = deque(thread.submit(_next, items) for _ in range(_AHEAD))
        try:
            while (item := coming.popleft().result()) is not None:
                coming.append(thread.submit(_next, items))
                yield item[0]
        finally:
            for future in coming:
                future.cancel()
            thread.submit(items.close).result()


def _next(items: Iterator[T]) -> tuple[T] | None:
    for item in items:
        return (item,)
    return None


class Behind:
    """Calls functions one after another in a thread, at most one of them waiting.

    What a call raises is raised by the next :meth:`do` or :meth:`wait`; no call after it is made.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "write-behind")
        self._calls: list[Future[None]] = []
        self._has_failed = False

    def do(self, call: Callable[[], None]) -> None:
        """Make a call once those before it are through."""
        while len(self._calls) > 1:
            self._calls.pop(0).result()
        self._calls.append(self._thread.submit(self._make, call))

    def wait(self) -> None:
        """Wait until all calls are through."""
        while self._calls:
            self._calls.pop(0).result()

    def close(self) -> None:
        """Let go of the thread, after the call that it is at."""
        self._thread.shutdown(cancel_futures=True)

    def _make(self, call: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            call()
        except BaseException:
            self._has_failed = True
            raise
