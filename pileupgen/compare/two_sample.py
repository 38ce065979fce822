"""Classifier two-sample tests: whether a classifier can tell two samples apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pileupgen.arrays import Flags, Floats, Ints, quotient
from pileupgen.compare.records import TwoSampleTest
from pileupgen.measure.bootstrap import effective_size
from pileupgen.parallel.threads import one_openmp_thread
from pileupgen.progress import Advance, silent

Predict = Callable[[Ints, Ints, int], Floats]

N_FOLDS = 4
"""Parts of the cross-fit on observables."""
MAX_ITER = 80
"""Trees of the gradient boosting."""
MAX_BINS = 64
"""Quantile bins that gradient boosting sees each observable in."""
LN2 = float(np.log(2.0))


def feature_test(
    x: Floats,
    y: Floats,
    wx: Floats | None = None,
    wy: Floats | None = None,
    *,
    n_seeds: int = 3,
    seed: int = 0,
    advance: Advance = silent,
) -> TwoSampleTest:
    """Two-sample test by gradient boosting on observables, cross-fitted.

    Parameters
    ----------
    x, y : float64 arrays, shape (n, k) and (m, k)
        Observables of the two samples, one a column.
    wx, wy : float64 arrays, shape (n,) and (m,), optional
        Weights ≥ 0; each sample is scaled to the same sum.
    seed : int
        First seed.
    """
    features = quantile_codes(np.concatenate([x, y]), MAX_BINS)
    is_second, weight = labels_and_weights(len(x), len(y), wx, wy)

    def predict(train: Ints, test: Ints, fold_seed: int) -> Floats:
        return boosted_log_odds(
            features[train], is_second[train], features[test], fold_seed, weight[train]
        )

    return cross_fitted_test(
        is_second, weight, predict, n_seeds=n_seeds, seed=seed, advance=advance
    )


def resampled_auc(
    x: Floats,
    y: Floats,
    x_counts: Floats,
    y_counts: Floats,
    *,
    n_seeds: int = 1,
    seed: int = 0,
) -> Floats:
    """AUC of :func:`feature_test` for resampled events, the classifiers staying as they are.

    Two samples that share events, and draws of them, are compared by the difference of what this
    gives: of what the classifiers make of the events all noise is in it, of their training none.

    Parameters
    ----------
    x, y : float64 arrays, shape (n, k) and (m, k)
        Observables of the two samples.
    x_counts, y_counts : float64 arrays, shape (n, 1 + B) and (m, 1 + B)
        Weights: as they are in the first column, resampled in the others.
    n_seeds, seed : int
        As :func:`feature_test` takes them.

    Returns
    -------
    float64 array, shape (1 + B,)
        Mean over folds and seeds.
    """
    features = quantile_codes(np.concatenate([x, y]), MAX_BINS)
    is_second, weight = labels_and_weights(len(x), len(y), x_counts[:, 0], y_counts[:, 0])
    counts = np.concatenate([x_counts, y_counts])
    found = []
    for number in range(n_seeds):
        rng = np.random.default_rng([seed, number])
        for train, test in _folds(is_second, N_FOLDS, rng):
            fold_seed = int(rng.integers(2**31))
            scores = boosted_log_odds(
                features[train], is_second[train], features[test], fold_seed, weight[train]
            )
            found.append(roc_aucs(scores, is_second[test], counts[test]))
    return np.asarray(np.mean(found, axis=0))


def boosted_log_odds(
    features: Floats,
    is_second: Flags,
    judged: Floats,
    seed: int,
    weight: Floats | None = None,
) -> Floats:
    """Train gradient boosting on some events and return the log-odds of others.

    Parameters
    ----------
    features, judged : float64 arrays, shape (n, k) and (m, k)
        Observables of the training events and of the others, as :func:`quantile_codes` makes them.
    is_second : bool array, shape (n,)
        Which sample a training event is from.
    weight : float64 array, shape (n,), optional
        Weights ≥ 0.

    Returns
    -------
    float64 array, shape (m,)
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    classifier = HistGradientBoostingClassifier(
        max_iter=MAX_ITER,
        max_bins=MAX_BINS,
        learning_rate=0.08,
        max_leaf_nodes=12,
        min_samples_leaf=20,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    with one_openmp_thread():
        classifier.fit(features, is_second, sample_weight=weight)
        return np.asarray(classifier.decision_function(judged), dtype=np.float64)


def quantile_codes(features: Floats, n_bins: int) -> Floats:
    """Replace each column's values by the number of the quantile bin they are in.

    Trees split between bins anyway; binned here because scikit-learn's own binning is many times
    slower once events have weights. Labels play no part in it.

    Parameters
    ----------
    features : float64 array, shape (n, k)
        Values.
    n_bins : int
        Largest number of bins; equal values share one.

    Returns
    -------
    float64 array, shape (n, k)
    """
    inner = np.quantile(features, np.arange(1, n_bins) / n_bins, axis=0)
    codes = [
        np.searchsorted(np.unique(edges), column, side="right")
        for edges, column in zip(inner.T, features.T, strict=True)
    ]
    return np.stack(codes, axis=1).astype(np.float64)


def labels_and_weights(
    n: int, m: int, wx: Floats | None, wy: Floats | None
) -> tuple[Flags, Floats]:
    """Labels of the pooled events and weights that make both samples count alike, mean 1."""
    wx = np.ones(n) if wx is None else wx
    wy = np.ones(m) if wy is None else wy
    half = 0.5 * (n + m)
    return np.arange(n + m) >= n, np.concatenate([wx * half / wx.sum(), wy * half / wy.sum()])


def cross_fitted_test(
    is_second: Flags,
    weight: Floats,
    predict: Predict,
    *,
    n_seeds: int,
    seed: int,
    n_folds: int = N_FOLDS,
    advance: Advance = silent,
) -> TwoSampleTest:
    """Run a classifier over folds and seeds and summarise its judgements.

    Parameters
    ----------
    is_second : bool array, shape (n,)
        Which sample an event is from.
    weight : float64 array, shape (n,)
        Weights ≥ 0.
    predict : callable
        ``predict(train, test, seed)`` trains on rows ``train`` and returns the log-odds of rows
        ``test``, shape ``(len(test),)``.
    n_seeds, seed : int
        Repeats and the first seed.
    n_folds : int
        Parts of the events; each is judged by a classifier trained on the others.
    """
    aucs, jsds = [], []
    for number in range(n_seeds):
        rng = np.random.default_rng([seed, number])
        auc, jsd = [], []
        scores = np.empty(len(is_second))
        for train, test in _folds(is_second, n_folds, rng):
            scores[test] = predict(train, test, int(rng.integers(2**31)))
            auc.append(roc_auc(scores[test], is_second[test], weight[test]))
            jsd.append(_calibrated_jsd(scores[test], is_second[test], weight[test], rng))
        aucs.append(float(np.mean(auc)))
        jsds.append(float(np.mean(jsd)))
        advance(1)
    n_first = effective_size(weight[~is_second])
    n_second = effective_size(weight[is_second])
    return TwoSampleTest(
        auc=float(np.mean(aucs)),
        spread=_spread(aucs),
        error=hanley_mcneil(float(np.mean(aucs)), n_first, n_second),
        jsd=float(np.mean(jsds)),
        jsd_spread=_spread(jsds),
        n_seeds=n_seeds,
    )


def merge_tests(tests: list[TwoSampleTest]) -> TwoSampleTest:
    """Average tests of several samples; the spread is then that over the samples."""
    if len(tests) == 1:
        return tests[0]
    aucs, jsds = [test.auc for test in tests], [test.jsd for test in tests]
    return TwoSampleTest(
        auc=float(np.mean(aucs)),
        spread=_spread(aucs),
        error=float(np.mean([test.error for test in tests])),
        jsd=float(np.mean(jsds)),
        jsd_spread=_spread(jsds),
        n_seeds=sum(test.n_seeds for test in tests),
    )


def roc_auc(scores: Floats, is_second: Flags, weight: Floats) -> float:
    """Weighted area under the ROC curve; ties count half; NaN where a sample has no weight.

    >>> roc_auc(np.array([0.0, 1.0]), np.array([False, True]), np.ones(2))
    1.0
    """
    return float(roc_aucs(scores, is_second, weight[:, None])[0])


def roc_aucs(scores: Floats, is_second: Flags, weights: Floats) -> Floats:
    """:func:`roc_auc` of the same scores with weights of several kinds.

    Parameters
    ----------
    scores : float64 array, shape (n,)
        Sorted once for all weights.
    is_second : bool array, shape (n,)
        Which sample an event is from.
    weights : float64 array, shape (n, B)
        Weights ≥ 0, one kind a column.

    Returns
    -------
    float64 array, shape (B,)
    """
    order = np.argsort(scores)
    of_second, weights = is_second[order, None], weights[order]
    tie = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    first = np.add.reduceat(np.where(of_second, 0.0, weights), tie, axis=0)
    second = np.add.reduceat(np.where(of_second, weights, 0.0), tie, axis=0)
    below = np.cumsum(first, axis=0) - 0.5 * first
    return quotient((second * below).sum(axis=0), first.sum(axis=0) * second.sum(axis=0), np.nan)


def hanley_mcneil(auc: float, n: float, m: float) -> float:
    """Give the standard error of an AUC (Hanley & McNeil, Radiology 143 (1982) 29, eq. 1)."""
    q1, q2 = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    variance = auc * (1 - auc) + (n - 1) * (q1 - auc**2) + (m - 1) * (q2 - auc**2)
    return float(np.sqrt(max(variance, 0.0) / (n * m)))


def _spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _folds(is_second: Flags, n_folds: int, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
    """Train and test rows of each fold; every fold holds its share of both samples."""
    fold = np.empty(len(is_second), dtype=np.int64)
    for rows in (np.flatnonzero(~is_second), np.flatnonzero(is_second)):
        fold[rng.permutation(rows)] = np.arange(len(rows)) % n_folds
    for number in range(n_folds):
        yield (
            np.flatnonzero(fold != number).astype(np.int64),
            np.flatnonzero(fold == number).astype(np.int64),
        )


def _calibrated_jsd(
    scores: Floats, is_second: Flags, weight: Floats, rng: np.random.Generator
) -> float:
    """JSD / ln 2 from log-odds calibrated on one half of the events, judged on the other."""
    half = np.empty(len(scores), dtype=np.int64)
    for rows in (np.flatnonzero(~is_second), np.flatnonzero(is_second)):
        half[rng.permutation(rows)] = np.arange(len(rows)) % 2
    total = 0.0
    for number in (0, 1):
        fit, judge = half != number, half == number
        slope, offset = platt(scores[fit], is_second[fit], weight[fit])
        logits = slope * scores[judge] + offset
        sign = np.where(is_second[judge], -1.0, 1.0)
        total += float(weight[judge] @ np.logaddexp(0.0, sign * logits))
    return (LN2 - total / float(weight.sum())) / LN2


def platt(scores: Floats, is_second: Flags, weight: Floats) -> tuple[float, float]:
    """Slope and offset of a logistic calibration (Platt 1999), fitted by Newton's method.

    A weak ridge keeps the slope finite where the samples are separable.

    Parameters
    ----------
    scores : float64 array, shape (n,)
        Log-odds to calibrate.
    is_second : bool array, shape (n,)
        Truth.
    weight : float64 array, shape (n,)
        Weights ≥ 0.
    """
    scale = max(float(np.std(scores)), 1e-12)
    design = np.stack([scores / scale, np.ones_like(scores)], axis=1)
    ridge = np.diag([1.0, 1e-6])
    beta = np.zeros(2)
    for _ in range(50):
        p = 0.5 * (1.0 + np.tanh(0.5 * (design @ beta)))
        gradient = design.T @ (weight * (p - is_second)) + ridge @ beta
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + ridge
        step = np.linalg.solve(hessian, gradient)
        beta -= step
        if np.max(np.abs(step)) < 1e-9:
            break
    return float(beta[0] / scale), float(beta[1])
