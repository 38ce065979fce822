"""What the pipeline asks of a map from cells to the numbers that networks see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.arrays import Floats, Ints
from pileupgen.models.saved import ModelMixin


class CellSpace(ModelMixin, ABC):
    """A map from the energies of cells to scores and back, fitted to training events.

    Attributes
    ----------
    has_normal_scores : bool
        Whether the scores of each domain are distributed as N(0, 1).
    n_layers : int
        Layers of the image, L.
    largest : Tensor, shape (2, L, R)
        Largest size of a hit of training in GeV, by domain, layer and table ring.
    mu_range : Tensor, shape (2,)
        Smallest and largest μ of training; NaN where none is known.
    """

    has_normal_scores: bool
    n_layers: int
    largest: Tensor
    mu_range: Tensor

    @property
    @abstractmethod
    def is_plain(self) -> bool:
        """Whether null cells alone take ranks at random, from the lowest on."""

    @property
    @abstractmethod
    def n_channels(self) -> int:
        """Numbers a cell position becomes, C."""

    @property
    @abstractmethod
    def score_limits(self) -> Tensor:
        """Lowest and highest score that networks see, (C, 2)."""

    @abstractmethod
    def ring_of(self, n_eta: int) -> Ints:
        """Ring of ``largest`` for each ring of the image, (n_eta,)."""

    @abstractmethod
    def lowest_hits(self, domain: int) -> Floats:
        """Size of a cell, in GeV, below which it is taken for null, of each layer, (L,)."""

    @abstractmethod
    def fit(
        self,
        energies: Sequence[NDArray[np.float32]],
        mus: Sequence[NDArray[np.float32]],
        weights: Sequence[Floats] | None = None,
    ) -> None:
        """Take what the map needs from training events.

        Parameters
        ----------
        energies : two float32 arrays, shape (N, L, n_eta, n_phi)
            Images in GeV, of either sign, of mc and of data.
        mus : two float arrays, shape (N,)
            Number of pileup interactions; NaN where it is not known.
        weights : two float64 arrays, shape (N,), optional
            Weights ≥ 0 of the events, which are then repeated in proportion.
        """

    @abstractmethod
    def encode(self, energy: Tensor, domain: int, mu: Tensor, uniform: Tensor) -> Tensor:
        """Energies to scores.

        Parameters
        ----------
        energy : Tensor, shape (N, L, n_eta, n_phi)
            GeV, of either sign.
        domain : int
            0 mc, 1 data.
        mu : Tensor, shape (N,)
            Number of pileup interactions; NaN where it is not known.
        uniform : Tensor, shape (N, L, n_eta, n_phi)
            Numbers in [0, 1), for cells whose score is a random one.

        Returns
        -------
        Tensor, shape (N, C, n_eta, n_phi), float32
        """

    @abstractmethod
    def decode(self, scores: Tensor, domain: int, mu: Tensor) -> Tensor:
        """Scores to energies (N, L, n_eta, n_phi) in GeV, the inverse of :meth:`encode`."""
