from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.errors import TrainingError
from pileupgen.training.data import Augmentation, ScoreSample, require_finite
from tests.conftest import write_sample


def test_a_batch_is_a_function_of_seed_and_step(sample):
    first, again = sample.batch(7, 16, seed=3), sample.batch(7, 16, seed=3)
    assert torch.equal(first.scores, again.scores)
    assert not torch.equal(first.scores, sample.batch(8, 16, seed=3).scores)
    assert not torch.equal(first.scores, sample.batch(7, 16, seed=4).scores)


def test_processes_share_a_batch_without_overlap(sample):
    whole = sample.batch(0, 16, seed=1)
    parts = [whole.part(index, 2) for index in (0, 1)]
    assert [len(part) for part in parts] == [8, 8]
    joined = torch.empty_like(whole.scores)
    joined[0::2], joined[1::2] = parts[0].scores, parts[1].scores
    assert torch.equal(joined, whole.scores)


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
    null_fraction = float((sample._null_mass[0][:50] > 0).float().mean())
    assert float(same[one.label == 0].float().mean()) == pytest.approx(1 - null_fraction, abs=0.01)


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
    with pytest.raises(TrainingError, match="10 are needed"):
        ScoreSample(stores, calibration, "train")


def test_events_with_nan_are_named():
    energy = np.zeros((4, 2, 8, 12), dtype=np.float32)
    energy[2, 0, 1, 1] = np.nan
    with pytest.raises(TrainingError, match="event 12"):
        require_finite(energy, np.arange(10, 14), "mc.h5")
