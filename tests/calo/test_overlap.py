from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pileupgen.calo.geometry import TWO_PI, Grid
from pileupgen.calo.overlap import overlaps
from pileupgen.calo.presets import get_grid

ATLAS = get_grid("atlas")
UNEVEN = Grid((-2.0, -1.5, -0.2, 0.0, 0.3, 2.0), 7)
WINDOW = Grid((-1.0, 0.0, 1.0), 5, phi_min=-0.5, phi_max=1.0)

towers = st.tuples(
    st.floats(-3, 3), st.floats(0.01, 2), st.floats(-np.pi, np.pi), st.floats(0.01, 3)
)


def shares_of(grid: Grid, *edges: float) -> NDArray[np.float64]:
    """Share of one tower in every cell, shape (n_eta, n_phi)."""
    cell, tower, share = overlaps(np.array([edges]), grid)
    assert np.all(tower == 0)
    drawn = np.bincount(cell, weights=share, minlength=grid.n_eta * grid.n_phi)
    return drawn.reshape(grid.n_eta, grid.n_phi)


@pytest.mark.parametrize("grid", [ATLAS, UNEVEN, WINDOW])
def test_a_cell_lies_in_itself(grid: Grid) -> None:
    eta, phi = np.asarray(grid.eta_edges), grid.phi_edges
    for i_eta, i_phi in ((0, 0), (grid.n_eta - 1, grid.n_phi - 1), (1, 2)):
        shares = shares_of(grid, eta[i_eta], eta[i_eta + 1], phi[i_phi], phi[i_phi + 1])
        assert shares[i_eta, i_phi] == 1.0
        assert np.count_nonzero(shares) == 1


@settings(deadline=None)
@given(towers)
def test_shares_are_the_fractions_of_area(tower: tuple[float, float, float, float]) -> None:
    eta, d_eta, phi, d_phi = tower
    shares = shares_of(UNEVEN, eta, eta + d_eta, phi, phi + d_phi)
    # Independently: a fine mesh of points in the tower, each in one cell.
    n = 400
    points_eta = eta + d_eta * (np.arange(n) + 0.5) / n
    points_phi = phi + d_phi * (np.arange(n) + 0.5) / n
    in_eta = np.histogram(points_eta, UNEVEN.eta_edges)[0] / n
    turned = (points_phi + np.pi) % TWO_PI - np.pi
    in_phi = np.histogram(turned, UNEVEN.phi_edges)[0] / n
    assert np.allclose(shares, np.outer(in_eta, in_phi), atol=2.5 / n)


@settings(deadline=None)
@given(towers, st.sampled_from([ATLAS, UNEVEN]))
def test_a_tower_inside_the_acceptance_is_shared_without_loss(
    tower: tuple[float, float, float, float], grid: Grid
) -> None:
    eta, d_eta, phi, d_phi = tower
    low, high = max(eta, grid.eta_edges[0]), min(eta + d_eta, grid.eta_edges[-1])
    if high - low < 0.01:
        return
    assert shares_of(grid, low, high, phi, phi + d_phi).sum() == pytest.approx(1.0, abs=1e-12)


@settings(deadline=None)
@given(towers, st.integers(-2, 2), st.sampled_from([ATLAS, UNEVEN, WINDOW]))
def test_whole_turns_change_nothing(
    tower: tuple[float, float, float, float], turns: int, grid: Grid
) -> None:
    eta, d_eta, phi, d_phi = tower
    here = shares_of(grid, eta, eta + d_eta, phi, phi + d_phi)
    there = shares_of(grid, eta, eta + d_eta, phi + turns * TWO_PI, phi + turns * TWO_PI + d_phi)
    assert np.allclose(here, there, atol=1e-9)


@settings(deadline=None)
@given(towers, st.integers(0, 35))
def test_a_rotated_tower_is_a_rotated_share(
    tower: tuple[float, float, float, float], n_cells: int
) -> None:
    eta, d_eta, phi, d_phi = tower
    angle = n_cells * TWO_PI / 36
    here = shares_of(ATLAS, eta, eta + d_eta, phi, phi + d_phi)
    there = shares_of(ATLAS, eta, eta + d_eta, phi + angle, phi + angle + d_phi)
    # At the seam of a cell the tolerance may move an edge by a thousandth of a cell.
    assert np.allclose(np.roll(here, n_cells, axis=1), there, atol=1e-3 * 10 / min(d_phi, 1))


