"""What a method costs: events per second, memory."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.baselines.contract import Baseline
from pileupgen.samples.store import Images

BATCHES = (1, 100, 1000)


@dataclass(frozen=True)
class Rate:
    """Events per second at one batch size and number of threads.

    Attributes
    ----------
    batch, threads : int
    events_per_s : float or None
        None where one batch would have taken longer than it was given.
    n_calls : int
        Calls that were timed; the best counts.
    """

    batch: int
    threads: int
    events_per_s: float | None
    n_calls: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def rates(
    baseline: Baseline, images: Images, limit: float, known: Rate | None = None
) -> list[Rate]:
    """Time a fitted baseline at every batch size, with one thread and with all.

    Parameters
    ----------
    baseline : Baseline
    images : Images
        Held-out events; taken again from the beginning where they are fewer than the batch.
    limit : float
        Seconds that one call may be expected to take, from the batch before.
    known : Rate, optional
        What has been timed already, with the most threads: it tells what batches will take at
        least, and stands where it would take too long to do it again.
    """
    least = 1 / known.events_per_s if known is not None and known.events_per_s else 0.0
    found = []
    for threads in dict.fromkeys((1, os.cpu_count() or 1)):
        torch.set_num_threads(threads)
        per_event, overhead = 0.0, 0.0
        for batch in BATCHES:
            if max(overhead + per_event * batch, least * batch) > limit:
                is_known = known is not None and (known.batch, known.threads) == (batch, threads)
                found.append(known if is_known and known else Rate(batch, threads, None, 0))
                continue
            seconds, n_calls = _best(baseline, taken(images, batch), limit)
            found.append(Rate(batch, threads, batch / seconds, n_calls))
            # A single event costs mostly what a call costs.
            per_event, overhead = (0.0, seconds) if batch == 1 else (seconds / batch, 0.0)
    return found


def _best(baseline: Baseline, images: Images, limit: float) -> tuple[float, int]:
    """Shortest of up to three calls, as many as the limit allows, and how many there were."""
    times: list[float] = []
    while len(times) < 3 and (not times or sum(times) + times[-1] < limit):
        begin = time.perf_counter()
        baseline.translate(images)
        times.append(time.perf_counter() - begin)
    return min(times), len(times)


def taken(images: Images, n: int) -> Images:
    """So many events, from the beginning again where there are fewer."""
    rows = np.resize(np.arange(len(images)), n)
    columns = {name: values[rows] for name, values in images.columns.items()}
    return Images(images.energy[rows], images.grid, columns)


def peak_memory() -> float:
    """Largest resident size of this process in GB so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
