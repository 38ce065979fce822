"""Whether an event is like those that a model was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr, ndtri
from torch import Tensor
from torch.nn import functional as F

from pileupgen.arrays import Floats
from pileupgen.models.saved import ModelMixin, register_to_config

FALSE_FLAGS = 1e-3
"""Fraction of held-out events that are flagged."""
_TAIL = 0.05
_MAX_OWN_LAYERS = 4
_WINDOW = 4
_EVENTS_PER_TOTAL = 10
_KNOT_SCORES = np.linspace(-2.5, 2.5, 11)
_RIDGE = 1e-3
_SCORE_LIMIT = 5.0
"""Scores are clipped to this before their means are taken, so that single events do not decide."""
_LEAST_CHANCE = 1e-300


def totals(energy: Tensor, transverse: Tensor) -> Tensor:
    """Compute a few numbers that say what an event is like.

    Each layer, or all together where there are more than four, has energy, occupancy, leading cell,
    mean and width of ln E of the hits. The event has the leading window of 4 × 4 towers and
    the central half's part of the energy; with more than four layers also the mean layer and its
    spread. Energies enter as inverse hyperbolic sines, features of a table as they are.

    Parameters
    ----------
    energy : Tensor, shape (N, L, n_eta, n_phi)
        GeV.
    transverse : Tensor, shape (n_eta,)
        E_T over E of each ring.

    Returns
    -------
    float64 Tensor, shape (N, F)
    """
    e = energy.double()
    n, n_layers, n_eta, n_phi = e.shape
    if n_eta * n_phi == 1:
        return e[:, :, 0, 0]
    et = e * transverse.double()[:, None]
    groups = et if n_layers <= _MAX_OWN_LAYERS else et.reshape(n, 1, -1, n_phi)
    cells = groups.flatten(2)
    hit = cells != 0
    n_hits = hit.sum(dim=2).clamp_min(1)
    logs = torch.where(hit, cells.abs().clamp_min(1e-12).log(), 0.0)
    mean = logs.sum(dim=2) / n_hits
    width = (torch.where(hit, (logs - mean[..., None]) ** 2, 0.0).sum(dim=2) / n_hits).sqrt()
    empty = (1 - hit.double().mean(dim=2)).clamp(1e-6, 1 - 1e-6)
    found = [
        torch.asinh(cells.sum(dim=2)),
        torch.log(-torch.log(empty)),
        torch.asinh(cells.amax(dim=2)),
        mean,
        width,
    ]
    towers = et.sum(dim=1)
    size = min(_WINDOW, n_eta), min(_WINDOW, n_phi)
    wrapped = F.pad(towers[:, None], (0, size[1] - 1, 0, 0), mode="circular")
    window = F.avg_pool2d(wrapped, size, stride=1).flatten(1).amax(dim=1) * size[0] * size[1]
    rings = towers.sum(dim=2)
    central = rings[:, n_eta // 4 : n_eta - n_eta // 4].sum(dim=1)
    whole = rings.sum(dim=1)
    part = central / torch.where(whole.abs() > 1e-9, whole, 1.0)
    found += [torch.asinh(window)[:, None], part.clamp(-2, 2)[:, None]]
    if n_layers > _MAX_OWN_LAYERS:
        layers = et.sum(dim=(2, 3)).clamp_min(0)
        share = layers / layers.sum(dim=1, keepdim=True).clamp_min(1e-12)
        place = torch.arange(n_layers, dtype=torch.float64, device=e.device)
        centre = share @ place
        spread = (share @ place**2 - centre**2).clamp_min(0).sqrt()
        found += [centre[:, None], spread[:, None]]
    return torch.cat(found, dim=1)


def n_totals(n_layers: int, n_eta: int, n_phi: int) -> int:
    """Count the numbers that :func:`totals` gives of images of a shape."""
    return int(totals(torch.zeros(1, n_layers, n_eta, n_phi), torch.ones(n_eta)).shape[1])


def total_names(layers: Sequence[str]) -> list[str]:
    """Name the numbers of :func:`totals`, of images with such layers."""
    groups = layers if len(layers) <= _MAX_OWN_LAYERS else ["all layers"]
    names = [
        text.format(group)
        for text in (
            "energy of {}",
            "occupancy of {}",
            "leading cell of {}",
            "mean ln E of hits in {}",
            "width of ln E of hits in {}",
        )
        for group in groups
    ]
    names += ["leading window of 4 × 4 towers", "central half's part of the energy"]
    if len(layers) > _MAX_OWN_LAYERS:
        names += ["mean layer", "spread over layers"]
    return names


@dataclass(frozen=True)
class Shift:
    """How far a sample's means lie from the training's."""

    significance: float
    """Significance of all totals together in σ, at most 37."""
    shifts: Floats
    """Mean of each total less the training's, over the standard deviation of events. Shape (F,)."""
    local: Floats
    """The same over its own error, in σ. Shape (F,)."""


