from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.calo.geometry import Grid, require_same_grid
from pileupgen.calo.presets import PRESETS, get_grid
from pileupgen.errors import GeometryError


def test_atlas_is_50_times_36_towers_of_a_tenth_and_ten_degrees() -> None:
    grid = get_grid("atlas")
    assert grid.shape == (2, 50, 36)
    assert np.allclose(np.diff(grid.eta_edges), 0.1)
    assert np.allclose(np.degrees(np.diff(grid.phi_edges)), 10.0)
    assert grid.is_periodic
    assert grid.is_eta_symmetric


@pytest.mark.parametrize("name", PRESETS)
def test_a_grid_survives_being_written_as_plain_values(name: str) -> None:
    grid = get_grid(name)
    assert Grid.from_dict(grid.to_dict()) == grid
    assert get_grid(grid.to_dict()) == grid


@settings(deadline=None)
@given(
    st.lists(
        st.floats(-6, 6, allow_nan=False).map(lambda x: round(x, 3)),
        min_size=2,
        max_size=20,
        unique=True,
    ),
    st.integers(1, 100),
)
def test_centres_lie_between_their_edges(edges: list[float], n_phi: int) -> None:
    grid = Grid(tuple(sorted(edges)), n_phi)
    for centres, bounds in (
        (grid.eta_centres, np.asarray(grid.eta_edges)),
        (grid.phi_centres, grid.phi_edges),
    ):
        assert np.all(bounds[:-1] < centres)
        assert np.all(centres < bounds[1:])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"eta_edges": [1, 0], "n_phi": 4}, "ascending"),
        ({"eta_edges": [0, float("nan")], "n_phi": 4}, "finite"),
        ({"eta_edges": [0], "n_phi": 4}, "at least two"),
        ({"eta_edges": [0, 1], "n_phi": 0}, "n_phi is 0"),
        ({"eta_edges": [0, 1], "n_phi": 4, "layers": ["em", "em"]}, "distinct"),
        ({"eta_edges": [0, 1], "n_phi": 4, "phi_min": 0, "phi_max": 7}, "window"),
        ({"eta_edges": [0, "x"], "n_phi": 4}, "do not fit"),
        ({"n_phi": 4}, "lacks eta_edges"),
        ({"eta_edges": [0, 1], "n_phi": 4, "nphi": 3}, "'nphi'. Did you mean 'n_phi'"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(GeometryError, match=said):
        get_grid(values)


def test_an_unknown_preset_names_the_near_ones() -> None:
    with pytest.raises(GeometryError, match="Did you mean 'atlas'"):
        get_grid("atlsa")


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Grid((-1.0, 0.0, 1.0), 8, layers=("had", "em")), "layers"),
        (Grid((-1.0, 0.0, 1.0), 9), "n_phi"),
        (Grid((-1.0, 1.0), 8), "n_eta"),
        (Grid((-1.0, 0.1, 1.0), 8), "eta_edges"),
        (Grid((-1.0, 0.0, 1.0), 8, phi_min=0.0, phi_max=2 * np.pi), "phi_min"),
    ],
)
def test_images_of_another_geometry_are_told_apart(other: Grid, named: str) -> None:
    grid = Grid((-1.0, 0.0, 1.0), 8)
    require_same_grid(grid, Grid((-1.0, 0.0, 1.0), 8, name="twin"), "twin", "model")
    with pytest.raises(GeometryError, match=f"sample has {named} = .* but the model"):
        require_same_grid(other, grid, "sample", "the model")


@pytest.mark.parametrize("name", ["calochallenge_1", "calochallenge_2", "calochallenge_3"])
def test_energies_of_showers_are_not_divided_by_cosh_of_a_ring_number(name):
    grid = PRESETS[name]
    assert grid.is_shower
    assert np.array_equal(grid.transverse_shares, np.ones(grid.n_eta))
    atlas = PRESETS["atlas"]
    assert not atlas.is_shower
    np.testing.assert_allclose(atlas.transverse_shares, 1 / np.cosh(atlas.eta_centres))
