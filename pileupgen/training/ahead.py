"""The next step's batch, made while the present one is trained on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """A function of the step, called in a thread for the step that comes next.

    Its values are the same as without it, since they depend on the step alone.

    Parameters
    ----------
    steps : int
        There is nothing to be made from this one on.
    """

    def __init__(self, make: Callable[[int], Made], steps: int) -> None:
        self._make, self._steps = make, steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._begun: dict[int, Future[Made]] = {}

    def __call__(self, step: int) -> Made:
        """Return the function's value for a step and begin the next one."""
        begun = self._begun.pop(step, None)
        made = self._make(step) if begun is None else begun.result()
        if step + 1 < self._steps:
            self._begun = {step + 1: self._pool.submit(self._make, step + 1)}
        return made

    def close(self) -> None:
        """Wait for what was begun, and drop it."""
        self._pool.shutdown()
        self._begun = {}
