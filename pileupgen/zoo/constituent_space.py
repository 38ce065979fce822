"""The space in which systems of points learn jets: normal scores of constituents.

A constituent has η and φ relative to the jet axis and ln p_T,rel, each of which becomes the normal
score of its rank among all constituents of the training. Nothing is rounded to cells: the numbers
of a point are those of the table that the jet comes from, and goes back to. The number of
constituents and the sum of their p_T,rel are drawn first, given the jet's p_T.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.constituents import COORDINATES, constituents_of, n_constituents, table_of
from pileupgen.calo.geometry import Grid
from pileupgen.errors import TrainingError
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import Symmetry, ZooSample
from pileupgen.zoo.point_numbers import EventNumbers
from pileupgen.zoo.point_space import FARTHEST, KNOTS, PointSpace, interpolated, quantiles
from pileupgen.zoo.points import Points, scaled_to

_STEP = 1e-7
"""Least distance of two quantiles, in ln p_T and in η and φ, of which some are as near as that."""


class ConstituentSpace(PointSpace):
    """Constituents and their numbers to normal scores and back.

    Parameters
    ----------
    grid : Grid
        Of a table of constituents.
    is_eta_symmetric : bool
        Not used: there are no rings to share tables.

    Attributes
    ----------
    quantiles : Tensor, shape (3, K)
        Of η, φ and ln p_T,rel at even scores.
    lowest : Tensor, shape (1,)
        Smallest p_T,rel.
    numbers : EventNumbers
        Of one layer: the number of constituents and the sum of p_T,rel.
    """

    n_together = 4

    def __init__(self, grid: Grid, *, is_eta_symmetric: bool) -> None:
        super().__init__(grid, is_eta_symmetric=is_eta_symmetric)
        n = n_constituents(grid)
        # As one layer of cells that have no place, which may all be hit.
        self._slots = Grid((0.0, 1.0), n, ("jet",), 0.0, 1.0, name="constituents")
        self.numbers = EventNumbers(self._slots)
        self.quantiles = torch.linspace(-FARTHEST, FARTHEST, KNOTS).repeat(len(COORDINATES), 1)
        self.lowest = torch.zeros(1)

    @property
    def n_features(self) -> int:
        """Numbers of a point."""
        return len(COORDINATES)

    @property
    def ranked(self) -> tuple[int, ...]:
        """All features are scores of ranks."""
        return tuple(range(self.n_features))

    def fit(self, sample: ZooSample) -> None:
        """Take the tables of the target's constituents.

        Raises
        ------
        TrainingError
            If there is no constituent.
        """
        points = self.points_of(sample.target, 0)
        if not points.mask.any():
            raise TrainingError(
                "No jet of the target has constituents.",
                "Preprocess files whose particle_features have p_T,rel above 0.",
            )
        share = sample.target.weight / sample.target.weight.sum() + 1e-15
        weight = np.repeat(share, points.count)
        pt = points.energy[points.mask].astype(np.float64)
        axes = points.place[points.mask].astype(np.float64).T
        columns = (*axes, np.log(pt))
        self.quantiles = torch.stack([quantiles(column, weight, _STEP) for column in columns])
        self.lowest = torch.tensor([pt.min()]).float()
        self.numbers.fit(self.summed(sample.target))

    def summed(self, images: Images) -> Images:
        """The p_T,rel of constituents as one layer of cells."""
        pt = constituents_of(images.energy)[..., 2]
        return replace(images, energy=pt[:, None, None], grid=self._slots)

    # -- points ---------------------------------------------------------------------------------

    def points_of(self, images: Images, seed: int) -> Points:  # noqa: ARG002 - places are known
        """Take the constituents of jets."""
        found = constituents_of(images.energy)
        pt = found[..., 2]
        return Points(found[..., :2], pt, pt > 0, np.zeros(len(pt)))

    def moved(self, place: Tensor, symmetry: Symmetry, rng: torch.Generator) -> Tensor:
        """Mirror a batch's places, (n, P, 2), as far as the detector is alike."""
        flips = torch.rand(2, generator=rng) < 0.5
        allowed = torch.tensor([symmetry.eta, symmetry.phi])
        return place * torch.where(flips & allowed, -1.0, 1.0)

    def image(
        self,
        place: NDArray[np.float32],
        energy: NDArray[np.float32],
        wanted: tuple[Ints, Floats] | None,
        *,
        is_apart: bool,  # noqa: ARG002 - no two constituents share a place
    ) -> NDArray[np.float32]:
        """One jet's points as a row of the table, (3 P, 1, 1), of at most P constituents.

        Parameters
        ----------
        place : float32 array, shape (n, 2)
        energy : float32 array, shape (n,)
            p_T,rel.
        wanted : tuple of arrays, shape (1,) each, optional
            Constituents, and the sum of p_T,rel that what they have above the smallest is scaled
            to.
        is_apart : bool
        """
        if wanted is not None:
            energy = scaled_to(energy[None, None], wanted[1], self.lowest.numpy())[0, 0]
        return table_of(place, energy, n_constituents(self.grid))

    def encode(self, place: Tensor, energy: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        """Points, (…, 2) and (…), to scores, (…, 3)."""
        columns = (*place.unbind(dim=-1), energy.clamp_min(1e-30).log())
        even = torch.linspace(-FARTHEST, FARTHEST, KNOTS)
        found = [
            interpolated(column, knots, even)
            for column, knots in zip(columns, self.quantiles, strict=True)
        ]
        return torch.stack(found, dim=-1)

    def decode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, (…, 3), to η and φ, (…, 2), and p_T,rel, (…)."""
        even = torch.linspace(-FARTHEST, FARTHEST, KNOTS)
        eta, phi, log_pt = (
            interpolated(column.clamp(-FARTHEST, FARTHEST), even, knots)
            for column, knots in zip(x.unbind(dim=-1), self.quantiles, strict=True)
        )
        return torch.stack([eta, phi], dim=-1), log_pt.exp()

    # -- files ----------------------------------------------------------------------------------

    def _tables(self) -> dict[str, Tensor]:
        return {"quantiles": self.quantiles, "lowest": self.lowest}

    def _take(self, found: dict[str, Tensor]) -> None:
        self.quantiles, self.lowest = found["quantiles"], found["lowest"]
