"""Signals that ask a command to end: Ctrl-C, SIGTERM of a batch system, SIGHUP of a terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from pileupgen.errors import InterruptedRunError

_ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


HINT = (
    "Run the same command again: what was finished is kept, and what has no state in between, such "
    "as a sample of showers or a comparison, begins anew."
)


class Ended(KeyboardInterrupt):
    """A signal that ends the command as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise Ended(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does: what was begun is cleaned up.

    Raises
    ------
    InterruptedRunError
        After one of the three, with the exit code that shells give: 128 and the signal's number.
    """
    try:
        with _handling(_ENDINGS, _end):
            yield
    except Ended as ended:
        name = signal.Signals(ended.number).name
        raise _interruption(f"Ended by {name}.", ended.number) from None
    except KeyboardInterrupt:
        raise _interruption("Interrupted.", signal.SIGINT) from None


def _interruption(message: str, number: int) -> InterruptedRunError:
    error = InterruptedRunError(message, HINT)
    error.exit_code = 128 + number
    return error


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Do a short piece of cleaning up to its end, whatever signal comes."""
    with _handling((signal.SIGINT, *_ENDINGS), signal.SIG_IGN):
        yield


@contextmanager
def _handling(numbers: tuple[int, ...], handler: Callable[..., Any] | int) -> Iterator[None]:
    """Handle signals so for a while; those that are ignored (nohup) stay so.

    Signals are the main thread's business: elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    changed = {number: old for number, old in before.items() if old != signal.SIG_IGN}
    for number in changed:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in changed.items():
            signal.signal(number, old)
