"""Images to sets of hits and back, and the numbers of an event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pileupgen.calo.granularity import DeadRegion
from pileupgen.calo.presets import PRESETS
from pileupgen.models.codec import EventNoise
from pileupgen.zoo.contract import ZooSample
from pileupgen.zoo.point_space import PointSpace
from pileupgen.zoo.points import Points, apart, cells_of, hits_of
from tests.toys import Toy
from tests.zoo.test_systems import ALIKE, TINY_GRID

OPEN_GRID = replace(TINY_GRID, phi_min=0.0, phi_max=2.0)


def points_of(place: list[list[float]], energy: list[float]) -> Points:
    places = np.array([place], dtype=np.float32)
    energies = np.array([energy], dtype=np.float32)
    return Points(places, energies, np.ones((1, len(energy)), dtype=bool), np.zeros(1))


def test_hits_come_back_to_the_byte_and_all_energy_is_accounted_for(toy: Toy):
    """With a threshold above the image's own, what is below it is what is missing."""
    images = toy.images(toy.energies(40, 1, grid=TINY_GRID), TINY_GRID)
    points = hits_of(images, 3)
    back = cells_of(points, TINY_GRID)
    assert back.energy.tobytes() == images.energy.tobytes()
    assert not points.below.any()
    assert not back.n_merged.any()
    assert not back.n_outside.any()
    some = hits_of(images, 3, threshold=1.5)
    kept = cells_of(some, TINY_GRID).energy
    np.testing.assert_array_equal(kept, np.where(images.energy > 1.5, images.energy, 0))
    whole = images.energy.astype(np.float64).sum(axis=(1, 2, 3))
    both = kept.astype(np.float64).sum(axis=(1, 2, 3)) + some.below
    np.testing.assert_allclose(both, whole, rtol=1e-12)
    assert (some.below > 0).all()


def test_the_last_cells_of_a_large_grid_come_back(toy: Toy, monkeypatch):
    """Places are rounded to single precision: none may come to lie in the next cell."""
    largest = float(np.nextafter(np.float32(1), np.float32(0)))
    monkeypatch.setattr(EventNoise, "uniform", lambda _, shape: torch.full((2, *shape), largest))
    grid = PRESETS["calochallenge_2"]
    energy = np.zeros((2, *grid.shape), dtype=np.float32)
    energy[:, -1, -1, -1] = 1.0
    images = toy.images(energy, grid)
    assert cells_of(hits_of(images, 1), grid).energy.tobytes() == energy.tobytes()


def test_energies_in_one_cell_are_summed_and_what_is_outside_is_counted():
    points = points_of(
        [[0.2, 1.5, 2.1], [0.9, 1.1, 2.9], [1.5, 0.5, 6.5], [1.5, 4.5, 0.5], [-0.1, 0, 0]],
        [1.0, 2.0, 4.0, 8.0, 16.0],
    )
    ring, window = (cells_of(points, grid) for grid in (TINY_GRID, OPEN_GRID))
    assert ring.energy[0, 0, 1, 2] == 3.0
    assert ring.energy[0, 1, 0, 0] == 4.0
    assert (ring.n_merged[0], ring.n_outside[0], ring.outside[0]) == (1, 2, 24.0)
    assert (window.n_outside[0], window.outside[0]) == (3, 28.0)
    for found in (ring, window):
        assert found.energy.sum() + found.outside.sum() == points.energy.sum()
    dead = replace(TINY_GRID, dead_regions=(DeadRegion((-0.4, 0.0), None, "em"),))
    assert cells_of(points, dead).outside[0] == 27.0


@pytest.mark.parametrize("grid", [TINY_GRID, OPEN_GRID], ids=["ring", "window"])
def test_points_apart_have_cells_of_their_own_near_by(grid):
    rng = np.random.default_rng(1)
    place = (rng.random((30, 3)) * grid.shape).astype(np.float32)
    place[:, 0] = 0.5
    place[20:, 1:] = rng.normal([1.5, 0.2], 0.1, (10, 2))
    place[:, 2] %= grid.n_phi
    energy = rng.lognormal(size=30).astype(np.float32)
    few = slice(8, 30)
    cells = apart(place[few], energy[few], grid)
    assert len({tuple(cell) for cell in cells}) == 22
    assert (cells[:, 0] == 0).all()
    # The point with most energy in a cell stays in it.
    strongest = int(np.argmax(energy[few]))
    assert tuple(cells[strongest]) == tuple(np.floor(place[few][strongest]).astype(int))
    # Whatever the order of the points, each has the same cell.
    order = rng.permutation(22)
    np.testing.assert_array_equal(apart(place[few][order], energy[few][order], grid), cells[order])
    # More points than cells: all are filled, and the rest stays.
    full = apart(place, energy, grid)
    assert len({tuple(cell) for cell in full}) == 24


