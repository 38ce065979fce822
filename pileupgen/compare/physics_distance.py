"""Fréchet and kernel physics distances, to the digit as JetNet defines them (2211.10295).

Both draw batches with replacement. What a batch needs is only how often each event was drawn, so
nothing here grows with the size of the batch but the drawing itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from pileupgen.arrays import Floats
from pileupgen.compare.records import PhysicsDistance
from pileupgen.measure.bootstrap import estimate, resample

N_BATCHES = 20
"""Batches that an FPD is averaged over at each size; JetNet's number."""
INTERQUANTILE = (16.275, 83.725)
"""Percentiles between which the spread of KPD is taken; JetNet's numbers."""
MAX_KERNEL_EVENTS = 4_000
"""Events of each sample that the KPD's interval is made from, to bound its memory."""


def fpd(
    real: Floats,
    generated: Floats,
    real_weight: Floats | None = None,
    generated_weight: Floats | None = None,
    *,
    min_samples: int = 20_000,
    max_samples: int = 50_000,
    n_batches: int | None = None,
    n_points: int = 10,
    seed: int = 42,
    n_bootstrap: int = 0,
) -> PhysicsDistance:
    """Fréchet physics distance, extrapolated to infinitely many events (2211.10295).

    The Fréchet distance between Gaussians of the samples' means and covariances, averaged over
    batches at sizes even in 1/N; the intercept of a straight line in 1/N. Features are scaled by
    the largest absolute value of the real ones.

    Batches are drawn with replacement, so the intercept estimates the distance between the
    Gaussians of the samples as they are, and its fit's error does not know how these samples vary.
    The interval does: it is from that distance for resampled events, in units of the features'
    scale as it is.

    Parameters
    ----------
    real, generated : float64 arrays, shape (n, k) and (m, k)
        Features.
    real_weight, generated_weight : float64 arrays, shape (n,) and (m,), optional
        Events are drawn in proportion; not part of JetNet's definition.
    min_samples, max_samples, n_batches, n_points, seed : int
        JetNet's parameters and defaults; ``N_BATCHES`` batches where none are given.
    n_bootstrap : int
        Resamplings for the interval; 0 leaves it out.
    """
    x, y = _scaled(real, generated)
    sizes = (1 / np.linspace(1.0 / min_samples, 1.0 / max_samples, n_points)).astype("int32")
    rng = np.random.default_rng(seed)
    px, py = _chances(real_weight), _chances(generated_weight)
    values = []
    for size in sizes:
        batch = []
        for _ in range(N_BATCHES if n_batches is None else n_batches):
            moments_x = _moments(x, _drawn(rng, len(x), int(size), px))
            moments_y = _moments(y, _drawn(rng, len(y), int(size), py))
            batch.append(frechet_distance(*moments_x, *moments_y))
        values.append(np.mean(batch))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        best, covariance = curve_fit(
            _line, 1 / sizes, values, bounds=([0.0, 0.0], [np.inf, np.inf])
        )
    draws = [
        frechet_distance(*_moments(x, cx), *_moments(y, cy))
        for cx, cy in _resampled(real_weight, generated_weight, len(x), len(y), n_bootstrap, seed)
    ]
    return _with_interval(float(best[0]), draws, float(np.sqrt(covariance[0, 0])))


def kpd(
    real: Floats,
    generated: Floats,
    real_weight: Floats | None = None,
    generated_weight: Floats | None = None,
    *,
    n_batches: int = 10,
    batch_size: int = 5_000,
    seed: int = 42,
    n_bootstrap: int = 0,
) -> PhysicsDistance:
    """Kernel physics distance: the median over batches of an unbiased MMD (2211.10295).

    The kernel is (x·y / k + 1)⁴; JetNet's error is half the spread of the batches between its
    percentiles. The interval is from the MMD of resampled events, at most ``MAX_KERNEL_EVENTS`` of
    each sample, whose spread is scaled to the number of events there are.

    Parameters
    ----------
    real, generated : float64 arrays, shape (n, k) and (m, k)
        Features.
    real_weight, generated_weight : float64 arrays, shape (n,) and (m,), optional
        Events are drawn in proportion; not part of JetNet's definition.
    n_batches, batch_size, seed : int
        JetNet's parameters and defaults.
    n_bootstrap : int
        Resamplings for the interval; 0 leaves it out.
    """
    x, y = _scaled(real, generated)
    px, py = _chances(real_weight), _chances(generated_weight)
    values = []
    for number in range(n_batches):
        rng = np.random.default_rng(seed + number * 1000)
        cx = _drawn(rng, len(x), batch_size, px)
        cy = _drawn(rng, len(y), batch_size, py)
        values.append(_unbiased_mmd(x[cx > 0], y[cy > 0], cx[cx > 0], cy[cy > 0]))
    low, high = np.percentile(values, INTERQUANTILE)
    error = float(high - low) / 2
    draws = _kernel_draws(x, y, real_weight, generated_weight, n_bootstrap, seed)
    return _with_interval(float(np.median(values)), draws, error)


