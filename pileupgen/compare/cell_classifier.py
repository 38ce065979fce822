"""Two-sample test on images: a small convolutional network that knows φ is a ring."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.compare.records import TwoSampleTest
from pileupgen.compare.two_sample import cross_fitted_test, labels_and_weights
from pileupgen.progress import Advance, silent

ENERGY_SCALE = 0.5
"""GeV; cells enter as log(1 + E/scale)."""
BATCH_SIZE = 64
N_FOLDS = 2
"""Parts of the cross-fit."""
PATIENCE = 3
"""Epochs without progress on the held-back events before training ends."""
NEGLIGIBLE = 0.003
"""Cross-entropy below which nothing is left to learn."""
HELD_BACK = 0.2
"""Fraction of the training events that early stopping is judged on."""


class CellClassifier(nn.Module):
    """Log-odds of an image's sample.

    Two 3 × 3 convolutions with pooling between, then means and standard deviations over the image;
    beside them the covariances of the first convolution's channels (bilinear pooling, Lin et al.
    1504.07889): what cells do together is in products of them, which a network of few events does
    not find otherwise. φ is padded by wrapping around where it is periodic.

    Parameters
    ----------
    width : int
        Channels of the first convolution; the second has twice as many.
    """

    def __init__(self, n_layers: int, is_periodic: bool, width: int = 16) -> None:
        super().__init__()
        self.is_periodic = is_periodic
        # Energies, hits, and η so that the network knows where a cell is.
        self.first = nn.Conv2d(2 * n_layers + 1, width, 3)
        self.second = nn.Conv2d(width, 2 * width, 3)
        rows, columns = torch.triu_indices(width, width)
        self._pairs = rows, columns
        self.norm = nn.BatchNorm1d(4 * width + len(rows))
        self.head = nn.Linear(4 * width + len(rows), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds, shape ``(N,)``, of inputs of shape ``(N, 2L + 1, n_eta, n_phi)``."""
        seen = self.first(self._pad(x))
        about_ring = (seen - seen.mean(dim=3, keepdim=True)).flatten(2)
        covariance = about_ring @ about_ring.transpose(1, 2) / about_ring.shape[2]
        x = functional.gelu(seen)
        if min(x.shape[2:]) > 1:
            x = functional.avg_pool2d(x, 2, ceil_mode=True)
        x = functional.gelu(self.second(self._pad(x)))
        pooled = [x.mean(dim=(2, 3)), x.var(dim=(2, 3), correction=0).add(1e-6).sqrt()]
        pooled.append(covariance[:, self._pairs[0], self._pairs[1]])
        return self.head(self.norm(torch.cat(pooled, 1))).squeeze(1)

    def _pad(self, x: Tensor) -> Tensor:
        x = functional.pad(x, (1, 1, 0, 0), mode="circular" if self.is_periodic else "constant")
        return functional.pad(x, (0, 0, 1, 1))


def cell_test(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    grid: Grid,
    wx: Floats | None = None,
    wy: Floats | None = None,
    *,
    n_seeds: int = 1,
    seed: int = 0,
    max_epochs: int = 15,
    device: str = "cpu",
    advance: Advance = silent,
) -> TwoSampleTest:
    """Two-sample test on cells, cross-fitted and early stopped.

    Parameters
    ----------
    x, y : float32 arrays, shape (n, L, n_eta, n_phi) and (m, L, n_eta, n_phi)
        Images of the two samples in GeV.
    wx, wy : float64 arrays, shape (n,) and (m,), optional
        Weights ≥ 0; each sample is scaled to the same sum.
    n_seeds, seed : int
        Repeats with other folds and initial weights, and the first seed.
    max_epochs : int
        Passes over the training events, at most; how fast they go changes no result.
    """
    inputs = _inputs(np.concatenate([x, y]), grid)
    is_second, weight = labels_and_weights(len(x), len(y), wx, wy)
    labels = torch.from_numpy(is_second.astype(np.float32))
    weights = torch.from_numpy(weight.astype(np.float32))

    def predict(train: Ints, test: Ints, fold_seed: int) -> Floats:
        generator = torch.Generator().manual_seed(fold_seed)
        network = _initialised(CellClassifier(grid.n_layers, grid.is_periodic), generator).to(
            device
        )
        rows = torch.from_numpy(train)[torch.randperm(len(train), generator=generator)]
        n_held = max(1, int(HELD_BACK * len(rows)))
        fitting = _Fitting(network, inputs, labels, weights, grid, device)
        fitting.run(rows[n_held:], rows[:n_held], generator, max_epochs)
        return fitting.scores(torch.from_numpy(test)).numpy().astype(np.float64)

    return cross_fitted_test(
        is_second,
        weight,
        predict,
        n_seeds=n_seeds,
        seed=seed,
        n_folds=N_FOLDS,
        advance=advance,
    )


