from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm

from pileupgen.diffusion.release import TOLERANCES, ReleaseScan, auc, scan_release
from pileupgen.diffusion.weights import WeightSummary, effective_fraction
from pileupgen.errors import ConfigError, UnreadableInputError


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
    choice = scan.choose(0.55)
    assert choice.t == 200
    assert choice.t_low <= 200 <= (choice.t_high or 999)
    assert "held-out AUC" in choice.reason


@pytest.mark.parametrize("by", list(TOLERANCES))
def test_each_criterion_releases_where_its_known_curve_crosses(by):
    """d(t) falls from 2 to 0; the defaults all mean d ≈ 0.2."""
    times = list(range(0, 1000, 50))
    pairs = [gaussian_pair(2 * (1 - t / 1000) ** 3, seed=t) for t in times]
    choice = scan_release(times, pairs, seed=1, n_bootstrap=50).choose(by=by)
    exact = 1000 * (1 - (0.2 / 2) ** (1 / 3))
    assert choice.t == pytest.approx(exact, abs=75)
    assert choice.low <= choice.value <= choice.high
    assert choice.t_low <= choice.t
    assert choice.t_high is None or choice.t_high >= choice.t
    tighter = {"auc": 0.54, "ess": 0.98, "spread": 0.12}[by]
    assert scan_release(times, pairs, seed=1, n_bootstrap=5).choose(tighter, by).t >= choice.t


@pytest.mark.parametrize("by", list(TOLERANCES))
def test_a_release_may_lie_between_the_crossings_of_the_ends_of_its_interval(by):
    """Unused curves are far off; of the chosen one the good end is within from 100 on."""
    good, middle, poor = [0.7, 0.9, 0.9, 0.9], [0.7, 0.8, 0.9, 0.9], [0.7, 0.7, 0.8, 0.9]
    falls = [[1.0 - one for one in curve] for curve in (good, middle, poor)]
    low, value, high = (poor, middle, good) if by == "ess" else falls
    curves = {by: value, f"{by}_low": low, f"{by}_high": high}
    others = {f"{name}{end}": value for name in TOLERANCES for end in ("", "_low", "_high")}
    scan = ReleaseScan(
        t=[0, 100, 200, 300],
        accuracy=value,
        cross_entropy=value,
        n_mc=9,
        n_data=9,
        **(others | curves),
    )
    choice = scan.choose(0.85 if by == "ess" else 0.15, by)
    assert (choice.t_low, choice.t, choice.t_high) == (100, 200, 300)


def test_ln_r_beyond_the_limit_on_either_side_is_clipped():
    summary = WeightSummary.of(np.array([-9.0, -1.0, 0.0, 9.0]), 5.0)
    assert (summary.clipped, summary.limit) == (0.5, 5.0)
    clipped = np.array([-5.0, -1.0, 0.0, 5.0])
    assert summary.ess == pytest.approx(effective_fraction(clipped))


def test_a_scan_is_read_as_it_was_written(tmp_path):
    scan = scan_release([0, 1], [gaussian_pair(0.1)] * 2, seed=1, n_bootstrap=5)
    path = tmp_path / "release.json"
    path.write_text(json.dumps(scan.to_dict()))
    assert ReleaseScan.read(path) == scan


@pytest.mark.parametrize("change", [{"ess": [1.0]}, {"auc": None}, {"t": ["soon", 1]}])
def test_a_damaged_scan_is_refused_by_name(tmp_path, change):
    scan = scan_release([0, 1], [gaussian_pair(0.1)] * 2, seed=1, n_bootstrap=5)
    path = tmp_path / "release.json"
    path.write_text(json.dumps(scan.to_dict() | change))
    with pytest.raises(UnreadableInputError, match=r"release\.json"):
        ReleaseScan.read(path)


def test_auto_release_says_so_when_the_domains_never_merge():
    scan = scan_release([0, 100], [gaussian_pair(2.0), gaussian_pair(1.5)], seed=1)
    with pytest.raises(ConfigError, match="never falls"):
        scan.choose(0.55)
