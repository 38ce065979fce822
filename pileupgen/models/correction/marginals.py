"""Correcting the marginals after denoising."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from pileupgen.models.saved import ModelMixin, register_to_config

S_MAX = 3.7
"""Knots lie evenly in score between ∓ this."""


class MarginalCorrection(ModelMixin):
    """Map of scores of each layer and ring to N(0, 1), by quantiles of translated training events.

    A denoiser leaves the marginals a little off, and guidance more so; the map that corrects them
    is fitted once for each setting of the translation, so that an event does not depend on its
    neighbours in the sample.

    Attributes
    ----------
    knots : Tensor, shape (L, n_eta, K)
        Translated scores at the quantiles of even Gaussian scores between ∓ ``S_MAX``.
    """

    @register_to_config
    def __init__(
        self, n_layers: int, n_eta: int, is_eta_symmetric: bool = True, n_knots: int = 129
    ) -> None:
        super().__init__()
        self.n_knots = n_knots
        self.is_eta_symmetric = is_eta_symmetric
        self.knots: Tensor
        identity = torch.linspace(-S_MAX, S_MAX, n_knots)
        self.register_buffer("knots", identity.repeat(n_layers, n_eta, 1))

    @torch.no_grad()
    def fit(self, scores: Tensor) -> None:
        """Take the quantiles of translated training events, (N, L, n_eta, n_phi)."""
        levels = ndtr(np.linspace(-S_MAX, S_MAX, self.n_knots))
        sample = scores.numpy()
        for layer in range(sample.shape[1]):
            for ring in range(sample.shape[2]):
                rows = {ring, sample.shape[2] - 1 - ring} if self.is_eta_symmetric else {ring}
                values = sample[:, layer, sorted(rows)].ravel()
                knots = np.quantile(values, levels).astype(np.float64)
                beyond = np.abs(np.linspace(-S_MAX, S_MAX, self.n_knots)) > _resolved(len(values))
                knots = _continue_outward(knots, beyond)
                knots += 1e-6 * np.arange(self.n_knots)
                self.knots[layer, ring] = torch.from_numpy(knots)

    @torch.no_grad()
    def forward(self, scores: Tensor) -> Tensor:
        """Corrected scores, (N, L, n_eta, n_phi); beyond the knots shifted only."""
        n, n_layers, n_eta, n_phi = scores.shape
        table = self.knots.to(scores)
        values = scores.permute(1, 2, 0, 3).reshape(n_layers, n_eta, -1).contiguous()
        # Two last knots may lie together by chance: their slope says nothing of what is beyond.
        inside = values.clamp(table[:, :, :1], table[:, :, -1:])
        low = (torch.searchsorted(table, inside) - 1).clamp(0, self.n_knots - 2)
        left, right = table.gather(2, low), table.gather(2, low + 1)
        position = low + (inside - left) / (right - left)
        corrected = position * (2 * S_MAX / (self.n_knots - 1)) - S_MAX + (values - inside)
        return corrected.view(n_layers, n_eta, n, n_phi).permute(2, 0, 1, 3)


def _resolved(n: int) -> float:
    """Score up to which n events determine a quantile to a few events."""
    from scipy.special import ndtri

    return float(-ndtri(min(0.2, 10 / n)))


def _continue_outward(knots: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Replace the knots beyond by unit-slope lines from the last ones that are resolved."""
    s = np.linspace(-S_MAX, S_MAX, len(knots))
    inside = np.flatnonzero(~beyond)
    low, high = inside[0], inside[-1]
    out = np.where(s < s[low], knots[low] + (s - s[low]), knots)
    return np.where(s > s[high], knots[high] + (s - s[high]), out)
