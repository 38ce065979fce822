"""Many small tasks on a real Dask scheduler: tasks a second, and memory of scheduler and client.

    python -m benchmarks.farm_growth --tasks 1000000 --slots 1000 --minutes 12

Workers have hundreds of threads each, so that a scheduler and a client on two cores see as many
slots as on a farm of a thousand cores; tasks do nothing and return a number, as blocks of
'translate' do. They are submitted as the commands submit theirs, two for each slot at a time.
Memory is given at rest, the highest in the first tenth of the time, and the highest of all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pileupgen.parallel.batch_jobs import LOG_LENGTH
from pileupgen.parallel.dask_connection import connect

ROOT = Path(__file__).parents[1]
N_PROCESSES = 2
_PAGE = os.sysconf("SC_PAGE_SIZE")


def nothing(blob: bytes, task: int) -> int:
    """What a task does."""
    return len(blob) + task


def resident(pid: int) -> float:
    """Memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6


def processor_seconds(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until(deadline: float, n_tasks: int) -> Iterator[int]:
    """Tasks, as long as there is time."""
    for task in range(n_tasks):
        if time.monotonic() > deadline:
            return
        yield task


def start(stack: ExitStack, *command: str) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.setdefault("DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH", str(LOG_LENGTH))
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process.pid


def measure(n_tasks: int, n_slots: int, ordered: bool, seconds: float) -> dict[str, Any]:
    """Run tasks and watch, for some time at most."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "scheduler.json"
        here = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-dashboard")
        arguments = ("--port", "0", "--scheduler-file", str(file), *here)
        scheduler = start(stack, "distributed.cli.dask_scheduler", *arguments)
        threads = ("--nthreads", str(n_slots // N_PROCESSES), "--no-nanny")
        for _ in range(N_PROCESSES):
            arguments = ("--scheduler-file", str(file), *threads, *here)
            start(stack, "distributed.cli.dask_worker", *arguments)
        with connect(str(file)) as farm:
            while farm.n_workers < n_slots:
                farm.describe()
                time.sleep(0.2)
            pids = {"scheduler": scheduler, "client": os.getpid()}
            memory = {name: [resident(pid)] * 3 for name, pid in pids.items()}
            before = {name: processor_seconds(pid) for name, pid in pids.items()}
            n_done = 0
            began = looked = time.monotonic()
            tasks = until(began + seconds, n_tasks)
            for found in farm.map(nothing, b"x" * 100, tasks, ordered=ordered):
                if ordered and found != 100 + n_done:
                    raise ValueError(f"task {n_done} gave {found}")
                n_done += 1
                if time.monotonic() - looked > 5:
                    looked = time.monotonic()
                    for name, pid in pids.items():
                        early, most = memory[name][1:]
                        now = resident(pid)
                        is_early = looked - began < seconds / 10
                        memory[name][1:] = [max(early, now) if is_early else early, max(most, now)]
                    rate = n_done / (looked - began)
                    shown = ", ".join(f"{name} {memory[name][2]:.0f} MB" for name in pids)
                    print(f"{n_done} tasks, {rate:.0f}/s, {shown}", file=sys.stderr, flush=True)
            took = time.monotonic() - began
            spent = {name: processor_seconds(pid) - before[name] for name, pid in pids.items()}
    report: dict[str, Any] = {"tasks": n_done, "slots": n_slots}
    report["per_second"] = round(n_done / took, 1)
    for name in pids:
        report[f"{name}_ms_per_task"] = round(1e3 * spent[name] / n_done, 3)
        report[f"{name}_MB"] = [round(size) for size in memory[name]]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="1000000", help="numbers of tasks, with commas between")
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=60.0, help="longest time for each number")
    parser.add_argument("--ordered", action="store_true")
    options = parser.parse_args()
    for n in options.tasks.split(","):
        found = measure(int(n), options.slots, options.ordered, 60 * options.minutes)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    # Workers find the task by this module's name.
    from benchmarks import farm_growth

    farm_growth.main()
