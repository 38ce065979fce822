"""Minima and errors of a χ² that is not smooth, where they are known or can be looked up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pileupgen.arrays import Floats
from pileupgen.simulate.smooth_fit import SmoothFit, smooth_fit


def fit(
    mean: Callable[[Floats], Floats],
    aim: Floats,
    weight: Floats,
    slope: Floats,
    begin: Floats,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> SmoothFit:
    covariance = np.linalg.pinv(slope.T @ weight @ slope)
    error = np.sqrt(np.diag(covariance))
    error = np.where(error > 1e-12, error, np.inf)
    start = SmoothFit(begin, error, error, error)
    edges = np.full(len(begin), bounds[0]), np.full(len(begin), bounds[1])
    return smooth_fit(mean, aim, weight, start, covariance, edges, 1)[0]


def test_jags_neither_hold_the_minimum_nor_change_its_errors() -> None:
    """The size of the jags is what simulated means of cells have, in their errors."""
    rng = np.random.default_rng(1)
    slope, aim = rng.normal(size=(31, 4)), rng.normal(size=31)
    root = np.eye(31) + 0.1 * rng.normal(size=(31, 31))
    weight = root @ root.T
    covariance = np.linalg.inv(slope.T @ weight @ slope)
    truth = covariance @ slope.T @ weight @ aim
    expected = np.sqrt(np.diag(covariance))
    for jag in (0.0, 0.15):

        def mean(x: Floats, jag: float = jag) -> Floats:
            # Numbers that look random, and are the same for the same x.
            return slope @ x + jag * np.sin(1e5 * (slope @ x))

        found = fit(mean, aim, weight, slope, truth + 1.5 * expected)
        far = np.abs(found.point - truth) / expected
        assert np.all(far < (1e-3 if jag == 0 else 0.8))
        for errors in (found.error, found.down, found.up):
            np.testing.assert_allclose(errors, expected, rtol=0.01 if jag == 0 else 0.2)


def exchanged(x: Floats) -> Floats:
    """Two numbers whose sum is known well, their difference hardly, and nothing is linear."""
    both, apart = x[0] + x[1], x[0] - x[1]
    return np.array([(both + 0.3 * apart**2) / 0.1, apart / 1.6])


def test_errors_of_numbers_that_exchange_are_those_on_a_grid() -> None:
    slope = np.array([[10.0, 10.0], [1 / 1.6, -1 / 1.6]])
    found = fit(exchanged, np.zeros(2), np.eye(2), slope, np.zeros(2))
    np.testing.assert_allclose(found.point, 0, atol=1e-3)
    other = np.linspace(-4, 4, 40001)
    for number in (0, 1):
        for end in (-found.down[number], found.up[number]):
            point = np.array([np.full_like(other, end), other])[[number, 1 - number]]
            chi2 = np.square(exchanged(point)).sum(axis=0).min()
            assert chi2 == pytest.approx(1, abs=0.06)
    # The slope at the minimum knows of no sides.
    assert np.all(found.down > 1.3 * found.up)


def test_an_error_ends_at_a_bound_and_one_that_nothing_tells_is_infinite() -> None:
    slope = np.array([[0.5, 0.0]])
    found = fit(lambda x: slope @ x, np.zeros(1), np.eye(1), slope, np.zeros(2), (-0.7, 9.0))
    assert found.down[0] == pytest.approx(0.7)
    assert found.up[0] == pytest.approx(2.0, rel=0.01)
    assert np.isinf([found.error[1], found.down[1], found.up[1]]).all()
    assert found.point[1] == 0


def test_where_chi2_stays_below_the_rise_the_error_is_infinite() -> None:
    slope = np.array([[0.5]])
    # The slope was measured at another point: the errors by it are ten times too small.
    found = fit(lambda x: 0.05 * x, np.zeros(1), np.eye(1), slope, np.zeros(1))
    assert np.isinf([found.down[0], found.up[0]]).all()
    assert found.error[0] == pytest.approx(20)
