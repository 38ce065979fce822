from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.calo.geometry import Grid, require_same_grid
from pileupgen.calo.imaging import images_to_towers, towers_to_images
from pileupgen.calo.presets import PRESETS, get_grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import GeometryError

DELPHES = Path(__file__).parents[2].parent / "shared" / "data" / "delphes" / "mc_a.root"
RINGED = Grid((-2.0, -1.0, 0.0, 1.5), 12, ring_n_phi=(3, 12, 6), name="ringed")


def all_towers(grid: Grid, seed: int = 0) -> Towers:
    """Every cell of the detector once, in two events."""
    rng = np.random.default_rng(seed)
    edges = []
    for ring, width in enumerate(grid.cell_widths):
        phi = grid.phi_edges[::width]
        eta = np.full(len(phi) - 1, 1.0)
        low, high = grid.eta_edges[ring], grid.eta_edges[ring + 1]
        edges.append(np.stack([low * eta, high * eta, phi[:-1], phi[1:]], axis=1))
    one = np.concatenate(edges).astype(np.float32)
    both = np.concatenate([one, one])
    return Towers(
        offsets=np.array([0, len(one), len(both)]),
        edges=both,
        energy=rng.normal(2, 5, (len(both), grid.n_layers)).astype(np.float32),
        layers=grid.layers,
        mu=np.full(2, 60, dtype=np.float32),
        event_id=np.arange(2),
    )


@pytest.mark.parametrize(
    "grid",
    [RINGED, *(grid for grid in PRESETS.values() if grid.layer_eta_edges is None)],
    ids=lambda grid: grid.name,
)
def test_the_way_back_is_exact(grid: Grid) -> None:
    towers = all_towers(grid)
    images, outside = towers_to_images(towers, grid)
    assert images.shape[1:] == grid.shape
    assert np.abs(outside).max() < 1e-9
    np.testing.assert_allclose(
        images.sum(axis=(2, 3), dtype=float), towers.event_sums(), rtol=1e-6, atol=1e-4
    )
    back = images_to_towers(images, grid)
    assert back.offsets.tolist() == towers.offsets.tolist()
    np.testing.assert_allclose(back.edges, towers.edges, atol=1e-5)
    widths = set(grid.cell_widths)
    if all(width & (width - 1) == 0 for width in widths):
        np.testing.assert_array_equal(back.energy, towers.energy)
    else:
        np.testing.assert_allclose(back.energy, towers.energy, rtol=1e-6)


def test_a_wide_cell_is_spread_evenly() -> None:
    towers = all_towers(RINGED)
    images, _ = towers_to_images(towers, RINGED)
    first = towers.energy[0] / 4
    np.testing.assert_array_equal(images[0, :, 0, :4], np.repeat(first[:, None], 4, axis=1))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_rings_conserve_energy(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 12, 24]), min_size=1, max_size=6))
    edges = tuple(float(edge) for edge in range(len(counts) + 1))
    grid = Grid(edges, 24, ring_n_phi=tuple(counts))
    images, _ = towers_to_images(all_towers(grid), grid)
    back = images_to_towers(images, grid)
    assert back.n_towers == 2 * sum(counts)
    np.testing.assert_allclose(back.event_sums(), all_towers(grid).event_sums(), atol=1e-3)
    again, _ = towers_to_images(back, grid)
    np.testing.assert_allclose(again, images, rtol=1e-6, atol=1e-6)


def test_numbers_of_towers() -> None:
    n_cells = {name: int(np.sum(grid.n_phi // grid.cell_widths)) for name, grid in PRESETS.items()}
    assert n_cells["atlas"] == 1800
    assert n_cells["atlas_full"] == 2340
    assert n_cells["cms_full"] == 2 * (19 * 72 + 19 * 36 + 2 * 18)
    assert n_cells["sphenix"] == 24 * 64
    assert all(grid.is_eta_symmetric for name, grid in PRESETS.items() if "calo" not in name)


def test_a_grid_without_rings_is_written_as_before() -> None:
    assert "ring_n_phi" not in get_grid("atlas").to_dict()
    assert Grid.from_dict(RINGED.to_dict()) == RINGED
    assert not RINGED.is_eta_symmetric


@pytest.mark.parametrize("rings", [(3, 12), (5, 12, 6), (0, 12, 6), (24, 12, 6)])
def test_rings_that_do_not_fit(rings: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match=r"ring"):
        Grid((-2.0, -1.0, 0.0, 1.5), 12, ring_n_phi=rings)


def test_other_rings_are_another_grid() -> None:
    plain = Grid(RINGED.eta_edges, 12, name="plain")
    with pytest.raises(GeometryError, match="cell_widths"):
        require_same_grid(plain, RINGED, "a store", "the model")
    same = Grid(RINGED.eta_edges, 12, ring_n_phi=(12, 12, 12))
    require_same_grid(plain, same, "a store", "the model")


def test_all_towers_of_a_delphes_file() -> None:
    if not DELPHES.is_file():
        pytest.skip(f"no {DELPHES}")
    from pileupgen.samples.readers import FORMATS, MuSource

    kind = FORMATS["delphes"]
    grid = get_grid("atlas_full")
    reader = kind.open([DELPHES], kind.options(), MuSource.parse(kind.mu), 1.0)
    for towers in reader.chunks(30):
        images, outside = towers_to_images(towers, grid)
        assert np.abs(outside).max() < 1e-6
        back = images_to_towers(images, grid)
        filled = towers.energy.any(axis=1)
        assert back.n_towers == int(filled.sum())
        np.testing.assert_array_equal(np.sort(back.energy[:, 0]), np.sort(towers.energy[filled, 0]))
