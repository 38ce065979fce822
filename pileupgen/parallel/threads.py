"""Threads of this process: of linear algebra, and those that pieces of work are spread over.

The last bits of sums depend on how many threads share them; here each sum is one thread's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")


class Map(Protocol):
    """The built-in ``map`` of one iterable, or one like it."""

    def __call__(self, function: Callable[[T], R], tasks: Iterable[T], /) -> Iterator[R]:
        """The function of every task, in their order."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread, so that results are the same on machines of any size."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


@cache
def _pools() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_openmp_thread() -> AbstractContextManager[object]:
    """Let OpenMP use one thread in the calling thread, for many short loops.

    Threads that wait for the next loop asleep, as they should where cores are shared, are woken up
    for each; trees of some thousand events then take eight times as long with two threads.
    Libraries that use OpenMP are to be loaded before.
    """
    return _pools().limit(limits=1, user_api="openmp")


@contextmanager
def torch_threads(n: int) -> Iterator[Map]:
    """A map over ``n`` threads, in each of which torch computes alone.

    Small networks gain next to nothing from threads within an operation, but nearly the whole
    factor from several batches side by side, and no bit of a result then depends on ``n``.

    Parameters
    ----------
    n : int
        Threads; with one, tasks run in the caller's own, as they are asked for.

    Yields
    ------
    Map
        To be used up within the context. An error of a task ends it; tasks that were not begun
        are dropped.
    """
    import torch

    from pileupgen.parallel.memory import keep_freed_memory

    keep_freed_memory()
    before = torch.get_num_threads()
    if n == 1:
        torch.set_num_threads(1)
        try:
            yield map
        finally:
            torch.set_num_threads(before)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(n, "pileupgen", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
