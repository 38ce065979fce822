"""A Dask farm: tasks on the workers of a scheduler."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from pileupgen.errors import FarmError
from pileupgen.parallel.batch_jobs import BatchJobs
from pileupgen.parallel.environment import environment, processor, require_equal
from pileupgen.parallel.executor import MAX_DEATHS, Executor
from pileupgen.parallel.task import Job, Outcome, Unpacker, perform

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("pileupgen")

FETCH_SECONDS = 20.0
"""Time to fetch outcomes that are said to be there."""
_TICK = 1.0
REFILL_SECONDS = 5.0
"""How often jobs are counted; Dask calls one lost after distributed.deploy.lost-worker-timeout."""
_FETCHED_BYTES = 1 << 26
_FETCHED_AT_A_TIME = 1024
"""Outcomes are fetched together up to this size and number: one request each would take longer
than many tasks do."""
_HINT = (
    "Start workers with 'dask worker ADDRESS' in the environment that this command runs in, "
    "on machines that see the same files."
)


def silent(line: str) -> None:
    """Tell nobody."""


class DaskFarm(Executor):
    """Tasks on the workers of a Dask scheduler.

    The scheduler holds every task until its result is fetched: what a worker that dies was at, or
    had done and not yet handed over, is done again by another, and nothing is fetched twice.

    Parameters
    ----------
    patience : float
        Seconds without any worker before giving up.
    jobs : BatchJobs, optional
        Closed with the farm; jobs that end before it are submitted again.

    Raises
    ------
    FarmError
        If no worker comes in time, or a worker has other software than this process.
    """

    is_remote = True

    def __init__(
        self,
        client: Any,
        patience: float,
        jobs: BatchJobs | None = None,
        tell: Callable[[str], None] = silent,
    ) -> None:
        self._client, self._jobs, self._tell = client, jobs, tell
        self._address = str(client.scheduler.address)
        self._patience = patience
        self._packages: tuple[str, ...] = ()
        self._known: dict[str, str] = {}
        self._n_workers = 1
        self._has_begun = self._is_released = False
        self._last_refill = self._last_seen = time.monotonic()
        self._last_look = 0.0
        try:
            self._wait_for_workers()
        except BaseException:
            self.close()
            raise

    @property
    def n_workers(self) -> int:
        """Threads of all workers that are there, or were a second ago."""
        return self._n_workers

    def describe(self) -> str:
        """The scheduler's address and what works for it."""
        self._look()
        link = self._dashboard()
        shown = f"{self._address}, {_count(len(self._known), 'worker')}"
        return f"{shown}; dashboard {link}" if link else shown

    def map(
        self,
        function: Callable[[S, T], R],
        shared: S,
        tasks: Iterable[T],
        *,
        ordered: bool = True,
    ) -> Iterator[R]:
        """See :meth:`Executor.map`."""
        if self._is_released and self._jobs is not None:
            self._is_released = False
            self._jobs.ask()
            self._wait_for_workers()
        unpack, todo = Unpacker(), iter(tasks)
        common = Job.of(function, shared, environment(*self._packages))
        with _large_graphs():
            # A task of its own, not a scattered value: what a dead worker held of it is made again.
            job = self._client.submit(_Constant(common), pure=False)
        pending: dict[Any, None] = {}
        arrived: SimpleQueue[Any] = SimpleQueue()
        fetch = _Fetch(self._client)
        try:
            while True:
                room = 2 * self.n_workers + 1 - len(pending)
                # Few messages, each with many tasks, keep the scheduler free for a large farm.
                if room > self.n_workers or not pending:
                    some = list(islice(todo, room))
                    futures = self._client.map(_perform, some, job=job, pure=False) if some else []
                    for future in futures:
                        pending[future] = None
                        future.add_done_callback(arrived.put)
                if not pending:
                    return
                for outcome in self._take(pending, arrived, ordered, fetch):
                    yield unpack(outcome)
        finally:
            with suppress(Exception):
                self._client.cancel([*pending, job])

    def require_visible(self, paths: Sequence[Path]) -> None:
        """See :meth:`Executor.require_visible`."""
        sizes = {str(path): _size(path) for path in paths}
        for worker, found in self._client.run(_sizes, list(sizes)).items():
            for path, size in sizes.items():
                if found[path] != size:
                    state = "does not see" if found[path] is None else "sees another version of"
                    raise FarmError(
                        f"{self._who(worker).capitalize()} {state} {path}.",
                        "A farm needs a file system that all its machines share.",
                    )

    def require_packages(self, packages: Sequence[str]) -> None:
        """See :meth:`Executor.require_packages`."""
        self._packages = tuple(dict.fromkeys([*self._packages, *packages]))
        self._require_same_environment()

    def release(self) -> None:
        """See :meth:`Executor.release`."""
        if self._jobs is not None and not self._is_released:
            self._is_released = True
            self._jobs.release()
            self._tell("all tasks are done: the jobs are given back")

    def close(self) -> None:
        """Let go of the scheduler; end workers that were started for this farm."""
        for part in (self._jobs, self._client):
            if part is not None:
                with suppress(Exception):
                    part.close()

    def _take(
        self, pending: dict[Any, None], arrived: SimpleQueue[Any], ordered: bool, fetch: _Fetch
    ) -> list[Outcome]:
        """Wait for the first task, or the first that is done, and fetch what it came to.

        What else can be handed over by now is fetched with it.
        """
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        while True:
            self._tick()
            done = self._wait(pending, arrived, ordered, fetch.n_at_a_time)
            if not done:
                continue
            try:
                outcomes = fetch(done)
            except TimeoutError:
                # Whoever held the outcome died before it was fetched: it is made again, if
                # anybody can.
                for future in done:
                    arrived.put(future)
                self._tick()
                continue
            except KilledWorker as error:
                raise FarmError(
                    f"A task was given up after {MAX_DEATHS + 1} workers died over it.",
                    "They may have run out of memory: see their logs, and give each more.",
                ) from error
            except (CancelledError, CommClosedError) as error:
                raise self._lost() from error
            except (ImportError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "deserializ" not in str(error):
                    raise
                raise FarmError(f"The farm has other software: {error}.", _HINT) from error
            for future in done:
                del pending[future]
            return outcomes

    def _wait(
        self, pending: Mapping[Any, None], arrived: SimpleQueue[Any], ordered: bool, limit: int
    ) -> list[Any]:
        """Futures that are done and next, at most ``limit``; none if that takes long."""
        if ordered:
            done = _first_done(pending, limit)
            if not done:
                with suppress(Empty):
                    arrived.get(timeout=_TICK)
            return done
        found: dict[Any, None] = {}
        with suppress(Empty):
            found[arrived.get(timeout=_TICK)] = None
            while len(found) < limit:
                found[arrived.get_nowait()] = None
        # A worker may be lost after it has told that a task was done.
        return [future for future in found if future in pending]

    def _tick(self) -> None:
        """Look after workers and jobs, once in a while."""
        now = time.monotonic()
        if now - self._last_look < _TICK:
            return
        self._look()
        self._require_workers()
        if self._jobs is not None:
            self._jobs.check(self._known.values())
            if now - self._last_refill > REFILL_SECONDS:
                # Scaling to the same number submits again what Dask has seen to end.
                self._last_refill = now
                self._jobs.refill()

    def _look(self) -> None:
        """Ask the scheduler for its workers, and report those that joined or left."""
        self._last_look = time.monotonic()
        if self._client.status != "running":
            return
        known = self._client.scheduler_info(n_workers=-1)
        workers: Mapping[str, Any] = known.get("workers", {})
        now = {str(address): str(worker["name"]) for address, worker in workers.items()}
        lost = [self._who(address) for address in self._known if address not in now]
        new = [address for address in now if address not in self._known]
        self._known = now
        self._n_workers = max(1, sum(int(worker["nthreads"]) for worker in workers.values()))
        if lost and not self._is_released:
            self._tell(f"lost {_some(lost)}; what they were at is done again")
        if new and self._has_begun:
            self._tell(f"{_some([self._who(address) for address in new])} joined")

    def _who(self, address: str) -> str:
        """A worker by its job, or by the name that it has."""
        name = self._known.get(address, address)
        job = self._jobs.job_of(name) if self._jobs is not None else None
        host = address.rpartition("/")[2].rpartition(":")[0]
        if job is not None:
            return f"the worker of job {job} on {host}"
        return f"worker {name}" if name == address else f"worker {name} at {address}"

    def _require_workers(self) -> None:
        now = time.monotonic()
        if self._client.status == "running" and self._known:
            self._last_seen = now
        elif self._client.status in ("closed", "closing"):
            raise self._lost()
        elif now - self._last_seen > self._patience:
            if self._client.status != "running":
                raise self._lost()
            raise FarmError(f"The farm has had no worker for {self._patience:g} s.", _HINT)

    def _lost(self) -> FarmError:
        return FarmError(
            f"The scheduler at {self._address} is gone.",
            "Start it again, and run the same command again.",
        )

    def _wait_for_workers(self) -> None:
        self._last_seen = time.monotonic()
        self._look()
        while not self._known:
            time.sleep(0.1)
            self._last_look = 0.0
            self._tick()
        self._has_begun = True
        self._require_same_environment()

    def _require_same_environment(self) -> None:
        expected, here = environment(*self._packages), processor()
        try:
            found = self._client.run(_environment, self._packages)
        except ImportError as error:
            raise FarmError(f"The workers cannot load pileupgen: {error}.", _HINT) from error
        for worker, (theirs, their_processor) in found.items():
            require_equal(expected, theirs, self._who(worker))
            if their_processor != here:
                _log.warning(
                    "%s has another processor: the last bits of results may differ",
                    self._who(worker),
                )

    def _dashboard(self) -> str:
        """Address of the scheduler's dashboard as seen from here; empty if it cannot be reached."""
        import socket
        from importlib.util import find_spec
        from urllib.parse import urlsplit

        link = self._jobs.dashboard if self._jobs is not None else self._client.dashboard_link
        try:
            # Without bokeh there is a page, which says that there is none.
            if self._client.run_on_scheduler(find_spec, "bokeh") is None:
                return ""
            parts = urlsplit(link)
            with socket.create_connection((parts.hostname, parts.port), timeout=2.0):
                return str(link)
        except Exception:
            return ""


class _Fetch:
    """Fetches outcomes, as many at a time as fit into the memory that is meant for them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.n_at_a_time = 1

    def __call__(self, futures: Sequence[Any]) -> list[Outcome]:
        gather = partial(self._client.gather, futures, asynchronous=True)
        outcomes: list[Outcome] = self._client.sync(gather, callback_timeout=FETCH_SECONDS)
        size = len(pickle.dumps(outcomes[0], protocol=5))
        self.n_at_a_time = max(1, min(_FETCHED_BYTES // size, _FETCHED_AT_A_TIME))
        return outcomes


class _Constant:
    """A value as a task."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self) -> Job:
        return self._job


def _perform(task: object, *, job: Job) -> Outcome:
    return perform(job, task)


def _large_graphs() -> Any:
    """Send what all tasks share without a warning of its size: it is sent once."""
    import dask

    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"})


def _first_done(pending: Iterable[Any], limit: int) -> list[Any]:
    done = []
    for future in islice(pending, limit):
        if not future.done():
            break
        done.append(future)
    return done


def _environment(packages: tuple[str, ...]) -> tuple[dict[str, str], str]:
    return environment(*packages), processor()


def _size(path: str | Path) -> int | None:
    try:
        return 0 if Path(path).is_dir() else Path(path).stat().st_size
    except OSError:
        return None


def _sizes(paths: Sequence[str]) -> dict[str, int | None]:
    return {path: _size(path) for path in paths}


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
