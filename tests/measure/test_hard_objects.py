from __future__ import annotations

import numpy as np
import pytest

from pileupgen.calo.presets import get_grid
from pileupgen.measure.hard_objects import CONE, HardObjects, ObjectFinder, OverlaidObjects

pytest.importorskip("fastjet")
GRID = get_grid("atlas")


@pytest.fixture(scope="module")
def finder() -> ObjectFinder:
    return ObjectFinder(GRID)


def image(*deposits: tuple[float, float, float, int]) -> np.ndarray:
    """One event of deposits: E_T in GeV, η, φ, layer; each in one cell."""
    energy = np.zeros((1, *GRID.shape), dtype=np.float32)
    for et, eta, phi, layer in deposits:
        ring = np.argmin(abs(GRID.eta_centres - eta))
        cell = np.argmin(abs(GRID.phi_centres - phi))
        energy[0, layer, ring, cell] += et * np.cosh(GRID.eta_centres[ring])
    return energy


def flat(density: float) -> np.ndarray:
    """Pileup of the same E_T per area everywhere, in the second layer."""
    energy = np.zeros((1, *GRID.shape), dtype=np.float32)
    area = 0.1 * 2 * np.pi / GRID.n_phi
    energy[0, 1] = (density * area * np.cosh(GRID.eta_centres))[:, None]
    return energy


HARD = image((60, 0.55, 0.1, 1), (40, -1.05, -2.9, 0), (12, 1.55, 2.0, 1))


def test_objects_of_a_hard_scatter(finder: ObjectFinder) -> None:
    found = finder.hard(HARD)
    assert sorted(found.jet_pt) == pytest.approx([40, 60], rel=0.01)
    assert len(found.busy_event) == 3
    # A deposit of the first layer that nothing is around is an electron.
    assert found.lepton_et == pytest.approx([40], rel=0.01)
    assert found.lepton_isolation == pytest.approx([0], abs=1e-6)
    direction = [[np.cos(phi), np.sin(phi)] for phi in finder._grid.phi_centres]
    expected = -np.einsum("c,cx", finder._transverse(HARD)[0].sum(axis=0), direction)
    np.testing.assert_allclose(found.met[0], expected, rtol=1e-6)


def test_jets_near_each_other_are_not_taken(finder: ObjectFinder) -> None:
    found = finder.hard(image((60, 0.55, 0.1, 1), (40, 0.55, 0.75, 1)))
    assert len(found.jet_pt) == 0
    assert len(found.busy_event) == 2


def test_even_pileup_is_taken_off(finder: ObjectFinder) -> None:
    hard = finder.hard(HARD)
    found = finder.overlaid(HARD + flat(30.0), hard)
    np.testing.assert_allclose(found.jet_pt / hard.jet_pt, 1.0, atol=0.08)
    np.testing.assert_allclose(found.isolation, 0.0, atol=0.06 * 30 * np.pi * CONE**2)
    np.testing.assert_allclose(found.met, 0.0, atol=1e-3)
    assert found.n_pileup_jets == [0]
    assert found.sum_et == pytest.approx(112 + 30 * 5 * 2 * np.pi, rel=0.01)


def test_a_jet_of_pileup_is_counted_and_one_near_the_hard_scatters_is_not(
    finder: ObjectFinder,
) -> None:
    hard = finder.hard(HARD)
    for deposit, n in (((45, -0.05, 1.5, 1), 1), ((45, 0.75, 0.1, 1), 0)):
        found = finder.overlaid(HARD + image(deposit), hard)
        assert found.n_pileup_jets == [n]
        assert np.hypot(*found.met[0]) == pytest.approx(45, rel=0.02)


def test_a_jet_that_is_lost_is_not_found(finder: ObjectFinder) -> None:
    hard = finder.hard(HARD)
    found = finder.overlaid(image((40, -1.05, -2.9, 0)), hard)
    lost = np.isnan(found.jet_pt)
    assert hard.jet_pt[lost] == pytest.approx([60], rel=0.01)


def test_batches_join_to_the_same(finder: ObjectFinder) -> None:
    events = np.concatenate([HARD, image((30, 0.05, 0.0, 1)), HARD])
    whole = finder.hard(events)
    parts = [finder.hard(events[:1]), finder.hard(events[1:])]
    joined = HardObjects.join(parts)
    assert joined.n_events == 3
    np.testing.assert_allclose(joined.met, whole.met, rtol=1e-12)
    for name in ("jet_event", "jet_pt", "busy_event", "lepton_event"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    overlaid = finder.overlaid(events, whole)
    two = OverlaidObjects.join(
        [finder.overlaid(events[:1], parts[0]), finder.overlaid(events[1:], parts[1])]
    )
    np.testing.assert_array_equal(two.jet_pt, overlaid.jet_pt)
    np.testing.assert_array_equal(two.isolation, overlaid.isolation)
