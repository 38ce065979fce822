"""Correcting correlations and marginals after denoising."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.models.field import StationaryField
from pileupgen.models.saved import ModelMixin, register_to_config
from pileupgen.parallel.threads import Map

N_SWEEPS = 2
_CHUNK = 50
"""Events per matrix product, always: its last bits depend on how many there are."""


class FieldCorrection(ModelMixin):
    """Gives normal scores the target's correlations and N(0, 1) marginals, by two maps in turn.

    A release that keeps the event leaves part of the source's correlations in it. What is left is
    taken out by the Wasserstein-optimal linear map between the Gaussian fields of translated
    training events and of target ones, block-diagonal in the φ frequency; then
    :class:`~pileupgen.models.correction.marginals.MarginalCorrection` corrects the marginals. Each
    spoils a little of what the other has corrected, hence ``n_sweeps``. Fitted once for a setting,
    so that an event does not depend on its neighbours in the sample.

    Parameters
    ----------
    is_eta_symmetric : bool
        Whether events count mirrored in η, too.

    Attributes
    ----------
    maps : Tensor, shape (n_sweeps, n_phi//2 + 1, L·n_eta, L·n_eta)
        One matrix per φ frequency; see :meth:`StationaryField.transport`.
    mean_from, mean_to : Tensor, shape (n_sweeps, L·n_eta)
        Means of the two fields.
    """

    @register_to_config
    def __init__(
        self,
        n_layers: int,
        n_eta: int,
        n_phi: int,
        is_eta_symmetric: bool = True,
        n_sweeps: int = N_SWEEPS,
    ) -> None:
        super().__init__()
        n = n_layers * n_eta
        self.shape, self.is_eta_symmetric, self.n_sweeps = (
            (n_layers, n_eta, n_phi),
            is_eta_symmetric,
            n_sweeps,
        )
        self.maps: Tensor
        self.mean_from: Tensor
        self.mean_to: Tensor
        self.register_buffer("maps", torch.eye(n).repeat(n_sweeps, n_phi // 2 + 1, 1, 1))
        self.register_buffer("mean_from", torch.zeros(n_sweeps, n))
        self.register_buffer("mean_to", torch.zeros(n_sweeps, n))
        self.sweeps = nn.ModuleList(
            MarginalCorrection(n_layers, n_eta, is_eta_symmetric) for _ in range(n_sweeps)
        )

    @property
    def marginals(self) -> list[MarginalCorrection]:
        """Corrections of the marginals, one after each linear map."""
        return [module for module in self.sweeps if isinstance(module, MarginalCorrection)]

    @torch.no_grad()
    def fit(self, scores: Tensor, target: Tensor, over: Map = map) -> None:
        """Take translated training events and real ones of the target, (N, L, n_eta, n_phi).

        ``over`` maps over the two fields.
        """
        for sweep, marginals in enumerate(self.marginals):
            field = StationaryField(*self.shape)
            field.fit([scores, target], self.is_eta_symmetric, has_pooled=False, over=over)
            self.maps[sweep] = field.transport(0, 1).float()
            self.mean_from[sweep], self.mean_to[sweep] = field.mean[0], field.mean[1]
            scores = self._mapped(sweep, scores)
            marginals.fit(scores)
            scores = marginals(scores)

    @torch.no_grad()
    def forward(self, scores: Tensor) -> Tensor:
        """Corrected scores, (N, L, n_eta, n_phi)."""
        for sweep, marginals in enumerate(self.marginals):
            scores = marginals(self._mapped(sweep, scores))
        return scores

    def _mapped(self, sweep: int, scores: Tensor) -> Tensor:
        n = len(scores)
        filled = scores[torch.arange(-(-n // _CHUNK) * _CHUNK) % n]
        parts: tuple[Tensor, ...] = torch.split(filled, _CHUNK)
        return torch.cat([self._map_chunk(sweep, part) for part in parts])[:n]

    def _map_chunk(self, sweep: int, scores: Tensor) -> Tensor:
        n_layers, n_eta, n_phi = self.shape
        flat = scores.reshape(len(scores), n_layers * n_eta, n_phi)
        modes = torch.fft.rfft(flat - self.mean_from[sweep][:, None], dim=2).permute(2, 1, 0)
        moved = torch.complex(self.maps[sweep] @ modes.real, self.maps[sweep] @ modes.imag)
        cells = torch.fft.irfft(moved.permute(2, 1, 0), n=n_phi, dim=2)
        return (cells + self.mean_to[sweep][:, None]).view(len(scores), *self.shape)