class EventCheck(ModelMixin):
    """A distance of events from those of the training, given μ.

    Each total less its mean at the event's μ is brought to a normal score by its quantiles among
    training events; the distance is that of Mahalanobis in these scores, divided by the one that a
    thousandth of held-out events exceeds. An event of a distance above 1 is flagged.

    Attributes
    ----------
    transverse : Tensor, shape (n_eta,)
        E_T over E of each ring.
    mu_centre, mu_spread : Tensors, shape (2,)
        Mean and standard deviation of ln μ, by domain (0 mc, 1 data).
    line : float64 Tensor, shape (2, 2, 3, F)
        Mean of each total as a polynomial in standardised ln μ, by domain; first where μ is known,
        then where it is not.
    knots : float64 Tensor, shape (2, 2, K, F)
        Residuals at even scores.
    precision : float64 Tensor, shape (2, 2, F, F)
        Inverse covariance of the scores.
    threshold : float64 Tensor, shape (2, 2)
        Distance that a thousandth exceeds; infinite where there were too few events to tell.
    mean, spread : float64 Tensors, shape (2, 2, F)
        Weighted mean and standard deviation of the scores of training events.
    n_effective : float64 Tensor, shape (2, 2)
        Events that these are worth; 0 where there were too few.
    """

    may_lack = frozenset({"mean", "spread", "n_effective"})
    """What models of before have not: their samples are not compared with the training."""

    @register_to_config
    def __init__(self, n_layers: int, n_eta: int, n_phi: int) -> None:
        super().__init__()
        n, k = n_totals(n_layers, n_eta, n_phi), len(_KNOT_SCORES)
        double = torch.float64
        self.transverse: Tensor
        self.mu_centre: Tensor
        self.mu_spread: Tensor
        self.line: Tensor
        self.knots: Tensor
        self.precision: Tensor
        self.threshold: Tensor
        self.mean: Tensor
        self.spread: Tensor
        self.n_effective: Tensor
        self.register_buffer("transverse", torch.ones(n_eta))
        self.register_buffer("mu_centre", torch.zeros(2, dtype=double))
        self.register_buffer("mu_spread", torch.ones(2, dtype=double))
        self.register_buffer("line", torch.zeros(2, 2, 3, n, dtype=double))
        self.register_buffer("knots", torch.zeros(2, 2, k, n, dtype=double))
        self.register_buffer("precision", torch.zeros(2, 2, n, n, dtype=double))
        self.register_buffer("threshold", torch.full((2, 2), torch.inf, dtype=double))
        self.register_buffer("mean", torch.zeros(2, 2, n, dtype=double))
        self.register_buffer("spread", torch.ones(2, 2, n, dtype=double))
        self.register_buffer("n_effective", torch.zeros(2, 2, dtype=double))

    def fit(
        self,
        found: Sequence[Tensor],
        mus: Sequence[NDArray[np.float32]],
        transverse: Floats,
        weights: Sequence[Floats] | None = None,
    ) -> None:
        """Take training events.

        Parameters
        ----------
        found : two Tensors, shape (N, F)
            :func:`totals` of mc and of data.
        mus : two float arrays, shape (N,)
            NaN where μ is not known.
        transverse : float64 array, shape (n_eta,)
            E_T over E of each ring.
        weights : two float64 arrays, shape (N,), optional
            Weights ≥ 0 of the events, for the means of the sample.
        """
        self.transverse.copy_(torch.from_numpy(transverse))
        for domain, (values, mu) in enumerate(zip(found, mus, strict=True)):
            known = np.isfinite(mu) & (np.asarray(mu) > 0)
            if known.any():
                logs = np.log(np.asarray(mu, dtype=np.float64)[known])
                self.mu_centre[domain] = float(logs.mean())
                self.mu_spread[domain] = max(float(logs.std()), 1e-3)
            x = self._standardised(torch.from_numpy(np.asarray(mu)), domain).numpy()
            everything = values.double().numpy()
            weight = np.ones(len(everything)) if weights is None else weights[domain]
            self._fit_one(domain, 0, everything[known], x[known], weight[known])
            self._fit_one(domain, 1, everything, np.zeros(len(everything)), weight)

    def _fit_one(self, domain: int, which: int, values: Floats, x: Floats, weight: Floats) -> None:
        n, n_values = values.shape
        if n < _EVENTS_PER_TOTAL * n_values:
            return
        # Each half is judged by what the other was fitted to: what is held out decides.
        half = np.arange(n) % 2 == 0
        distances = np.empty(n)
        for part in (half, ~half):
            fitted = _fitted(values[part], x[part])
            distances[~part] = _distances(values[~part], x[~part], *fitted)
        line, knots, precision = _fitted(values, x)
        self.line[domain, which] = torch.from_numpy(line)
        self.knots[domain, which] = torch.from_numpy(knots)
        self.precision[domain, which] = torch.from_numpy(precision)
        self.threshold[domain, which] = _exceeded_by(distances, FALSE_FLAGS)
        scores = _clipped_scores(values, x, line, knots)
        mean = np.average(scores, axis=0, weights=weight)
        spread = np.sqrt(np.average((scores - mean) ** 2, axis=0, weights=weight))
        self.mean[domain, which] = torch.from_numpy(mean)
        self.spread[domain, which] = torch.from_numpy(np.maximum(spread, 1e-9))
        self.n_effective[domain, which] = _worth(weight)

    @torch.no_grad()
    def forward(self, energy: Tensor, domain: int, mu: Tensor) -> NDArray[np.float32]:
        """Distances of events, (N,), from the training of a domain, over the flagging one.

        Parameters
        ----------
        energy : Tensor, shape (N, L, n_eta, n_phi)
            GeV.
        domain : int
            0 mc, 1 data.
        mu : Tensor, shape (N,)
            NaN where it is not known.

        Returns
        -------
        float32 array, shape (N,)
            0 for all where training had too few events to tell.
        """
        values = totals(energy, self.transverse).numpy()
        x = self._standardised(mu, domain).numpy()
        unknown = ~(torch.isfinite(mu) & (mu > 0)).numpy()
        out = np.zeros(len(values), dtype=np.float32)
        for which, rows in ((0, ~unknown), (1, unknown)):
            threshold = float(self.threshold[domain, which])
            if rows.any() and np.isfinite(threshold):
                fitted = (
                    of[domain, which].numpy() for of in (self.line, self.knots, self.precision)
                )
                out[rows] = _distances(values[rows], x[rows], *fitted) / threshold
        return out

    @torch.no_grad()
    def compare(self, values: Tensor, domain: int, mu: Tensor, weight: Floats) -> Shift | None:
        """Compare the means of a sample with those of the training of a domain.

        Hotelling's two-sample T² (Ann. Math. Stat. 2, 360, eq. 19) of the events' scores, which
        are clipped, with the covariance of the training; its distribution is taken to be that of
        χ², as for many events. Totals are taken less their mean at the event's μ; where that is not
        known for all events, for none.

        Parameters
        ----------
        values : float64 Tensor, shape (N, F)
            :func:`totals` of the events.
        domain : int
            0 mc, 1 data.
        mu : Tensor, shape (N,)
        weight : float64 array, shape (N,)
            Weights ≥ 0 of the events.

        Returns
        -------
        Shift or None
            None where training had too few events to tell.
        """
        which = 0 if bool((torch.isfinite(mu) & (mu > 0)).all()) else 1
        n_train = float(self.n_effective[domain, which])
        if n_train == 0 or not weight.sum() > 0:
            return None
        x = self._standardised(mu, domain).numpy() if which == 0 else np.zeros(len(values))
        line, knots, precision, mean, spread = (
            of[domain, which].numpy()
            for of in (self.line, self.knots, self.precision, self.mean, self.spread)
        )
        scores = _clipped_scores(values.double().numpy(), x, line, knots)
        found = np.average(scores, axis=0, weights=weight)
        error = np.sqrt(1 / _worth(weight) + 1 / n_train)
        distance = found - mean
        squared = float(distance @ precision @ distance) / error**2
        chance = max(float(chdtrc(len(distance), squared)), _LEAST_CHANCE)
        shifts = distance / spread
        return Shift(max(-float(ndtri(chance)), 0.0), shifts, shifts / error)

    def _standardised(self, mu: Tensor, domain: int) -> Tensor:
        """Standardised ln μ, (N,); 0 where it is not known."""
        is_known = torch.isfinite(mu) & (mu > 0)
        logs = torch.where(is_known, mu.double(), 1.0).log()
        return torch.where(is_known, (logs - self.mu_centre[domain]) / self.mu_spread[domain], 0.0)


