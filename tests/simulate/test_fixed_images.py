"""Images of interactions for other crossings, against paths that are followed for each use."""

from __future__ import annotations

import numpy as np
import pytest

from pileupgen.simulate.fixed_images import FixedImages
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.overlay import Overlay, Pileup
from pileupgen.simulate.response import ResponseCard, load_response
from pileupgen.simulate.spec import SampleSpec
from tests.simulate_inputs import change, make_interactions

PULSE = {"first": -1, "weights": [-0.5, 1, 0.4]}


@pytest.fixture(scope="module")
def pool() -> Interactions:
    return make_interactions(200, 20, seed=3)


@pytest.fixture(scope="module")
def card() -> ResponseCard:
    """A magnet, rings of 36 and 18 towers, all interactions at the centre."""
    return change(load_response("mc"), beam_spot__sigma_z=0.0, em__pulse=PULSE, had__pulse=PULSE)


def test_a_sum_of_images_is_that_of_paths_turned_by_whole_towers(
    card: ResponseCard, pool: Interactions
) -> None:
    overlay = Overlay(SampleSpec(), pool, card)
    images = overlay._fixed_images()
    assert images.n_turns == 36
    rng = np.random.default_rng(2)
    n = 50
    interaction, turn = rng.integers(0, 200, n), 2 * rng.integers(0, 18, n)
    mirror = np.where(rng.random(n) < 0.5, -1, 1).astype(np.float32)
    weights = (rng.normal(size=n), rng.normal(size=n))
    rotation = (turn * 2 * np.pi / 36).astype(np.float32)
    pileup = Pileup(interaction, rotation, mirror, np.zeros(n + 1, dtype=np.float32))
    assert overlay.deposits is not None
    expected = overlay._deposit(overlay.deposits, pileup, weights)
    found = images.sum(interaction, turn, mirror, weights)
    # A particle at the very edge of a tower may round to either side of it.
    far = ~np.isclose(found, expected, atol=1e-5)
    assert far.sum() <= 4
    assert np.abs(found).sum() > 100
    np.testing.assert_allclose(found.sum(axis=1), expected.sum(axis=1), rtol=1e-5)


def test_rings_of_fewer_towers_are_turned_by_the_nearest_number_of_theirs(
    card: ResponseCard, pool: Interactions
) -> None:
    overlay = Overlay(SampleSpec(), pool, card)
    grid = overlay.calorimeter.grid
    cells = np.array([grid.first[0], grid.first[len(grid.n_phi) // 2]], dtype=np.int32)
    assert grid.n_phi[grid.ring[cells]].tolist() == [18, 36]
    ones = np.ones(2, dtype=np.float32)
    images = FixedImages(grid, cells, np.array([0, 2]), (ones, ones))
    one = np.ones(1)
    for turn, (wide, narrow) in {0: (0, 0), 1: (1, 1), 2: (1, 2), 35: (0, 35)}.items():
        found = images.sum(np.array([0]), np.array([turn]), one, (one, one))[0]
        assert np.flatnonzero(found).tolist() == [cells[0] + wide, cells[1] + narrow]


def test_interactions_lie_along_the_beam_as_those_of_the_event(
    card: ResponseCard, pool: Interactions
) -> None:
    """Mean energy in each ring, from images and from paths with new vertices for each use."""
    smeared = change(card, beam_spot__sigma_z=0.2, beam_spot__max_z=1.0)
    overlay = Overlay(SampleSpec(), pool, smeared)
    images, every = overlay._fixed_images(), np.arange(200)
    same = np.ones(200)
    found = images.sum(every, np.zeros(200, dtype=np.int64), same, (same, same))
    assert overlay.deposits is not None
    expected = []
    for seed in range(40):
        z = np.random.default_rng(seed).normal(0, 0.2, 201).astype(np.float32)
        ones = np.ones(200, dtype=np.float32)
        expected.append(overlay._deposit(overlay.deposits, Pileup(every, 0 * ones, ones, z)))
    ring = overlay.calorimeter.grid.ring
    rings = [np.bincount(ring, one.sum(axis=0)) for one in (found, *expected)]
    mean, spread = np.mean(rings[1:], axis=0), np.std(rings[1:], axis=0)
    away = (rings[0] - mean) / spread
    assert np.sqrt(np.mean(away**2)) == pytest.approx(1, abs=0.35)
    # Beyond |η| = 4.5 there is what comes from vertices away from the centre.
    fixed = Overlay(SampleSpec(), pool, card)._fixed_images()
    centred = fixed.sum(every, np.zeros(200, dtype=np.int64), same, (same, same)).sum(axis=0)
    assert np.bincount(ring, centred)[[1, -2]].max() < 1 < 100 < rings[0][[1, -2]].min()
