"""Dask with a real scheduler and worker processes, some of which die."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("distributed", reason="needs the extra 'cluster'")

from pileupgen.errors import ConfigError, FarmError, StoreError
from pileupgen.parallel import dask_farm
from pileupgen.parallel.dask_connection import connect, start_cluster
from pileupgen.parallel.dask_farm import DaskFarm
from pileupgen.parallel.environment import environment, require_equal
from tests.parallel import work
from tests.parallel.conftest import FarmProcesses

environment_module = import_module("pileupgen.parallel.environment")


def kill_in_the_middle(folder: Path, worker_pid: int) -> None:
    """Kill a worker that has done something and is at something else."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        begun = len(list(folder.glob(f"begun-*-{worker_pid}")))
        if begun > len(list(folder.glob(f"done-*-{worker_pid}"))) >= 1:
            os.kill(worker_pid, signal.SIGKILL)
            return
        time.sleep(0.005)


def test_a_worker_killed_in_the_middle_does_not_show(farm: FarmProcesses, tmp_path: Path) -> None:
    first, _ = farm.add_worker(), farm.add_worker()
    with connect(farm.address, 60) as executor:
        killer = threading.Thread(target=kill_in_the_middle, args=(tmp_path, first.pid))
        killer.start()
        found = list(executor.map(work.square_slowly, tmp_path, range(30)))
        killer.join()
        assert first.wait(10) == -signal.SIGKILL
        assert found == [n * n for n in range(30)]
        begun, done = (len(list(tmp_path.glob(f"{what}-*"))) for what in ("begun", "done"))
        assert begun > done >= 30
        # What is left goes on, in any order; errors come whole.
        some = executor.map(work.square, 7, range(9), ordered=False)
        assert sorted(some) == [7 + n * n for n in range(9)]
        with pytest.raises(StoreError, match="Number 5 is bad") as caught:
            list(executor.map(work.fail, None, range(9)))
        assert caught.value.hint == "Leave it out."
        here = tmp_path / "here"
        here.write_text("x")
        executor.require_visible([here])
        assert f"{farm.address}, 1 worker" in executor.describe()


