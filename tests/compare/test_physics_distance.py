from __future__ import annotations

import numpy as np
import pytest

from pileupgen.compare import physics_distance
from pileupgen.compare.physics_distance import fpd, frechet_distance, kpd
from pileupgen.compare.records import PhysicsDistance
from pileupgen.compare.rows import median_distance

pytestmark = pytest.mark.usefixtures("thorough")

# Computed with jetnet 0.2.5 on the arrays below: fpd(x, y, **options) and kpd(x, y, **options).
SMALL = {"min_samples": 500, "max_samples": 2000}
FPD = [
    ((3000, 2500, 5, 0.0, 0), {}, (0.0029994599872765117, 6.982197102154076e-05)),
    ((3000, 2500, 5, 0.2, 1), {}, (0.012527127002261629, 0.00012165918421714083)),
    ((3000, 2500, 5, 0.2, 1), SMALL, (0.012280732912602343, 0.0004725704255109993)),
    ((400, 600, 3, 0.5, 2), {}, (0.028616235936948408, 0.00022138071802578474)),
]
KPD = [
    ((3000, 2500, 5, 0.0, 0), (1000, 10, 42), (0.00018662458550644523, 0.00036016865713496446)),
    ((3000, 2500, 5, 0.2, 1), (2000, 4, 1), (0.008305869450807801, 0.0003890742476483494)),
    ((400, 600, 3, 0.5, 2), (1000, 10, 42), (0.040786660111676865, 0.004245739739729307)),
    ((400, 600, 3, 0.5, 2), (2000, 4, 1), (0.04060534792844339, 0.0049451184385525745)),
]
DEPENDENT_FPD = (0.004134824356203645, 0.00041955591263294855)
DEPENDENT_KPD = (0.00042886994300816994, 0.0004819394143161138)


def arrays(n, m, k, shift, seed):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(k, k))
    return rng.normal(size=(n, k)) @ mix, shift + rng.normal(size=(m, k)) @ mix * 1.1


@pytest.mark.parametrize(("made", "options", "expected"), FPD)
def test_fpd_is_that_of_jetnet(made, options, expected):
    result = fpd(*arrays(*made), **options)
    assert (result.value, result.jetnet_error) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("made", "options", "expected"), KPD)
def test_kpd_is_that_of_jetnet(made, options, expected):
    batch_size, n_batches, seed = options
    result = kpd(*arrays(*made), batch_size=batch_size, n_batches=n_batches, seed=seed)
    assert (result.value, result.jetnet_error) == pytest.approx(expected, abs=1e-6)


def test_dependent_and_empty_features_are_as_in_jetnet():
    x, y = arrays(2000, 2000, 4, 0.1, 3)
    x, y = (np.c_[f, f[:, 0] + f[:, 1], np.zeros(len(f))] for f in (x, y))
    by_frechet, by_kernel = fpd(x, y, **SMALL), kpd(x, y, batch_size=500)
    assert (by_frechet.value, by_frechet.jetnet_error) == pytest.approx(DEPENDENT_FPD, abs=1e-6)
    assert (by_kernel.value, by_kernel.jetnet_error) == pytest.approx(DEPENDENT_KPD, abs=1e-6)


def test_frechet_distance_of_gaussians_that_commute():
    first, second = np.diag([1.0, 4.0]), np.diag([9.0, 1.0])
    distance = frechet_distance(np.zeros(2), first, np.array([3.0, 0.0]), second)
    assert distance == pytest.approx(9.0 + (1 - 3) ** 2 + (2 - 1) ** 2)
    assert frechet_distance(np.ones(2), first, np.ones(2), first) == pytest.approx(0.0, abs=1e-12)


def test_weights_stand_for_repeated_events():
    x, y = arrays(500, 500, 3, 0.3, 5)
    far = y + 5.0
    weight = np.concatenate([np.ones(500), np.zeros(500)])
    both = np.concatenate([y, far])
    assert fpd(x, both, None, weight, **SMALL).value == pytest.approx(
        fpd(x, y, **SMALL).value, abs=0.01
    )
    assert (
        kpd(x, both, None, weight, batch_size=500).value < 0.1 * kpd(x, far, batch_size=500).value
    )


def test_the_physics_distance_of_the_reference_is_a_median():
    parts = [
        PhysicsDistance(value=value, low=0.0, high=1.0, jetnet_error=0.01)
        for value in (9.0, 0.1, 0.2)
    ]
    found = median_distance(tuple(parts))
    assert (found.value, found.low, found.high) == (0.2, 0.1, 9.0)
    assert median_distance((parts[0],)) == parts[0]


def bounded(n: int, seed: int, power: float = 1.0) -> np.ndarray:
    """Features in [-1, 1], whose largest value, JetNet's scale, hardly depends on the sample."""
    values = np.random.default_rng(seed).uniform(-1.0, 1.0, size=(n, 5))
    values[:, 1:] += values[:, :1]
    return np.sign(values) * np.abs(values / 2) ** power


def test_the_interval_is_as_wide_as_samples_differ_and_the_fits_error_is_not():
    fast = {"min_samples": 5000, "max_samples": 20000, "n_batches": 4, "n_points": 5}
    found = [
        fpd(bounded(400, 2 * i), bounded(400, 2 * i + 1, 1.4), n_bootstrap=40, **fast)
        for i in range(24)
    ]
    spread = np.std([one.value for one in found], ddof=1)
    width = np.mean([0.5 * (one.high - one.low) for one in found])
    assert width == pytest.approx(spread, rel=0.4)
    assert np.mean([one.jetnet_error for one in found]) < 0.4 * spread


def test_the_kernels_interval_is_as_wide_as_samples_differ():
    found = [
        kpd(bounded(300, 2 * i), bounded(300, 2 * i + 1, 1.6), n_bootstrap=40, batch_size=1000)
        for i in range(24)
    ]
    spread = np.std([one.value for one in found], ddof=1)
    width = np.mean([0.5 * (one.high - one.low) for one in found])
    assert width == pytest.approx(spread, rel=0.4)
    assert all(one.low <= one.value <= one.high for one in found)


def test_the_kernels_interval_of_some_events_is_as_wide_as_that_of_all(monkeypatch):
    x, y = bounded(1600, 1), bounded(1600, 2, 1.6)
    whole = kpd(x, y, n_bootstrap=100, batch_size=200)
    monkeypatch.setattr(physics_distance, "MAX_KERNEL_EVENTS", 200)
    part = kpd(x, y, n_bootstrap=100, batch_size=200)
    assert part.high - part.low == pytest.approx(whole.high - whole.low, rel=0.35)


def test_no_bootstrap_gives_no_interval():
    assert np.isnan(kpd(bounded(50, 1), bounded(50, 2), batch_size=50).low)
