"""Event weights: read by every format, stored, and read back from what pileupgen exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.errors import ImplausibleInputError, MissingFieldError, UnreadableInputError
from pileupgen.samples.cards import DataCard, load_card
from pileupgen.samples.export import export_root
from pileupgen.samples.export_features import export_root_features
from pileupgen.samples.ingest import ingest
from pileupgen.samples.store import ImageStore
from pileupgen.samples.weights import rows_by_weight, share_out_negative
from tests.sample_files import delphes_branches, jagged, random_towers, write_tree

N_EVENTS = 40
GRID = get_grid("atlas")
WEIGHTS: NDArray[np.float64] = np.round(np.linspace(-0.5, 3.0, N_EVENTS), 3)


def write_weighted(path: Path, weights: NDArray[np.float64] = WEIGHTS) -> None:
    branches = delphes_branches(random_towers(N_EVENTS, 1))
    branches["Event.Weight"] = jagged(np.ones(N_EVENTS, dtype=np.int64), weights)
    branches["other"] = weights[::-1].copy()
    write_tree(path, branches, steps=3)


def card_of(folder: Path, values: dict[str, Any], **changes: Any) -> DataCard:
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}), encoding="utf-8")
    return load_card(path)


def stored(card: DataCard, path: Path, grid: Grid = GRID) -> ImageStore:
    ingest(card.open(card.input_files()), grid, path, domain="mc", card=card, inputs=[])
    return ImageStore(path)


def test_delphes_weights_are_read_unasked(tmp_path: Path, card_values: dict[str, Any]) -> None:
    write_weighted(tmp_path / "sample.root")
    store = stored(card_of(tmp_path, card_values), tmp_path / "a.h5")
    np.testing.assert_array_equal(store.columns["weight"], WEIGHTS)


def test_another_branch_or_none(tmp_path: Path, card_values: dict[str, Any]) -> None:
    write_weighted(tmp_path / "sample.root")
    other = stored(card_of(tmp_path, card_values, weight="other"), tmp_path / "a.h5")
    np.testing.assert_array_equal(other.columns["weight"], WEIGHTS[::-1])
    none = stored(card_of(tmp_path, card_values, weight="none"), tmp_path / "b.h5")
    np.testing.assert_array_equal(none.columns["weight"], 1.0)


def test_weights_do_not_depend_on_where_a_piece_begins(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    write_weighted(tmp_path / "sample.root")
    reader = card_of(tmp_path, card_values).open([tmp_path / "sample.root"])
    found = [towers.weight for span in ((31, 40), (7, 31)) for towers in reader.read(_span(*span))]
    np.testing.assert_array_equal(
        np.concatenate([part for part in found if part is not None]),
        np.concatenate([WEIGHTS[31:], WEIGHTS[7:31]]),
    )


def test_negative_weights_are_shared_out_among_alike_events() -> None:
    rng = np.random.default_rng(2)
    x = rng.exponential(1, (4000, 1))
    group = np.arange(4000) % 3
    weight = np.where(rng.random(4000) < 0.15, -1.0, 1.0) * np.exp(-0.5 * x[:, 0])
    shared = share_out_negative(weight, x, group)
    assert np.all(shared >= 0)
    for number in range(3):
        inside = group == number
        assert shared[inside].sum() == pytest.approx(weight[inside].sum(), rel=1e-9)
    # What the weights say of the distribution stays, to the width of a cell.
    for power in (1, 2):
        before = np.average(x[:, 0] ** power, weights=weight)
        assert np.average(x[:, 0] ** power, weights=shared) == pytest.approx(before, rel=0.01)
    assert np.average(x[:, 0]) > 1.3 * np.average(x[:, 0], weights=weight)


def test_positive_weights_stay() -> None:
    weight = np.array([0.5, 2.0, 0.0])
    same = share_out_negative(weight, np.ones((3, 1)), np.zeros(3, dtype=int))
    np.testing.assert_array_equal(same, weight)


def test_a_split_of_negative_weight_is_refused() -> None:
    with pytest.raises(ImplausibleInputError, match="split 0 add up to -1"):
        share_out_negative(np.array([1.0, -2.0]), np.ones((2, 1)), np.zeros(2, dtype=int))


def test_rows_come_in_proportion_to_their_weights() -> None:
    weight = np.array([1.0, 3.0, 0.0, 0.5, 3.5])
    rows = rows_by_weight(np.tile(weight, 50))
    counts = np.bincount(rows, minlength=250)
    np.testing.assert_allclose(counts, np.tile(weight, 50) / 1.6, atol=1)
    assert len(rows) == 250
    assert rows_by_weight(np.ones(9), 4).tolist() == [0, 1, 2, 3]


def test_the_store_has_both_weights_and_uses_the_positive(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    write_weighted(tmp_path / "sample.root")
    store = stored(card_of(tmp_path, card_values), tmp_path / "a.h5")
    used = store.read().weight
    assert np.all(used >= 0)
    assert used.sum() == pytest.approx(WEIGHTS.sum(), rel=1e-9)
    np.testing.assert_array_equal(store.columns["weight"], WEIGHTS)
    assert np.all(store.read().weighted(np.full(N_EVENTS, 2.0)).weight == 2)
    other = stored(card_of(tmp_path, card_values, weight="none"), tmp_path / "b.h5")
    assert "weight_positive" not in other.columns


def _span(begin: int, end: int) -> Any:
    from pileupgen.samples.readers import Span

    return Span(0, begin, end, 0)


def test_a_weight_that_is_missing_nested_or_not_finite(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    write_weighted(tmp_path / "sample.root")
    with pytest.raises(MissingFieldError, match="has no 'mcWeight', the event weights"):
        stored(card_of(tmp_path, card_values, weight="mcWeight"), tmp_path / "a.h5")
    with pytest.raises(UnreadableInputError, match=r"'Tower\.Eem' is not one number an event"):
        stored(card_of(tmp_path, card_values, weight="Tower.Eem"), tmp_path / "a.h5")
    bad = WEIGHTS.copy()
    bad[17] = np.nan
    write_weighted(tmp_path / "sample.root", bad)
    with pytest.raises(UnreadableInputError, match="event 17: its weight is nan"):
        stored(card_of(tmp_path, card_values), tmp_path / "a.h5")


def test_weights_in_hdf5(tmp_path: Path, card_values: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "sample.h5", "w") as file:
        file["cells"] = np.random.default_rng(1).exponential(1, (N_EVENTS, 4, 6, 2))
        file["event/w"] = WEIGHTS
    values = {
        **card_values,
        "files": "sample.h5",
        "format": "hdf5",
        "options": {"dataset": "cells", "eta_range": [-1, 1]},
        "units": {"energy": "GeV"},
    }
    grid = Grid(tuple(np.linspace(-1, 1, 5)), 6)
    plain = stored(card_of(tmp_path, values), tmp_path / "a.h5", grid)
    np.testing.assert_array_equal(plain.columns["weight"], 1.0)
    named = stored(card_of(tmp_path, values, weight="event/w"), tmp_path / "b.h5", grid)
    np.testing.assert_array_equal(named.columns["weight"], WEIGHTS)


def test_own_exports_are_read_back_with_their_weights(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    write_weighted(tmp_path / "sample.root")
    first = stored(card_of(tmp_path, card_values), tmp_path / "a.h5")
    export_root(first, first.indices(), tmp_path / "again.root")
    again = stored(card_of(tmp_path, card_values, files="again.root", mu="Mu"), tmp_path / "b.h5")
    for name in ("weight", "mu"):
        np.testing.assert_array_equal(again.columns[name], first.columns[name])
    np.testing.assert_array_equal(again.read().energy, first.read().energy)


def test_own_tables_of_features_are_read_back_with_their_weights(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    with h5py.File(tmp_path / "sample.h5", "w") as file:
        file["pt"] = np.random.default_rng(1).exponential(1, N_EVENTS)
        file["w"] = WEIGHTS
    features = {"format": "features", "options": {"features": {"pt": "pt"}}}
    card = card_of(tmp_path, card_values, files="sample.h5", weight="w", **features)
    assert card.grid is not None
    first = stored(card, tmp_path / "a.h5", card.grid)
    np.testing.assert_array_equal(first.columns["weight"], WEIGHTS)
    export_root_features(first, first.indices(), tmp_path / "again.root")
    options = {"features": {"pt": "pt"}, "tree": "features"}
    card = card_of(tmp_path, card_values, files="again.root", format="features", options=options)
    again = stored(card, tmp_path / "b.h5", first.grid)
    np.testing.assert_array_equal(again.columns["weight"], WEIGHTS)


def test_rows_come_as_often_as_a_comb_of_even_steps_meets_them() -> None:
    weight = np.array([1.0, 3.0, 0.0, 2.0])
    assert rows_by_weight(weight, 3).tolist() == [1, 1, 3]
    assert rows_by_weight(weight, 3, start=0.0).tolist() == [0, 1, 3]
    assert rows_by_weight(weight).tolist() == [0, 1, 1, 3]
