"""Subjet axes: exclusive k_t with winner-take-all recombination, for many jets at once."""

from __future__ import annotations

import numpy as np

from pileupgen.arrays import Floats


def wta_kt_axes(pt: Floats, eta: Floats, phi: Floats, n_axes: int) -> Floats:
    """Axes of the ``n_axes`` exclusive k_t subjets of each jet.

    k_t (hep-ph/9305266) with d_ij = min(p_Ti², p_Tj²) ΔR_ij² and no beam; a merged pair has the
    direction of the harder and the sum of p_T (winner-take-all, 1401.2158).

    Parameters
    ----------
    pt, eta, phi : float64 arrays, shape (N, P)
        Constituents, small enough a patch that φ does not wrap; p_T 0 where absent.

    Returns
    -------
    float64 array, shape (N, n_axes, 2)
        η and φ. A jet with fewer constituents repeats its first axis; one with none has (0, 0).
    """
    pt = pt.copy()
    remaining = (pt > 0).sum(axis=1)
    metric = np.square(eta[:, :, None] - eta[:, None]) + np.square(phi[:, :, None] - phi[:, None])
    distance = np.square(np.minimum(pt[:, :, None], pt[:, None])) * metric
    absent = pt <= 0
    distance[absent[:, :, None] | absent[:, None]] = np.inf
    n_particles = pt.shape[1]
    distance[:, np.arange(n_particles), np.arange(n_particles)] = np.inf
    while len(rows := np.flatnonzero(remaining > n_axes)):
        nearest = distance[rows].reshape(len(rows), -1).argmin(axis=1)
        i, j = np.divmod(nearest, n_particles)
        is_first = pt[rows, i] >= pt[rows, j]
        winner, loser = np.where(is_first, i, j), np.where(is_first, j, i)
        pt[rows, winner] += pt[rows, loser]
        pt[rows, loser] = 0.0
        remaining[rows] -= 1
        distance[rows, loser] = distance[rows, :, loser] = np.inf
        smaller = np.minimum(pt[rows, winner][:, None], pt[rows])
        merged = np.square(smaller) * metric[rows, winner]
        merged[pt[rows] <= 0] = np.inf
        merged[np.arange(len(rows)), winner] = np.inf
        distance[rows, winner] = distance[rows, :, winner] = merged
    order = np.argsort(-pt, axis=1, kind="stable")[:, :n_axes]
    places = np.where(np.take_along_axis(pt, order, 1) > 0, order, order[:, :1])
    axes = np.stack([np.take_along_axis(values, places, 1) for values in (eta, phi)], axis=2)
    more = np.repeat(axes[:, :1], n_axes - axes.shape[1], axis=1)
    return np.concatenate([axes, more], axis=1)
