"""How far distributions are apart: Gaussians in closed form, samples by kernels and by order."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTHS = (0.5, 1.0, 2.0)
"""Widths of kernels, over √d of the numbers of a row: near, at and beyond what rows differ by."""


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(m, σ²) ‖ N(0, 1)) = ½ Σ (m² + σ² − 1 − ln σ²) of independent numbers, (N, d) to (N,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def mmd(x: Tensor, y: Tensor, widths: tuple[float, ...] = WIDTHS) -> Tensor:
    """Squared maximum mean discrepancy of two samples, biased (Gretton et al. 2012, eq. 5).

    Mean over Gaussian kernels exp(−|x − y|² / 2 d w²). It is 0 for equal samples and never below.

    Parameters
    ----------
    x, y : Tensor, shape (n, d) and (m, d)
    widths : tuple of float
        w, in units in which each number has a variance of about 1.

    Returns
    -------
    Tensor, shape ()
    """
    both = torch.cat([x, y])
    # Of squares and products: cdist has no gradient where rows are equal.
    squares = both.square().sum(dim=1)
    distance = (squares[:, None] + squares[None] - 2 * both @ both.T).clamp_min(0) / x.shape[1]
    kernel = torch.stack([torch.exp(-distance / (2 * w * w)) for w in widths]).mean(dim=0)
    n = len(x)
    own = kernel[:n, :n].mean() + kernel[n:, n:].mean()
    found: Tensor = own - 2 * kernel[:n, n:].mean()
    return found


def sorted_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean |x_(i) − y_(i)| of two samples in order, W1 of each row; (…, n) and (…, n) to ()."""
    found: Tensor = (x.sort(dim=-1).values - y.sort(dim=-1).values).abs().mean()
    return found
