from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.calo.geometry import Grid
from pileupgen.calo.granularity import DeadRegion
from pileupgen.calo.presets import PRESETS, get_grid
from pileupgen.samples.dead_cells import count_dead, count_hits, count_silent, find_silent

EDGES = (-1.0, -0.5, 0.0, 0.5, 1.0)


@given(n=st.integers(0, 600), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_hits_are_those_of_numpy(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.choice([0.0, -0.0, -1.0, 2.0], (n, 1, 2, 3)).astype(np.float32)
    assert np.array_equal(count_hits(images), np.count_nonzero(images, axis=0))


def test_dead_regions_are_counted_in_cells_of_the_detector() -> None:
    region = DeadRegion((-1.0, 0.0), (0.0, np.pi), "em")
    wide = Grid(EDGES, 8, ring_n_phi=(4, 8, 8, 4), dead_regions=(region,))
    assert count_dead(wide) == (2 + 4, 0)
    coarse = Grid(
        EDGES,
        8,
        layer_eta_edges=((-1.0, 0.0, 1.0), EDGES),
        layer_n_phi=(2, 8),
        dead_regions=(region,),
    )
    assert count_dead(coarse) == (1, 0)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_have_no_dead_cells_but_lack_some(name: str) -> None:
    assert not any(count_dead(get_grid(name)))


def test_a_cell_that_never_fires_is_found_where_its_ring_tells() -> None:
    grid = Grid(EDGES, 8, dead_regions=(DeadRegion((0.5, 1.0), None, "had"),))
    images = np.ones((30, *grid.shape), dtype=np.float32)
    images[:, grid.is_dead] = 0.0
    images[:, 1, 0, 5] = 0.0
    images[2:, 0, 1] = 0.0  # a ring with too few hits to tell
    images[:, 0, 1, 3] = 0.0
    counts, places = count_silent(grid, count_hits(images))
    assert counts == (0, 1)
    assert places == ("had at η = -0.75, φ = 1.18",)
    assert find_silent(count_hits(images)).sum() == 1
