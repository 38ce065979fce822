"""What the detector did to a sample, found from its images."""

from __future__ import annotations

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.overlay.conditions import Conditions
from pileupgen.samples.store import Images


def test_a_wide_cell_has_the_threshold_of_the_whole_cell():
    """The first ring's cells are two of the image wide; both rings are cut at 0.6 GeV a cell."""
    grid = Grid((0.0, 1.0, 2.0), 8, layers=("em",), ring_n_phi=(4, 8))
    rng = np.random.default_rng(1)
    wide, narrow = (0.6 + rng.exponential(1.0, (200, n)).astype(np.float32) for n in (4, 8))
    energy = np.stack([np.repeat(wide, 2, axis=1) / 2, narrow], axis=1)[:, None]
    energy[rng.random(energy.shape[0]) < 0.3] = 0.0
    columns = {"mu": np.zeros(200), "event_id": np.arange(200), "weight": np.ones(200)}
    found = Conditions.of("sample", Images(energy, grid, columns), {})
    assert found.floors == (pytest.approx(min(wide.min(), narrow.min()), abs=0.02),)
    hits = np.concatenate([np.repeat(wide, 2, axis=1).ravel(), narrow.ravel()])
    assert found.median == pytest.approx(np.median(hits), rel=0.05)
