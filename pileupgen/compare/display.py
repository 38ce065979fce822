"""Single events that figures show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pileupgen.compare.selection import Selection
from pileupgen.measure.sample import Sample


@dataclass(frozen=True)
class Display:
    """The same event before and after, and any real one."""

    source: NDArray[np.float32]
    translated: NDArray[np.float32]
    target: NDArray[np.float32]
    """Images of the three in GeV. Shape (L, n_eta, n_phi)."""
    source_event: int
    target_event: int
    """Numbers of the two events."""


def choose_display(selection: Selection, measured: Sample, seed: int) -> Display:
    """Choose the translated event of median source ΣE_T, its source, and a real event at random."""
    target, source, translated = selection.stores
    activity = measured.observables["sum_et"][selection.source_of]
    place = int(np.argsort(activity, kind="stable")[len(activity) // 2])
    row = selection.source[selection.source_of[place : place + 1]]
    rng = np.random.default_rng([seed, 3])
    real = rng.choice(selection.target, size=1)
    return Display(
        source=source.read(row).energy[0],
        translated=translated.read(selection.translated[place : place + 1]).energy[0],
        target=target.read(real).energy[0],
        source_event=int(source.columns["event_id"][row[0]]),
        target_event=int(target.columns["event_id"][real[0]]),
    )