def test_no_worker_left_is_said(
    farm: FarmProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileupgen.parallel.dask_connection.CONNECT_SECONDS", 2.0)
    worker = farm.add_worker()
    with connect(farm.address, 30) as executor:
        executor._patience = 1.0
        results = executor.map(work.square_slowly, tmp_path, range(30))
        assert next(results) == 0
        worker.kill()
        with pytest.raises(FarmError, match="has had no worker for 1 s"):
            list(results)
        farm.scheduler.kill()
        with pytest.raises(FarmError, match="is gone"):
            list(executor.map(work.square, 0, range(30)))


def test_an_outcome_that_died_with_its_worker_is_not_waited_for_without_end(
    farm: FarmProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client still takes the future for done when nobody has its outcome any more."""
    monkeypatch.setattr("pileupgen.parallel.dask_farm.FETCH_SECONDS", 1.0)
    worker = farm.add_worker()
    with connect(farm.address, 30) as executor:
        executor._patience = 1.0
        results = executor.map(work.square_slowly, tmp_path, range(30))
        assert next(results) == 0
        worker.kill()
        worker.wait()
        is_done = "distributed.client.Future.done"
        monkeypatch.setattr(is_done, lambda self: True)
        started = time.monotonic()
        with pytest.raises(FarmError, match="has had no worker"):
            list(results)
        assert time.monotonic() - started < 30


def test_no_worker_at_all_is_said(farm: FarmProcesses) -> None:
    with pytest.raises(FarmError, match=r"has had no worker for 0\.5 s") as caught:
        connect(farm.address, 0.5)
    assert "dask worker" in caught.value.hint


def test_a_scheduler_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pileupgen.parallel.dask_connection.CONNECT_SECONDS", 0.5)
    with pytest.raises(FarmError, match=r"No Dask scheduler at tcp://127\.0\.0\.1:9"):
        connect("tcp://127.0.0.1:9")
    with pytest.raises(FarmError, match="No Dask scheduler at nonsense"):
        connect("nonsense://")


def test_the_file_that_a_scheduler_writes_is_enough(
    farm: FarmProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.add_worker()
    # It is waited for: scheduler and command are started at the same time.
    with connect(str(farm.file), 60) as executor:
        assert list(executor.map(work.square, 0, range(4))) == [0, 1, 4, 9]
        assert "dashboard" not in executor.describe()
        check_large_things(executor, monkeypatch)
        check_packages(executor, monkeypatch)
    monkeypatch.setattr("pileupgen.parallel.dask_connection.FILE_SECONDS", 0.5)
    with pytest.raises(
        FarmError, match=r"No Dask scheduler has written .*absent\.json within 0\.5"
    ):
        connect(str(farm.folder / "11:45" / "absent.json"))


def check_large_things(executor: DaskFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that all tasks share is sent without a warning (which would be an error here)."""
    blob = bytes(12 << 20)
    assert list(executor.map(work.add_size, blob, range(3))) == [len(blob) + n for n in range(3)]
    # Large outcomes are fetched one by one, small ones together.
    monkeypatch.setattr(dask_farm, "_FETCHED_BYTES", 100_000)
    seen: list[int] = []
    fetch = dask_farm._Fetch.__call__

    def counted(self: Any, futures: Any) -> Any:
        seen.append(self.n_at_a_time)
        return fetch(self, futures)

    monkeypatch.setattr(dask_farm._Fetch, "__call__", counted)
    for n, are_together in ((200_000, False), (3, True)):
        seen.clear()
        found = list(executor.map(work.repeat, n, range(9)))
        assert found == [bytes([task]) * n for task in range(9)]
        assert (max(seen) > 1) == are_together


def check_packages(executor: DaskFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    executor.require_packages(("fsspec", "no-such-package"))
    real = environment_module.versions
    monkeypatch.setattr(
        environment_module, "versions", lambda *names: {**real(*names), "dask": "1"}
    )
    environment.cache_clear()
    words = r"Worker worker-0 at tcp://127\.0\.0\.1:\d+ has other software: dask .*, here 1"
    with pytest.raises(FarmError, match=words):
        executor.require_packages(("dask",))
    # Nor does a worker that comes later do any task: it tells who it is.
    with pytest.raises(FarmError, match=r"Worker worker-0 on .* has other software: dask"):
        list(executor.map(work.square, 0, range(2)))
    monkeypatch.undo()
    environment.cache_clear()


def test_other_software_is_refused() -> None:
    here = environment()
    require_equal(here, here, "w")
    other = {**here, "numpy": "1.0"}
    del other["torch"]
    with pytest.raises(FarmError, match=rf"numpy 1\.0, here {np.__version__}; torch missing"):
        require_equal(here, other, "w")


def test_workers_of_another_code_are_refused(farm: FarmProcesses, tmp_path: Path) -> None:
    package = tmp_path / "other" / "pileupgen"
    package.mkdir(parents=True)
    source = Path(work.__file__).parents[2] / "pileupgen"
    (package / "parallel").symlink_to(source / "parallel")
    for path in source.glob("*.py"):
        (package / path.name).write_text(path.read_text())
    farm.add_worker(PYTHONPATH=str(package.parent))
    with pytest.raises(FarmError, match="other software: pileupgen code"):
        connect(farm.address, 60)


def test_an_unknown_cluster_or_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="No cluster 'slrum'"):
        start_cluster("slrum", 1)


def test_a_client_that_was_interrupted_as_it_connected_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distributed = pytest.importorskip("distributed")
    started, closed = [], []

    def interrupted(client: Any, **given: Any) -> None:
        started.append(True)
        client.status = "connecting"
        client._Client__loop = object()  # from then on Dask closes what is taken away
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed.Client, "start", interrupted)
    monkeypatch.setattr(distributed.Client, "close", lambda client: closed.append(client.status))
    # Not by pytest.raises, which keeps the exception and with it the client.
    with suppress(KeyboardInterrupt):
        connect("tcp://127.0.0.1:9")
    gc.collect()
    assert started
    assert closed == []