def _inputs(images: NDArray[np.float32], grid: Grid) -> Tensor:
    """Standardised log-energies, hits and η, shape ``(N, 2L + 1, n_eta, n_phi)``."""
    energy = torch.from_numpy(images)
    logs = energy.sign() * torch.log1p(energy.abs() / ENERGY_SCALE)
    logs = (logs - logs.mean(dim=(0, 3), keepdim=True)) / logs.std(dim=(0, 3), keepdim=True).clamp(
        min=1e-3
    )
    eta = torch.linspace(-1.0, 1.0, grid.n_eta).view(1, 1, -1, 1)
    return torch.cat([logs, (energy != 0).float(), eta.expand(len(images), 1, -1, grid.n_phi)], 1)


def _initialised(network: CellClassifier, generator: torch.Generator) -> CellClassifier:
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)
    nn.init.ones_(network.norm.weight)
    nn.init.normal_(network.head.weight, std=0.01, generator=generator)
    return network


class _Fitting:
    def __init__(
        self,
        network: CellClassifier,
        inputs: Tensor,
        labels: Tensor,
        weights: Tensor,
        grid: Grid,
        device: str,
    ) -> None:
        self._network, self._device = network, device
        self._inputs, self._labels, self._weights = inputs, labels, weights
        self._n_turns = grid.n_phi if grid.is_periodic else 1

    def run(
        self,
        rows: Tensor,
        held_back: Tensor,
        generator: torch.Generator,
        max_epochs: int,
    ) -> None:
        optimiser = torch.optim.AdamW(self._network.parameters(), lr=3e-3, weight_decay=1e-3)
        best, waited = float("inf"), 0
        state = {key: value.clone() for key, value in self._network.state_dict().items()}
        for _ in range(max_epochs):
            self._network.train()
            for part in _parts(torch.randperm(len(rows), generator=generator), BATCH_SIZE):
                if len(part) == 1 < len(rows):  # no batch to normalise over
                    continue
                turn = int(torch.randint(self._n_turns, (1,), generator=generator))
                optimiser.zero_grad()
                torch.autograd.backward(self._loss(rows[part], turn))
                optimiser.step()
            self._network.eval()
            with torch.no_grad():
                parts = _parts(held_back, 4 * BATCH_SIZE)
                loss = sum(float(self._loss(part)) * len(part) for part in parts) / len(held_back)
            waited = 0 if loss < best else waited + 1
            if loss < best:
                best = loss
                state = {key: value.clone() for key, value in self._network.state_dict().items()}
            if waited >= PATIENCE or best < NEGLIGIBLE:
                break
        self._network.load_state_dict(state)
        self._network.eval()

    def scores(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            parts = _parts(rows, 4 * BATCH_SIZE)
            return torch.cat(
                [self._network(self._inputs[part].to(self._device)).cpu() for part in parts]
            )

    def _loss(self, rows: Tensor, turn: int = 0) -> Tensor:
        batch = self._inputs[rows].roll(turn, dims=3).to(self._device)
        return functional.binary_cross_entropy_with_logits(
            self._network(batch),
            self._labels[rows].to(self._device),
            weight=self._weights[rows].to(self._device),
        )


def _parts(rows: Tensor, size: int) -> list[Tensor]:
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]
