"""Calibrations of images as `--mode calibrate` has them, fitted without a run directory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import Imager
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.delphes import DelphesOptions, DelphesReader
from pileupgen.samples.store import Images
from pileupgen.simulate.produce import default_cache, make_sample
from pileupgen.simulate.spec import SampleSpec

BATCH = 250


def simulated(grid: Grid, **values: object) -> Images:
    """Images of a sample that is simulated, with its μ."""
    spec = SampleSpec.parse(values, "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        path = make_sample(spec, Path(folder) / "sample.root", cache=default_cache()).path
        reader = DelphesReader([path], DelphesOptions(), MuSource.parse("Vertex_size - 1"))
        imager, energy, mu = Imager(grid), [], []
        for towers in reader.chunks():
            energy.append(imager.draw(towers)[0])
            mu.append(towers.mu)
    return as_images(np.concatenate(energy), grid, np.concatenate(mu))


def as_images(energy: Any, grid: Grid, mu: Any) -> Images:
    """Images of equal weight."""
    n = len(energy)
    columns = {"mu": np.asarray(mu), "event_id": np.arange(n), "weight": np.ones(n)}
    return Images(np.asarray(energy, dtype=np.float32), grid, columns)


def some(sample: Images, rows: Any) -> Images:
    """Some of the events."""
    columns = {name: values[rows] for name, values in sample.columns.items()}
    return Images(sample.energy[rows], sample.grid, columns)


def calibration(
    mc: Images, data: Images, n_knots: int = 256, n_mu_bins: int = 3, n_layer_bins: int = 8
) -> CellCalibration:
    """Fit the quantiles of both domains, rings at η and −η together; the defaults are a run's."""
    found = CellCalibration(*mc.grid.shape, n_knots, n_mu_bins, n_layer_bins)
    found.exclude(mc.grid.is_dead)
    found.fit([mc.energy, data.energy], [mc.mu, data.mu])
    return found


def calibrated(fitted: CellCalibration, mc: Images, seed: int = 1) -> Images:
    """Events of mc with the quantiles of data."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for begin in range(0, len(mc), BATCH):
        energy = torch.from_numpy(mc.energy[begin : begin + BATCH])
        mu = torch.from_numpy(mc.mu[begin : begin + BATCH])
        uniform = torch.rand(energy.shape, generator=generator, dtype=torch.float64)
        parts.append(fitted.decode(fitted.encode(energy, 0, mu, uniform), 1, mu).numpy())
    return as_images(np.concatenate(parts), mc.grid, mc.mu)
