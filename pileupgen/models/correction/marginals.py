"""Correcting the marginals after denoising."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.calibration.quantiles import S_MAX as S_MAX_HITS
from pileupgen.models.saved import ModelMixin, register_to_config

S_MAX = 3.7
"""Knots lie evenly in score between ∓ this."""
_FEWEST_HITS = 1000
"""A ring with fewer hits keeps its spectrum."""
_RESOLVED_HITS = 50
"""Number of outermost hits, at either end, over which the correction falls to none."""


class MarginalCorrection(ModelMixin):
    """Map of scores of each layer and ring to N(0, 1), by quantiles of translated training events.

    A denoiser leaves the marginals a little off, and guidance more so; the map that corrects them
    is fitted once for each setting of the translation, so that an event does not depend on its
    neighbours in the sample.

    The score at which a cell becomes a hit moves with μ, and with it every feature of the spectrum
    of hits, an edge left by a former threshold for example. Scores of all μ taken together do not
    show such a feature, so that N(0, 1) marginals do not restore it: in the shift ``nonlocal`` a
    quarter of the hadronic hits of 0.8 to 1 GeV was missing. Ranks among hits do show it.
    :meth:`fit_hits` takes their quantiles, and :meth:`decoder` corrects by them. Hits below 0, of
    which there are few, keep their spectrum. A file of a version that knew no ranks leaves all as
    they are.

    Attributes
    ----------
    knots : Tensor, shape (L, n_eta, K)
        Translated scores at the quantiles of even Gaussian scores between ∓ ``S_MAX``.
    hit_knots : Tensor, shape (L, n_eta, K_hits)
        Φ⁻¹ of the ranks of translated positive hits among the target's, at the quantiles of even
        Gaussian scores between ∓ ``S_MAX_HITS``.
    """

    may_lack = frozenset({"hit_knots"})

    @register_to_config
    def __init__(
        self,
        n_layers: int,
        n_eta: int,
        is_eta_symmetric: bool = True,
        n_knots: int = 129,
        n_hit_knots: int = 257,
    ) -> None:
        super().__init__()
        self.n_knots = n_knots
        self.is_eta_symmetric = is_eta_symmetric
        self.knots: Tensor
        identity = torch.linspace(-S_MAX, S_MAX, n_knots)
        self.register_buffer("knots", identity.repeat(n_layers, n_eta, 1))
        self.hit_knots: Tensor
        even = torch.linspace(-S_MAX_HITS, S_MAX_HITS, n_hit_knots)
        self.register_buffer("hit_knots", even.repeat(n_layers, n_eta, 1))
        self._decoder: tuple[CellCalibration, int, CellCalibration] | None = None

    @torch.no_grad()
    def fit(self, scores: Tensor) -> None:
        """Take the quantiles of translated training events, (N, L, n_eta, n_phi)."""
        levels = ndtr(np.linspace(-S_MAX, S_MAX, self.n_knots))
        sample = scores.numpy()
        for layer in range(sample.shape[1]):
            for ring in range(sample.shape[2]):
                values = sample[:, layer, self._rows(ring, sample.shape[2])].ravel()
                knots = np.quantile(values, levels).astype(np.float64)
                beyond = np.abs(np.linspace(-S_MAX, S_MAX, self.n_knots)) > _resolved(len(values))
                knots = _continue_outward(knots, beyond)
                knots += 1e-6 * np.arange(self.n_knots)
                self.knots[layer, ring] = torch.from_numpy(knots)

    def _rows(self, ring: int, n_eta: int) -> list[int]:
        return sorted({ring, n_eta - 1 - ring}) if self.is_eta_symmetric else [ring]

    @torch.no_grad()
    def fit_hits(self, ranks: Tensor) -> None:
        """Take the quantiles of the ranks of hits of translated training events.

        Parameters
        ----------
        ranks : Tensor, shape (N, L, n_eta, n_phi)
            From :meth:`CellCalibration.hit_ranks`, of scores with corrected marginals among the
            target's positive hits; −1 for other cells.
        """
        self._decoder = None
        even = np.linspace(-S_MAX_HITS, S_MAX_HITS, self.hit_knots.shape[-1])
        for layer in range(ranks.shape[1]):
            for ring in range(ranks.shape[2]):
                of_ring = ranks[:, layer, self._rows(ring, ranks.shape[2])].numpy()
                hits = of_ring[of_ring >= 0]
                if len(hits) < _FEWEST_HITS:
                    continue
                shift = ndtri(np.clip(np.quantile(hits, ndtr(even)), 1e-9, 1 - 1e-9)) - even
                inside = np.abs(even) < -ndtri(_RESOLVED_HITS / len(hits))
                # Few hits do not determine a shift: it falls to none at both ends.
                at = np.concatenate([[-S_MAX_HITS], even[inside], [S_MAX_HITS]])
                shift = np.interp(even, at, np.concatenate([[0.0], shift[inside], [0.0]]))
                knots = np.maximum.accumulate(even + shift) + 1e-6 * np.arange(len(even))
                self.hit_knots[layer, ring] = torch.from_numpy(knots)

    @torch.no_grad()
    def decoder(self, calibration: CellCalibration, domain: int) -> CellCalibration:
        """Calibration whose quantiles of one domain give translated hits the target's spectrum.

        The rank of a hit is replaced by that which the target has at the same quantile. The layer
        next in the chain is decoded given the rank as it was.

        Parameters
        ----------
        calibration : CellCalibration
            Without tied values.
        domain : int
            0 mc, 1 data.
        """
        known = self._decoder
        if known is not None and known[0] is calibration and known[1] == domain:
            return known[2]
        step = 2 * S_MAX_HITS / (calibration.n_knots - 1)
        own = np.linspace(-S_MAX_HITS, S_MAX_HITS, calibration.n_knots)
        even = np.linspace(-S_MAX_HITS, S_MAX_HITS, self.hit_knots.shape[-1])
        tables = calibration.log_energy.clone()
        _, first = np.unique(calibration.ring.numpy(), return_index=True)
        for layer in range(tables.shape[1]):
            for table_ring, ring in enumerate(first):
                corrected = np.interp(own, self.hit_knots[layer, ring].double().numpy(), even)
                position = torch.from_numpy((corrected + S_MAX_HITS) / step)
                low = position.floor().long().clamp(0, calibration.n_knots - 2)
                table = calibration.log_energy[domain, layer, table_ring].double()
                left, right = table[..., low], table[..., low + 1]
                mixed = left + (position - low) * (right - left)
                tables[domain, layer, table_ring] = mixed.to(tables)
        corrected_calibration = copy(calibration)
        corrected_calibration._buffers = {**calibration._buffers, "log_energy": tables}
        self._decoder = (calibration, domain, corrected_calibration)
        return corrected_calibration

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
    return float(-ndtri(min(0.2, 10 / n)))


def _continue_outward(knots: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Replace the knots beyond by unit-slope lines from the last ones that are resolved."""
    s = np.linspace(-S_MAX, S_MAX, len(knots))
    inside = np.flatnonzero(~beyond)
    low, high = inside[0], inside[-1]
    out = np.where(s < s[low], knots[low] + (s - s[low]), knots)
    return np.where(s > s[high], knots[high] + (s - s[high]), out)
