"""The Gaussian-copula map: the optimal linear map between two Gaussian fields of scores."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.baselines.contract import Problem
from benchmarks.baselines.morphing import encode, fitted_calibration
from pileupgen.compare.quality import MethodOutput
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.models.field import StationaryField
from pileupgen.models.networks.denoiser import DATA, MC
from pileupgen.samples.store import Images

BATCH = 100


class GaussianCopula:
    """The optimal map between Gaussian fields, :meth:`StationaryField.transport`, of cells' scores.

    Marginals are corrected afterwards, by a map fitted on mapped training events.
    """

    n_evaluations = 0
    is_slow = False

    def fit(self, problem: Problem) -> None:
        grid, self.seed = problem.grid, problem.seed
        self.calibration = fitted_calibration(problem, chained=True)
        mc, data = (
            self._scores(images, domain)
            for domain, images in ((MC, problem.mc), (DATA, problem.data))
        )
        self.field = StationaryField(grid.n_layers, grid.n_eta, grid.n_phi)
        self.field.fit([mc, data], mirror_eta=grid.is_eta_symmetric)
        self.map = self.field.transport(MC, DATA)
        self.correction = MarginalCorrection(grid.n_layers, grid.n_eta, grid.is_eta_symmetric)
        self.correction.fit(self._mapped(mc))

    def translate(self, images: Images) -> MethodOutput:
        mapped, mu = self._moved(images)
        return MethodOutput(
            energy=self.calibration.decode(self.correction(mapped), DATA, mu).numpy()
        )

    def translate_plain(self, images: Images) -> MethodOutput:
        mapped, mu = self._moved(images)
        return MethodOutput(energy=self.calibration.decode(mapped, DATA, mu).numpy())

    def _moved(self, images: Images) -> tuple[Tensor, Tensor]:
        scores, mu = encode(self.calibration, images, MC, self.seed)
        return self._mapped(scores), mu

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

    def _mapped(self, scores: Tensor) -> Tensor:
        return self.field.move(scores, self.map, MC, DATA)
