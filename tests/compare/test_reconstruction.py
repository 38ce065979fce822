from __future__ import annotations

import numpy as np

from pileupgen.compare.reconstruction import reconstruction_test
from tests.conftest import SMALL_GRID, make_energies


def test_equal_events_cannot_be_told_apart_and_smeared_ones_can():
    energy, _ = make_energies(240, 0, seed=70)
    rng = np.random.default_rng(1)
    smeared = (energy * np.exp(0.3 * rng.standard_normal(energy.shape))).astype(np.float32)
    events = np.arange(240)
    same = reconstruction_test(SMALL_GRID, "mc", energy, energy.copy(), events)
    assert same.auc == 0.5
    assert not same.is_limit
    seen = reconstruction_test(SMALL_GRID, "mc", energy, smeared, events)
    assert seen.n_events == 240
    assert seen.is_limit
    assert seen.auc > 0.6
    assert seen.reference_low < 0.5 < seen.reference_high
