from __future__ import annotations

import re

import numpy as np
import pytest

from pileupgen.compare.selection import select_events
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import validate_stores

SETTINGS = ComparisonSettings(n_bootstrap=10, n_seeds=0, n_mu_bins=1)


@pytest.fixture(scope="module")
def stores(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("variations")
    target = toy.store(folder / "data.h5", toy.energies(400, 1, scale=1.2), "data")
    source = toy.store(folder / "mc.h5", toy.energies(400, 2), "mc")
    n, ids = 100, source.columns["event_id"][source.indices("test")]
    draws = [toy.energies(n, 10 + k, scale=1.2) for k in range(4)]
    plain = toy.translated(folder / "plain.h5", source, draws[0])
    repeated = {
        "source_event": np.repeat(ids, 4),
        "seed": np.zeros(4 * n, dtype=np.int64),
        "split": np.full(4 * n, 2, dtype=np.uint8),
        "member": np.tile([0, 0, 1, 1], n),
        "draw": np.tile([0, 1, 0, 1], n),
    }
    energy = np.stack(draws, axis=1).reshape(-1, *draws[0].shape[1:])
    many = toy.translated(folder / "many.h5", source, energy, **repeated)
    return target, source, plain, many


def test_an_event_counts_once_however_often_it_was_translated(stores):
    target, source, plain, many = stores
    once, often = (validate_stores(target, source, part, SETTINGS) for part in (plain, many))
    rows = select_events(target, source, many).translated
    assert np.array_equal(rows, np.arange(0, 400, 4))
    assert often.comparison.translated.n_events == once.comparison.translated.n_events == 100
    assert often.comparison.translated.mean_w1 == once.comparison.translated.mean_w1


def test_the_spread_over_draws_and_members_is_told(stores):
    target, source, plain, many = stores
    notes = "\n".join(validate_stores(target, source, many, SETTINGS).comparison.notes)
    assert "each event is compared once" in notes
    for what in ("2 draws", "2 ensemble members"):
        found = re.search(rf"over {what} is ([\d.]+) with a standard deviation of ([\d.]+)", notes)
        assert found is not None
        assert 0 < float(found[2]) < float(found[1])
    assert "draws" not in "\n".join(
        validate_stores(target, source, plain, SETTINGS).comparison.notes
    )


def test_weighted_comparisons_tell_the_unweighted_number_too(stores, toy, tmp_path):
    target, source, plain, _ = stores
    weight = np.random.default_rng(0).lognormal(0, 1, 100)
    weighted = toy.translated(tmp_path / "w.h5", source, plain.read().energy, weight=weight)
    settings = ComparisonSettings(n_bootstrap=10, n_seeds=0, n_mu_bins=1, weighted=True)
    comparison = validate_stores(target, source, weighted, settings).comparison
    (note,) = [text for text in comparison.notes if "without" in text]
    with_, without = map(float, re.findall(r"([\d.]+) ±", note))
    assert with_ == pytest.approx(comparison.translated.mean_w1.value, abs=6e-4)
    plain_value = validate_stores(target, source, weighted, SETTINGS).comparison
    assert without == pytest.approx(plain_value.translated.mean_w1.value, abs=6e-4)
    assert abs(with_ - without) > 1e-3