def frechet_distance(mean_x: Floats, cov_x: Floats, mean_y: Floats, cov_y: Floats) -> float:
    """‖μ₁ − μ₂‖² + Tr(C₁ + C₂ − 2 (C₁ C₂)^½) of two Gaussians.

    The trace of the root is that of the symmetric (C₁^½ C₂ C₁^½)^½, which stays real where
    features depend on each other.
    """
    values, vectors = np.linalg.eigh(cov_x)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ cov_y @ root)
    trace = float(np.sqrt(np.maximum(inner, 0.0)).sum())
    shift = mean_x - mean_y
    return float(shift @ shift + np.trace(cov_x) + np.trace(cov_y) - 2 * trace)


def _scaled(real: Floats, generated: Floats) -> tuple[Floats, Floats]:
    scale = np.max(np.abs(real), axis=0)
    scale[scale == 0] = 1.0
    return real / scale, generated / scale


def _chances(weight: Floats | None) -> Floats | None:
    """Chance of each event to be drawn; None where all are alike."""
    if weight is None or np.ptp(weight) == 0:
        return None
    return weight / weight.sum()


def _drawn(rng: np.random.Generator, n: int, size: int, chances: Floats | None) -> Floats:
    """How often each of n events is in a batch."""
    rows = rng.choice(n, size=size, p=chances)
    return np.bincount(rows, minlength=n).astype(np.float64)


def _resampled(
    wx: Floats | None, wy: Floats | None, n: int, m: int, n_bootstrap: int, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    """Weights of both samples' events in each bootstrap draw."""
    rng = np.random.default_rng([seed, n_bootstrap])
    cx, cy = resample(n, n_bootstrap, rng), resample(m, n_bootstrap, rng)
    cx, cy = (c if w is None else c * w[:, None] for c, w in ((cx, wx), (cy, wy)))
    return zip(cx.T, cy.T, strict=True)


def _kernel_draws(
    x: Floats, y: Floats, wx: Floats | None, wy: Floats | None, n_bootstrap: int, seed: int
) -> list[float]:
    """MMD of resampled events."""
    n, m = min(len(x), MAX_KERNEL_EVENTS), min(len(y), MAX_KERNEL_EVENTS)
    if not n_bootstrap:
        return []
    # Of independent samples the variances, each over the number of events, add up.
    narrower = np.sqrt((1 / len(x) + 1 / len(y)) / (1 / n + 1 / m))
    x, y = x[:n], y[:m]
    wx, wy = (None if w is None else w[:k] for w, k in ((wx, n), (wy, m)))
    counts = list(_resampled(wx, wy, n, m, n_bootstrap, seed))
    cx, cy = (np.stack([pair[place] for pair in counts], axis=1) for place in (0, 1))
    cx, cy = cx / cx.sum(axis=0), cy / cy.sum(axis=0)
    draws = (
        np.sum(cx * (_kernel(x, x) @ cx), axis=0)
        + np.sum(cy * (_kernel(y, y) @ cy), axis=0)
        - 2 * np.sum(cx * (_kernel(x, y) @ cy), axis=0)
    )
    return list(draws.mean() + narrower * (draws - draws.mean()))


def _moments(x: Floats, counts: Floats) -> tuple[Floats, Floats]:
    total = counts.sum()
    mean = counts @ x / total
    centred = x - mean
    return mean, (centred * counts[:, None]).T @ centred / (total - 1)


def _unbiased_mmd(x: Floats, y: Floats, cx: Floats, cy: Floats) -> float:
    n, m = cx.sum(), cy.sum()
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within_x = (cx @ xx @ cx - cx @ np.diagonal(xx)) / (n * (n - 1))
    within_y = (cy @ yy @ cy - cy @ np.diagonal(yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * (cx @ xy @ cy) / (n * m))


def _kernel(x: Floats, y: Floats) -> Floats:
    """Polynomial kernel of degree 4."""
    return np.square(np.square(x @ y.T / x.shape[1] + 1.0))


def _with_interval(value: float, draws: Sequence[float], error: float) -> PhysicsDistance:
    found = estimate(value, np.array(draws))
    return PhysicsDistance(value=value, low=found.low, high=found.high, jetnet_error=error)


def _line(x: Floats, intercept: float, slope: float) -> Floats:
    return intercept + slope * x
