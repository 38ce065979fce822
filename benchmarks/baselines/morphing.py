"""Nothing at all, and quantile morphing cell by cell."""

from __future__ import annotations

import torch

from benchmarks.baselines.contract import Problem
from pileupgen.compare.quality import MethodOutput
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.codec import EventNoise
from pileupgen.models.networks.denoiser import DATA, MC
from pileupgen.samples.store import Images


class Identity:
    """The source as it is."""

    n_evaluations = 0
    is_slow = False
    n_parameters = 0

    def fit(self, problem: Problem) -> None:
        """There is nothing to learn."""

    def translate(self, images: Images) -> MethodOutput:
        return MethodOutput(energy=images.energy)


class Morphing:
    """Energies to the target's quantiles of the same rank, per ring, layer and μ.

    Parameters
    ----------
    chained : bool
        Whether layers are ranked given the deeper one, or each for itself.
    """

    n_evaluations = 0
    is_slow = False

    def __init__(self, chained: bool) -> None:
        self.chained = chained

    def fit(self, problem: Problem) -> None:
        self.seed = problem.seed
        self.calibration = fitted_calibration(problem, self.chained)

    def translate(self, images: Images) -> MethodOutput:
        scores, mu = encode(self.calibration, images, MC, self.seed)
        return MethodOutput(energy=self.calibration.decode(scores, DATA, mu).numpy())

    @property
    def n_parameters(self) -> int:
        return self.calibration.log_energy.numel() + self.calibration.null_mass.numel()


def fitted_calibration(problem: Problem, chained: bool) -> CellCalibration:
    """The calibration of pileupgen, by itself."""
    grid = problem.grid
    calibration: CellCalibration = CellCalibration(
        grid.n_layers,
        grid.n_eta,
        grid.n_phi,
        n_layer_bins=8 if chained else 1,
        is_eta_symmetric=grid.is_eta_symmetric,
    )
    calibration.fit([problem.mc.energy, problem.data.energy], [problem.mc.mu, problem.data.mu])
    return calibration


def encode(
    calibration: CellCalibration, images: Images, domain: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (N, L, n_eta, n_phi) and μ (N,) of images of a domain."""
    mu = torch.from_numpy(images.mu)
    uniform = EventNoise(seed, images.event_id).uniform(images.energy.shape[1:])
    return calibration.encode(torch.from_numpy(images.energy), domain, mu, uniform), mu
