"""Extrapolation of the probability of a null cell beyond the bins of μ that training fills.

A cell is null if none of μ independent interactions leaves energy in it, which happens with a
probability that falls as exp(−p μ), and is not above 1 at μ = 0. The law is fitted to the bins of
training and holds beyond the centres of the outermost ones; between them the tables are
interpolated. The energies of hits keep the quantiles of the nearest centre: these differ less from
one μ to another, and what differs is nearly the same in both domains.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pileupgen.arrays import Floats

_LEAST_SPREAD = 0.02
"""Spread of the bins' centres, relative to their mean, below which they tell no slope."""
_LOWEST = 1e-12


def fit_null_rate(null_mass: Floats, centres: Floats) -> Floats:
    """Fit p in null mass ∝ exp(−p μ) by least squares over the bins.

    Parameters
    ----------
    null_mass : float64 array, shape (…, M, B)
        Probabilities of a null cell.
    centres : float64 array, shape (M,)
        Mean μ of the bins, ascending.

    Returns
    -------
    float64 array, shape (…, B)
        Per interaction; at least 0, and at most what makes the null mass 1 at μ = 0. 0 where the
        bins do not tell: a single one, centres that lie together, or a table without null cells.
    """
    none = np.zeros(null_mass[..., 0, :].shape)
    if len(centres) < 2 or centres[0] <= 0:
        return none
    centred = centres - centres.mean()
    if centred[-1] - centred[0] < _LEAST_SPREAD * centres.mean():
        return none
    logs = np.log(np.maximum(null_mass, _LOWEST))
    rate = -np.einsum("...mb,m->...b", logs, centred) / (centred**2).sum()
    limited = np.clip(rate, 0.0, -logs[..., 0, :] / centres[0])
    return np.asarray(np.where((null_mass > 1e-6).all(axis=-2), limited, none))


def continued(null_mass: Tensor, mu: Tensor, centres: Tensor, rate: Tensor) -> Tensor:
    """Null mass of cells at any μ, from that at the nearest centre.

    Parameters
    ----------
    null_mass : Tensor, shape (N, n_eta, n_phi)
        Null masses of the tables, interpolated between the centres and constant beyond.
    mu : Tensor, shape (N, 1, 1)
        Finite.
    centres : Tensor, shape (M,)
    rate : Tensor, shape (N, n_eta, n_phi)
        From :func:`fit_null_rate`.

    Returns
    -------
    Tensor, shape (N, n_eta, n_phi)
    """
    distance = mu - mu.clamp(float(centres[0]), float(centres[-1]))
    return (null_mass * torch.exp(-rate * distance)).clamp(0, 1 - 1e-6)