@settings(deadline=None)
@given(towers)
def test_edges_out_of_order_are_put_in_order(tower: tuple[float, float, float, float]) -> None:
    eta, d_eta, phi, d_phi = tower
    here = shares_of(UNEVEN, eta, eta + d_eta, phi, phi + d_phi)
    assert np.array_equal(here, shares_of(UNEVEN, eta + d_eta, eta, phi, phi + d_phi))
    assert np.array_equal(here, shares_of(UNEVEN, eta, eta + d_eta, phi + d_phi, phi))


def test_a_tower_across_the_seam_is_not_taken_for_the_rest_of_the_ring() -> None:
    shares = shares_of(ATLAS, 0.0, 0.1, np.pi - 0.05, -np.pi + 0.05)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[25, 0] == pytest.approx(0.5)
    assert shares[25, 35] == pytest.approx(0.5)


def test_a_full_turn_covers_each_cell_once() -> None:
    assert np.allclose(shares_of(ATLAS, 0.0, 0.1, -1.0, -1.0 + TWO_PI)[25], 1 / 36)


def test_what_leaves_a_window_on_either_side_is_lost() -> None:
    assert shares_of(WINDOW, 0.0, 1.0, -0.6, -0.4).sum() == pytest.approx(0.5)
    assert shares_of(WINDOW, 0.0, 1.0, 0.9, 1.1).sum() == pytest.approx(0.5)
    assert shares_of(WINDOW, 0.0, 1.0, 2.0, 3.0).sum() == 0.0
    assert shares_of(WINDOW, 0.5, 1.5, 0.0, 0.1).sum() == pytest.approx(0.5)


@settings(deadline=None)
@given(st.floats(-2.49, 2.49), st.floats(-7, 7))
def test_a_point_goes_whole_to_the_cell_that_holds_it(eta: float, phi: float) -> None:
    shares = shares_of(ATLAS, eta, eta, phi, phi)
    i_eta, i_phi = (int(index[0]) for index in np.nonzero(shares))
    assert shares.sum() == 1.0
    assert ATLAS.eta_edges[i_eta] <= eta < ATLAS.eta_edges[i_eta + 1]
    turned = (phi + np.pi) % TWO_PI - np.pi
    distance = (turned - ATLAS.phi_centres[i_phi] + np.pi) % TWO_PI - np.pi
    assert abs(distance) <= np.pi / 36 + 1e-9


def test_points_on_the_rim() -> None:
    assert shares_of(ATLAS, 2.5, 2.5, 0.0, 0.0)[49].sum() == 1.0
    assert shares_of(ATLAS, -2.5, -2.5, 0.0, 0.0)[0].sum() == 1.0
    assert shares_of(ATLAS, 2.51, 2.51, 0.0, 0.0).sum() == 0.0
    assert shares_of(ATLAS, -2.51, -2.51, 0.0, 0.0).sum() == 0.0
    assert shares_of(ATLAS, 0.0, 0.0, np.pi, np.pi)[25, 0] == 1.0


def test_edges_that_differ_by_rounding_are_the_same() -> None:
    for cell in range(36):
        edges = np.array([0.1, 0.2, *ATLAS.phi_edges[cell : cell + 2]], dtype=np.float32)
        for shift in (0.0, TWO_PI, -TWO_PI):
            shifted = edges.astype(np.float64) + np.array([0, 0, shift, shift])
            assert shares_of(ATLAS, *shifted.astype(np.float32))[26, cell] == 1.0


def test_a_sliver_within_the_tolerance_is_not_lost() -> None:
    shares = shares_of(ATLAS, -2.5 + 4e-5, -2.3 + 4e-5, 0.0, np.radians(10))
    assert shares.sum() == pytest.approx(1.0, abs=1e-12)


def test_no_towers_have_no_overlaps() -> None:
    cell, tower, share = overlaps(np.empty((0, 4)), ATLAS)
    assert len(cell) == len(tower) == len(share) == 0
