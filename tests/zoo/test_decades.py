"""Conditions that span decades, as the energies of showers do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pileupgen.calo.geometry import Grid
from pileupgen.zoo.contract import Budget, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.marginals import Marginals
from pileupgen.zoo.scores import ConditionInput
from tests.toys import Toy

ONE_RING = Grid((0.0, 1.0), 6, ("em",), name="one ring")


def test_marginals_follow_a_condition_over_two_decades(toy: Toy, tmp_path: Path):
    """Hits of events at each tenth of the logarithm have that energy's size, saved or not."""
    rng = np.random.default_rng(1)
    mu = np.exp(rng.uniform(np.log(1e3), np.log(1e5), 1500)).astype(np.float32)
    energy = (mu[:, None, None, None] * rng.lognormal(0, 0.1, (1500, *ONE_RING.shape))).astype("f4")
    images = toy.images(energy, ONE_RING, mu=mu)
    system, conditions = Marginals(), EventConditions.of_pileup(images)
    system.fit(ZooSample(images, symmetry=Symmetry(phi=True)), conditions, Budget(1.0), 1)
    ratio = system.generate(conditions, 2).mean(axis=(1, 2, 3)) / mu
    part = np.floor(4 * np.argsort(np.argsort(mu)) / len(mu))
    for number in range(4):
        assert np.median(ratio[part == number]) == pytest.approx(1.0, abs=0.08)
    assert ratio.std() < 0.3
    # Between two places of the quantiles, energies are interpolated in the logarithms of both.
    low, high = system.space.calibration.mu_centres[2:4].double().tolist()
    places = np.exp([low, 0.5 * (low + high), high]).astype(np.float32)
    middle = system.space.decode(torch.zeros(3, *ONE_RING.shape), places, 1)[:, 0, 0, 0]
    assert middle[1] == pytest.approx(np.sqrt(middle[0] * middle[2]), rel=1e-3)
    system.save(tmp_path / "system")
    again = Marginals()
    again.load(tmp_path / "system")
    few = conditions.taken(np.arange(5))
    np.testing.assert_array_equal(again.generate(few, 2), system.generate(few, 2))


def test_a_condition_over_decades_enters_as_its_logarithm():
    values = np.geomspace(1.0, 1e4, 101, dtype=np.float32)[:, None]
    both = np.concatenate([values, np.linspace(50, 70, 101, dtype=np.float32)[:, None]], axis=1)
    shown = ConditionInput(2)
    shown.standardise(EventConditions(both, np.arange(101), ("energy", "mu")))
    found = shown(torch.from_numpy(both)).numpy()
    for column in range(2):
        steps = np.diff(found[:, column])
        np.testing.assert_allclose(steps, steps.mean(), rtol=1e-2)
        assert found[:, column].std() == pytest.approx(1.0, abs=1e-3)
    beyond = shown(torch.tensor([[1e9, 60.0]])).numpy()
    assert beyond[0, 0] == pytest.approx(found[-1, 0])
