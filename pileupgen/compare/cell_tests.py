"""Two-sample tests on cells of all that a comparison shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.compare.controls import ControlSample
from pileupgen.compare.records import TwoSampleTest
from pileupgen.compare.resampling import Samples
from pileupgen.compare.selection import Selection
from pileupgen.measure.sample import Sample
from pileupgen.progress import Advance
from pileupgen.samples.store import ImageStore

MAX_CELL_EVENTS = 2000
"""Events of each sample that a test takes, to bound its time and memory."""


def cell_tests(
    samples: Samples,
    selection: Selection,
    controls: Sequence[ControlSample],
    *,
    seed: int,
    device: str,
    advance: Advance,
) -> dict[str, TwoSampleTest]:
    """Test reference, source, translated and controls by a network on their images.

    Parameters
    ----------
    samples : Samples
        Measured, for their weights.
    controls : sequence of ControlSample
        Each is tested as the row that it takes the place of.
    """
    from pileupgen.compare.cell_classifier import cell_test

    images = {
        name: _some(*selection.parts()[name][0], parts[0])
        for name, parts in {"target": (samples.target,), **samples.rows()}.items()
    }
    real, other = images["target"], images["reference"]
    pairs = {name: (real, images[name]) for name in samples.rows()}
    for control in controls:
        own = _some(control.selected.store, control.selected.rows, control.sample)
        is_real = control.selected.replaces == "reference"
        pairs[control.name] = (own, other) if is_real else (real, own)
    tests = {}
    for name, (first, second) in pairs.items():
        tests[name] = cell_test(
            first[0],
            second[0],
            samples.target.grid,
            first[1],
            second[1],
            seed=seed,
            device=device,
        )
        advance(1)
    return tests


def _some(store: ImageStore, rows: Ints, sample: Sample) -> tuple[NDArray[np.float32], Floats]:
    n = min(len(rows), MAX_CELL_EVENTS)
    chosen = np.linspace(0, len(rows) - 1, n).astype(np.int64)
    return store.read(rows[chosen]).energy, sample.weight[chosen]
