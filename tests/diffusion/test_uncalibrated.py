"""``calibration.before: false`` and ``shared``: the networks are left the whole shift."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.diffusion.settings import Settings
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.models.networks.ratio import RatioClassifier
from tests.conftest import SMALL_GRID, make_energies

NO_RELEASE = Settings("partial", 0, 0.0, 1)
INVERT = Settings("invert", 995, 0.0, 20)


def made(before: bool, shared: bool = False) -> PileupTranslationPipeline:
    """A pipeline with the closed-form denoiser, fitted as training fits it."""
    samples = [make_energies(600, domain, seed=80) for domain in (0, 1)]
    energies, mus = [energy for energy, _ in samples], [mu for _, mu in samples]
    calibration = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=2, n_layer_bins=3)
    if shared:
        calibration.fit([np.concatenate(energies)] * 2, [np.concatenate(mus)] * 2)
    else:
        calibration.fit(energies, mus)
    patches = CellPatches(2, 8, 12, (1, 1))
    latents = []
    for domain, (energy, mu) in enumerate(samples):
        uniform = torch.rand(energy.shape, generator=torch.Generator().manual_seed(domain))
        images = torch.from_numpy(energy), torch.from_numpy(mu)
        latents.append(calibration.encode(images[0], domain if before else 1, images[1], uniform))
    denoiser = LocalDenoiser(2, 8, 12, width=4, n_blocks=1)
    denoiser.field.fit(latents)
    return PileupTranslationPipeline(
        calibration,
        patches,
        denoiser,
        RatioClassifier(2, 8, 12, width=8, n_blocks=1),
        make_scheduler(1000),
        SMALL_GRID.to_dict(),
        before,
    )


@pytest.fixture(scope="module")
def events():
    energy, mu = make_energies(150, 0, seed=81)
    return energy, mu, np.arange(150)


def scale(energy: np.ndarray) -> float:
    return float(np.log(energy[energy > 0]).mean())


@pytest.fixture(scope="module")
def scales(events) -> tuple[float, float]:
    """Mean ln E of hits in mc and in data."""
    return scale(events[0]), scale(make_energies(600, 1, seed=82)[0])


def test_without_calibration_and_diffusion_an_event_stays_as_it_is(events, scales):
    source, target = scales
    assert target - source > 0.1
    calibrated = made(True)(*events, settings=NO_RELEASE).energy
    plain = made(False)(*events, settings=NO_RELEASE).energy
    pooled = made(True, shared=True)(*events, settings=NO_RELEASE).energy
    assert scale(calibrated) == pytest.approx(target, abs=0.03)
    for energy in (plain, pooled):
        assert np.mean(np.isclose(energy, events[0], rtol=1e-3)) > 0.98


@pytest.mark.parametrize(("before", "shared"), [(False, False), (True, True)])
def test_what_is_not_calibrated_is_left_to_the_diffusion(events, scales, before, shared):
    source, target = scales
    moved = scale(made(before, shared)(*events, settings=INVERT).energy)
    assert abs(moved - target) < 0.35 * (target - source)


def test_calibrating_alone_is_not_a_matter_of_what_comes_before(events, scales):
    for source, target, expected in (("mc", "data", scales[1]), ("mc", "mc", scales[0])):
        out = made(False)(*events, settings=Settings("calibrate"), source=source, target=target)
        assert scale(out.energy) == pytest.approx(expected, abs=0.03)


def test_mc_that_was_ranked_among_data_comes_back_as_mc(events, scales):
    pipeline = made(False)
    control = pipeline(*events, settings=INVERT, source="mc", target="mc")
    assert scale(control.energy) == pytest.approx(scales[0], abs=0.02)
    correction = pipeline.fit_correction(*events, 1, INVERT, source="mc", target="mc")
    left = torch.linspace(-3, 3, 2 * 8 * 12).view(1, 2, 8, 12)
    # Its scores are not meant to be normal: nothing is corrected.
    torch.testing.assert_close(correction(left), left, atol=1e-3, rtol=0)


def test_only_without_a_shared_table_are_datas_scores_normal():
    energy, mu = make_energies(300, 1, seed=83)
    uniform = torch.rand(energy.shape, generator=torch.Generator().manual_seed(1))
    given = torch.from_numpy(energy), 1, torch.from_numpy(mu), uniform
    for shared, is_normal in ((False, True), (True, False)):
        scores = made(False, shared).calibration.encode(*given)
        assert (abs(float(scores.mean())) < 0.02) == is_normal
