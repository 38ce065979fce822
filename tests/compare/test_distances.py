from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance

from pileupgen.compare.distances import (
    is_constant,
    separation_edges,
    separation_power,
    unit_histogram,
    wasserstein,
    weighted_std,
)
from pileupgen.errors import InputError
from pileupgen.measure.bootstrap import (
    Estimate,
    effective_size,
    estimate,
    require_weights,
    resample,
)

RNG = np.random.default_rng(3)
samples = arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e3, 1e3, width=32))


@settings(max_examples=60, deadline=None)
@given(samples, samples)
def test_wasserstein_is_that_of_scipy(x, y):
    assert wasserstein(x, y)[0] == pytest.approx(wasserstein_distance(x, y), abs=1e-8)


def test_wasserstein_with_weights_is_that_of_scipy():
    x, y = RNG.normal(size=50), RNG.normal(size=70)
    wx, wy = RNG.random((50, 4)), RNG.random((70, 4))
    expected = [wasserstein_distance(x, y, wx[:, i], wy[:, i]) for i in range(4)]
    assert wasserstein(x, y, wx, wy) == pytest.approx(expected)


def test_wasserstein_of_a_sample_to_itself_is_zero_and_of_a_shift_is_the_shift():
    x = RNG.normal(size=200)
    assert wasserstein(x, RNG.permutation(x))[0] == pytest.approx(0.0, abs=1e-12)
    assert wasserstein(x, x + 0.37)[0] == pytest.approx(0.37)


def test_a_repeated_event_equals_a_weight_of_two():
    x, y = RNG.normal(size=30), RNG.normal(size=30)
    weights = np.ones((30, 1))
    weights[4] = 2.0
    assert wasserstein(np.append(x, x[4]), y)[0] == pytest.approx(wasserstein(x, y, weights)[0])


def test_weighted_std_is_that_of_numpy():
    x = RNG.normal(1e4, 2.0, size=100)
    counts = resample(100, 3, RNG)
    expected = [np.repeat(x, counts[:, i].astype(int)).std() for i in range(3)]
    assert weighted_std(x, counts) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(samples, samples)
def test_separation_is_between_nothing_and_one_and_symmetric(x, y):
    edges = separation_edges(x)
    h1, h2 = unit_histogram(x, edges), unit_histogram(y, edges)
    power = separation_power(h1, h2)
    assert 0.0 <= power <= 1.0 + 1e-12
    assert power == pytest.approx(separation_power(h2, h1))
    assert separation_power(h1, h1) == 0.0
    assert h1.sum() == pytest.approx(1.0)


def test_separation_sees_what_lies_out_of_range():
    x = RNG.normal(size=1000)
    edges = separation_edges(x)
    moved = x.copy()
    moved[:300] = 1e6
    power = separation_power(unit_histogram(x, edges), unit_histogram(moved, edges))
    assert power > 0.5 * 0.3**2 / 0.35
    below, above = unit_histogram(np.array([-1e9, 1e9]), edges)[[0, -1]]
    assert (below, above) == (0.5, 0.5)


def test_disjoint_constants_separate_fully():
    x, y = np.full(10, 2.0), np.full(10, 3.0)
    assert is_constant(x)
    edges = separation_edges(x)
    assert separation_power(unit_histogram(x, edges), unit_histogram(y, edges)) == 1.0


def test_resampling_draws_n_events_with_unit_variance():
    counts = resample(400, 50, np.random.default_rng(0))
    assert np.all(counts.sum(axis=0) == 400)
    assert counts.var() == pytest.approx(1.0, abs=0.05)


def test_the_interval_covers_the_true_distance_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered, n_trials, shift = 0, 200, 0.5
    for _ in range(n_trials):
        x, y = rng.normal(size=150), rng.normal(shift, 1.0, size=150)
        draws = wasserstein(x, y, resample(150, 80, rng), resample(150, 80, rng))
        interval = estimate(float(wasserstein(x, y)[0]), draws, 0.0)
        covered += interval.low <= shift <= interval.high
    # 68 % with a binomial error of 3.3 %.
    assert 0.58 < covered / n_trials < 0.78


def test_an_interval_stays_in_bounds_and_ignores_undefined_draws():
    draws = np.array([0.0, 0.4, np.nan, 0.2])
    interval = estimate(0.05, draws, 0.0)
    assert interval.low == 0.0
    assert interval.low <= interval.value <= interval.high
    assert interval.error == pytest.approx(0.5 * (interval.high - interval.low))
    assert np.isnan(estimate(float("nan"), draws).high)
    assert isinstance(interval, Estimate)


def test_an_interval_lies_about_the_estimate_as_skewed_draws_about_their_mean():
    draws = np.concatenate([np.zeros(80), np.full(20, 10.0)])
    found = estimate(5.0, draws)
    assert (found.low, found.high) == (pytest.approx(3.0), pytest.approx(13.0))


def test_effective_size():
    assert effective_size(np.full(7, 3.0)) == pytest.approx(7.0)
    assert effective_size(np.array([1.0, 0.0, 0.0])) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -1.0], "1 are negative"),
        ([1.0, np.nan], "1 are not finite or too large"),
        ([1.0, 1e300], "1 are not finite or too large"),
        ([0.0, 0.0], "all 2 event weights are zero"),
    ],
)
def test_unusable_weights_are_counted_and_refused(weights, message):
    with pytest.raises(InputError, match=message):
        require_weights(np.array(weights), "here")
