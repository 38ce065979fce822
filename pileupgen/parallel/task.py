"""One task of a map, as it is carried to another process and run there."""

from __future__ import annotations

import logging
import pickle
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pileupgen.errors import PileupgenError
from pileupgen.parallel.environment import require_same_environment

_log = logging.getLogger("pileupgen")


@dataclass(frozen=True)
class Job:
    """The part that all tasks of one map share, pickled once."""

    blob: bytes
    """The function and its first argument."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What a worker has to have; empty where it is this machine's own process."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells jobs apart."""

    @classmethod
    def of(
        cls,
        function: Callable[[Any, Any], Any],
        shared: object,
        environment: Mapping[str, str] | None = None,
    ) -> Job:
        """Pickle a function and what it is given with every task."""
        return cls(pickle.dumps((function, shared)), environment or {})


@dataclass(frozen=True)
class Outcome:
    """Result of a task."""

    value: Any
    """What the function returned."""
    error: PileupgenError | None
    """A foreseen error that it raised instead."""
    warnings: list[str]
    """What it warned of."""


def perform(job: Job, task: object) -> Outcome:
    """Run one task in the calling thread of a worker."""
    if job.environment:
        require_same_environment(job.environment)
    function, shared = _prepared(job)
    with _Keeper() as keeper:
        try:
            return Outcome(function(shared, task), None, keeper.messages)
        except PileupgenError as error:
            return Outcome(None, error, keeper.messages)


class Unpacker:
    """Gives a task's value to the caller, its error as an error, each warning once."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def __call__(self, outcome: Outcome) -> Any:
        """The value.

        Raises
        ------
        PileupgenError
            What the task raised.
        """
        for message in outcome.warnings:
            if message not in self._warned:
                self._warned.add(message)
                _log.warning("%s", message)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value


_thread = threading.local()


def _prepared(job: Job) -> tuple[Callable[[Any, Any], Any], Any]:
    """Function and shared argument, unpickled once a thread: none need be safe among threads."""
    if getattr(_thread, "key", None) != job.key:
        _thread.job = pickle.loads(job.blob)
        _thread.key = job.key
    function, shared = _thread.job
    return function, shared


class _Keeper(logging.Handler):
    """Keeps this thread's warnings for the caller."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._thread_id = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread_id:
            self.messages.append(record.getMessage())

    def __enter__(self) -> _Keeper:
        _log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _log.removeHandler(self)
