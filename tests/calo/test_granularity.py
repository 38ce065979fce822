"""Layers of different granularity, and dead regions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.calo.geometry import Grid, require_same_grid
from pileupgen.calo.granularity import DeadRegion
from pileupgen.calo.imaging import images_to_towers, towers_to_images
from pileupgen.calo.presets import PRESETS
from pileupgen.calo.towers import Towers
from pileupgen.errors import GeometryError
from pileupgen.models.calibration.calibration import CellCalibration

FINE = (-1.0, -0.5, 0.0, 0.5, 1.0)
LAYERED = Grid(
    FINE, 8, layer_eta_edges=(FINE, (-1.0, 0.0, 1.0)), layer_n_phi=(8, 4), name="layered"
)


def every_cell(grid: Grid, seed: int = 0) -> Towers:
    """Every cell of every layer as a tower of its own, in one event."""
    rng = np.random.default_rng(seed)
    edges, energy = [], []
    for layer, (ring, width) in enumerate(zip(grid.layer_rings, grid.layer_widths, strict=True)):
        for one in range(ring.max() + 1):
            rows = np.flatnonzero(ring == one)
            phi = grid.phi_edges[:: width[rows[0]]]
            for low, high in pairwise(phi):
                edges.append([grid.eta_edges[rows[0]], grid.eta_edges[rows[-1] + 1], low, high])
                energy.append(np.eye(grid.n_layers)[layer] * rng.normal(3, 5))
    return Towers(
        offsets=np.array([0, len(edges)]),
        edges=np.array(edges),
        energy=np.array(energy, dtype=np.float32),
        layers=grid.layers,
        mu=np.full(1, 60, dtype=np.float32),
        event_id=np.arange(1),
    )


def layered(fine: list[int], coarse: list[int], n_phi: tuple[int, int]) -> Grid:
    edges = tuple(float(edge) for edge in np.cumsum([0, *fine]))
    own = (edges[0], *(edges[1 + index] for index in sorted(set(coarse)) if index < len(fine)))
    return Grid(edges, 12, layer_eta_edges=(edges, own), layer_n_phi=n_phi)


@pytest.mark.parametrize(
    "grid", [LAYERED, PRESETS["calochallenge_1"], PRESETS["atlas_layers"]], ids=lambda g: g.name
)
def test_the_way_back_is_exact(grid: Grid) -> None:
    towers = every_cell(grid)
    images, outside = towers_to_images(towers, grid)
    assert np.abs(outside).max() < 1e-9
    back = images_to_towers(images, grid)
    assert back.n_towers == towers.n_towers
    rows, found = np.sort(towers.energy.sum(1)), np.sort(back.energy.sum(1))
    np.testing.assert_allclose(found, rows, rtol=1e-6)
    np.testing.assert_allclose(back.event_sums(), towers.event_sums(), rtol=1e-6)
    again, _ = towers_to_images(back, grid)
    np.testing.assert_allclose(again, images, rtol=2e-6, atol=1e-7)


def test_a_coarse_cell_is_spread_evenly_in_its_own_layer_alone() -> None:
    towers = every_cell(LAYERED)
    images, _ = towers_to_images(towers, LAYERED)
    had = towers.energy[32:, 1].reshape(2, 4)
    expected = np.repeat(np.repeat(had, 2, axis=0), 2, axis=1) / 4
    np.testing.assert_allclose(images[0, 1], expected, rtol=1e-6)
    np.testing.assert_array_equal(images[0, 0].ravel(), towers.energy[:32, 0])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
    st.tuples(*[st.sampled_from([1, 2, 3, 4, 6, 12])] * 2),
)
def test_any_layers_conserve_energy(
    fine: list[int], coarse: list[int], n_phi: tuple[int, int]
) -> None:
    if not any(index < len(fine) for index in coarse):
        coarse = [0]
    grid = layered(fine, coarse, n_phi)
    towers = every_cell(grid)
    images, outside = towers_to_images(towers, grid)
    sums = images.sum(axis=(2, 3), dtype=float) + outside
    np.testing.assert_allclose(sums, towers.event_sums(), rtol=1e-6, atol=1e-5)
    back = images_to_towers(images, grid)
    np.testing.assert_allclose(back.event_sums() + outside, towers.event_sums(), atol=1e-4)


def test_numbers_of_voxels() -> None:
    assert every_cell(PRESETS["calochallenge_1"]).n_towers == 368
    assert int(np.prod(PRESETS["calochallenge_3"].shape)) == 40500
    assert every_cell(PRESETS["atlas_layers"]).n_towers == 64 * (128 + 32)


def test_energy_in_a_dead_region_is_outside() -> None:
    region = DeadRegion((-0.6, 0.1), (0.0, 2.0), "had")
    grid = Grid(FINE, 8, dead_regions=(region,))
    assert int(grid.is_dead.sum()) == 3
    assert not grid.is_dead[0].any()
    assert not grid.is_phi_uniform
    assert not grid.is_eta_symmetric
    towers = every_cell(Grid(FINE, 8))
    images, outside = towers_to_images(towers, grid)
    assert np.all(images[:, grid.is_dead] == 0)
    np.testing.assert_allclose(
        images.sum(axis=(2, 3), dtype=float) + outside, towers.event_sums(), rtol=1e-6
    )
    whole, _ = towers_to_images(towers, Grid(FINE, 8))
    np.testing.assert_array_equal(images[:, ~grid.is_dead], whole[:, ~grid.is_dead])


def test_dead_cells_take_no_part_in_the_calibration_and_are_never_filled() -> None:
    import torch

    rng = np.random.default_rng(1)
    energy = rng.exponential(2, (200, 2, 4, 8)).astype(np.float32)
    grid = Grid(FINE, 8, dead_regions=(DeadRegion((-0.5, 0.0), None, "em"),))
    energy[:, grid.is_dead] = 0
    calibration = CellCalibration(2, 4, 8, n_knots=32, n_mu_bins=1, n_layer_bins=1)
    calibration.exclude(grid.is_dead)
    mu = np.full(200, 60, dtype=np.float32)
    calibration.fit([energy, energy], [mu, mu])
    # Ring 1 is dead, its mirror image is not: their table knows no null cells.
    assert float(calibration.null_mass[:, 0, 1].max()) < 1e-6
    scores = torch.randn(50, 2, 4, 8, generator=torch.Generator().manual_seed(1))
    decoded = calibration.decode(scores, 1, torch.full((50,), 60.0)).numpy()
    assert np.all(decoded[:, grid.is_dead] == 0)
    assert np.all(decoded[:, ~grid.is_dead] > 0)


def test_written_and_read_again() -> None:
    grid = Grid(
        FINE,
        8,
        layer_eta_edges=(FINE, (-1.0, 0.0, 1.0)),
        layer_n_phi=(8, 4),
        dead_regions=(DeadRegion((0.0, 0.5), (0.0, 1.0), "em"), DeadRegion((-1.0, -0.5))),
    )
    assert Grid.from_dict(grid.to_dict()) == grid
    plain = Grid(FINE, 8).to_dict()
    assert not {"layer_eta_edges", "layer_n_phi", "dead_regions"} & set(plain)
    with pytest.raises(GeometryError, match="layer_rings"):
        require_same_grid(LAYERED, Grid(FINE, 8), "a store", "the model")
    dead = Grid(FINE, 8, dead_regions=(DeadRegion((0.0, 0.5)),))
    with pytest.raises(GeometryError, match="is_dead"):
        require_same_grid(dead, Grid(FINE, 8), "a store", "the model")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layer_n_phi": [8]}, "1 of 2"),
        ({"layer_n_phi": [8, 3]}, "does not divide"),
        ({"layer_eta_edges": [FINE, [-1.0, 0.25, 1.0]]}, "among eta_edges"),
        ({"layer_n_phi": [8, 4], "ring_n_phi": [8, 8, 8, 4]}, "does not go with"),
        ({"dead_regions": [{"eta": [0, 1], "layer": "hat"}]}, "hat"),
        ({"dead_regions": [{"etta": [0, 1]}]}, "etta"),
        ({"dead_regions": [{"phi": [0, 1]}]}, "two numbers"),
    ],
)
def test_what_does_not_fit_is_said(values: dict, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        Grid.from_dict({"eta_edges": FINE, "n_phi": 8, **values})
