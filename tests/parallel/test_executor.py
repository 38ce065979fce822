from __future__ import annotations

import logging
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from pileupgen.errors import FarmError, StoreError
from pileupgen.parallel import Executor, Processes, Serial, local_executor
from pileupgen.parallel import executor as executors
from tests.parallel import work

EXECUTORS = [Serial(), Processes(2)]


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("ordered", [True, False])
def test_every_task_is_done_once(executor: Executor, ordered: bool) -> None:
    found = list(executor.map(work.square, 100, range(23), ordered=ordered))
    assert (found if ordered else sorted(found)) == [100 + n * n for n in range(23)]
    assert list(executor.map(work.square, 0, [])) == []


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_error_of_a_task_is_the_callers(executor: Executor) -> None:
    done = []
    with pytest.raises(StoreError, match="Number 5 is bad") as caught:
        done.extend(executor.map(work.fail, None, range(9)))
    assert caught.value.hint == "Leave it out."


def test_a_warning_of_processes_is_given_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pileupgen"):
        list(Processes(2).map(work.fail, None, range(4)))
    assert [record.getMessage() for record in caplog.records] == ["task number 0", "task number 1"]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_process_that_dies_is_replaced(tmp_path: Path, ordered: bool) -> None:
    found = list(Processes(2).map(work.die_once, tmp_path, range(12), ordered=ordered))
    assert (found if ordered else sorted(found)) == [n * n for n in range(12)]


def test_deaths_over_tasks_that_are_done_in_the_end_do_not_add_up(tmp_path: Path) -> None:
    n = executors.MAX_DEATHS + 1
    found = list(Processes(1).map(work.die_once_each, tmp_path, range(n)))
    assert found == [task * task for task in range(n)]


def test_a_pool_that_breaks_while_it_is_filled_anew_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = []

    def broken(*_: object) -> None:
        raise BrokenProcessPool("a process died at once")

    def opened(self: executors._Pool) -> ProcessPoolExecutor:
        pools.append(open_pool(self))
        if len(pools) == 2:
            monkeypatch.setattr(pools[-1], "submit", broken)
        return pools[-1]

    open_pool = executors._Pool._open
    monkeypatch.setattr(executors._Pool, "_open", opened)
    found = list(Processes(2).map(work.die_once, tmp_path, range(12)))
    assert found == [n * n for n in range(12)]
    assert len(pools) >= 3


def test_a_task_that_kills_every_process_is_given_up() -> None:
    with pytest.raises(FarmError, match="ended without a message") as caught:
        list(Processes(2).map(work.die, None, range(3)))
    assert "--workers" in caught.value.hint
    assert caught.value.exit_code == 11


def test_a_process_that_does_not_end_with_its_pool_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(FarmError, match="ended without a message"):
        list(Processes(2).map(work.stay_or_die, tmp_path, range(2)))
    assert time.monotonic() - began < 50


def test_tasks_are_taken_as_workers_come_free() -> None:
    taken = []

    def tasks():
        for n in range(100):
            taken.append(n)
            yield n

    results = Processes(2).map(work.square, 0, tasks())
    assert next(results) == 0
    assert len(taken) <= 6
    results.close()


def test_one_worker_is_this_process() -> None:
    assert isinstance(local_executor(1), Serial)
    assert local_executor(3).n_workers == 3
