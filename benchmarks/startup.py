"""How long `pileupgen --help` takes: python benchmarks/startup.py [runs]."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pileupgen", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        seconds.append(time.perf_counter() - begin)
    print(
        f"pileupgen --help, {runs} runs: median {statistics.median(seconds):.2f} s, "
        f"{min(seconds):.2f} to {max(seconds):.2f} s (aim: 0.5 s)"
    )


if __name__ == "__main__":
    main()
