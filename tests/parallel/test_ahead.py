from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial

import pytest

from pileupgen.parallel.ahead import Behind, read_ahead


def counted(n: int, log: list[str]) -> Generator[int, None, None]:
    try:
        for number in range(n):
            log.append(f"{number} {threading.current_thread() is threading.main_thread()}")
            yield number
        raise ValueError("after the last")
    finally:
        log.append("closed")


def test_items_come_in_order_and_an_error_after_those_before_it() -> None:
    log: list[str] = []
    ahead = read_ahead(counted(5, log))
    assert [next(ahead) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="after the last"):
        next(ahead)
    assert log == [*(f"{number} False" for number in range(5)), "closed"]


def test_the_next_six_items_are_made_while_one_is_used_and_no_more() -> None:
    begun = [threading.Event() for _ in range(8)]

    def items() -> Generator[int, None, None]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    with closing(read_ahead(items())) as ahead:
        assert next(ahead) == 0
        assert all(event.wait(10) for event in begun[:7])
        assert not begun[7].wait(0.05)
        assert list(ahead) == list(range(1, 8))


def test_who_stops_early_closes_the_generator() -> None:
    log: list[str] = []
    ahead = read_ahead(counted(9, log))
    next(ahead)
    ahead.close()
    # No more were made than are held, and the thread is gone.
    assert log[-1] == "closed"
    assert len(log) <= 9
    assert not any("read-ahead" in thread.name for thread in threading.enumerate())


def _do_all(behind: Behind, calls: list[Callable[[], None]]) -> None:
    for call in calls:
        behind.do(call)


def test_calls_are_made_in_order_and_none_after_an_error() -> None:
    made: list[int] = []
    behind = Behind()

    def call(number: int) -> None:
        time.sleep(0.02 if number == 0 else 0.0)
        if number == 3:
            raise OSError("no space")
        made.append(number)

    with pytest.raises(OSError, match="no space"):
        _do_all(behind, [partial(call, number) for number in range(20)])
    behind.close()
    assert made == [0, 1, 2]


def test_what_a_call_raises_is_raised_by_waiting_for_it() -> None:
    behind = Behind()

    def fail() -> None:
        raise OSError("no space")

    behind.do(fail)
    with pytest.raises(OSError, match="no space"):
        behind.wait()
    behind.close()
