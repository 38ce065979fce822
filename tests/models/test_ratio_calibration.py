from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.networks.ratio_calibration import (
    HeldOutLogits,
    cross_entropies,
    cross_fitted,
    fit_lines,
    reliability,
)

TIMES = list(range(0, 1000, 50))


def made_logits(n: int, seed: int, n_mc: int | None = None) -> tuple[HeldOutLogits, np.ndarray]:
    """True ln r of two unit Gaussians that come together with t, and an over-sure classifier's."""
    rng = np.random.default_rng(seed)
    is_data = np.arange(n) >= (n // 2 if n_mc is None else n_mc)
    distance = 2.0 * (1 - np.array(TIMES) / 1000)[:, None]
    x = rng.standard_normal((len(TIMES), n)) + distance * (is_data - 0.5)
    true = distance * x
    return HeldOutLogits(TIMES, 2.5 * true + 0.8, is_data), true


def test_calibration_lowers_the_cross_entropy_of_events_it_has_not_seen():
    lines = fit_lines(made_logits(600, 1)[0], 999)
    fresh, true = made_logits(600, 2)
    calibrated = np.stack([lines(z, t) for z, t in zip(fresh.logit, fresh.t, strict=True)])
    raw, after = (
        cross_entropies(fresh),
        cross_entropies(HeldOutLogits(TIMES, calibrated, fresh.is_data)),
    )
    best = cross_entropies(HeldOutLogits(TIMES, true, fresh.is_data))
    assert np.mean(after) < np.mean(raw) - 0.1
    assert np.mean(after) < np.mean(best) + 0.01
    assert float(np.abs(calibrated - true).mean()) < 0.15


def test_a_domain_with_more_events_does_not_shift_the_ratio():
    lines = fit_lines(made_logits(800, 3, n_mc=200)[0], 999)
    # 2.5 slope + 0.8 offset undone: slope 0.4, offset −0.32 at small t.
    assert lines.slope[0] == pytest.approx(0.4, abs=0.06)
    assert lines.offset[0] == pytest.approx(-0.32, abs=0.15)


def test_cross_fitting_keeps_an_event_out_of_its_own_line():
    held_out, _ = made_logits(200, 4)
    changed = held_out.logit.copy()
    changed[:, 0] += 3
    before, after = (
        cross_fitted(HeldOutLogits(TIMES, logit, held_out.is_data), 999).logit
        for logit in (held_out.logit, changed)
    )
    same_half = np.r_[0:100:2, 100:200:2][1:]
    assert np.array_equal(before[:, same_half], after[:, same_half])
    assert not np.array_equal(before[:, 1], after[:, 1])


def test_reliability_is_the_diagonal_once_calibrated():
    found = reliability(made_logits(4000, 5)[0], 999)
    pulls = (np.array(found.observed) - np.array(found.predicted)) / np.array(found.error)
    assert np.sqrt(np.mean(pulls**2)) < 1.4
    assert np.mean(found.after) < np.mean(found.before)


def test_the_network_applies_its_lines_and_saves_them(tmp_path):
    torch.manual_seed(0)
    network = RatioClassifier(8, 4, 6, width=16, n_blocks=1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, mu = torch.randn(3, 8, 4, 6), torch.full((3,), 60.0)
    t = torch.tensor([0, 400, 999])
    level = torch.full((3,), 0.6), torch.full((3,), 0.8)
    with torch.no_grad():
        raw = network(x, t, mu, *level)
        lines = fit_lines(made_logits(400, 6)[0], 999)
        network.calibrate(lines)
        after = network(x, t, mu, *level)
    wanted = [lines(np.array(z), time) for z, time in zip(raw.tolist(), t.tolist(), strict=True)]
    np.testing.assert_allclose(after.numpy(), wanted, rtol=1e-4, atol=1e-5)
    network.save_pretrained(tmp_path)
    with torch.no_grad():
        again = RatioClassifier.from_pretrained(tmp_path)(x, t, mu, *level)
    torch.testing.assert_close(again, after)
