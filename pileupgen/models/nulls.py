"""Null cells take ranks that agree with their neighbours.

A null cell says only that its score lies below the top of its null mass. Drawn at random below
it, as a single cell's marginal has it, scores of null cells are white noise, and a field of which
more than half of the cells are null loses most of its correlation. Here they are drawn from the
Gaussian field given all other cells and the bound: the multivariate probit of Chib & Greenberg
(Biometrika 85, 1998, sec. 2), with the covariance estimated by stochastic EM (Celeux & Diebolt
1985), the covariance being stationary in φ as in :class:`StationaryField`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from pileupgen.models.field import StationaryField

N_COLOURS = 8
"""Cells of one colour (one layer parity, 2 × 2 in η and φ) are drawn at once, given the others."""
_BATCH = 200


class NullSampler(ModelMixin, ConfigMixin):
    """Draws scores of null cells given all others.

    Parameters
    ----------
    n_layers, n_eta, n_phi : int
        Shape of the images.
    n_sweeps : int
        Gibbs sweeps over all cells; 0 leaves the scores as they come.

    Attributes
    ----------
    field : StationaryField
        Fields of mc and data on the scores of cells.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, n_layers: int, n_eta: int, n_phi: int, n_sweeps: int = 3) -> None:
        super().__init__()
        self.n_sweeps = n_sweeps
        self.field = StationaryField(n_layers, n_eta, n_phi)
        layer, eta, phi = torch.meshgrid(
            torch.arange(n_layers), torch.arange(n_eta), torch.arange(n_phi), indexing="ij"
        )
        self._colour = (layer % 2) * 4 + (eta % 2) * 2 + phi % 2

    @torch.no_grad()
    def fit(
        self,
        scores: Sequence[Tensor],
        is_null: Sequence[Tensor],
        bound: Sequence[Tensor],
        rng: torch.Generator,
        n_iterations: int = 8,
        mirror_eta: bool = False,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Estimate the fields and the null cells' scores in turn.

        Parameters
        ----------
        scores, is_null, bound : two Tensors each, shape (N, L, n_eta, n_phi)
            Of mc and of data: scores with null cells anywhere below their bound, which cells are
            null, and the score below which a null cell lies.
        rng : torch.Generator
            Random numbers.
        n_iterations : int
            Alternations.
        mirror_eta : bool
            Count each event also mirrored in η.
        advance : callable
            Told of each alternation.
        """
        current = [part.clone() for part in scores]
        for _ in range(n_iterations):
            self.field.fit(current, mirror_eta)
            for domain in (0, 1):
                for begin in range(0, len(current[domain]), _BATCH):
                    rows = slice(begin, begin + _BATCH)
                    current[domain][rows] = self(
                        current[domain][rows],
                        is_null[domain][rows],
                        bound[domain][rows],
                        domain,
                        lambda shape: torch.rand(shape, generator=rng),
                    )
            advance(1)
        self.field.fit(current, mirror_eta)

    @torch.no_grad()
    def forward(
        self,
        scores: Tensor,
        is_null: Tensor,
        bound: Tensor,
        domain: int,
        uniform: Callable[[torch.Size], Tensor],
    ) -> Tensor:
        """Gibbs sweeps over the null cells.

        Parameters
        ----------
        scores, is_null, bound : Tensor, shape (N, L, n_eta, n_phi)
            See :meth:`fit`.
        domain : int
            0 mc, 1 data: whose field.
        uniform : callable
            Gives fresh uniform numbers of a shape; called once a sweep.

        Returns
        -------
        Tensor, shape (N, L, n_eta, n_phi)
            Scores of hits as they came, of null cells drawn anew below their bound.
        """
        current = scores.clone()
        width = self.field.conditional_width(domain).to(scores)
        colours = [(self._colour == c)[None] & is_null for c in range(N_COLOURS)]
        for _ in range(self.n_sweeps):
            u = uniform(current.shape)
            for chosen in colours:
                if not bool(chosen.any()):
                    continue
                mean = current - width**2 * self.field.precision_times(current, domain)
                room = torch.special.ndtr((bound - mean) / width)
                drawn = mean + width * torch.special.ndtri((u * room).clamp(1e-7, 1 - 1e-6))
                current = torch.where(chosen, torch.minimum(drawn, bound), current)
        return current
