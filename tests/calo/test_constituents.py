"""Jets to tables of constituents and back."""

from __future__ import annotations

import numpy as np

from pileupgen.calo.constituents import (
    constituent_names,
    constituents_of,
    n_constituents,
    table_of,
)
from pileupgen.calo.geometry import Grid
from tests.toys import SMALL_GRID


def test_a_table_is_known_by_its_names():
    names = constituent_names(4)
    assert n_constituents(Grid.of_features(names, [""] * 12)) == 4
    assert n_constituents(Grid.of_features(names[:-1], [""] * 11)) == 0
    assert n_constituents(Grid.of_features(names[::-1], [""] * 12)) == 0
    assert n_constituents(SMALL_GRID) == 0


def test_the_leading_constituents_come_back_in_order_of_pt():
    rng = np.random.default_rng(1)
    place, pt = rng.normal(size=(5, 2)).astype("f4"), rng.exponential(size=5).astype("f4")
    order = np.argsort(-pt)
    few, many = table_of(place, pt, 3), table_of(place, pt, 8)
    assert few.shape == (9, 1, 1)
    found = constituents_of(np.stack([many]))[0]
    np.testing.assert_array_equal(found[:5, :2], place[order])
    np.testing.assert_array_equal(found[:5, 2], pt[order])
    assert not found[5:].any()
    np.testing.assert_array_equal(constituents_of(few[None])[0], found[:3])


def test_what_has_no_pt_is_absent_wherever_it_stands():
    row = np.array([0.1, 0.2, 0.0, 0.3, 0.4, 0.5, 0.6, 0.7, -0.1], dtype="f4").reshape(1, 9, 1, 1)
    expected = np.array([[0.3, 0.4, 0.5], [0, 0, 0], [0, 0, 0]], dtype="f4")
    np.testing.assert_array_equal(constituents_of(row)[0], expected)