def test_the_nearest_free_cell_is_across_the_seam_of_a_ring():
    place = np.array([[0.5, 1.6, 0.1], [0.5, 1.6, 0.2]], dtype=np.float32)
    energy = np.array([2.0, 1.0], dtype=np.float32)
    assert apart(place, energy, TINY_GRID)[1].tolist() == [0, 1, 5]
    assert apart(place, energy, OPEN_GRID)[1].tolist() == [0, 2, 0]


@pytest.mark.parametrize("grid", [TINY_GRID, OPEN_GRID], ids=["ring", "window"])
def test_scores_are_normal_and_places_come_back(grid, toy: Toy):
    energies = toy.energies(300, 1, grid=grid)
    energies[:, 1, 0] = 0
    images = toy.images(energies, grid)
    space = PointSpace(grid, is_eta_symmetric=False)
    space.fit(ZooSample(images))
    points = hits_of(images, 5)
    place = torch.from_numpy(points.place[points.mask])
    energy = torch.from_numpy(points.energy[points.mask])
    lengths = torch.rand(len(place), generator=torch.Generator().manual_seed(1))
    x = space.encode(place, energy, lengths)
    assert x.shape == (len(place), space.n_features)
    assert x.mean(dim=0).abs().max() < 0.03
    assert (x.std(dim=0) - 1).abs().max() < 0.03
    cells, energies_back = space.decode(x)
    assert torch.equal(cells.floor(), place.floor())
    assert (cells - place).abs().max() < 1e-2
    inner = x[:, -1].abs() < 4
    np.testing.assert_allclose(energies_back[inner], energy[inner], rtol=1e-3)
    wild, most = space.decode(1e3 * torch.randn(500, space.n_features))
    assert (wild >= 0).all()
    assert (wild < torch.tensor(grid.shape)).all()
    assert float(most.max()) == pytest.approx(float(energy.max()), rel=0.01)


def test_numbers_follow_their_conditional_law_and_hang_together(toy: Toy):
    """Hits of an event grow with μ, and those of one layer with those of the other."""
    rng = np.random.default_rng(2)
    n, grid = 900, replace(TINY_GRID, n_phi=12)
    mu = rng.uniform(20, 60, n).astype(np.float32)
    activity = rng.normal(1, 0.2, n).clip(0.4, 1.6)
    chance = (mu / 100 * activity)[:, None, None, None]
    hits = rng.random((n, *grid.shape)) < chance
    images = toy.images(np.where(hits, rng.lognormal(size=hits.shape), 0).astype("f4"), grid, mu=mu)
    space = PointSpace(grid, is_eta_symmetric=False)
    space.fit(ZooSample(images))
    numbers = space.numbers
    made, energy = numbers.decode(numbers.draw(EventNoise(4, np.arange(n))), mu)
    real = hits.sum(axis=(2, 3))
    for low in (20, 40):
        chosen = (mu > low) & (mu < low + 20)
        assert made[chosen].sum(axis=1).mean() == pytest.approx(
            real[chosen].sum(axis=1).mean(), rel=0.03
        )
        wanted = real[chosen].sum(axis=1).std()
        assert made[chosen].sum(axis=1).std() == pytest.approx(wanted, rel=0.15)
    # At one μ the layers have the activity of the event in common.
    left = [np.corrcoef((counts / mu[:, None]).T)[0, 1] for counts in (made, real)]
    assert left[1] > 0.4
    assert left[0] == pytest.approx(left[1], abs=0.12)
    whole = images.energy.sum(axis=(1, 2, 3))
    assert energy.sum(axis=1).mean() == pytest.approx(whole.mean(), rel=0.05)
    assert (made <= 48).all()
    assert not energy[made == 0].any()


def test_images_with_negative_cells_are_refused(toy: Toy):
    from pileupgen.errors import TrainingError

    energy = toy.energies(5, 1, grid=TINY_GRID)
    energy[0, 0, 0, 0] = -1
    with pytest.raises(TrainingError, match="negative cells"):
        PointSpace(TINY_GRID, is_eta_symmetric=False).fit(
            ZooSample(toy.images(energy, TINY_GRID), symmetry=ALIKE)
        )
