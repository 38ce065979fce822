"""Time and memory of `pileupgen validate` on images of 2 × 50 × 36.

python benchmarks/report_speed.py [--events N] [--workers N] [--quick] [--cells] [--profile]

Makes a run directory with N target test events, N for the reference, and N source events with their
translation, and runs the command on it. Peak memory is that of the command's largest process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.presets import get_grid
from pileupgen.samples.store import create_store

GRID = get_grid("atlas")
BATCH = 500
TEST, TRAIN = 2, 0
CONFIG = "name: speed\nseed: 1\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=10_000)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--quick", action="store_true", help="no two-sample tests")
    options.add_argument("--cells", action="store_true", help="the two-sample test on cells too")
    options.add_argument("--profile", action="store_true", help="where the time goes")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        make_run(run, given.events)
        (Path(name) / "speed.yaml").write_text(CONFIG)
        command = ["-m", "pileupgen", "validate", "-c", str(run.parent / "speed.yaml")]
        command += ["--run", str(run), "--workers", str(given.workers)]
        command += ["--quick"] * given.quick + ["--cells"] * given.cells
        if given.profile:
            command = ["-m", "cProfile", "-s", "cumtime", *command]
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=None if given.profile else subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        if status:
            sys.exit(f"validate ended with {os.waitstatus_to_exitcode(status)}")
        page = run / "validation" / "report.html"
        print(
            f"2 × {given.events} images of {' × '.join(map(str, GRID.shape))}, "
            f"{given.workers} worker(s): {wall:.0f} s wall, {used.ru_utime + used.ru_stime:.0f} s "
            f"CPU, {used.ru_maxrss / 1024:.0f} MB, page {page.stat().st_size / 1e6:.1f} MB"
        )


def make_run(run: Path, n: int) -> None:
    """Stores as preprocess and translate leave them."""
    half = np.repeat([TRAIN, TEST], n).astype(np.uint8)
    test = np.full(n, TEST, dtype=np.uint8)
    write(run / "data/data.h5", "data", half, 1.0, seed=1)
    write(run / "data/mc.h5", "mc", test, 1.1, seed=2)
    write(run / "translated/mc_to_data.h5", "mc_to_data", test, 1.01, seed=2, linked=True)


def write(
    path: Path,
    domain: str,
    split: NDArray[np.uint8],
    scale: float,
    *,
    seed: int,
    linked: bool = False,
) -> None:
    """Images whose energies are drawn cell by cell, with an activity common to the event."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with create_store(path, GRID, domain, {"t_release": 300} if linked else {}) as writer:
        for begin in range(0, len(split), BATCH):
            part = split[begin : begin + BATCH]
            n = len(part)
            rng = np.random.default_rng([seed, begin])
            mu = rng.poisson(60.0, size=n)
            energy = rng.gamma(0.4, 1.0, size=(n, *GRID.shape)).astype(np.float32)
            energy *= (scale * mu / 60.0).astype(np.float32)[:, None, None, None]
            columns = {
                "mu": mu.astype(np.float32),
                "event_id": np.arange(begin, begin + n),
                "weight": np.ones(n),
                "split": part,
            }
            if linked:
                columns["source_event"] = columns["event_id"]
                columns["seed"] = np.zeros(n, dtype=np.int64)
            writer.append(np.where(energy > 0.3, energy, np.float32(0.0)), columns)


if __name__ == "__main__":
    main()
