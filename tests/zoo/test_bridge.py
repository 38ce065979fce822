"""A flow from one sample to another: it moves what differs, and keeps the event."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pileupgen.errors import ConfigError
from pileupgen.zoo.bridge import Bridge, _paired
from pileupgen.zoo.contract import Budget, EventConditions, ZooSample
from tests.toys import Toy
from tests.zoo.test_autoregressive import NARROW_GRID, neighbours
from tests.zoo.test_systems import ALIKE

GRID = replace(NARROW_GRID, layers=("em",))


@pytest.fixture(scope="module")
def bridge(toy: Toy) -> SimpleNamespace:
    """Target whose cells leak into their neighbours along φ, source where they do along η."""
    target = toy.images(toy.energies(300, 1, grid=GRID, leak=0.6), GRID)
    plain = toy.energies(300, 2, grid=GRID, scale=1.6)
    source = toy.images(plain + 0.6 * np.roll(plain, 1, 2), GRID)
    system = Bridge(steps=4)
    conditions = EventConditions.of_pileup(target)
    system.fit(ZooSample(target, source, ALIKE), conditions, Budget(60, max_steps=100), 1)
    return SimpleNamespace(system=system, target=target, source=source)


def both_ways(energy: np.ndarray) -> np.ndarray:
    """Correlation of cells next to each other in φ, and in η."""
    return np.array([neighbours(energy), neighbours(energy.swapaxes(2, 3))])


def test_cells_are_moved_together_from_either_start(bridge):
    wanted, before = both_ways(bridge.target.energy), both_ways(bridge.source.energy)
    moved = both_ways(bridge.system.translate(bridge.source, bridge.source.mu, 4))
    made = both_ways(bridge.system.generate(EventConditions.of_pileup(bridge.target), 4))
    assert abs(moved[0] - wanted[0]) < 0.3 * abs(before[0] - wanted[0])
    # What the source has already is not added to; led as if from noise, it would be by 0.13.
    assert moved[1] < before[1] + 0.05
    assert abs(made[0] - wanted[0]) < 0.6 * wanted[0]
    assert abs(made[1] - wanted[1]) < 0.3


def test_a_translated_event_stays_its_source(bridge):
    moved = bridge.system.translate(bridge.source, bridge.source.mu, 4)
    of_events = [x.sum(axis=(1, 2, 3)) for x in (moved, bridge.source.energy)]
    assert np.corrcoef(*of_events)[0, 1] > 0.85
    cells = [np.log1p(x).ravel() for x in (moved, bridge.source.energy)]
    assert np.corrcoef(*cells)[0, 1] > 0.6


def test_pairs_are_those_of_least_distance():
    rng = torch.Generator().manual_seed(1)
    begin = torch.randn(6, 1, 2, 3, generator=rng)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    known = torch.zeros(6, 2)
    end = begin[order] + 0.01 * torch.randn(begin.shape, generator=rng)
    assert torch.equal(order[_paired(begin, known, end, known)], torch.arange(6))
    # Far apart in μ, they are not led to each other.
    apart = torch.arange(6.0)[:, None] * torch.tensor([[5.0, 0.0]])
    assert torch.equal(_paired(begin, apart, end, apart), torch.arange(6))


def test_no_step_is_no_flow():
    with pytest.raises(ConfigError, match="0 steps"):
        Bridge(steps=0)
