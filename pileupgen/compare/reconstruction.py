"""A two-sample test of events against their own reconstructions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.compare.two_sample import (
    MAX_BINS,
    N_FOLDS,
    boosted_log_odds,
    quantile_codes,
    roc_auc,
)
from pileupgen.measure.bootstrap import Estimate, estimate, resample
from pileupgen.measure.observables import ObservableSet
from pileupgen.models.reconstruction import ReconstructionTest

N_BOOTSTRAP = 100
N_SWAPS = 5


def reconstruction_test(
    grid: Grid,
    domain: str,
    original: NDArray[np.float32],
    reconstructed: NDArray[np.float32],
    event_id: Ints,
    seed: int = 0,
) -> ReconstructionTest:
    """Tell reconstructed events from the events themselves by gradient boosting on observables.

    An event and its reconstruction are always in the same fold, so that the classifier cannot
    learn one from the other. The reference is the same test with the two swapped at random in every
    pair: mean ∓ standard deviation of several such swaps.

    Parameters
    ----------
    domain : str
        ``mc`` or ``data``.
    original, reconstructed : float32 arrays, shape (N, L, n_eta, n_phi)
        GeV, event by event the same.
    event_id : int64 array, shape (N,)
    """
    signed = bool((original < 0).any() or (reconstructed < 0).any())
    observables = ObservableSet(grid, with_negatives=signed)
    columns = [
        np.stack(list(observables.measure(energy, event_id).values()), axis=1)
        for energy in (original, reconstructed)
    ]
    rng = np.random.default_rng([seed, 6])
    first, second = columns
    auc = paired_auc(first, second, rng)
    references = []
    for _ in range(N_SWAPS):
        swapped = (rng.random(len(original)) < 0.5)[:, None]
        pair = np.where(swapped, second, first), np.where(swapped, first, second)
        references.append(paired_auc(*pair, rng, n_draws=0).value)
    middle, spread = float(np.mean(references)), float(np.std(references, ddof=1))
    return ReconstructionTest(
        domain, len(original), auc.value, auc.low, auc.high, middle - spread, middle + spread
    )


def paired_auc(
    x: Floats, y: Floats, rng: np.random.Generator, n_draws: int = N_BOOTSTRAP
) -> Estimate:
    """AUC of a cross-fitted classifier of y against x, pairs kept together.

    Parameters
    ----------
    x, y : float64 arrays, shape (N, k)
        Observables; rows belong together.
    n_draws : int
        Bootstrap samples; 0 leaves the interval out.
    """
    n = len(x)
    features = quantile_codes(np.concatenate([x, y]), MAX_BINS)
    is_second = np.arange(2 * n) >= n
    fold = np.tile(rng.permutation(n) % N_FOLDS, 2)
    log_odds = np.empty(2 * n)
    for number in range(N_FOLDS):
        test = fold == number
        log_odds[test] = boosted_log_odds(
            features[~test], is_second[~test], features[test], int(rng.integers(2**31))
        )

    def mean_auc(weight: Floats) -> float:
        inside = [fold == number for number in range(N_FOLDS)]
        parts = [roc_auc(log_odds[i], is_second[i], weight[i]) for i in inside]
        return float(np.mean(parts))

    counts = resample(n, n_draws, rng)
    draws = np.array([mean_auc(np.tile(count, 2)) for count in counts.T])
    return estimate(mean_auc(np.ones(2 * n)), draws, 0.0, 1.0)
