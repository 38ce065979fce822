"""The census of towers against counting them one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pileupgen.calo.towers import Towers
from pileupgen.samples.census import TowerCensus

VALUES = (0.0, -0.0, 0.25, 0.5, 1.0, 3.0, -0.25, -999.0)


def towers_of(
    energy: NDArray[np.float32], edges: NDArray[Any], counts: list[int], **others: Any
) -> Towers:
    n = len(counts)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    mu, event_id = np.zeros(n, dtype=np.float32), np.arange(n)
    return Towers(offsets, edges, energy, ("em", "had"), mu, event_id, **others)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)), min_size=1, max_size=40),
    st.sampled_from([2, 4]),
    st.booleans(),
)
def test_numbers_are_those_of_a_loop_over_towers(
    energies: list[tuple[float, float]], n_columns: int, is_column_wise: bool
) -> None:
    energy = np.array(energies, dtype=np.float32, order="F" if is_column_wise else "C")
    rng = np.random.default_rng(len(energies))
    edges = np.round(rng.uniform(-3, 3, (len(energy), n_columns)), 1)
    found = TowerCensus.of(towers_of(energy, edges, [len(energy)]))
    for layer in range(2):
        hits = [float(e) for e in energy[:, layer] if e != 0]
        count = Counter(hits)
        low, high = (min(hits), max(hits)) if hits else (0.0, 0.0)
        assert found.lowest[layer] == (low, count[low])
        assert found.highest[layer] == (high, count[high])
        ranked = sorted(count.items(), key=lambda item: (-item[1], item[0]))
        assert found.frequent[layer] == ranked[:2]
        others = len(hits) - (ranked[0][1] if ranked else 0)
        assert found.distinct[layer] == ((len(count) - 1) / others if others else 1.0)
        assert found.absolute[layer] == pytest.approx(sum(map(abs, hits)))
        assert found.negative[layer] == pytest.approx(-sum(e for e in hits if e < 0))
        assert found.size[layer] == pytest.approx(sum(map(abs, hits)))
    has_energy = (energy != 0).any(axis=1)
    if has_energy.any():
        for ends, sides in zip(
            (found.eta, found.phi), np.hsplit(edges[has_energy], 2), strict=True
        ):
            middle = sides.mean(axis=1)
            assert ends == pytest.approx((middle.min(), middle.max()))


@pytest.mark.parametrize("n", [1, 1023, 1024, 3000])
@pytest.mark.parametrize("where", [0, -1])
def test_ends_are_found_among_any_number_of_places(n: int, where: int) -> None:
    rng = np.random.default_rng(n)
    edges = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    edges[where] = (2.5, -3.0)
    found = TowerCensus.of(towers_of(np.ones((n, 2), dtype=np.float32), edges, [n]))
    assert found.eta == (edges[:, 0].min(), 2.5)
    assert found.phi == (-3.0, edges[:, 1].max())


def test_towers_that_come_twice_in_an_event_are_counted() -> None:
    rng = np.random.default_rng(2)
    edges, energy = rng.random((60, 2)), rng.random((60, 2)).astype(np.float32)
    edges[10], energy[10] = edges[3], energy[3]
    edges[11] = edges[4]
    # The same tower again, but of another event; and one without energy.
    edges[45], energy[45] = edges[5], energy[5]
    edges[12], energy[12], edges[6], energy[6] = 0.5, 0.0, 0.5, 0.0
    edges[7], energy[7] = (0.0, 1.0), (1.0, 0.0)
    edges[8], energy[8] = (-0.0, 1.0), (1.0, -0.0)
    found = TowerCensus.of(towers_of(energy, edges, [30, 30]))
    assert (found.n_looked_at, found.n_twice) == (58, 2)


def test_the_span_in_phi_is_that_of_an_event_beyond_a_turn() -> None:
    energy = np.ones((4, 2), dtype=np.float32)
    edges = np.array([[0, 0.0], [0, 3.0], [0, 8.0], [0, 12.5]])
    found = TowerCensus.of(towers_of(energy, edges, [2, 2]))
    assert found.phi_span == 4.5
    assert TowerCensus.of(towers_of(energy, edges, [4])).phi_span == 12.5


def test_a_frequent_value_is_that_of_the_file_where_it_has_transverse_energy() -> None:
    rng = np.random.default_rng(5)
    factor = np.cosh(rng.uniform(-2, 2, 500))
    et = rng.exponential(2, (500, 2))
    et[::5, 0] = -999.0
    energy = (et * factor[:, None]).astype(np.float32)
    found = TowerCensus.of(towers_of(energy, rng.random((500, 2)), [500], factor=factor))
    assert found.lowest[0] == (-999.0, 100)
    assert found.frequent[0][0] == (-999.0, 100)
    assert found.size[0] == pytest.approx(np.abs(et[:, 0]).sum(), rel=1e-5)
    assert found.absolute[0] == pytest.approx(np.abs(energy[:, 0]).sum(dtype=float))
