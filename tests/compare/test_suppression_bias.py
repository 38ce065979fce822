from __future__ import annotations

import numpy as np
import pytest

from pileupgen.compare.suppression_bias import suppression_bias
from tests.overlay.overlay_inputs import GRID

pytest.importorskip("fastjet")


def test_halves_of_a_threshold_are_lost_by_the_wrong_order() -> None:
    hard, pileup = np.zeros((2, 30, *GRID.shape), dtype=np.float32)
    hard[:, 0, :, ::2], pileup[:, 0, :, ::2] = 0.7, 0.7
    pileup[:, 0, :, 1::2] = 1.4
    hard[:, 1], pileup[:, 1] = 2.0, 3.0
    found = suppression_bias(hard, pileup, (1.0, 1.0), GRID)
    assert found.energy["em"].value == pytest.approx(-0.5)
    assert found.occupancy["em"].value == pytest.approx(-0.5)
    assert found.energy["had"].value == pytest.approx(0.0)
    assert found.lines()[0].startswith("⟨E⟩ in em −50.0 ± 0.0 %")
    assert found.to_dict()["n_events"] == 30


def test_jets_lose_energy_too() -> None:
    rng = np.random.default_rng(1)
    hard = np.zeros((60, *GRID.shape), dtype=np.float32)
    event, cell = np.arange(60), np.arange(60) % 12
    hard[event, 1, 3, cell] = 50
    # What the jet has beside its core is below the threshold, pileup lifts it above.
    hard[event, 0, 3, cell] = 0.9
    pileup = rng.exponential(0.5, hard.shape).astype(np.float32)
    found = suppression_bias(hard, pileup, (1.0, 1.0), GRID)
    assert -0.05 < found.jets["p_T > 40 GeV"].value < -0.005
    nothing = suppression_bias(hard, pileup, (0.0, 0.0), GRID)
    assert {one.value for one in nothing.jets.values()} == {0.0}
