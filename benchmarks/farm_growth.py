"""Many small tasks on a real Dask scheduler: tasks a second, and memory of scheduler and client.

    python -m benchmarks.farm_growth --tasks 10000,100000,1000000 --slots 1000

Workers have hundreds of threads each, so that a scheduler and a client on two cores see as many
slots as on a farm of a thousand cores; tasks do nothing and return a number, as blocks of
'translate' do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pileupgen.parallel.batch_jobs import LOG_LENGTH
from pileupgen.parallel.dask_farm import connect

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


def measure(n_tasks: int, n_slots: int, ordered: bool) -> dict[str, Any]:
    """Run tasks and watch."""
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
            at_rest = {"scheduler": resident(scheduler), "client": resident(os.getpid())}
            most = dict(at_rest)
            spent = processor_seconds(scheduler), processor_seconds(os.getpid())
            began = looked = time.monotonic()
            for n, found in enumerate(
                farm.map(nothing, b"x" * 100, range(n_tasks), ordered=ordered)
            ):
                if ordered and found != 100 + n:
                    raise ValueError(f"task {n} gave {found}")
                if time.monotonic() - looked > 5:
                    looked = time.monotonic()
                    most["scheduler"] = max(most["scheduler"], resident(scheduler))
                    most["client"] = max(most["client"], resident(os.getpid()))
                    shown = ", ".join(f"{name} {most[name]:.0f} MB" for name in most)
                    print(f"{n} tasks, {n / (looked - began):.0f}/s, {shown}", file=sys.stderr)
            seconds = time.monotonic() - began
            scheduler_s = processor_seconds(scheduler) - spent[0]
            client_s = processor_seconds(os.getpid()) - spent[1]
    return {
        "tasks": n_tasks,
        "slots": n_slots,
        "tasks_per_second": round(n_tasks / seconds, 1),
        "scheduler_ms_per_task": round(1e3 * scheduler_s / n_tasks, 3),
        "client_ms_per_task": round(1e3 * client_s / n_tasks, 3),
        "scheduler_MB": [round(at_rest["scheduler"]), round(most["scheduler"])],
        "client_MB": [round(at_rest["client"]), round(most["client"])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="10000,100000,1000000")
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--ordered", action="store_true")
    options = parser.parse_args()
    for n in options.tasks.split(","):
        print(json.dumps(measure(int(n), options.slots, options.ordered)), flush=True)


if __name__ == "__main__":
    # Workers find the task by this module's name.
    from benchmarks import farm_growth

    farm_growth.main()
