from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_info, threadpool_limits

from pileupgen.compare.two_sample import (
    boosted_log_odds,
    feature_test,
    hanley_mcneil,
    labels_and_weights,
    merge_tests,
    platt,
    quantile_codes,
    roc_auc,
)

pytestmark = pytest.mark.usefixtures("thorough")

RNG = np.random.default_rng(11)


def test_auc_is_that_of_scikit_learn():
    scores = RNG.integers(0, 30, 300).astype(float)
    truth, weight = RNG.random(300) > 0.4, RNG.random(300)
    expected = roc_auc_score(truth, scores, sample_weight=weight)
    assert roc_auc(scores, truth, weight) == pytest.approx(expected)


def test_equal_distributions_give_one_half():
    x, y = RNG.normal(size=(400, 5)), RNG.normal(size=(400, 5))
    result = feature_test(x, y, n_seeds=2)
    assert abs(result.auc - 0.5) < 3.5 * np.hypot(result.error, result.spread)
    assert result.jsd == pytest.approx(0.0, abs=0.02)


def test_disjoint_distributions_give_one():
    x, y = RNG.normal(size=(200, 3)), RNG.normal(size=(200, 3)) + 100.0
    result = feature_test(x, y, n_seeds=1)
    assert result.auc == 1.0
    assert result.jsd > 0.9


def test_a_known_shift_gives_the_known_auc_and_divergence():
    delta, n = 1.0, 3000
    x, y = RNG.normal(size=(n, 1)), RNG.normal(delta, 1.0, size=(n, 1))
    result = feature_test(x, y, n_seeds=1)
    assert result.auc == pytest.approx(norm.cdf(delta / np.sqrt(2)), abs=0.015)
    grid = np.linspace(-8, 9, 20001)
    log_ratio = norm.logpdf(grid, delta) - norm.logpdf(grid)
    bce = -0.5 * np.trapezoid(
        norm.pdf(grid, delta) * log_expit(log_ratio) + norm.pdf(grid) * log_expit(-log_ratio), grid
    )
    assert result.jsd == pytest.approx((np.log(2) - bce) / np.log(2), abs=0.025)


def test_weights_can_undo_a_difference():
    n = 2000
    x, y = RNG.normal(size=(n, 1)), RNG.normal(0.8, 1.0, size=(n, 1))
    ratio = np.exp(norm.logpdf(y[:, 0]) - norm.logpdf(y[:, 0], 0.8))
    plain, weighted = feature_test(x, y, n_seeds=1), feature_test(x, y, None, ratio, n_seeds=1)
    assert plain.auc > 0.68
    assert weighted.auc == pytest.approx(0.5, abs=0.035)
    assert weighted.error > plain.error


def test_the_result_depends_on_the_seed_alone():
    x, y = RNG.normal(size=(100, 2)), RNG.normal(0.3, 1.0, size=(100, 2))
    assert feature_test(x, y, n_seeds=1, seed=4) == feature_test(x, y, n_seeds=1, seed=4)
    assert feature_test(x, y, n_seeds=1, seed=4) != feature_test(x, y, n_seeds=1, seed=5)


def test_calibration_finds_slope_and_offset():
    scores = RNG.normal(0.0, 2.0, 40000)
    truth = RNG.random(40000) < 1.0 / (1.0 + np.exp(-(0.7 * scores - 0.4)))
    slope, offset = platt(scores, truth, np.ones(40000))
    assert (slope, offset) == pytest.approx((0.7, -0.4), abs=0.05)


def test_calibration_of_separable_scores_is_finite():
    scores = np.array([-1.0, -1.0, 1.0, 1.0])
    assert np.isfinite(platt(scores, scores > 0, np.ones(4))).all()


def test_codes_keep_the_order_and_the_ties():
    column = np.array([[5.0], [1.0], [1.0], [9.0], [7.0]])
    codes = quantile_codes(column, 64)[:, 0]
    assert codes[1] == codes[2]
    assert list(np.argsort(codes[[1, 0, 4, 3]])) == [0, 1, 2, 3]
    assert len(np.unique(quantile_codes(RNG.normal(size=(1000, 1)), 64))) == 64


def test_hanley_mcneil_at_one_half_is_the_mann_whitney_error():
    n, m = 300, 500
    assert hanley_mcneil(0.5, n, m) == pytest.approx(np.sqrt((n + m + 1) / (12 * n * m)), rel=0.01)


def test_merging_averages_and_takes_the_spread():
    first = feature_test(RNG.normal(size=(60, 1)), RNG.normal(size=(60, 1)), n_seeds=1)
    second = feature_test(RNG.normal(size=(60, 1)), RNG.normal(size=(60, 1)), n_seeds=1)
    merged = merge_tests([first, second])
    assert merged.auc == pytest.approx(0.5 * (first.auc + second.auc))
    assert merged.error == pytest.approx(0.5 * (first.error + second.error))
    assert merged.spread == pytest.approx(abs(first.auc - second.auc) / np.sqrt(2))
    assert merge_tests([first]) is first


def test_both_samples_count_alike_whatever_their_weights_add_up_to():
    is_second, weight = labels_and_weights(3, 5, np.array([7.0, 1.0, 4.0]), np.full(5, 0.1))
    assert is_second.tolist() == [False] * 3 + [True] * 5
    assert weight[:3] == pytest.approx([7 / 3, 1 / 3, 4 / 3])
    assert weight[3:] == pytest.approx([0.8] * 5)


def test_trees_are_grown_by_one_thread_however_many_openmp_has(monkeypatch):
    """Many short loops: threads that are woken up for each of them take many times as long."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    seen = []
    fit = HistGradientBoostingClassifier.fit

    def watched(self, *args, **kwargs):
        seen.extend(
            pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"
        )
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(HistGradientBoostingClassifier, "fit", watched)
    rng = np.random.default_rng(0)
    with threadpool_limits(2, user_api="openmp"):
        boosted_log_odds(rng.normal(size=(60, 2)), rng.random(60) < 0.5, np.zeros((1, 2)), 0)
        after = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"]
    assert set(seen) == {1}
    assert set(after) == {2}
