from __future__ import annotations

import sys

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.compare.pileup_physics import jet_quantities
from pileupgen.errors import DependencyError, GeometryError
from pileupgen.measure.pileup_jets import SPECTRUM_EDGES, JetSample, find_jets
from pileupgen.report.figures import jet_figure, write_figure

GRID = get_grid("atlas")


def jets_of(toy, energy: np.ndarray, rho: float = 0.0, grid: Grid = GRID, name: str = "target"):
    images = toy.images(energy.astype(np.float32), grid)
    return find_jets(name, name, [images], grid, np.full(len(energy), rho))


def two_clusters() -> np.ndarray:
    """Three empty events around one with a cluster of 3 cells and one lone cell."""
    energy = np.zeros((4, *GRID.shape))
    for i_eta, i_phi, et in ((25, 0, 20.0), (25, 35, 10.0), (26, 0, 5.0), (10, 18, 30.0)):
        energy[2, 0, i_eta, i_phi] = et * np.cosh(GRID.eta_centres[i_eta])
    return energy


def test_the_extra_is_asked_for_by_name(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastjet", None)
    with pytest.raises(DependencyError, match="needs fastjet"):
        jets_of(toy, two_clusters())


def test_a_window_in_phi_has_no_jets(toy):
    grid = Grid((0.0, 1.0), 4, phi_min=0.0, phi_max=1.0)
    with pytest.raises(GeometryError, match="whole azimuth"):
        jets_of(toy, toy.energies(1, grid=grid), grid=grid)


def test_cells_in_reach_are_one_jet_also_across_the_seam(toy):
    pytest.importorskip("fastjet")
    found = jets_of(toy, two_clusters())
    assert list(found.n_jets) == [0, 0, 2, 0]
    assert list(found.event) == [2, 2]
    # Cells 10° apart lose a little of their scalar sum.
    assert sorted(found.pt) == pytest.approx([30.0, 35.0], rel=0.02)


def test_the_median_density_is_taken_off(toy):
    pytest.importorskip("fastjet")
    found = jets_of(toy, two_clusters(), rho=42.0)
    assert list(found.n_jets) == [0, 0, 1, 0]
    assert found.pt == pytest.approx([35.0 - 42.0 * np.pi * 0.16], abs=0.7)


def test_a_roll_in_phi_changes_nothing(toy):
    pytest.importorskip("fastjet")
    # Few cells, so that no two pairs are equally far apart.
    rng = np.random.default_rng(4)
    energy = 40 * rng.random((10, *GRID.shape)) * (rng.random((10, *GRID.shape)) < 0.003)
    first, second = jets_of(toy, energy), jets_of(toy, np.roll(energy, 7, axis=3))
    assert np.array_equal(first.n_jets, second.n_jets)
    assert np.sort(first.pt) == pytest.approx(np.sort(second.pt), rel=1e-6)


def test_spectra_numbers_and_figure(toy, tmp_path):
    pytest.importorskip("fastjet")
    rng = np.random.default_rng(0)
    roles = []
    for name in ("target", "source", "translated"):
        energy = np.where(rng.random((60, *GRID.shape)) < 0.002, 25.0, 0.0)
        roles.append(jets_of(toy, energy, name=name))
    mean, error = roles[0].spectrum()
    assert len(mean) == len(SPECTRUM_EDGES) - 1
    assert mean.sum() == pytest.approx(roles[0].n_jets.mean())
    assert np.all(error[mean > 0] > 0)
    number, pt = jet_quantities(roles, 20, 0)
    assert number.values["target"].value == pytest.approx(roles[0].n_jets.mean())
    assert pt.values["source"].value == pytest.approx(roles[1].pt.mean())
    assert number.values["target"].low < number.values["target"].value
    assert len(write_figure(jet_figure(roles), tmp_path, "jets")) == 2


def test_a_spectrum_has_the_standard_errors_of_weighted_means():
    pt, event = np.array([11.0, 11.5, 500.0, 11.0]), np.array([0, 0, 1, 3])
    weight = np.array([1.0, 2.0, 1.0, 4.0])
    found = JetSample("target", "target", np.array([2, 1, 0, 1]), weight, pt, event)
    mean, error = found.spectrum()
    share = weight / 8
    for place, counts in ((0, [2, 0, 0, 1]), (-1, [0, 1, 0, 0])):
        assert mean[place] == pytest.approx(share @ counts)
        deviation = np.array(counts) - share @ counts
        assert error[place] == pytest.approx(np.sqrt(share**2 @ deviation**2))


def test_no_jets_at_all(toy):
    pytest.importorskip("fastjet")
    found = jets_of(toy, np.zeros((3, *GRID.shape)))
    assert list(found.n_jets) == [0, 0, 0]
    assert np.isnan(jet_quantities([found], 5, 0)[1].values["target"].value)


def test_a_jet_nearer_to_the_edge_than_its_radius_is_left_out(toy):
    pytest.importorskip("fastjet")
    edge, width = GRID.eta_edges[-1], GRID.eta_edges[1] - GRID.eta_edges[0]
    n_inside = int(np.ceil(0.4 / width))
    energy = np.zeros((4, *GRID.shape))
    for event, ring in enumerate((-n_inside, -n_inside - 1, n_inside - 1, n_inside)):
        energy[event, 0, ring, 5] = 30.0 * np.cosh(GRID.eta_centres[ring])
    found = jets_of(toy, energy)
    assert edge - GRID.eta_centres[-n_inside] < 0.4 < edge - GRID.eta_centres[-n_inside - 1]
    assert list(found.n_jets) == [0, 1, 0, 1]