def _powers(x: Floats) -> Floats:
    """1, x and x², the last constant beyond three standard deviations, (N, 3)."""
    return np.stack([np.ones_like(x), x, np.clip(x, -3, 3) ** 2], axis=1)


def _fitted(values: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
    """Line (3, F), knots (K, F) and precision (F, F) of events' totals (N, F)."""
    line = np.linalg.lstsq(_powers(x), values, rcond=None)[0]
    residual = values - _powers(x) @ line
    knots = np.quantile(residual, ndtr(_KNOT_SCORES), axis=0)
    scale = np.maximum(residual.std(axis=0), 1e-9)
    knots = knots + 1e-3 * scale * (_KNOT_SCORES[:, None] - _KNOT_SCORES[0])
    scores = _scores(residual, knots)
    covariance = np.cov(scores, rowvar=False).reshape(len(scale), len(scale))
    covariance += _RIDGE * np.eye(len(scale))
    precision = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    return np.asarray(line), np.asarray(knots), precision


def _scores(residual: Floats, knots: Floats) -> Floats:
    """Normal scores of residuals (N, F), linear beyond the knots."""
    out = np.empty_like(residual)
    for total in range(residual.shape[1]):
        known, values = knots[:, total], residual[:, total]
        inside = np.interp(values, known, _KNOT_SCORES)
        # The slope of the outer fifth, so that two knots close together do not decide.
        low = (_KNOT_SCORES[2] - _KNOT_SCORES[0]) / (known[2] - known[0])
        high = (_KNOT_SCORES[-1] - _KNOT_SCORES[-3]) / (known[-1] - known[-3])
        below, above = np.minimum(values - known[0], 0), np.maximum(values - known[-1], 0)
        out[:, total] = inside + low * below + high * above
    return out


def _distances(values: Floats, x: Floats, line: Floats, knots: Floats, precision: Floats) -> Floats:
    """Mahalanobis distances, (N,)."""
    scores = _scores(values - _powers(x) @ line, knots)
    return np.asarray(np.sqrt(np.einsum("ni,ij,nj->n", scores, precision, scores)))


def _clipped_scores(values: Floats, x: Floats, line: Floats, knots: Floats) -> Floats:
    """Normal scores of totals, (N, F), within the limit."""
    return np.clip(_scores(values - _powers(x) @ line, knots), -_SCORE_LIMIT, _SCORE_LIMIT)


def _worth(weight: Floats) -> float:
    """Effective number of weighted events."""
    return float(weight.sum() ** 2 / np.square(weight).sum())


def _exceeded_by(distances: Floats, fraction: float) -> float:
    """Distance that a small fraction exceeds, by a generalised Pareto tail (Pickands 1975)."""
    # Only training fits; a translation is not to wait for all of scipy.stats.
    from scipy.stats import genpareto

    start = float(np.quantile(distances, 1 - _TAIL))
    excess = distances[distances > start] - start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        shape, _, scale = genpareto.fit(excess, floc=0)
    tail = genpareto.isf(fraction / _TAIL, np.clip(shape, -0.5, 0.5), scale=scale)
    return start + float(tail)
