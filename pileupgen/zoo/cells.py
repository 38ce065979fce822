"""What a cell may be: a hit with some probability, and a mixture of normals for a hit's score."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

N_COMPONENTS = 6
N_FEATURES = 2
"""Numbers that tell of a cell: whether it is a hit, and its score if it is."""
PER_CELL = 1 + 3 * N_COMPONENTS
"""Numbers that a network gives for a cell."""
Z_LIMIT = 6.0
"""Scores beyond enter a network as this."""
Z_FARTHEST = 12.0
"""Scores are looked for between ∓ this."""


def cell_features(hit: Tensor, z: Tensor, null_mass: Tensor, alive: Tensor) -> Tensor:
    """What cells show of themselves to a network; dead cells nothing.

    Parameters
    ----------
    hit, z : Tensors, shape (N, L, n_eta, n_phi)
        See :func:`~pileupgen.zoo.scores.split_scores`.
    null_mass : Tensor, shape (N, L, n_eta, 1)
        Probability of a null cell at the place.
    alive : Tensor, shape (N, L, n_eta, n_phi)

    Returns
    -------
    Tensor, shape (N, 2 L, n_eta, n_phi), float32
        The excess of hits over what is expected, over its spread, and the score of hits.
    """
    expected = (1 - null_mass).float()
    spread = (expected * (1 - expected)).clamp_min(1e-2).sqrt()
    excess = (hit.float() - expected) / spread
    seen = torch.where(hit, z.float().clamp(-Z_LIMIT, Z_LIMIT), torch.zeros(()))
    both = torch.stack([excess, seen], dim=2) * alive[:, :, None].float()
    return both.flatten(1, 2)


def null_given(logit: Tensor, null_mass: Tensor, *, has_nulls: bool) -> Tensor:
    """Probability of a null cell, float64, at the log-odds that a network adds to the marginal."""
    if not has_nulls:
        return torch.zeros_like(logit, dtype=torch.float64)
    return torch.sigmoid(-(_logit_of(null_mass) + logit.double()))


def gained_of_cells(
    found: tuple[Tensor, ...], hit: Tensor, z: Tensor, null_mass: Tensor, *, has_nulls: bool
) -> Tensor:
    """Ln p of cells above that of their marginals.

    Parameters
    ----------
    found : tuple of Tensor
        Log-odds of a hit beside the marginal's, (…), and log weights, means and log widths of the
        components, (…, K).
    hit, z : Tensors, shape (…)
    null_mass : Tensor
        Broadcast to (…).
    has_nulls : bool
        Whether there are null cells at all.

    Returns
    -------
    Tensor, shape (…)
    """
    logit, *mixture = found
    z = z.float()
    density = mixture_log_density(z, *mixture) + 0.5 * z.square() + 0.5 * math.log(2 * math.pi)
    gained = torch.where(hit, density, 0.0)
    if not has_nulls:
        return gained
    base = _logit_of(null_mass).to(logit)
    sign = torch.where(hit, 1.0, -1.0)
    return gained + F.logsigmoid(sign * (base + logit)) - F.logsigmoid(sign * base)


def of_rank(rank: Tensor, null: Tensor, mixture: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What a cell is at a rank: hit, score z and rank among null cells; inverse of :func:`rank_of`.

    Parameters
    ----------
    rank, null : float64 Tensors, shape (…)
        Rank in (0, 1), and probability of a null cell.
    mixture : list of Tensor
        Components, (…, K).
    """
    hit = rank >= null
    within = ((rank - null) / (1 - null)).clamp(1e-12, 1 - 1e-12)
    z = torch.where(hit, mixture_quantile(within, *mixture), 0.0)
    return hit, z, (rank / null.clamp_min(1e-12)).clamp(1e-9, 1 - 1e-9)


def rank_of(
    hit: Tensor, z: Tensor, among_null: Tensor, null: Tensor, mixture: list[Tensor]
) -> Tensor:
    """Rank of a cell: null cells first, at their place among them; float64, (…)."""
    return torch.where(hit, null + (1 - null) * mixture_cdf(z, *mixture), null * among_null)


def starting_bias() -> Tensor:
    """Offsets of a network's last layer, (1 + 3 K,), at which a hit's score is nearly N(0, 1)."""
    means = torch.linspace(-1.5, 1.5, N_COMPONENTS)
    nothing, width = torch.zeros(1), torch.full((N_COMPONENTS,), -0.5)
    return torch.cat([nothing, -0.5 * means.square(), means, width])


def split_output(found: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A network's (…, 1 + 3 K) to log-odds, (…), log weights, means and log widths, (…, K)."""
    logit, weight, mean, width = torch.split(found, [1, *[N_COMPONENTS] * 3], dim=-1)
    return logit[..., 0], weight.log_softmax(dim=-1), mean, width.clamp(-3.5, 2.0)


def mixture_cdf(z: Tensor, log_weight: Tensor, mean: Tensor, log_width: Tensor) -> Tensor:
    """Probability that a score is below z, (…), of components (…, K); in double precision."""
    scaled = (z.double()[..., None] - mean.double()) * torch.exp(-log_width.double())
    return (log_weight.double().exp() * torch.special.ndtr(scaled)).sum(dim=-1)


def mixture_log_density(z: Tensor, log_weight: Tensor, mean: Tensor, log_width: Tensor) -> Tensor:
    """Log density of a score z, (…), of components (…, K)."""
    scaled = (z[..., None] - mean) * torch.exp(-log_width)
    each = log_weight - 0.5 * scaled.square() - log_width - 0.5 * math.log(2 * math.pi)
    return each.logsumexp(dim=-1)


def mixture_quantile(rank: Tensor, log_weight: Tensor, mean: Tensor, log_width: Tensor) -> Tensor:
    """Inverse of :func:`mixture_cdf`, by bisection to 1e-8; float64."""
    low = torch.full_like(rank, -Z_FARTHEST, dtype=torch.float64)
    high = torch.full_like(low, Z_FARTHEST)
    for _ in range(32):
        middle = (low + high) / 2
        above = mixture_cdf(middle, log_weight, mean, log_width) < rank
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2


def _logit_of(null_mass: Tensor) -> Tensor:
    """Log-odds of a hit at a marginal probability of null cells."""
    return torch.log((1 - null_mass).clamp_min(1e-6) / null_mass.clamp_min(1e-6))
