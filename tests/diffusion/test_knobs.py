"""Every setting of the translation acts, and in the direction that it is documented to act in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pileupgen.diffusion.settings import Settings
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.models.networks.denoiser import DATA, MC
from pileupgen.samples.store import Images
from tests.conftest import SMALL_GRID, make_energies
from tests.diffusion.test_pipeline import neighbour_correlation

PARTIAL = Settings("partial", 300, 2.0, 4)


@pytest.fixture(scope="module")
def target() -> float:
    return neighbour_correlation(make_energies(400, 1, seed=51)[0])


@pytest.fixture(scope="module")
def found(pipeline, events):
    """Neighbour correlation after a translation and the default correction."""
    energy, mu = make_energies(800, 1, seed=54)
    real = Images(energy, SMALL_GRID, {"mu": mu, "event_id": np.arange(1000, 1800)})

    def measure(settings: Settings, is_corrected: bool = True) -> float:
        correction = None
        if is_corrected:
            correction = pipeline.fit_correction(*events, 1, settings, real=real)
        return neighbour_correlation(pipeline(*events, 1, settings, correction).energy)

    return measure


def test_guidance_moves_correlations_monotonically_through_the_default_correction(found):
    values = [found(replace(PARTIAL, w=w)) for w in (0.0, 1.0, 2.0, 4.0)]
    assert np.all(np.diff(values) > 0.01)
    undone = [found(replace(PARTIAL, w=w, correction="correlations")) for w in (0.0, 4.0)]
    assert abs(undone[1] - undone[0]) < 0.2 * (values[3] - values[0])


def test_a_later_release_moves_correlations_further_to_the_target(found, target):
    left = [target - found(replace(PARTIAL, w=0.0, t_release=t)) for t in (100, 300, 600)]
    assert left[0] > left[1] + 0.01 > left[2] + 0.03


def test_the_default_correction_is_of_marginals(pipeline, events):
    correction = pipeline.fit_correction(*events, 1, PARTIAL)
    assert isinstance(correction, MarginalCorrection)


def test_transport_has_the_targets_correlations_and_asks_no_network(
    pipeline, events, found, target, monkeypatch
):
    monkeypatch.setattr(pipeline.denoiser, "residual", None)
    settings = Settings("transport")
    moved, calibrated = found(settings), found(Settings("calibrate"), is_corrected=False)
    assert target - calibrated > 0.1
    assert abs(target - moved) < 0.2 * (target - calibrated)
    assert settings.n_evaluations == 0
    translation = pipeline(*events, settings=settings)
    assert np.corrcoef(translation.energy.ravel(), events[0].ravel())[0, 1] > 0.85
    assert not translation.log_ratio.any()


def test_a_class_that_is_not_switched_keeps_the_sources_correlations(found):
    settings = replace(PARTIAL, t_release=600, w=0.0)
    source = found(Settings("calibrate"), is_corrected=False)
    stays = found(replace(settings, switch_class=False), is_corrected=False)
    assert abs(stays - source) < 0.25 * (found(settings, is_corrected=False) - source)
    # Guidance leads to the target, which events that keep their class are not led to.
    guided = replace(settings, switch_class=False, w=4.0)
    assert found(guided, is_corrected=False) == stays


def test_without_its_network_a_denoiser_is_its_closed_form(pipeline, events):
    few = tuple(part[:50] for part in events)
    with torch.no_grad():
        parameter = next(pipeline.denoiser.last.parameters())
        before = pipeline(*few, settings=PARTIAL).energy
        kept = parameter.clone()
        try:
            parameter += 0.05
            changed = pipeline(*few, settings=PARTIAL).energy
            off = pipeline(*few, settings=replace(PARTIAL, network=False)).energy
        finally:
            parameter.copy_(kept)
    assert not np.array_equal(changed, before)
    np.testing.assert_allclose(off, before, rtol=1e-3, atol=1e-3)


def test_self_conditioning_feeds_back_only_where_it_is_wanted(pipeline, events, monkeypatch):
    shown: list[float] = []
    residual = pipeline.denoiser.residual

    def watched(x_t, t, label, mu, x_0, source=None):
        shown.append(float(x_0.abs().max()))
        return residual(x_t, t, label, mu, x_0, source)

    monkeypatch.setattr(pipeline.denoiser, "residual", watched)
    few = tuple(part[:10] for part in events)
    pipeline(*few, settings=PARTIAL)
    assert shown[0] == 0
    assert min(shown[1:]) > 0
    shown.clear()
    pipeline(*few, settings=replace(PARTIAL, self_conditioning=False))
    assert max(shown) == 0


@pytest.mark.parametrize("t", [300, 600])
def test_less_fresh_noise_keeps_more_of_the_event_at_the_same_correlations(pipeline, events, t):
    """What is kept of scores falls as (1 − f σ²)^(1/2), f being the share that is drawn."""
    kept, moved = [], []
    for share in (1.0, 0.3, 0.1, 0.0):
        settings = Settings("partial", t, 0.0, 8, fresh_noise=share)
        out = pipeline(*events, settings=settings).energy
        kept.append(np.corrcoef(np.log(out.clip(0.3)).ravel(), np.log(events[0].clip(0.3)).ravel()))
        moved.append(neighbour_correlation(out))
    kept_in_cells = np.array([part[0, 1] for part in kept])
    assert np.all(np.diff(kept_in_cells) > 0.005)
    sigma2 = float(1 - pipeline.scheduler.alphas_cumprod[t])
    wanted = np.sqrt(1 - np.array([0.3, 0.1]) * sigma2)
    np.testing.assert_allclose(kept_in_cells[1:3] / kept_in_cells[3], wanted, atol=0.04)
    assert np.ptp(moved) < 0.03


def test_without_fresh_noise_a_partial_release_is_an_inversion(pipeline, events):
    few = tuple(part[:50] for part in events)
    partial = pipeline(*few, settings=Settings("partial", 300, 1.0, 4, fresh_noise=0.0))
    inverted = pipeline(*few, settings=Settings("invert", 300, 1.0, 4))
    assert np.array_equal(partial.energy, inverted.energy)
    assert partial.t_release[0] == 300


def test_data_are_moved_to_mc_by_the_inverse_map(pipeline):
    field = pipeline.denoiser.field
    x = torch.randn(40, 8, 4, 6, generator=torch.Generator().manual_seed(3))
    there = field.move(x, field.transport(MC, DATA), MC, DATA)
    back = field.move(there, field.transport(DATA, MC), DATA, MC)
    torch.testing.assert_close(back, x, atol=1e-3, rtol=1e-3)
