from __future__ import annotations

import numpy as np
import pytest

from pileupgen.measure.features import correlations, in_spreads


def test_correlations_and_their_errors_are_those_of_repeated_samples():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(60):
        x = rng.normal(size=(400, 3))
        x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
        found.append([part[0, 1] for part in correlations(x, np.ones(400))])
    value, error = np.array(found).T
    assert value.mean() == pytest.approx(0.8, abs=0.01)
    # For Gaussian features the standard error of r is (1 − r²) / √N.
    assert error.mean() == pytest.approx((1 - 0.8**2) / np.sqrt(400), rel=0.1)
    assert value.std(ddof=1) == pytest.approx(error.mean(), rel=0.3)


def test_a_weight_of_two_is_an_event_twice_in_correlations():
    x = np.random.default_rng(6).normal(size=(50, 2))
    twice = correlations(np.repeat(x, 2, axis=0), np.ones(100))[0]
    assert correlations(x, np.full(50, 2.0))[0] == pytest.approx(twice)


def test_features_are_given_in_their_spreads_and_constants_as_they_are():
    table = np.array([[1.0, 7.0], [3.0, 7.0]], dtype=np.float32)
    assert in_spreads(table, np.ones(2)) == pytest.approx(np.array([[1.0, 7.0], [3.0, 7.0]]))
