"""The Gaussian-copula map: the optimal linear map between two Gaussian fields of scores."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers.contract import Output, Problem
from benchmarks.peers.morphing import encode, fitted_calibration
from pileupgen.models.denoiser import DATA, MC
from pileupgen.models.field import StationaryField
from pileupgen.models.renewal import MarginalRenewal
from pileupgen.samples.store import Images

BATCH = 100


class GaussianCopula:
    """A = C_m^(−1/2) (C_m^(1/2) C_d C_m^(1/2))^(1/2) C_m^(−1/2) on Gaussianised cells.

    The Wasserstein-optimal map of N(m_m, C_m) to N(m_d, C_d) (Dowson & Landau 1982). A ring is
    uniform in φ, so that covariances and map are block-diagonal in the φ frequency. Marginals are
    renewed afterwards, by a map fitted on mapped training events.
    """

    n_evaluations = 0

    def fit(self, problem: Problem) -> None:
        grid, self.seed = problem.grid, problem.seed
        self.calibration = fitted_calibration(problem, chained=True)
        mc, data = (
            self._scores(images, domain)
            for domain, images in ((MC, problem.mc), (DATA, problem.data))
        )
        self.field = StationaryField(grid.n_layers, grid.n_eta, grid.n_phi)
        self.field.fit([mc, data], mirror_eta=grid.is_eta_symmetric)
        self.map = torch.stack([_transport(mc_c, data_c) for mc_c, data_c in self._covariances()])
        self.renewal = MarginalRenewal(grid.n_layers, grid.n_eta, grid.is_eta_symmetric)
        self.renewal.fit(self._mapped(mc))

    def translate(self, images: Images) -> Output:
        scores, mu = encode(self.calibration, images, MC, self.seed)
        renewed = self.renewal(self._mapped(scores))
        return Output(energy=self.calibration.decode(renewed, DATA, mu).numpy())

    @property
    def n_parameters(self) -> int:
        return self.map.numel() + self.calibration.log_energy.numel()

    def _scores(self, images: Images, domain: int) -> Tensor:
        parts = []
        for begin in range(0, len(images), BATCH):
            rows = slice(begin, begin + BATCH)
            columns = {name: values[rows] for name, values in images.columns.items()}
            part = Images(images.energy[rows], images.grid, columns)
            parts.append(encode(self.calibration, part, domain, self.seed)[0])
        return torch.cat(parts)

    def _covariances(self) -> list[tuple[Tensor, Tensor]]:
        """C_m and C_d of each φ frequency, float64, (L·n_eta, L·n_eta)."""
        # Columns of the Fourier basis: cos and sin of a frequency have the same eigenvalues.
        width = self.field.width
        first_column = [max(0, 2 * k - 1) for k in range(width // 2 + 1)]
        pairs = []
        for k, column in enumerate(first_column):
            vectors = self.field.eigenvectors[:2, k].double()
            values = self.field.eigenvalues[:2, column].double()
            mc, data = (v @ torch.diag(e) @ v.T for v, e in zip(vectors, values, strict=True))
            pairs.append((mc, data))
        return pairs

    def _mapped(self, scores: Tensor) -> Tensor:
        n, n_layers, n_eta, n_phi = scores.shape
        mean_mc, mean_data = self.field.mean[:2].view(2, n_layers, n_eta, 1)
        modes = torch.fft.rfft((scores - mean_mc).reshape(n, n_layers * n_eta, n_phi), dim=2)
        moved = torch.einsum("kij,njk->nik", self.map.to(modes), modes)
        cells = torch.fft.irfft(moved, n=n_phi, dim=2).view(n, n_layers, n_eta, n_phi)
        mapped: Tensor = cells + mean_data
        return mapped


def _transport(mc: Tensor, data: Tensor) -> Tensor:
    root, inverse = _power(mc, 0.5), _power(mc, -0.5)
    transport: Tensor = inverse @ _power(root @ data @ root, 0.5) @ inverse
    return transport


def _power(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    result: Tensor = vectors @ torch.diag(values.clamp_min(1e-12) ** power) @ vectors.T
    return result
