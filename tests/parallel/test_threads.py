"""Threads of one process."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch

from pileupgen.parallel.threads import torch_threads


@pytest.mark.parametrize("n", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(n: int) -> None:
    with torch_threads(n) as over:
        assert list(over(lambda i: i * i, range(20))) == [i * i for i in range(20)]


def test_tasks_are_done_side_by_side_each_on_one_core() -> None:
    meet = threading.Barrier(3, timeout=60)

    def task(_: int) -> int:
        meet.wait()
        return torch.get_num_threads()

    with torch_threads(3) as over:
        assert list(over(task, range(6))) == [1] * 6


@pytest.mark.parametrize("n", [1, 2])
def test_torch_has_its_threads_back_afterwards(n: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    with torch_threads(n) as over:
        list(over(lambda i: i, range(4)))
    assert torch.get_num_threads() == n
    torch.set_num_threads(before)


def test_an_error_ends_the_map_and_what_was_not_begun() -> None:
    done: list[int] = []

    def task(i: int) -> None:
        if i == 2:
            raise ValueError("two")
        done.append(i)

    with pytest.raises(ValueError, match="two"), torch_threads(2) as over:
        list(over(task, range(10_000)))
    assert len(done) < 10_000 - 1


_KEPT = """
from pathlib import Path
import torch
from pileupgen.parallel.memory import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

print(keep_freed_memory())
before = resident()
arrays = [torch.empty(24 << 20, dtype=torch.uint8).fill_(1) for _ in range(8)]
most = resident()
arrays.clear()
print((resident() - before) / (most - before))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator alone has it")
def test_freed_memory_is_kept_for_what_comes_next() -> None:
    told = subprocess.run([sys.executable, "-c", _KEPT], capture_output=True, text=True, check=True)
    has_it, share = told.stdout.split()
    if has_it != "True":
        pytest.skip("no mallopt here")
    assert float(share) > 0.8
