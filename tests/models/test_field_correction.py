"""Correcting correlations: the moments of the target, and what each event keeps."""

from __future__ import annotations

import pytest
import torch

from pileupgen.models.correction.correlations import FieldCorrection
from pileupgen.models.field import StationaryField

SHAPE = (2, 6, 8)


def field(n: int, leak: float, seed: int) -> torch.Tensor:
    """Unit normal cells that leak into both neighbours in φ, and layers that share some."""
    white = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))
    near = white.roll(1, 3) + white.roll(-1, 3)
    mixed = white + leak * near + leak * white.flip(1)
    return mixed / (1 + 3 * leak**2) ** 0.5


def neighbours(scores: torch.Tensor) -> float:
    return float((scores * scores.roll(1, 3)).mean())


def layers(scores: torch.Tensor) -> float:
    return float((scores[:, 0] * scores[:, 1]).mean())


@pytest.fixture(scope="module")
def correction() -> FieldCorrection:
    fitted = FieldCorrection(*SHAPE)
    fitted.fit(field(1500, 0.1, 1), field(1500, 0.3, 2))
    return fitted


def test_correlations_become_the_targets_and_marginals_stay_normal(correction):
    before, wanted = field(1500, 0.1, 3), field(1500, 0.3, 4)
    after = correction(before)
    for correlation in (neighbours, layers):
        gap = abs(correlation(before) - correlation(wanted))
        assert gap > 0.15
        assert abs(correlation(after) - correlation(wanted)) < 0.1 * gap
    assert float(after.mean()) == pytest.approx(0, abs=0.02)
    assert float(after.std()) == pytest.approx(1, abs=0.02)
    kept = torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]
    assert float(kept) > 0.95


def test_an_event_does_not_depend_on_its_neighbours_in_the_batch(correction):
    events = field(120, 0.1, 5)
    together = correction(events)
    assert torch.equal(correction(events[70:73]), together[70:73])
    assert torch.equal(correction(events.flip(0)).flip(0), together)


def test_a_roll_in_phi_commutes(correction):
    events = field(20, 0.1, 6)
    rolled = correction(events.roll(3, 3))
    torch.testing.assert_close(rolled, correction(events).roll(3, 3), atol=2e-4, rtol=1e-4)


def test_it_is_saved_and_loaded_whole(correction, tmp_path):
    correction.save_pretrained(tmp_path)
    loaded = FieldCorrection.from_pretrained(tmp_path)
    events = field(5, 0.1, 7)
    assert torch.equal(loaded(events), correction(events))


def test_transport_takes_one_covariance_to_the_other():
    fitted = StationaryField(*SHAPE)
    fitted.fit([field(800, 0.1, 8), field(800, 0.3, 9)])
    a = fitted.transport(0, 1)
    found = a @ fitted.covariance(0) @ a.transpose(1, 2)
    torch.testing.assert_close(found, fitted.covariance(1), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(a, a.transpose(1, 2), atol=1e-8, rtol=1e-8)
