"""Events beyond the training's range, and events unlike the training's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.diffusion.input_range import RangeSummary, input_range, require_within
from pileupgen.errors import ImplausibleInputError
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.event_check import EventCheck, totals
from pileupgen.samples.store import Images
from tests.conftest import SMALL_GRID, make_energies


def images_of(energy: np.ndarray, mu: np.ndarray) -> Images:
    return Images(energy, SMALL_GRID, {"mu": mu, "event_id": np.arange(len(mu)) + 70})


@pytest.fixture(scope="module")
def calibration() -> CellCalibration:
    samples = [make_energies(300, domain, 3) for domain in (0, 1)]
    found = CellCalibration(2, 8, 12, n_knots=32, n_mu_bins=2, n_layer_bins=3)
    found.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    return found


@pytest.fixture(scope="module")
def check() -> EventCheck:
    found = EventCheck(2, 8, 12)
    samples = [make_energies(3000, domain, 5) for domain in (0, 1)]
    shares = SMALL_GRID.transverse_shares
    values = [totals(torch.from_numpy(e), torch.from_numpy(shares)) for e, _ in samples]
    found.fit(values, [mu for _, mu in samples], shares)
    return found


def test_cells_and_mu_beyond_the_training_are_counted_and_measured(calibration):
    energy, mu = make_energies(5, 0, 9)
    energy = np.minimum(energy, 5)
    mu = np.array([60, 5, 900, np.nan, 60], dtype=np.float32)
    largest = float(calibration.largest[0, 1, 3])
    energy[0, 1, 3, 2] = 20 * largest
    energy[4] = 0
    energy[4, 0, 0, :3] = [0.3, 0.3, 1.4]
    found = input_range(images_of(energy, mu), calibration, None, 0)
    assert found.cells_above.tolist() == [1, 0, 0, 0, 0]
    assert found.energy_ratio[0] == pytest.approx(20)
    assert found.cells_below.tolist() == [0, 0, 0, 0, 2]
    assert found.energy_below[4] == pytest.approx(0.3)
    low, high = calibration.mu_range.tolist()
    np.testing.assert_allclose(found.mu_ratio, [1, 5 / low, 900 / high, np.nan, 1], rtol=1e-6)
    summary = RangeSummary.of(found.columns())
    assert (summary.n_above, summary.n_below, summary.n_mu) == (1, 1, 2)
    assert len(summary.lines()) == 3


def test_events_far_outside_are_refused_by_name_unless_asked_for(calibration):
    energy, mu = make_energies(4, 0, 9)
    energy = np.minimum(energy, 5)
    inside = input_range(images_of(energy, mu), calibration, None, 0)
    require_within(inside, images_of(energy, mu), "refuse")
    hot, far = energy.copy(), mu.copy()
    hot[2, 0, 1, 1] = 30 * float(calibration.largest[0, 0].max())
    found = input_range(images_of(hot, mu), calibration, None, 0)
    require_within(found, images_of(hot, mu), "limited")
    with pytest.raises(ImplausibleInputError, match="Event 72 has a cell"):
        require_within(found, images_of(hot, mu), "refuse")
    hot[2] *= 1000
    far[1] = 1.0
    for events, words in (
        (images_of(hot, mu), "Event 72 has a cell"),
        (images_of(energy, far), "Event 71 has μ"),
        (images_of(np.where(energy > 0, np.float32(0.3), 0), mu), "Event 70 has 100% of its"),
    ):
        found = input_range(events, calibration, None, 0)
        with pytest.raises(ImplausibleInputError, match=words):
            require_within(found, events, "limited")
        require_within(found, events, "allow")


@pytest.mark.parametrize("domain", [0, 1])
def test_one_in_a_thousand_held_out_events_is_flagged_and_doctored_ones_are_found(check, domain):
    energy, mu = make_energies(4000, domain, 77)
    mus = torch.from_numpy(mu)

    def flagged(changed: np.ndarray) -> float:
        return float((check(torch.from_numpy(changed.astype(np.float32)), domain, mus) > 1).mean())

    assert flagged(energy) < 4e-3
    unknown = check(torch.from_numpy(energy), domain, torch.full_like(mus, torch.nan))
    assert float((unknown > 1).mean()) < 4e-3
    busy = sum(np.roll(energy, i * 41, axis=0) for i in range(10))
    assert flagged(busy) == 1
    scaled = energy * 1.3
    assert flagged(np.where(scaled < 0.6, 0, scaled)) > 5e-3
    assert flagged(np.where(energy < 0.9, 0, energy)) > 0.1
    jet = energy.copy()
    jet[:, 1, 3:5, 4:6] += 60
    assert flagged(jet) == 1


def test_too_few_events_flag_nothing_and_the_check_is_stored(check, tmp_path):
    few = EventCheck(2, 8, 12)
    energy, mu = make_energies(40, 0, 1)
    values = totals(torch.from_numpy(energy), torch.ones(8))
    few.fit([values, values], [mu, mu], np.ones(8))
    assert not few(torch.from_numpy(energy * 50), 0, torch.from_numpy(mu)).any()
    check.save_pretrained(tmp_path)
    again = EventCheck.from_pretrained(tmp_path)
    arguments = torch.from_numpy(energy), 1, torch.from_numpy(mu)
    assert np.array_equal(again(*arguments), check(*arguments))
    assert not np.array_equal(check(*arguments), np.zeros(40))
