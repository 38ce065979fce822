from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pileupgen.calo import imaging, rowtable
from pileupgen.calo.geometry import DeadRegion, Grid
from pileupgen.calo.imaging import Imager, images_to_towers, towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import GeometryError

ATLAS = get_grid("atlas")
SMALL = Grid((-0.3, -0.1, 0.0, 0.2), 8)


def make_towers(
    rng: np.random.Generator,
    counts: list[int],
    *,
    eta_max: float = 4.9,
    max_width: float = 0.5,
    dtype: type = np.float64,
) -> Towers:
    """Towers anywhere, of any width, many overlapping several cells."""
    n = sum(counts)
    eta = rng.uniform(-eta_max, eta_max - max_width, n)
    phi = rng.uniform(-np.pi, np.pi, n)
    width = rng.uniform(0, max_width, (2, n)) * (rng.random((2, n)) > 0.1)
    edges = np.stack([eta, eta + width[0], phi, phi + width[1]], axis=1).astype(dtype)
    return Towers(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        edges=edges,
        energy=rng.exponential(2.0, (n, 2)).astype(np.float32),
        layers=("em", "had"),
        mu=np.full(len(counts), 60, dtype=np.float32),
        event_id=np.arange(len(counts), dtype=np.int64),
    )


images_of_small_grid = hnp.arrays(
    np.float32,
    st.integers(0, 4).map(lambda n: (n, *SMALL.shape)),
    elements=st.floats(0, 1e4, width=32) | st.just(0.0),
)


@settings(deadline=None)
@given(images_of_small_grid)
def test_images_to_towers_and_back_is_exact(images: NDArray[np.float32]) -> None:
    towers = images_to_towers(images, SMALL)
    again, outside = towers_to_images(towers, SMALL)
    assert np.array_equal(again, images)
    assert np.all(outside == 0)
    assert np.all(towers.energy.any(axis=1))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("turn", [0.0, 2 * np.pi])
def test_atlas_towers_to_images_to_towers_is_exact(dtype: type, turn: float) -> None:
    rng = np.random.default_rng(5)
    energy = rng.exponential(3, (20, *ATLAS.shape)).astype(np.float32)
    energy *= rng.random(energy.shape) < 0.4
    towers = images_to_towers(energy, ATLAS)
    shuffled = np.concatenate(
        [rng.permutation(np.arange(*ends)) for ends in pairwise(towers.offsets)]
    )
    edges = towers.edges[shuffled].astype(np.float64)
    # φ in [−π, π), or in [0, 2π) where a turn is added below zero.
    edges[:, 2:] += np.where(edges[:, 2:3] < -1e-6, turn, 0.0)
    moved = dataclasses.replace(towers, edges=edges.astype(dtype), energy=towers.energy[shuffled])
    images, outside = towers_to_images(moved, ATLAS)
    assert np.array_equal(images, energy)
    assert np.all(outside == 0)
    back = images_to_towers(images, ATLAS)
    assert np.array_equal(back.edges, towers.edges)
    assert np.array_equal(back.energy, towers.energy)
    assert np.array_equal(back.offsets, towers.offsets)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 30), max_size=5), st.booleans())
def test_energy_is_conserved_to_a_millionth(seed: int, counts: list[int], single: bool) -> None:
    towers = make_towers(
        np.random.default_rng(seed), counts, dtype=np.float32 if single else np.float64
    )
    images, outside = towers_to_images(towers, ATLAS)
    assert images.shape == (len(counts), *ATLAS.shape)
    total = images.sum(axis=(2, 3), dtype=np.float64) + outside
    assert np.allclose(total, towers.event_sums(), rtol=1e-6, atol=0)
    assert np.all(images >= 0)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_image_sums_are_tower_sums_inside_the_acceptance(seed: int) -> None:
    towers = make_towers(np.random.default_rng(seed), [20, 20], eta_max=2.5, max_width=0.4)
    images, outside = towers_to_images(towers, ATLAS)
    sums = images.sum(axis=(2, 3), dtype=np.float64)
    assert np.allclose(sums, towers.event_sums(), rtol=1e-6, atol=0)
    assert np.all(np.abs(outside) < 1e-9)


def test_a_known_tower_is_shared_as_by_hand() -> None:
    towers = Towers(
        offsets=np.array([0, 2]),
        # Half of the first lies beyond η = 0.2, its φ covers one cell and half of the next.
        edges=np.array([[0.1, 0.3, 0.0, 3 * np.pi / 8], [0.05, 0.05, 0.1, 0.1]]),
        energy=np.array([[6.0, 12.0], [1.0, 0.0]], dtype=np.float32),
        layers=("em", "had"),
        mu=np.zeros(1, dtype=np.float32),
        event_id=np.zeros(1, dtype=np.int64),
    )
    images, outside = towers_to_images(towers, SMALL)
    expected = np.zeros(SMALL.shape)
    expected[0, 2, 4:6] = [2.0 + 1.0, 1.0]
    expected[1, 2, 4:6] = [4.0, 2.0]
    assert np.allclose(images[0], expected)
    assert np.allclose(outside, [[3.0, 6.0]])


def test_edges_out_of_order_and_zero_widths_lose_nothing() -> None:
    rng = np.random.default_rng(2)
    towers = make_towers(rng, [50, 50], eta_max=2.4)
    images, _ = towers_to_images(towers, ATLAS)
    swapped = dataclasses.replace(towers, edges=towers.edges[:, [1, 0, 3, 2]])
    assert np.array_equal(towers_to_images(swapped, ATLAS)[0], images)
    points = dataclasses.replace(towers, edges=towers.edges[:, [0, 0, 2, 2]])
    drawn, outside = towers_to_images(points, ATLAS)
    assert np.allclose(drawn.sum(axis=(2, 3)), towers.event_sums(), rtol=1e-6)
    assert np.all(outside == 0)


