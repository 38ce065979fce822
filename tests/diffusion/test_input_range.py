"""Events beyond the training's range, and events unlike the training's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.input_range import compare_sample, input_range, require_within
from pileupgen.diffusion.source_summary import RangeSummary, SampleCheck
from pileupgen.errors import ImplausibleInputError
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.event_check import EventCheck, total_names, totals
from pileupgen.samples.store import Images, ImageStore, create_store
from tests.conftest import SMALL_GRID, make_energies


def images_of(energy: np.ndarray, mu: np.ndarray) -> Images:
    return Images(energy, SMALL_GRID, {"mu": mu, "event_id": np.arange(len(mu)) + 70})


@pytest.fixture(scope="module")
def calibration() -> CellCalibration:
    samples = [make_energies(300, domain, 3) for domain in (0, 1)]
    found = CellCalibration(2, 8, 12, n_knots=32, n_mu_bins=2, n_layer_bins=3)
    found.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    return found


@pytest.fixture(scope="module")
def check() -> EventCheck:
    found = EventCheck(2, 8, 12)
    samples = [make_energies(3000, domain, 5) for domain in (0, 1)]
    shares = SMALL_GRID.transverse_shares
    values = [totals(torch.from_numpy(e), torch.from_numpy(shares)) for e, _ in samples]
    found.fit(values, [mu for _, mu in samples], shares)
    return found


def test_cells_and_mu_beyond_the_training_are_counted_and_measured(calibration):
    energy, mu = make_energies(5, 0, 9)
    energy = np.minimum(energy, 5)
    mu = np.array([60, 5, 900, np.nan, 60], dtype=np.float32)
    largest = float(calibration.largest[0, 1, 3])
    energy[0, 1, 3, 2] = 20 * largest
    energy[4] = 0
    energy[4, 0, 0, :3] = [0.3, 0.3, 1.4]
    found = input_range(images_of(energy, mu), calibration, None, 0)
    assert found.cells_above.tolist() == [1, 0, 0, 0, 0]
    assert found.energy_ratio[0] == pytest.approx(20)
    assert found.cells_below.tolist() == [0, 0, 0, 0, 2]
    assert found.energy_below[4] == pytest.approx(0.3)
    low, high = calibration.mu_range.tolist()
    np.testing.assert_allclose(found.mu_ratio, [1, 5 / low, 900 / high, np.nan, 1], rtol=1e-6)
    summary = RangeSummary.of(found.columns())
    assert (summary.n_above, summary.n_below, summary.n_mu) == (1, 1, 2)
    assert len(summary.lines()) == 3


def test_events_far_outside_are_refused_by_name_unless_asked_for(calibration):
    energy, mu = make_energies(4, 0, 9)
    energy = np.minimum(energy, 5)
    inside = input_range(images_of(energy, mu), calibration, None, 0)
    require_within(inside, images_of(energy, mu), "refuse")
    hot, far = energy.copy(), mu.copy()
    hot[2, 0, 1, 1] = 30 * float(calibration.largest[0, 0].max())
    found = input_range(images_of(hot, mu), calibration, None, 0)
    require_within(found, images_of(hot, mu), "limited")
    with pytest.raises(ImplausibleInputError, match="Event 72 has a cell"):
        require_within(found, images_of(hot, mu), "refuse")
    hot[2] *= 1000
    far[1] = 1.0
    for events, words in (
        (images_of(hot, mu), "Event 72 has a cell"),
        (images_of(energy, far), "Event 71 has μ"),
        (images_of(np.where(energy > 0, np.float32(0.3), 0), mu), "Event 70 has 100% of its"),
    ):
        found = input_range(events, calibration, None, 0)
        with pytest.raises(ImplausibleInputError, match=words):
            require_within(found, events, "limited")
        require_within(found, events, "allow")


@pytest.mark.parametrize("domain", [0, 1])
def test_one_in_a_thousand_held_out_events_is_flagged_and_doctored_ones_are_found(check, domain):
    energy, mu = make_energies(4000, domain, 77)
    mus = torch.from_numpy(mu)

    def flagged(changed: np.ndarray) -> float:
        return float((check(torch.from_numpy(changed.astype(np.float32)), domain, mus) > 1).mean())

    assert flagged(energy) < 4e-3
    unknown = check(torch.from_numpy(energy), domain, torch.full_like(mus, torch.nan))
    assert float((unknown > 1).mean()) < 4e-3
    busy = sum(np.roll(energy, i * 41, axis=0) for i in range(10))
    assert flagged(busy) == 1
    scaled = energy * 1.3
    assert flagged(np.where(scaled < 0.6, 0, scaled)) > 5e-3
    assert flagged(np.where(energy < 0.9, 0, energy)) > 0.1
    jet = energy.copy()
    jet[:, 1, 3:5, 4:6] += 60
    assert flagged(jet) == 1


def test_too_few_events_flag_nothing_and_the_check_is_stored(check, tmp_path):
    few = EventCheck(2, 8, 12)
    energy, mu = make_energies(40, 0, 1)
    values = totals(torch.from_numpy(energy), torch.ones(8))
    few.fit([values, values], [mu, mu], np.ones(8))
    assert not few(torch.from_numpy(energy * 50), 0, torch.from_numpy(mu)).any()
    check.save_pretrained(tmp_path)
    again = EventCheck.from_pretrained(tmp_path)
    arguments = torch.from_numpy(energy), 1, torch.from_numpy(mu)
    assert np.array_equal(again(*arguments), check(*arguments))
    assert not np.array_equal(check(*arguments), np.zeros(40))


def shift_of(check: EventCheck, energy: np.ndarray, mu: np.ndarray, weight=None, domain=0):
    values = totals(torch.from_numpy(energy.astype(np.float32)), check.transverse)
    weight = np.ones(len(mu)) if weight is None else weight
    return check.compare(values, domain, torch.from_numpy(mu), weight)


def test_held_out_samples_have_the_means_of_the_training_and_shifted_ones_have_not(check):
    found = [
        shift_of(check, *make_energies(500, domain, seed), domain=domain).significance
        for domain in (0, 1)
        for seed in range(60, 75)
    ]
    assert max(found) < 3.5
    energy, mu = make_energies(300, 0, 9)
    names = total_names(("em", "had"))
    for changed, least, total in (
        (energy * 1.3, 37, "mean ln E"),
        (energy * 1.03, 8, "mean ln E"),
        (np.where(energy < 0.65, 0, energy), 20, "occupancy"),
    ):
        shift = shift_of(check, changed, mu)
        assert shift.significance > least
        assert names[int(np.abs(shift.local).argmax())].startswith(total)
    assert shift_of(check, energy, mu, domain=1).significance > 20
    unknown = shift_of(check, energy * 1.1, np.full_like(mu, np.nan))
    assert unknown.significance > 15


def test_a_sample_is_compared_by_its_weights(check):
    energy, mu = make_energies(1500, 0, 31)
    total = energy.sum(axis=(1, 2, 3))
    hard = total > np.quantile(total, 0.7)
    kept = hard | (np.arange(len(mu)) % 4 == 0)
    # Hard events four times as many: a biased sample, which its weights mend.
    assert shift_of(check, energy[kept], mu[kept]).significance > 5
    weight = np.where(hard[kept], 0.25, 1.0)
    assert shift_of(check, energy[kept], mu[kept], weight).significance < 3.5


def test_a_sample_is_told_with_what_differs_most(check, tmp_path):
    energy, mu = make_energies(300, 0, 9)
    with create_store(tmp_path / "s.h5", SMALL_GRID, "mc", {}) as writer:
        n = len(mu)
        columns = {"mu": mu, "event_id": np.arange(n), "weight": np.ones(n), "split": np.full(n, 2)}
        writer.append(energy * np.float32(1.3), columns)
    store = ImageStore(tmp_path / "s.h5")
    found = compare_sample(store, store.indices("test"), check, 0)
    assert found.n_events == 300
    assert found.is_unlike
    assert "more than 37 σ from the training's: mean ln E of hits in had +" in str(found)
    assert SampleCheck.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert compare_sample(store, store.indices("test"), EventCheck(2, 8, 12), 0) is None


def test_a_check_of_before_compares_no_samples(check, pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    check.save_pretrained(tmp_path / "event_check")
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["event_check"] = ["pileupgen.models.event_check", "EventCheck"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    file = tmp_path / "event_check" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if k not in EventCheck.may_lack}, file)
    loaded = PileupTranslationPipeline.from_pretrained(tmp_path).event_check
    energy, mu = make_energies(300, 0, 9)
    assert shift_of(loaded, energy, mu) is None
    assert torch.equal(loaded.threshold, check.threshold)
