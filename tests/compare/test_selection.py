from __future__ import annotations

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.compare.selection import paired_batches, rows_of_events, select_events
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import validate_stores
from pileupgen.errors import GeometryError, InputError, StoreError

QUICK = ComparisonSettings(n_bootstrap=10, n_seeds=0)


def test_only_held_out_events_are_compared(toy_stores):
    chosen = select_events(**toy_stores, seed=1)
    target, source = toy_stores["target"], toy_stores["source"]
    assert np.all(target.columns["split"][chosen.target] == 2)
    assert np.all(source.columns["split"][chosen.source] == 2)
    assert chosen.held_out
    assert chosen.notes == ()
    linked = source.columns["event_id"][chosen.source[chosen.source_of]]
    assert np.array_equal(linked, toy_stores["translated"].columns["source_event"])


def test_reference_samples_are_disjoint_as_large_as_the_source_and_not_the_target(toy_stores):
    chosen = select_events(**toy_stores, seed=1)
    assert {len(rows) for rows in chosen.references} == {len(chosen.source)}
    pooled = np.concatenate([*chosen.references, chosen.target])
    assert len(np.unique(pooled)) == len(pooled)
    assert len(chosen.references) == 3


def test_another_seed_chooses_other_reference_events(toy_stores):
    first, second = (select_events(**toy_stores, seed=seed).references[0] for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_events_that_training_saw_are_used_only_for_want_of_others(toy, tmp_path, toy_stores):
    source = toy_stores["source"]
    rows = source.indices("train")[:150]
    translated = toy.store(
        tmp_path / "t.h5",
        source.read(rows).energy,
        "mc_to_data",
        source_event=source.columns["event_id"][rows],
    )
    chosen = select_events(toy_stores["target"], source, translated)
    assert len(chosen.translated) == 150
    assert not chosen.held_out
    assert "may have been trained on" in chosen.notes[0]


def test_several_translations_of_one_event_share_their_source(toy, tmp_path, toy_stores):
    source = toy_stores["source"]
    rows = np.repeat(source.indices("test")[:60], 2)[::-1]
    translated = toy.store(
        tmp_path / "t.h5",
        source.read(rows).energy,
        "mc_to_data",
        source_event=source.columns["event_id"][rows],
    )
    chosen = select_events(toy_stores["target"], source, translated)
    assert (len(chosen.source), len(chosen.translated)) == (60, 120)
    result = validate_stores(toy_stores["target"], source, translated, QUICK).comparison
    assert result.translated.source_correlation.cell.value == pytest.approx(1.0)
    assert result.translated.mean_w1.value == pytest.approx(result.source.mean_w1.value)


def test_few_events_are_said(toy, tmp_path, toy_stores):
    source = toy_stores["source"]
    rows = source.indices("test")[:20]
    translated = toy.store(
        tmp_path / "t.h5",
        source.read(rows).energy,
        "mc_to_data",
        source_event=source.columns["event_id"][rows],
    )
    notes = select_events(toy_stores["target"], source, translated).notes
    assert any("only 20 translated events" in note for note in notes)


def test_a_store_without_links_is_refused(toy_stores):
    with pytest.raises(StoreError, match="does not link"):
        select_events(toy_stores["target"], toy_stores["source"], toy_stores["source"])


def test_a_translation_of_another_sample_with_the_same_numbers_is_refused(
    toy, tmp_path, toy_stores
):
    target, source, translated = (toy_stores[name] for name in ("target", "source", "translated"))
    for number, provenance in enumerate(({"seed": 9}, source.provenance)):
        store = toy.store(
            tmp_path / f"{number}.h5",
            translated.read().energy,
            "mc_to_data",
            provenance={"source": provenance},
            source_event=translated.columns["source_event"],
        )
        if provenance == source.provenance:
            assert len(select_events(target, source, store).translated) == len(store)
        else:
            with pytest.raises(StoreError, match="was translated from another sample"):
                select_events(target, source, store)


def test_links_that_lead_nowhere_are_counted(toy, tmp_path, toy_stores):
    translated = toy.store(
        tmp_path / "t.h5",
        toy.energies(10),
        "mc_to_data",
        source_event=np.arange(595, 605),
    )
    with pytest.raises(StoreError, match="source of 5 of 10 events"):
        select_events(toy_stores["target"], toy_stores["source"], translated)


def test_other_geometry_is_refused(toy, tmp_path, toy_stores):
    grid = Grid(toy.grid.eta_edges, 10)
    other = toy.store(tmp_path / "o.h5", toy.energies(10, grid=grid), "mc", grid=grid)
    with pytest.raises(GeometryError, match="n_phi = 10"):
        select_events(toy_stores["target"], other, toy_stores["translated"])


@pytest.mark.parametrize(("split", "message"), [(0, "no test events"), (2, "only test events")])
def test_a_target_that_cannot_be_split_is_refused(toy, tmp_path, toy_stores, split, message):
    energy = toy.energies(20)
    target = toy.store(tmp_path / "d.h5", energy, "data", split=np.full(20, split))
    with pytest.raises(InputError, match=message):
        select_events(target, toy_stores["source"], toy_stores["translated"])


def test_rows_are_found_by_event_number(toy, tmp_path):
    store = toy.store(tmp_path / "s.h5", toy.energies(3), "mc", event_id=np.array([30, 10, 20]))
    assert list(rows_of_events(store, np.array([10, 20, 30, 40, 0]))) == [1, 2, 0, -1, -1]


def test_pairs_are_read_side_by_side_in_any_order(toy_stores):
    source, translated = toy_stores["source"], toy_stores["translated"]
    rows = np.array([5, 2, 2, 9])
    ((first, second),) = paired_batches(source, rows, translated, rows[::-1])
    assert np.array_equal(first, source.read().energy[rows])
    assert np.array_equal(second, translated.read().energy[rows[::-1]])


def test_weights_of_the_source_are_inherited_unless_own_ones_are_asked_for(toy, tmp_path):
    energy = toy.energies(400, seed=1)
    weight = np.linspace(0.5, 1.5, 400)
    source = toy.store(tmp_path / "mc.h5", energy, "mc", weight=weight)
    target = toy.store(tmp_path / "data.h5", toy.energies(400, seed=2), "data")
    rows = source.indices("test")
    translated = toy.translated(
        tmp_path / "t.h5", source, energy[rows], weight=np.full(len(rows), 3.0)
    )
    plain = validate_stores(target, source, translated, QUICK)
    assert np.array_equal(plain.samples.translated.weight, weight[rows])
    own = validate_stores(
        target, source, translated, ComparisonSettings(n_bootstrap=10, n_seeds=0, weighted=True)
    )
    assert np.all(own.samples.translated.weight == 3.0)
    assert own.comparison.ess == pytest.approx(1.0)


def test_poor_weights_are_said(toy, tmp_path, toy_stores):
    source = toy_stores["source"]
    rows = source.indices("test")
    weight = np.where(np.arange(len(rows)) < 3, 1.0, 1e-6)
    translated = toy.translated(tmp_path / "t.h5", source, source.read(rows).energy, weight=weight)
    result = validate_stores(toy_stores["target"], source, translated, QUICK).comparison
    assert any("effective sample size of the release weights" in note for note in result.notes)


def test_true_pairs_set_the_measure(toy, tmp_path, toy_stores):
    source = toy_stores["source"]
    energy = source.read().energy
    noise = np.random.default_rng(0).lognormal(0.0, 0.3, energy.shape).astype(np.float32)
    truth = toy.store(tmp_path / "truth.h5", 1.3 * energy * noise, "data")
    result = validate_stores(
        toy_stores["target"], source, toy_stores["translated"], QUICK, truth=truth
    ).comparison
    assert 0.5 < result.truth.source.cell.value < 0.98
    assert result.truth.source.n_pairs == 150
    # The toy translation only scales, so it is as near to the truth as the source is.
    assert result.truth.translated.cell.value == pytest.approx(
        result.truth.source.cell.value, abs=1e-4
    )


def test_a_truth_of_other_events_is_refused(toy, tmp_path, toy_stores):
    truth = toy.store(tmp_path / "t.h5", toy.energies(5), "data", event_id=np.arange(9000, 9005))
    with pytest.raises(InputError, match="counterpart of no source event"):
        validate_stores(**toy_stores, settings=QUICK, truth=truth)


def test_cells_are_tested_when_asked(toy_stores):
    settings = ComparisonSettings(n_bootstrap=10, n_seeds=0, cells=True)
    result = validate_stores(**toy_stores, settings=settings).comparison
    assert result.source.two_sample.cells.auc > 0.7  # 8 errors above chance
    assert "auc_cells" in result.headline
