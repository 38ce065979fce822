from __future__ import annotations

import pytest

from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.training.data import ScoreSample


@pytest.fixture(scope="session")
def calibration(small_stores) -> CellCalibration:
    images = [store.read(store.indices("train")) for store in small_stores]
    fitted = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=2, n_layer_bins=4)
    fitted.fit([part.energy for part in images], [part.mu for part in images])
    return fitted


@pytest.fixture(scope="session")
def sample(small_stores, calibration) -> ScoreSample:
    return ScoreSample(small_stores, calibration, "train")


@pytest.fixture(scope="session")
def held_out(small_stores, calibration) -> ScoreSample:
    return ScoreSample(small_stores, calibration, "validation")
