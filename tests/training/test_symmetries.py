"""Training uses a symmetry only where config, grid and both samples' cards allow it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.config import parse_config
from pileupgen.training.symmetries import augmentation_of, is_mirror
from tests.conftest import SMALL_GRID

BOTH = {"phi_symmetric": True, "eta_symmetric": True}


def stores_of(*detectors: dict[str, Any] | None) -> Any:
    """Two stores whose cards say this of the detector; None is a store without a card."""
    return tuple(
        SimpleNamespace(provenance={} if detector is None else {"card": {"detector": detector}})
        for detector in detectors
    )


def found(stores: Any, grid: Grid = SMALL_GRID, **training: bool) -> tuple[int, bool]:
    values = {"codec": "latent", "autoencoder": {"patch": [2, 2]}, "training": training}
    augmentation = augmentation_of(parse_config(values, "test"), stores, grid)
    return augmentation.phi_step, augmentation.eta_mirror


def test_what_everybody_allows_is_used():
    assert found(stores_of(BOTH, BOTH)) == (2, True)
    assert is_mirror(stores_of(BOTH, BOTH), SMALL_GRID)


@pytest.mark.parametrize(
    "other", [None, {}, {"phi_symmetric": False, "eta_symmetric": False}], ids=str
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_symmetry_that_one_card_does_not_state_is_not_assumed(other, is_first):
    stores = stores_of(BOTH, other) if is_first else stores_of(other, BOTH)
    assert found(stores) == (0, False)
    assert not is_mirror(stores, SMALL_GRID)


def test_each_symmetry_is_asked_for_by_its_own_name():
    assert found(stores_of(BOTH, {"phi_symmetric": True})) == (2, False)
    assert found(stores_of(BOTH, {"eta_symmetric": True})) == (0, True)


def test_the_config_may_refuse_each():
    stores = stores_of(BOTH, BOTH)
    assert found(stores, phi_roll=False) == (0, True)
    assert found(stores, eta_mirror=False) == (2, False)


def test_the_grid_may_refuse_each():
    stores = stores_of(BOTH, BOTH)
    lopsided = dataclasses.replace(SMALL_GRID, eta_edges=(*SMALL_GRID.eta_edges[:-1], 1.5))
    assert found(stores, lopsided) == (2, False)
    half = dataclasses.replace(SMALL_GRID, phi_min=0.0, phi_max=3.0)
    assert found(stores, half) == (0, True)


@pytest.mark.parametrize(
    ("layer_n_phi", "step"),
    [((12, 12), 2), ((12, 6), 2), ((12, 4), 6), ((12, 3), 4), ((6, 4), 6)],
)
def test_a_roll_keeps_patches_and_wide_cells_whole(layer_n_phi, step):
    grid = dataclasses.replace(SMALL_GRID, layer_n_phi=layer_n_phi)
    assert found(stores_of(BOTH, BOTH), grid)[0] == step


def test_there_is_no_roll_where_patches_and_wide_cells_do_not_close_to_a_ring():
    """Patches of 2 and cells of 5 in 15: 10 is no divisor of it."""
    grid = dataclasses.replace(SMALL_GRID, n_phi=15, layer_n_phi=(15, 3))
    assert found(stores_of(BOTH, BOTH), grid)[0] == 0
