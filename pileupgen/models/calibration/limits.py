"""Scores beyond those that training has: what networks see of them, and what becomes of them.

A cell of a hard jet has a score that no network was trained on, and what a network, or a linear
map of correlations, would make of it has no meaning: a change of one in score is a factor of two in
energy out there, in the cell and in its neighbours. So networks see it at the limit, and the cell
keeps the score that it came with: it is calibrated and nothing more.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCORE_LIMIT = 5.0
"""Limit of normal scores: one cell in two million lies beyond."""
RAMP = 1.0
"""Scores below the limit over which the networks' answer is replaced by the score itself."""
MARGIN = 1.0
"""The networks' answer may exceed the limit by this."""


def visible(scores: Tensor, limits: Tensor) -> Tensor:
    """Clip scores, (N, C, n_eta, n_phi), to limits, (C, 2), for networks to see."""
    low, high = limits.to(scores)[:, :, None, None].unbind(dim=1)
    return torch.minimum(torch.maximum(scores, low), high)


def kept_beyond(source: Tensor | None, result: Tensor, limits: Tensor, n_layers: int) -> Tensor:
    """Bound translated scores, and keep those of cells that came from beyond the limits.

    Parameters
    ----------
    source : Tensor or None, shape (N, C, n_eta, n_phi)
        Scores before the networks, not clipped; None where there is no source event.
    result : Tensor, shape (N, C, n_eta, n_phi)
        Scores after networks and correction.
    limits : Tensor, shape (C, 2)
        Lowest and highest score of each channel that networks see.
    n_layers : int
        L; further channels, as hit bits, belong to the layers in the same order, and go with them.

    Returns
    -------
    Tensor, shape (N, C, n_eta, n_phi)
        ``result`` where the source lies within the limits by ``RAMP``, the source beyond them.
    """
    low, high = limits.to(result)[:, :, None, None].unbind(dim=1)
    bounded = torch.minimum(torch.maximum(result, low - MARGIN), high + MARGIN)
    if source is None:
        return bounded
    inside = torch.minimum(source - low, high - source) / RAMP
    n, n_channels, *cells = inside.shape
    share = inside.clamp(0, 1).view(n, n_channels // n_layers, n_layers, *cells)
    share = share.amin(dim=1, keepdim=True).expand_as(share).reshape(inside.shape)
    return bounded + (1 - share) * (source - bounded)
