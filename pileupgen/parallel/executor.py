"""Maps over independent tasks, in this process or in several of this machine."""

from __future__ import annotations

import multiprocessing
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pileupgen.errors import FarmError
from pileupgen.parallel.task import Job, Outcome, Unpacker, perform

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

MAX_DEATHS = 3
"""Times that workers may die over the same tasks before these are given up."""


class Executor(ABC):
    """Runs independent tasks."""

    is_remote = False
    """Whether tasks run elsewhere: paths must then be absolute and on a shared file system."""

    @property
    @abstractmethod
    def n_workers(self) -> int:
        """Tasks that run at a time."""

    @abstractmethod
    def map(
        self,
        function: Callable[[S, T], R],
        shared: S,
        tasks: Iterable[T],
        *,
        ordered: bool = True,
    ) -> Iterator[R]:
        """Yield ``function(shared, task)`` of every task, each once.

        Tasks are taken as workers come free, so that neither they nor their results pile up.
        A task whose worker dies is given to another.

        Parameters
        ----------
        function : callable
            Defined at the top of a module; depends on its arguments alone.
        shared : object
            The same for all tasks; carried to each worker once.
        tasks : iterable
            Small things that can be pickled.
        ordered : bool
            Yield in the order of the tasks, or else as they are done.

        Raises
        ------
        PileupgenError
            What a task raised.
        FarmError
            If workers die repeatedly.
        """

    @abstractmethod
    def require_visible(self, paths: Sequence[Path]) -> None:
        """Check that tasks will see the same files.

        Raises
        ------
        FarmError
            If a worker does not see one, or another version of it.
        """

    @abstractmethod
    def require_packages(self, packages: Sequence[str]) -> None:
        """Check that workers have the same versions of further packages, now and later.

        Raises
        ------
        FarmError
            If a worker has another version, or none; names the worker.
        """

    @abstractmethod
    def release(self) -> None:
        """Give workers back that were asked for; they are asked for again if tasks follow."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Here:
    """Steps that need no action on this machine."""

    def require_visible(self, paths: Sequence[Path]) -> None:
        """See :meth:`Executor.require_visible`."""

    def require_packages(self, packages: Sequence[str]) -> None:
        """See :meth:`Executor.require_packages`."""

    def release(self) -> None:
        """See :meth:`Executor.release`."""

    def close(self) -> None:
        """See :meth:`Executor.close`."""


class Serial(_Here, Executor):
    """One task after another, in this process."""

    n_workers = 1

    def map(
        self,
        function: Callable[[S, T], R],
        shared: S,
        tasks: Iterable[T],
        *,
        ordered: bool = True,  # noqa: ARG002 - there is but one order
    ) -> Iterator[R]:
        """See :meth:`Executor.map`."""
        for task in tasks:
            yield function(shared, task)


class Processes(_Here, Executor):
    """Several processes of this machine."""

    def __init__(self, n_workers: int, preload: tuple[str, ...] = ()) -> None:
        self._n_workers = n_workers
        self._preload = preload

    @property
    def n_workers(self) -> int:
        """Processes."""
        return self._n_workers

    def map(
        self,
        function: Callable[[S, T], R],
        shared: S,
        tasks: Iterable[T],
        *,
        ordered: bool = True,
    ) -> Iterator[R]:
        """See :meth:`Executor.map`."""
        unpack = Unpacker()
        pool = _Pool(self._n_workers, Job.of(function, shared), self._preload)
        try:
            for task in tasks:
                pool.submit(task)
                if pool.n_pending > 2 * self._n_workers:
                    yield unpack(pool.take(ordered))
            while pool.n_pending:
                yield unpack(pool.take(ordered))
        finally:
            pool.close()


def local_executor(n_workers: int, preload: tuple[str, ...] = ()) -> Executor:
    """Give this process for one worker, several processes for more."""
    return Serial() if n_workers == 1 else Processes(n_workers, preload)


LOOK_SECONDS = 1.0
"""Time between checks of a process pool that gives no result."""
_START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


class _Pool:
    """A process pool that is made again when a process of it dies.

    CPython's executor (3.11) starts processes as tasks come. It does not see the death of one that
    it has started after it last looked, and when it breaks it may wait without end for one that it
    has not told to end; hence :meth:`_look` and :meth:`close`, which use its private attributes.
    """

    def __init__(self, n_workers: int, job: Job, preload: tuple[str, ...]) -> None:
        self._n_workers, self._job = n_workers, job
        self._context = multiprocessing.get_context(_START)
        if _START == "forkserver":
            self._context.set_forkserver_preload([__name__, *preload])
        self._pending: dict[Future[Outcome], object] = {}
        self._n_deaths = 0
        self._executor = self._open()

    def _open(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._n_workers, mp_context=self._context, initializer=_begin, initargs=(self._job,)
        )

    @property
    def n_pending(self) -> int:
        return len(self._pending)

    def submit(self, task: object) -> None:
        while True:
            try:
                self._pending[self._executor.submit(_perform, task)] = task
            except BrokenProcessPool as error:
                self._replace(error)
            else:
                return

    def take(self, ordered: bool) -> Outcome:
        """The next outcome: of the first task, or of the first that is done."""
        while True:
            wanted = [next(iter(self._pending))] if ordered else self._pending
            done = wait(wanted, LOOK_SECONDS, FIRST_COMPLETED).done
            if not done:
                self._look()
                continue
            future = next(iter(done))
            try:
                outcome = future.result()
            except BrokenProcessPool as error:
                self._replace(error)
            else:
                del self._pending[future]
                self._n_deaths = 0
                return outcome

    def _look(self) -> None:
        """Let the executor see the death of a process that it had begun after it last looked."""
        with self._executor._shutdown_lock:
            wakeup = self._executor._executor_manager_thread_wakeup
            if wakeup is not None:
                wakeup.wakeup()

    def _replace(self, error: BaseException) -> None:
        """Restart unfinished tasks in order; the new pool may break while it is filled."""
        while True:
            self._n_deaths += 1
            if self._n_deaths > MAX_DEATHS:
                raise FarmError(
                    "A process that works for this command ended without a message, "
                    f"{self._n_deaths} times.",
                    "It may have run out of memory: use fewer --workers.",
                ) from error
            self.close()
            self._executor = self._open()
            try:
                self._pending = {
                    future if _is_whole(future) else self._executor.submit(_perform, task): task
                    for future, task in self._pending.items()
                }
            except BrokenProcessPool as again:
                error = again
            else:
                return

    def close(self) -> None:
        if self._executor._broken:
            # One that began while the pool broke is not told to end, and would be waited for.
            for process in list((self._executor._processes or {}).values()):
                process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)


def _is_whole(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


_job: Job | None = None


def _begin(job: Job) -> None:
    """Prepare a process."""
    import logging

    global _job
    # Ctrl-C is the caller's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("pileupgen").propagate = False
    _job = job


def _perform(task: object) -> Outcome:
    if _job is None:
        raise RuntimeError("the process was not prepared")
    return perform(_job, task)
