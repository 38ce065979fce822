"""A hard jet in an otherwise ordinary event is calibrated, whatever the networks do."""

from __future__ import annotations

import numpy as np
import pytest

from pileupgen.diffusion.settings import Settings
from pileupgen.models.correction.marginals import MarginalCorrection
from tests.conftest import make_energies


@pytest.mark.parametrize(
    "settings",
    [
        Settings("partial", 300, 2.0, 4),
        Settings("partial", 850, 8.0, 4),
        Settings("invert", 995, 2.0, 6),
    ],
    ids=lambda settings: f"{settings.mode}, t = {settings.t_release}",
)
def test_a_jet_of_two_tev_comes_out_as_calibrated_and_leaves_its_event_alone(pipeline, settings):
    energy, mu = make_energies(6, 0, 9)
    hard = energy.copy()
    hard[:, 1, 3, 4] = 900
    hard[:, 0, 3, 4] = 700
    hard[:, 0, 4, 4] = 400
    ids = np.arange(6)
    alone = pipeline(hard, mu, ids, 1, Settings("calibrate")).energy
    cells = (slice(None), [1, 0, 0], [3, 3, 4], [4, 4, 4])
    assert np.all(alone[cells] > 100)
    found = pipeline(hard, mu, ids, 1, settings).energy
    np.testing.assert_allclose(found[cells], alone[cells], rtol=1e-5)
    rest = np.ones(energy.shape, dtype=bool)
    rest[:, :, 2:6, 2:7] = False
    ordinary = pipeline(energy, mu, ids, 1, settings).energy
    # The network sees the jet at its limit: what is elsewhere keeps its scale.
    assert found[rest].sum() == pytest.approx(ordinary[rest].sum(), rel=0.1)
    assert found[rest].max() < 3 * ordinary[rest].max()


def test_a_corrected_spectrum_of_hits_leaves_a_jet_as_calibrated(pipeline):
    hard, mu = make_energies(6, 0, 9)
    hard[:, 0, 3, 4] = 700
    ids, settings = np.arange(6), Settings("partial", 300, 2.0, 4)
    correction = MarginalCorrection(2, 8)
    correction.hit_knots += 0.2
    alone = pipeline(hard, mu, ids, 1, Settings("calibrate")).energy
    plain = pipeline(hard, mu, ids, 1, settings).energy
    found = pipeline(hard, mu, ids, 1, settings, correction).energy
    np.testing.assert_allclose(found[:, 0, 3, 4], alone[:, 0, 3, 4], rtol=1e-5)
    assert found.sum() - 700 * 6 < 0.97 * (plain.sum() - 700 * 6)
