"""How long a user waits for a command's first sign of work.

python benchmarks/startup.py [runs]                     pileupgen --help
python benchmarks/startup.py --first-batch RUN [runs]   pileupgen translate on one batch of events
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--first-batch"]:
        run, n = Path(arguments[1]), int((*arguments[2:], 5)[0])
        with tempfile.TemporaryDirectory() as folder:
            measure_first_batch(run, Path(folder), n)
        return
    n = int((*arguments, 7)[0])
    report("pileupgen --help", [timed("--help") for _ in range(n)], 0.5)


def measure_first_batch(run: Path, folder: Path, n: int) -> None:
    """From the command to its end, on as many events as a network call takes."""
    from pileupgen.diffusion.settings import MICRO_BATCH
    from pileupgen.samples.store import ImageStore, create_store

    source = ImageStore(run / "data" / "mc.h5")
    images = source.read(source.indices("test", MICRO_BATCH))
    with create_store(folder / "few.h5", source.grid, "mc", source.provenance) as writer:
        writer.append(images.energy, images.columns)
    command = ["translate", "--run", str(run), "--input", str(folder / "few.h5"), "--force"]
    command += ["--output", str(folder / "out.h5"), "--t-release", "300", "--w", "2.0"]
    timed(*command)  # fits the correction, which is then kept
    report(f"translate, {MICRO_BATCH} events", [timed(*command) for _ in range(n)], 4)


def timed(*arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    begin, used = time.perf_counter(), _cpu()
    subprocess.run(
        [sys.executable, "-m", "pileupgen", *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begin, _cpu() - used


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(what: str, times: list[tuple[float, float]], aim: float) -> None:
    wall, cpu = ([time[index] for time in times] for index in range(2))
    print(
        f"{what}, {len(times)} runs: median {statistics.median(wall):.2f} s, "
        f"{min(wall):.2f} to {max(wall):.2f} s, CPU {statistics.median(cpu):.2f} s "
        f"(aim: {aim:g} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)"
    )


if __name__ == "__main__":
    main()
