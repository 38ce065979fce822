"""Event weights in the calibration and in batches: what is learned is the weighted distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pileupgen.errors import TrainingError
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.calibration.scaling import SignedLogScaling
from pileupgen.samples.store import ImageStore, create_store
from pileupgen.training.data import ScoreSample
from tests.conftest import SMALL_GRID, make_energies

N = 400


def write_weighted(path: Path, domain: int, weight: np.ndarray) -> ImageStore:
    energy, mu = make_energies(N, domain, 3)
    with create_store(path, SMALL_GRID, ("mc", "data")[domain], {}) as writer:
        writer.append(
            energy,
            {
                "mu": mu,
                "event_id": np.arange(N),
                "weight": weight,
                "split": np.zeros(N, dtype=np.uint8),
            },
        )
    return ImageStore(path)


def fitted(stores: tuple[ImageStore, ImageStore], *, is_weighted: bool) -> CellCalibration:
    calibration = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=1, n_layer_bins=1)
    images = [store.read() for store in stores]
    weights = [part.weight for part in images] if is_weighted else None
    calibration.fit([part.energy for part in images], [part.mu for part in images], weights)
    return calibration


@pytest.fixture
def stores(tmp_path: Path) -> tuple[ImageStore, ImageStore]:
    """Events with little energy have most of the weight in mc; data has none."""
    energy, _ = make_energies(N, 0, 3)
    total = energy.sum(axis=(1, 2, 3))
    weight = np.where(total > np.median(total), 0.2, 1.8)
    return (
        write_weighted(tmp_path / "mc.h5", 0, weight),
        write_weighted(tmp_path / "data.h5", 1, np.ones(N)),
    )


def test_a_batch_has_events_in_proportion_to_their_weights(
    stores: tuple[ImageStore, ImageStore],
) -> None:
    sample = ScoreSample(stores, fitted(stores, is_weighted=True), "train")
    seen = np.zeros((2, N))
    for step in range(100):
        batch = sample.batch(step, 40, seed=1)
        for domain in (0, 1):
            seen[domain] += np.bincount(batch.event_id[batch.label == domain], minlength=N)
    weight = stores[0].read().weight
    assert seen[0] @ weight / seen[0].sum() == pytest.approx(
        weight @ weight / weight.sum(), rel=0.01
    )
    # Five passes over the data: every event as often as any other.
    assert set(seen[1]) == {5}


def test_events_to_judge_by_follow_the_weights_too(
    stores: tuple[ImageStore, ImageStore],
) -> None:
    sample = ScoreSample(stores, fitted(stores, is_weighted=True), "train")
    batch = sample.in_order(100, seed=1)
    chosen = batch.event_id[batch.label == 0].numpy()
    light = stores[0].read().weight[chosen] < 1
    assert len(chosen) == 100
    assert light.mean() == pytest.approx(0.1, abs=0.05)
    assert batch.event_id[batch.label == 1].tolist() == list(range(100))


def test_calibration_takes_weighted_quantiles(stores: tuple[ImageStore, ImageStore]) -> None:
    mc = stores[0].read()
    weighted, plain = (fitted(stores, is_weighted=kind) for kind in (True, False))
    share = np.broadcast_to(mc.weight[:, None, None], mc.energy[:, 1].shape)
    null = np.average(mc.energy[:, 1] == 0, weights=share)
    found = float(weighted.null_mass[0, 1].mean())
    assert found == pytest.approx(null, abs=0.01)
    assert abs(float(plain.null_mass[0, 1].mean()) - null) > 0.03
    torch.testing.assert_close(weighted.log_energy[1], plain.log_energy[1])


def test_one_logarithm_takes_weights_too(stores: tuple[ImageStore, ImageStore]) -> None:
    images = [store.read() for store in stores]
    energies, mus = [part.energy for part in images], [part.mu for part in images]
    scales = []
    for weights in (None, [part.weight for part in images]):
        space = SignedLogScaling(2)
        space.fit(energies, mus, weights)
        scales.append(float(space.energy_scale[1]))
    assert scales[1] < 0.98 * scales[0]


def test_weights_that_no_event_can_be_drawn_by_are_refused(tmp_path: Path) -> None:
    weight = np.ones(N)
    weight[3] = -1
    stores = (
        write_weighted(tmp_path / "mc.h5", 0, weight),
        write_weighted(tmp_path / "data.h5", 1, np.ones(N)),
    )
    with pytest.raises(TrainingError, match="weights are negative"):
        ScoreSample(stores, fitted(stores, is_weighted=False), "train")
