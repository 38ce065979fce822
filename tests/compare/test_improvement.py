"""The improvement of scores whose curve is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from pileupgen.compare.improvement import significance_improvement
from pileupgen.errors import InputError


def gaussian(shift: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of n signal events at ``shift`` and of n background events at 0."""
    scores = np.random.default_rng(seed).normal(size=2 * n)
    is_signal = np.arange(2 * n) < n
    return scores + shift * is_signal, is_signal


def test_shifted_normals_have_their_curve():
    found = significance_improvement(*gaussian(2.0, 20_000, 1), n_draws=4)
    # ε_S at ε_B = 0.01 is Φ(2 − 2.326).
    assert found.at_efficiency.value == pytest.approx(norm.cdf(2 - norm.isf(0.01)) * 10, rel=0.04)
    cuts = np.linspace(0, 3.1, 400)
    curve = norm.sf(cuts - 2) / np.sqrt(norm.sf(cuts))
    assert found.largest.value == pytest.approx(curve.max(), rel=0.1)
    assert found.auc == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=0.005)


def test_a_score_of_no_power_improves_nothing():
    scores, is_signal = gaussian(0.0, 4000, 2)
    found = significance_improvement(scores, is_signal)
    assert 1.0 <= found.largest.value < 1.5
    assert found.at_efficiency.value == pytest.approx(0.1, abs=0.05)
    # One value for all: everything passes, or nothing.
    flat = significance_improvement(np.zeros(len(scores)), is_signal)
    assert flat.largest.value == 1.0
    assert flat.largest.low == flat.largest.high == 1.0


def test_few_events_leave_wide_intervals():
    few, many = (
        significance_improvement(*gaussian(1.5, n, 3), n_draws=50).at_efficiency
        for n in (300, 5000)
    )
    assert few.error > 2 * many.error
    inside = [
        found.low < 10 * norm.cdf(1.5 - norm.isf(0.01)) < found.high
        for seed in range(40)
        if (found := significance_improvement(*gaussian(1.5, 1000, seed), n_draws=40).at_efficiency)
    ]
    assert 0.45 < np.mean(inside) < 0.9


def test_a_cut_that_leaves_no_background_is_not_counted():
    scores, is_signal = gaussian(9.0, 500, 4)
    found = significance_improvement(scores, is_signal)
    assert found.largest.value == pytest.approx(np.sqrt(500 / 20), rel=1e-6)


def test_too_few_events_are_refused():
    with pytest.raises(InputError, match="0 signal"):
        significance_improvement(np.arange(50.0), np.zeros(50, dtype=bool))
    with pytest.raises(InputError, match="at least 1 and 40"):
        significance_improvement(np.arange(50.0), np.arange(50) < 20)
