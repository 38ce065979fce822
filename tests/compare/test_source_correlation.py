from __future__ import annotations

import numpy as np
import pytest

from pileupgen.compare.source_correlation import block_source_correlation, cell_source_correlation
from pileupgen.measure.bootstrap import resample

N = 400
RNG = np.random.default_rng(2)
X = RNG.gamma(2.0, size=(N, 30)).astype(np.float32) + np.arange(30, dtype=np.float32)
COUNTS = np.concatenate([np.ones((N, 1)), resample(N, 60, RNG)], axis=1)


def test_identity_is_one_even_when_scaled_and_shifted_place_by_place():
    moved = 2.5 * X + np.linspace(-3, 3, 30, dtype=np.float32)
    assert block_source_correlation(X, X, COUNTS).value == pytest.approx(1.0, abs=1e-6)
    assert block_source_correlation(X, moved, COUNTS).value == pytest.approx(1.0, abs=1e-6)


def test_shuffled_events_are_near_zero_though_they_share_their_profile():
    result = block_source_correlation(X, X[RNG.permutation(N)], COUNTS)
    assert abs(result.value) < 4 / np.sqrt(N * 30)
    assert result.low <= result.value <= result.high


def test_noise_lowers_it_as_it_must():
    noise = RNG.normal(size=X.shape) * X.std(axis=0)
    result = block_source_correlation(X, (X + noise).astype(np.float32), COUNTS)
    assert result.value == pytest.approx(1 / np.sqrt(2), abs=0.02)
    assert result.low < 1 / np.sqrt(2) + 0.01
    assert result.error < 0.02


def test_cells_in_batches_are_blocks_of_one_cell(toy):
    first, second = toy.energies(60, seed=1), toy.energies(60, seed=1, leak=0.2)
    counts = COUNTS[:60]
    batches = ((first[i : i + 7], second[i : i + 7]) for i in range(0, 60, 7))
    means = first.mean(axis=0, dtype=float), second.mean(axis=0, dtype=float)
    by_batch = cell_source_correlation(batches, *means, counts)
    flat = [energy.sum(axis=1).reshape(60, -1) for energy in (first, second)]
    assert by_batch.value == pytest.approx(block_source_correlation(*flat, counts).value, abs=1e-6)


def test_a_sample_that_does_not_vary_is_undefined():
    assert np.isnan(block_source_correlation(X, np.ones_like(X), COUNTS).value)


def test_weights_enter_the_means_and_the_products():
    rng = np.random.default_rng(4)
    x = rng.normal(3.0, 1.0, (50, 4)).astype(np.float32)
    y = (x + rng.normal(0.0, 1.0, x.shape)).astype(np.float32)
    weight = rng.exponential(1.0, 50)
    found = block_source_correlation(x, y, weight[:, None])
    dx, dy = (
        values.astype(np.float64) - np.average(values, axis=0, weights=weight) for values in (x, y)
    )
    xy, xx, yy = (weight @ product.sum(axis=1) for product in (dx * dy, dx * dx, dy * dy))
    assert found.value == pytest.approx(xy / np.sqrt(xx * yy), abs=1e-7)
