from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from pileupgen.diffusion.release import ReleaseScan, auc, effective_fraction, scan_release
from pileupgen.errors import ConfigError


def gaussian_pair(d: float, n: int = 4000, seed: int = 0):
    """ln r of two unit Gaussians a distance d apart: r = exp(d x − d²/2)."""
    rng = np.random.default_rng(seed)
    return d * rng.standard_normal(n) - d**2 / 2, d * (rng.standard_normal(n) + d) - d**2 / 2


@pytest.mark.parametrize("d", [0.3, 1.0, 2.0])
def test_auc_of_two_gaussians(d):
    assert auc(*gaussian_pair(d)) == pytest.approx(norm.cdf(d / 2**0.5), abs=0.02)


def test_effective_fraction_of_a_known_ratio():
    assert effective_fraction(np.zeros(10)) == pytest.approx(1)
    assert effective_fraction(gaussian_pair(0.5, 100_000)[0]) == pytest.approx(
        np.exp(-0.25), abs=0.01
    )


def test_auto_release_takes_the_first_time_that_stays_below():
    times = [0, 100, 200, 300]
    scan = scan_release(times, [gaussian_pair(d) for d in (2.0, 1.0, 0.1, 0.02)], seed=1)
    assert all(
        low <= value <= high
        for low, value, high in zip(scan.auc_low, scan.auc, scan.auc_high, strict=True)
    )
    t, reason = scan.choose(0.55)
    assert t == 200
    assert "held-out AUC" in reason
    assert ReleaseScan.from_dict(scan.to_dict()) == scan


def test_auto_release_says_so_when_the_domains_never_merge():
    scan = scan_release([0, 100], [gaussian_pair(2.0), gaussian_pair(1.5)], seed=1)
    with pytest.raises(ConfigError, match="never falls"):
        scan.choose(0.55)