def test_a_rotation_of_the_towers_rolls_the_image() -> None:
    rng = np.random.default_rng(8)
    towers = make_towers(rng, [40] * 3)
    images, outside = towers_to_images(towers, ATLAS)
    turned = towers.edges + np.array([0, 0, 1, 1]) * np.radians(70)
    rolled, still = towers_to_images(dataclasses.replace(towers, edges=turned), ATLAS)
    assert np.allclose(np.roll(images, 7, axis=3), rolled, atol=2e-2)
    assert np.allclose(outside, still, atol=1e-6)


def test_layers_are_taken_by_name() -> None:
    towers = make_towers(np.random.default_rng(3), [10])
    had_first = dataclasses.replace(ATLAS, layers=("had", "em"))
    images, outside = towers_to_images(towers, ATLAS)
    swapped, swapped_outside = towers_to_images(towers, had_first)
    assert np.array_equal(images[:, ::-1], swapped)
    assert np.array_equal(outside[:, ::-1], swapped_outside)
    with pytest.raises(GeometryError, match="layers \\['presampler'\\]"):
        towers_to_images(towers, dataclasses.replace(ATLAS, layers=("em", "presampler")))


def test_an_imager_remembers_without_changing_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imaging, "_TOWERS_AT_ONCE", 64)
    monkeypatch.setattr(rowtable, "_LEARN_AT_ONCE", 16)
    imager = Imager(ATLAS)
    rng = np.random.default_rng(6)
    for dtype in (np.float32, np.float32, np.float64):
        towers = make_towers(rng, [70, 0, 30, 5], dtype=dtype)
        images, outside = imager.draw(towers)
        fresh, fresh_outside = towers_to_images(towers, ATLAS)
        assert np.array_equal(images, fresh)
        assert np.array_equal(outside, fresh_outside)
        assert np.array_equal(imager.draw(towers)[0], images)
    assert imager.n_towers == 6 * 105
    assert 0 < imager.n_shared < imager.n_towers


@pytest.mark.parametrize("more", ["nothing", "outside", "shared", "again"])
def test_the_order_of_the_towers_does_not_show(monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    monkeypatch.setattr(imaging, "_TOWERS_AT_ONCE", 4000)
    rng = np.random.default_rng(11)
    region = DeadRegion(eta=(0.0, 0.5), phi=(0.0, 1.0), layer="had")
    grid = dataclasses.replace(ATLAS, dead_regions=(region,))
    images = rng.exponential(2.0, (5, *grid.shape)).astype(np.float32)
    images *= rng.random(images.shape) < 0.4
    images[:, 0, 4], images[:, 1, 4] = -0.0, 1.0
    images[3] = 0.0
    towers = images_to_towers(images, ATLAS)
    last = {"outside": [3.0, 3.1, 0.0, 0.1], "shared": [2.31, 2.49, 3.0, 3.1]}
    edges, energy = towers.edges.copy(), towers.energy
    # Not of the first event, whose order is looked at before the others'.
    row = int(towers.offsets[2]) - 1
    if more == "again":
        edges[row] = edges[row - 1]
    elif more != "nothing":
        edges[row] = last[more]
    towers = dataclasses.replace(towers, edges=edges)
    drawn, outside = towers_to_images(towers, grid)
    event = towers.event_index()
    order = np.lexsort([rng.random(len(event)), event])
    mixed = dataclasses.replace(towers, edges=edges[order], energy=energy[order])
    other, other_outside = towers_to_images(mixed, grid)
    assert np.array_equal(drawn.view(np.uint32), other.view(np.uint32))
    np.testing.assert_allclose(outside, other_outside, rtol=1e-12)
    assert outside[:, 1].sum() > 0
    if more == "nothing":
        assert np.array_equal(drawn, np.where(grid.is_dead, 0, images))


def test_towers_that_never_come_again_are_drawn_all_the_same() -> None:
    imager = Imager(ATLAS)
    imager._memo.table.max_rows = 100
    rng = np.random.default_rng(7)
    for _ in range(4):
        towers = make_towers(rng, [300, 300], dtype=np.float32)
        images, _ = imager.draw(towers)
        assert np.array_equal(images, towers_to_images(towers, ATLAS)[0])
    assert len(imager._memo.table) == 100


def test_no_events_make_no_images() -> None:
    images, outside = towers_to_images(make_towers(np.random.default_rng(0), []), ATLAS)
    assert images.shape == (0, *ATLAS.shape)
    assert outside.shape == (0, 2)


def test_edges_that_are_not_finite_are_refused_with_their_event() -> None:
    towers = make_towers(np.random.default_rng(0), [3, 3, 3])
    towers.edges[4, 2] = np.nan
    with pytest.raises(GeometryError, match="Event 1 has a tower"):
        towers_to_images(towers, ATLAS)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(GeometryError, match="on a grid of"):
        images_to_towers(np.zeros((1, 2, 3, 3), dtype=np.float32), ATLAS)


def test_events_of_a_record_are_views() -> None:
    towers = make_towers(np.random.default_rng(1), [3, 0, 5, 2])
    part = towers.events(1, 3)
    assert part.n_events == 2
    assert part.n_towers == 5
    assert np.array_equal(part.event_sums(), towers.event_sums()[1:3])
    assert np.shares_memory(part.energy, towers.energy)
    assert list(part.event_id) == [1, 2]
