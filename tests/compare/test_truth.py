"""Correlations with true counterparts: the same interactions in the target's detector."""

from __future__ import annotations

import numpy as np
import pytest

from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import validate_stores
from pileupgen.errors import InputError
from pileupgen.report.text import headline_text

SETTINGS = ComparisonSettings(n_bootstrap=10, n_seeds=0, n_mu_bins=1)


@pytest.fixture(scope="module")
def stores(toy, tmp_path_factory):
    """Source, target, a translation that is the truth, and the truth in another order."""
    folder = tmp_path_factory.mktemp("truth")
    rng = np.random.default_rng(4)
    before = toy.energies(400, seed=1)
    after = (before * rng.lognormal(0.2, 0.3, before.shape)).astype(np.float32)
    source = toy.store(folder / "mc.h5", before, "mc")
    target = toy.store(folder / "data.h5", toy.energies(400, seed=2, scale=1.2), "data")
    translated = toy.translated(folder / "t.h5", source, after[source.indices("test")])
    order = rng.permutation(400)
    truth = toy.store(folder / "truth.h5", after[order], "data", event_id=order)
    some = order[order % 2 == 0]
    half = toy.store(folder / "half.h5", after[some], "data", event_id=some)
    return {"target": target, "source": source, "translated": translated}, truth, half


def test_a_perfect_translation_is_its_truth_and_the_source_is_the_reach(stores):
    three, truth, _ = stores
    comparison = validate_stores(**three, settings=SETTINGS, truth=truth).comparison
    found = comparison.truth
    assert found.translated.block.value == pytest.approx(1.0)
    assert found.translated.cell.value == pytest.approx(1.0)
    assert found.translated.n_pairs == found.source.n_pairs == 100
    kept = comparison.translated.source_correlation
    assert found.source.block.value == pytest.approx(kept.block.value)
    assert 0.5 < found.source.cell.value < found.source.block.value < 1.0
    assert found.source.block.low < found.source.block.value < found.source.block.high
    shown = {number.name: number for number, _ in comparison.shown()}
    text = headline_text(shown["truth_correlation_block"], comparison.column("translated"))
    assert text.startswith("1.000")


def test_events_without_a_counterpart_are_left_out(stores):
    three, _, half = stores
    comparison = validate_stores(**three, settings=SETTINGS, truth=half).comparison
    test_events = three["source"].columns["event_id"][three["source"].indices("test")]
    assert comparison.truth.translated.n_pairs == np.sum(test_events % 2 == 0)
    assert comparison.truth.translated.cell.value == pytest.approx(1.0)


def test_events_that_only_share_their_numbers_are_no_truth(toy, stores, tmp_path):
    """As those of any other sample, whose numbers begin at 0 too."""
    three, _, _ = stores
    energy, mu = three["source"].read().energy, three["source"].columns["mu"] + 1
    other = toy.store(tmp_path / "other.h5", energy, "data", mu=mu)
    with pytest.raises(InputError, match=r"100 of 100 events of .* have another μ"):
        validate_stores(**three, settings=SETTINGS, truth=other)


def test_a_truth_of_other_events_is_refused(toy, stores, tmp_path):
    three, _, _ = stores
    other = toy.store(tmp_path / "o.h5", toy.energies(5), "data", event_id=np.arange(9000, 9005))
    with pytest.raises(InputError, match="counterpart of no source event"):
        validate_stores(**three, settings=SETTINGS, truth=other)
