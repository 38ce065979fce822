from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from pileupgen.errors import TrainingError
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.samples.store import ImageStore, assign_splits, create_store
from pileupgen.training.data import Augmentation, ScoreSample, require_finite, warn_of_few
from tests.conftest import SMALL_GRID, make_energies, write_sample


def test_a_batch_is_a_function_of_seed_and_step(sample):
    first, again = sample.batch(7, 16, seed=3), sample.batch(7, 16, seed=3)
    assert torch.equal(first.scores, again.scores)
    assert not torch.equal(first.scores, sample.batch(8, 16, seed=3).scores)
    assert not torch.equal(first.scores, sample.batch(7, 16, seed=4).scores)


def test_every_event_is_seen_once_a_pass(sample):
    n_mc, n_data = sample.n_events
    assert n_mc == n_data == 240
    seen = np.concatenate([sample._rows(0, step, 16, seed=1) for step in range(15)])
    assert sorted(seen.tolist()) == list(range(240))


def test_domains_are_balanced_and_scores_standard_normal(sample):
    batch = sample.in_order(240, seed=1)
    assert batch.label.bincount().tolist() == [240, 240]
    for domain in (0, 1):
        scores = batch.scores[batch.label == domain]
        assert float(scores.mean()) == pytest.approx(0, abs=0.02)
        assert float(scores.std()) == pytest.approx(1, abs=0.02)


def test_null_ranks_are_drawn_anew_and_hits_are_not(sample):
    one, two = sample.in_order(50, seed=1), sample.in_order(50, seed=2)
    same = one.scores == two.scores
    null_fraction = float((sample._mass[0][:50] > 0).float().mean())
    assert float(same[one.label == 0].float().mean()) == pytest.approx(1 - null_fraction, abs=0.01)


def test_ceilings_of_null_cells_go_with_their_scores(sample):
    roll = Augmentation(phi_step=2, eta_mirror=True)
    for batch in (sample.batch(3, 16, seed=5, augmentation=roll), sample.in_order(8, seed=1)):
        is_null = ~batch.ceiling.isnan()
        assert 0.2 < float(is_null.float().mean()) < 0.8
        below = torch.special.ndtr(batch.scores[is_null]) / torch.special.ndtr(
            batch.ceiling[is_null]
        )
        assert float(below.max()) < 1.01
        assert kstest(below.numpy(), "uniform").pvalue > 1e-3


def test_signed_and_tied_cells_are_drawn_within_their_mass(tmp_path):
    stores, energies = [], []
    for domain in (0, 1):
        energy, mu = make_energies(400, domain, 3)
        energy -= np.float32(1.0) * (energy > 0)
        energy[:, 1] = np.round(energy[:, 1])
        columns = {"mu": mu, "event_id": np.arange(400), "weight": np.ones(400)}
        split = assign_splits(0, 400, (0.6, 0.15, 0.25), 1)
        with create_store(tmp_path / f"{domain}.h5", SMALL_GRID, "mc", {}) as writer:
            writer.append(energy, {**columns, "split": split})
        stores.append(ImageStore(tmp_path / f"{domain}.h5"))
        energies.append((energy, mu))
    calibration = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=1, n_layer_bins=4)
    calibration.fit([energy for energy, _ in energies], [mu for _, mu in energies])
    sample = ScoreSample((stores[0], stores[1]), calibration, "train")
    batch = sample.in_order(240, seed=1)
    again = sample.in_order(240, seed=2)
    images = stores[0].read(stores[0].indices("train"))
    drawn = (batch.scores != again.scores)[batch.label == 0].numpy()
    is_spread = np.stack([images.energy[:, 0] == 0, np.ones_like(images.energy[:, 1], bool)], 1)
    assert (drawn == is_spread).mean() > 0.99
    assert kstest(batch.scores.numpy().ravel(), "norm").statistic < 0.01
    # Between the limits that go with them every rank is as likely.
    inside = ~batch.ceiling.isnan()
    low, high, rank = (
        torch.special.ndtr(of[inside].double()) for of in (batch.floor, batch.ceiling, batch.scores)
    )
    assert float(low.min()) == 0 < float(low.max())
    share = ((rank - low) / (high - low))[high - low > 0.05]
    assert kstest(share.numpy(), "uniform").statistic < 0.01
    rolled = sample.batch(0, 16, seed=5, augmentation=Augmentation(phi_step=2, eta_mirror=True))
    inside = ~rolled.ceiling.isnan()
    assert bool((rolled.scores <= rolled.ceiling + 0.01)[inside].all())
    assert bool((rolled.scores >= rolled.floor - 0.01)[inside].all())
    scores = batch.scores[batch.label == 0]
    back = calibration.decode(scores, 0, batch.mu[batch.label == 0]).numpy()
    assert (np.abs(back - images.energy) < 1e-2 * (1 + np.abs(images.energy))).mean() > 0.99


def test_augmentation_rolls_by_whole_patches_and_mirrors(sample):
    plain = sample.batch(0, 16, seed=5)
    rolled = sample.batch(0, 16, seed=5, augmentation=Augmentation(phi_step=2)).scores
    for event in range(16):
        shifts = [
            s for s in range(0, 12, 2) if torch.equal(plain.scores[event].roll(s, 2), rolled[event])
        ]
        assert len(shifts) == 1
    mirrored = sample.batch(0, 16, seed=5, augmentation=Augmentation(eta_mirror=True)).scores
    flipped = [torch.equal(plain.scores[i].flip(1), mirrored[i]) for i in range(16)]
    assert 0 < sum(flipped) < 16


def test_three_events_are_too_few(tmp_path, calibration):
    stores = tuple(write_sample(tmp_path / f"{d}.h5", 3, d) for d in (0, 1))
    with pytest.raises(TrainingError, match="4 are needed"):
        ScoreSample(stores, calibration, "train")


def test_few_events_are_taken_with_a_warning(tmp_path, calibration, caplog):
    stores = tuple(write_sample(tmp_path / f"{d}.h5", 20, d) for d in (0, 1))
    with caplog.at_level("WARNING", logger="pileupgen"):
        ScoreSample(stores, calibration, "train")
        warn_of_few(stores[0], "train")
    assert "has only 13 train events" in caplog.text


@pytest.mark.parametrize(
    ("rows", "words"),
    [([2], "event 12 holds NaN"), ([1, 3], r"2 events \(11, 13\) hold"), (range(6), "14, …")],
)
def test_events_with_nan_are_named(rows, words):
    energy = np.zeros((6, 2, 8, 12), dtype=np.float32)
    energy[list(rows), 0, 1, 1] = np.nan
    with pytest.raises(TrainingError, match=words):
        require_finite(energy, np.arange(10, 16), "mc.h5")
