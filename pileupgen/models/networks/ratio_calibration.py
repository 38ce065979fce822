"""Calibration of a classifier's logits, by a line at each noise level.

A classifier that trained long is too sure of itself, and a ratio r = s / (1 − s) is only one if s
is a probability. Platt's line (1999), fitted on events apart from training with as much weight for
mc as for data, corrects slope and offset at every t.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from pileupgen.arrays import Flags, Floats
from pileupgen.fields import PlainRecord

N_KNOTS = 9
"""Noise levels with a line of their own; between them the lines are interpolated."""
_PRIOR_WIDTH = 0.3
"""Width of the Gaussian prior of slope and offset around 1 and 0."""
_LEAST_SLOPE = 0.05
_N_BINS = 8


@dataclass(frozen=True)
class Lines:
    """Calibrated ln r = slope(t) · ln r + offset(t)."""

    t: Floats
    slope: Floats
    offset: Floats
    """Knots, ascending in t. Shape (K,)."""

    def __call__(self, logit: Floats, t: float) -> Floats:
        """Calibrated logits at one time."""
        slope = np.interp(t, self.t, self.slope)
        return np.asarray(slope * logit + np.interp(t, self.t, self.offset))


@dataclass(frozen=True)
class HeldOutLogits:
    """Ln r of events apart from training."""

    t: list[int]
    """Times, ascending."""
    logit: Floats
    """Shape (T, N)."""
    is_data: Flags
    """Shape (N,)."""

    def part(self, rows: Flags) -> HeldOutLogits:
        """The same of some events."""
        return HeldOutLogits(self.t, self.logit[:, rows], self.is_data[rows])

    def weight(self) -> Floats:
        """Event weights that give either domain half of the sum N."""
        n, n_data = len(self.is_data), int(self.is_data.sum())
        return np.where(self.is_data, 0.5 * n / max(n_data, 1), 0.5 * n / max(n - n_data, 1))


@dataclass(frozen=True)
class Reliability(PlainRecord):
    """Predicted against observed share of data events."""

    t: list[int]
    """Times."""
    predicted: list[list[float]]
    observed: list[list[float]]
    error: list[list[float]]
    """Mean p̂(data) of each bin of about equal counts, the share of data in it with both domains
    weighted alike, and its binomial error."""
    before: list[float]
    after: list[float]
    """Binary cross-entropy at each t before and after calibration, each event calibrated by a line
    fitted on the other half."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def fit_line(logit: Floats, is_data: Flags, weight: Floats) -> tuple[float, float]:
    """Slope and offset of the most probable line, by Newton's method.

    Parameters
    ----------
    logit : float64 array, shape (n,)
    is_data : bool array, shape (n,)
    weight : float64 array, shape (n,)
        Weights ≥ 0, their sum the number of independent events.
    """
    design = np.stack([logit, np.ones_like(logit)], axis=1)
    start = np.array([1.0, 0.0])
    beta, ridge = start.copy(), np.eye(2) / _PRIOR_WIDTH**2
    for _ in range(50):
        p = 0.5 * (1.0 + np.tanh(0.5 * (design @ beta)))
        gradient = design.T @ (weight * (p - is_data)) + ridge @ (beta - start)
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + ridge
        step = np.linalg.solve(hessian, gradient)
        beta -= step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    return max(float(beta[0]), _LEAST_SLOPE), float(beta[1])


def fit_lines(held_out: HeldOutLogits, last: int) -> Lines:
    """A line at each of ``N_KNOTS`` even knots between 0 and ``last``.

    Times less than a knot's distance away count too, the less the farther they are.
    """
    knots = np.linspace(0, last, N_KNOTS)
    times = np.asarray(held_out.t, dtype=np.float64)
    fitted = []
    for knot in knots:
        nearness = np.maximum(1 - np.abs(times - knot) / (knots[1] - knots[0]), 0.0)
        if not nearness.any():
            nearness = (np.abs(times - knot) == np.abs(times - knot).min()).astype(np.float64)
        used = nearness > 0
        weight = np.outer(nearness[used] / nearness.sum(), held_out.weight())
        labels = np.tile(held_out.is_data, int(used.sum()))
        fitted.append(fit_line(held_out.logit[used].ravel(), labels, weight.ravel()))
    slope, offset = np.array(fitted).T
    return Lines(knots, slope, offset)


def cross_fitted(held_out: HeldOutLogits, last: int) -> HeldOutLogits:
    """Logits of every event calibrated by lines fitted on the other half of the events."""
    half = np.empty(len(held_out.is_data), dtype=np.int64)
    for rows in (np.flatnonzero(~held_out.is_data), np.flatnonzero(held_out.is_data)):
        half[rows] = np.arange(len(rows)) % 2
    out = np.empty_like(held_out.logit)
    for number in (0, 1):
        lines = fit_lines(held_out.part(half != number), last)
        for index, t in enumerate(held_out.t):
            out[index, half == number] = lines(held_out.logit[index, half == number], t)
    return HeldOutLogits(held_out.t, out, held_out.is_data)


def cross_entropies(held_out: HeldOutLogits) -> list[float]:
    """Binary cross-entropy at each time, both domains weighted alike."""
    sign = np.where(held_out.is_data, -1.0, 1.0)
    losses = np.logaddexp(0.0, sign * held_out.logit) @ held_out.weight()
    return [float(loss) for loss in losses / len(sign)]


def reliability(held_out: HeldOutLogits, last: int) -> Reliability:
    """Compare calibrated probabilities with the share of data, by cross-fitting."""
    calibrated = cross_fitted(held_out, last)
    shares = [_shares(logit, calibrated) for logit in calibrated.logit]
    return Reliability(
        held_out.t,
        [[part.predicted for part in parts] for parts in shares],
        [[part.observed for part in parts] for parts in shares],
        [[part.error for part in parts] for parts in shares],
        cross_entropies(held_out),
        cross_entropies(calibrated),
    )


class _Share(NamedTuple):
    predicted: float
    observed: float
    error: float


def _shares(logit: Floats, held_out: HeldOutLogits) -> list[_Share]:
    """Bins of about equal counts, from sure mc to sure data."""
    p = 0.5 * (1.0 + np.tanh(0.5 * logit))
    bins = np.array_split(np.argsort(p, kind="stable"), _N_BINS)
    found = []
    for rows in bins:
        n, is_data = len(rows), held_out.is_data[rows]
        if not n:
            continue
        weight = held_out.weight()[rows]
        observed = float(weight @ is_data / weight.sum())
        # One event more of either kind, so that a bin of one kind only keeps an error.
        spread = (observed * n + 1) / (n + 2)
        error = (spread * (1 - spread) / n) ** 0.5
        found.append(_Share(float(weight @ p[rows] / weight.sum()), observed, error))
    return found
