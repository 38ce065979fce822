from __future__ import annotations

import numpy as np
import pytest

from pileupgen.errors import InputError
from pileupgen.measure.sample import measure_sample
from pileupgen.measure.spectrum import SPECTRUM_EDGES


def batches(toy, energy, size, **columns):
    images = toy.images(energy, **columns)
    for begin in range(0, len(energy), size):
        part = slice(begin, begin + size)
        yield toy.images(
            images.energy[part], **{key: value[part] for key, value in images.columns.items()}
        )


def measure(toy, energy, size=50, **columns):
    return measure_sample("source", "mc", batches(toy, energy, size, **columns), toy.grid)


def test_batches_do_not_matter(toy):
    energy = toy.energies(90)
    one, many = measure(toy, energy, 90), measure(toy, energy, 7)
    for name, values in one.observables.items():
        assert values == pytest.approx(many.observables[name], rel=1e-12, abs=1e-12)
    assert one.cells.energy == pytest.approx(many.cells.energy)
    assert one.cells.spectrum_error == pytest.approx(many.cells.spectrum_error)


def test_mean_map_and_its_error_are_those_of_numpy(toy):
    energy = toy.energies(80)
    cells = measure(toy, energy).cells
    assert cells.energy == pytest.approx(energy.mean(axis=0, dtype=float))
    assert cells.energy_error == pytest.approx(energy.std(axis=0, dtype=float) / np.sqrt(80))


def test_rings_sum_the_transverse_energy(toy):
    energy = toy.energies(30)
    sample = measure(toy, energy)
    et = energy / np.cosh(toy.grid.eta_centres)[:, None]
    assert sample.cells.ring_et == pytest.approx(et.sum(axis=3).mean(axis=0, dtype=float))
    assert sample.cells.ring_et.sum() == pytest.approx(sample.observables["sum_et"].mean())


def test_the_spectrum_holds_every_hit_also_out_of_range(toy):
    energy = toy.energies(40)
    energy[0, 0, 0, 0], energy[1, 0, 0, 0] = 1e-9, 1e9
    spectrum = measure(toy, energy).cells.spectrum
    hits = (energy > 0).sum(axis=(2, 3)).mean(axis=0)
    assert spectrum.sum(axis=1) == pytest.approx(hits)
    assert (spectrum[0, 0], spectrum[0, -1]) == pytest.approx((1 / 40, 1 / 40))
    assert spectrum.shape == (2, len(SPECTRUM_EDGES) + 1)


def test_the_spectrum_is_binned_in_log_mev(toy):
    energy = np.zeros((1, *toy.grid.shape), dtype=np.float32)
    energy[0, 1, 0, 0] = 2.0
    spectrum = measure(toy, energy).cells.spectrum[1]
    place = int(np.searchsorted(SPECTRUM_EDGES, np.log10(2000.0)))
    assert spectrum[place] == 1.0


def test_a_weight_of_two_is_an_event_twice(toy):
    energy = toy.energies(30)
    weight = np.ones(30)
    weight[3] = 2.0
    doubled = measure(toy, np.concatenate([energy, energy[3:4]]))
    weighted = measure(toy, energy, weight=weight)
    assert weighted.cells.energy == pytest.approx(doubled.cells.energy)
    assert weighted.effective_size == pytest.approx(31**2 / 33)


def test_translated_events_are_known_by_their_source(toy):
    sample = measure(toy, toy.energies(5), source_event=np.array([8, 6, 4, 2, 0]))
    assert list(sample.event_id) == [8, 6, 4, 2, 0]


def test_rows_can_be_taken(toy):
    sample = measure(toy, toy.energies(20))
    some = sample.take(np.array([3, 5]))
    assert len(some) == 2
    assert np.array_equal(some.matrix(), sample.matrix()[[3, 5]])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_energies_that_are_no_numbers_are_counted_and_refused(toy, value):
    energy = toy.energies(30)
    energy[[4, 20], 0, 0, 0] = value
    with pytest.raises(InputError, match=r"2 of 30 events hold NaN .* first is event 4"):
        measure(toy, energy, size=10)


def test_no_events_are_refused(toy):
    with pytest.raises(InputError, match="no events"):
        measure(toy, toy.energies(0))


def test_empty_events_are_counted(toy):
    energy = toy.energies(10)
    energy[:4] = 0.0
    assert measure(toy, energy).n_empty == 4


def test_the_two_spectra_hold_every_hit_of_either_sign(toy):
    energy = toy.energies(40)
    energy[:, 0, 0] *= -1
    energy[0, 0, 0, 0], energy[1, 0, 0, 0] = -1e-9, -1e9
    cells = measure(toy, energy, 13).cells
    mirrored = measure(toy, -energy, 13).cells
    assert cells.spectrum.sum(axis=1) == pytest.approx((energy > 0).sum(axis=(2, 3)).mean(axis=0))
    assert cells.negative.sum(axis=1) == pytest.approx((energy < 0).sum(axis=(2, 3)).mean(axis=0))
    assert (cells.negative[0, 0], cells.negative[0, -1]) == pytest.approx((1 / 40, 1 / 40))
    assert np.array_equal(cells.occupancy, np.mean(energy != 0, axis=0))
    for name in ("spectrum", "spectrum_error"):
        flipped = name.replace("spectrum", "negative")
        assert np.array_equal(getattr(cells, name), getattr(mirrored, flipped))


def test_without_negative_cells_there_is_nothing_of_them(toy):
    sample = measure(toy, toy.energies(20))
    assert not sample.cells.negative.any()
    assert not sample.negatives.any()
