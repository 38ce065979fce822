"""Guidance, modes and weights where the right answer is a formula."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from pileupgen.diffusion.guidance import (
    FieldContrast,
    LabelContrast,
    Point,
    Predictor,
    RatioGradient,
    Strength,
)
from pileupgen.diffusion.schedule import alpha_sigma
from pileupgen.diffusion.settings import SAMPLERS, Settings, is_stochastic, timesteps_between
from pileupgen.diffusion.solvers import solve
from pileupgen.diffusion.weights import WeightSummary, clipped_weights, effective_fraction
from pileupgen.models.networks.denoiser import DATA, MC, NULL, Denoiser
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.networks.ratio_calibration import N_KNOTS, Lines
from tests.diffusion.gaussian_toy import (
    SCHEDULER,
    SHIFT,
    WIDTH,
    ToyDenoiser,
    ToyRatio,
    levels,
    moments,
    wasserstein_to_data,
)

N = 40_000


def predictor(label, *guides, n=N):
    return Predictor(ToyDenoiser(), SCHEDULER, label, torch.zeros(n), guides, bf16=False)


def sample(n=N, seed=0):
    return torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(seed))


def decode(x_t, t, sampler="dpmsolver++", *guides, n_steps=40, eta=0.0):
    rng = torch.Generator().manual_seed(9)
    return solve(
        x_t,
        timesteps_between(t, n_steps),
        predictor(DATA, *guides, n=len(x_t)),
        SCHEDULER,
        sampler,
        lambda: torch.randn(x_t.shape, generator=rng),
        eta,
    )


def released(t, seed=1):
    """mc events noised to t; q_t(mc) = N(0, 1) for all t."""
    a, s = levels(t)
    return a * sample(seed=seed) + s * sample(seed=seed + 100)


def toy_log_ratio(x_t, t):
    times = torch.full((len(x_t),), t)
    return ToyRatio()(x_t, times, None, None, None)


def test_deterministic_decode_keeps_the_divergence_of_the_release():
    """The flow is affine: what N(0, 1) becomes at the clean end is known."""
    t = 300
    mean, width = moments(DATA, t)
    out = decode(released(t), t)
    assert float(out.mean()) == pytest.approx(SHIFT - WIDTH * mean / width, abs=0.01)
    assert float(out.std()) == pytest.approx(WIDTH / width, rel=0.01)


def test_release_weights_remove_the_divergence_left_at_the_release():
    t = 300
    x_t = released(t)
    out = decode(x_t, t)
    weight = toy_log_ratio(x_t, t).exp()
    unweighted, weighted = wasserstein_to_data(out), wasserstein_to_data(out, weight)
    assert unweighted > 0.15
    assert weighted < 0.25 * unweighted
    # The same correction taken at the clean end costs more of the sample.
    early = effective_fraction(toy_log_ratio(sample(), 0).double().numpy())
    assert effective_fraction(np.log(weight.double().numpy())) > early + 0.03


def test_the_mean_ratio_over_mc_is_one_at_every_t():
    for t in (0, 300, 900):
        assert float(toy_log_ratio(released(t), t).exp().mean()) == pytest.approx(1, abs=0.02)


def test_inversion_keeps_more_of_the_event_than_noising():
    t, z = 300, sample()
    up = solve(z, timesteps_between(t, 30)[::-1], predictor(MC), SCHEDULER, "dpmsolver++")
    inverted, noised = decode(up, t), decode(released(t, seed=0), t, "sde-dpmsolver++")
    moved = [float((x - z).abs().mean()) for x in (inverted, noised)]
    assert moved[0] < 0.7 * moved[1]
    mean, width = moments(DATA, t)
    torch.testing.assert_close(inverted, SHIFT + WIDTH * (z - mean) / width, atol=0.02, rtol=0.02)


def test_round_trip_error_of_the_inversion_falls_with_the_steps():
    z, errors = sample(2000), []
    for n in (10, 20, 40, 80):
        steps = timesteps_between(900, n)
        up = solve(z, steps[::-1], predictor(DATA, n=2000), SCHEDULER, "dpmsolver++")
        errors.append(float((decode(up, 900, n_steps=n) - z).abs().max()))
    assert all(later < 0.7 * before for before, later in pairwise(errors))
    assert errors[-1] < 0.02


@pytest.mark.parametrize(
    ("sampler", "eta"), [(name, 0.0) for name in SAMPLERS] + [("ddim", 0.5), ("ddim", 1.0)]
)
def test_every_sampler_reaches_data_from_pure_noise(sampler, eta):
    out = decode(sample(), 999, sampler, n_steps=100, eta=eta)
    assert wasserstein_to_data(out) < 0.03


def test_ddim_with_full_noise_is_the_ancestral_sampler():
    x = sample(500)
    assert torch.equal(decode(x, 600, "ddim", eta=1.0), decode(x, 600, "ancestral"))
    assert not torch.equal(decode(x, 600, "ddim", eta=0.5), decode(x, 600, "ddim", eta=0.0))


def test_stochastic_decoding_forgets_what_deterministic_keeps():
    """Noise on the way down mixes the divergence of the release away, and the event with it."""
    t, x_t = 600, released(600)
    apart = [wasserstein_to_data(decode(x_t, t, s)) for s in ("dpmsolver++", "sde-dpmsolver++")]
    assert apart[1] < 0.7 * apart[0]


def test_both_contrasts_and_the_gradient_agree_for_a_perfect_model():
    """ε_data − ε_mc = −σ ∇ ln r."""
    x_t, t = released(400)[:100], 400
    strength = Strength(1.5)
    results = [
        predictor(DATA, guide, n=100)(x_t, t, torch.zeros_like(x_t))
        for guide in (
            LabelContrast(strength, MC),
            LabelContrast(strength, NULL),
            RatioGradient(strength, ToyRatio()),
        )
    ]
    plain, _ = predictor(DATA, n=100)(x_t, t, torch.zeros_like(x_t))
    for eps, x_0 in results:
        torch.testing.assert_close(eps, results[0][0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(x_0, results[0][1], atol=1e-4, rtol=1e-4)
        assert float((eps - plain).abs().max()) > 0.05


def test_the_closed_forms_contrast_is_the_whole_one_of_a_denoiser_without_network():
    """At the start of a training the last weights are zero: the denoiser is its closed form."""
    denoiser = Denoiser(4, 4, 6, width=8, n_blocks=1).eval().requires_grad_(False)
    rng = torch.Generator().manual_seed(2)
    samples = [scale * torch.randn(200, 4, 4, 6, generator=rng) for scale in (1.0, 1.3)]
    denoiser.field.fit(samples)
    x_t, strength = samples[0][:5], Strength(1.5)
    both = [
        Predictor(denoiser, SCHEDULER, DATA, torch.full((5,), 60.0), (guide,), bf16=False)(
            x_t, 300, torch.zeros_like(x_t)
        )
        for guide in (
            LabelContrast(strength, NULL),
            FieldContrast(strength, denoiser, DATA, NULL),
        )
    ]
    for two_passes, one_pass in zip(*both, strict=True):
        torch.testing.assert_close(one_pass, two_passes)


def test_closed_form_guidance_asks_the_network_once():
    assert Settings(w=2.0, num_inference_steps=7, guidance="closed-form").n_evaluations == 7
    assert Settings(w=2.0, num_inference_steps=7, guidance="ratio").n_evaluations == 14


def test_guides_add_up():
    x_t, nothing = released(400)[:50], torch.zeros(50, 1, 1, 1)
    halves = (LabelContrast(Strength(0.5), MC), RatioGradient(Strength(0.5), ToyRatio()))
    both, _ = predictor(DATA, *halves, n=50)(x_t, 400, nothing)
    one, _ = predictor(DATA, LabelContrast(Strength(1.0), MC), n=50)(x_t, 400, nothing)
    torch.testing.assert_close(both, one, atol=1e-4, rtol=1e-4)


def test_gradient_of_the_ratio_network_is_that_of_finite_differences():
    torch.manual_seed(0)
    ratio = RatioClassifier(4, 4, 6, width=8, n_blocks=1).eval().requires_grad_(False)
    torch.nn.init.normal_(ratio.head[-1].weight)
    ratio.field.fit([torch.randn(200, 4, 4, 6), 1.3 * torch.randn(200, 4, 4, 6)])
    x_t, t = torch.randn(2, 4, 4, 6), torch.full((2,), 300)
    alpha, sigma = (torch.full((2,), level) for level in levels(300))
    point = Point(x_t, torch.zeros_like(x_t), t, torch.full((2,), 60.0), alpha, sigma)
    gradient = RatioGradient(Strength(1.0), ratio).gradient(point)
    step = 0.02 * torch.randn(2, 4, 4, 6)
    with torch.no_grad():
        ahead, behind = (
            ratio(x_t + sign * step, t, point.mu, alpha, sigma) for sign in (1.0, -1.0)
        )
    expected = (gradient * step).flatten(1).sum(1)
    torch.testing.assert_close(0.5 * (ahead - behind), expected, atol=2e-4, rtol=0.02)


def test_guidance_overshoots_once_it_is_strong():
    """Away from mc means beyond data: the mean passes m, the further the larger w."""
    x = sample(4000)
    means = [
        float(decode(x, 999, "dpmsolver++", LabelContrast(Strength(w), NULL)).mean())
        for w in (0.0, 1.0, 3.0)
    ]
    assert means[0] == pytest.approx(SHIFT, abs=0.03)
    assert means[0] + 0.02 < means[1] < means[2] - 0.02


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_every_schedule_has_the_same_mean_strength(schedule):
    strength = Strength(1.7, schedule, t_start=400)
    assert np.mean([strength(t) for t in range(401)]) == pytest.approx(1.7, rel=1e-6)
    if schedule != "constant":
        assert strength(0) == pytest.approx(2 * 1.7)
        assert strength(400) == pytest.approx(0)
        assert strength(399) >= 0


def test_outside_its_interval_guidance_is_off():
    guide = LabelContrast(Strength(2.0, interval=(100, 200)), MC)
    x_t, nothing = released(300)[:20], torch.zeros(20, 1, 1, 1)
    for t, is_on in ((99, False), (100, True), (200, True), (201, False)):
        guided, _ = predictor(DATA, guide, n=20)(x_t, t, nothing)
        plain, _ = predictor(DATA, n=20)(x_t, t, nothing)
        assert torch.equal(guided, plain) is not is_on


def test_clipping_bounds_the_weights_and_is_counted():
    log_ratio = np.array([-7.0, -1.0, 0.0, 1.0, 6.0])
    weights = clipped_weights(log_ratio, 2.0)
    assert weights.min() == pytest.approx(math.exp(-2))
    assert weights.max() == pytest.approx(math.exp(2))
    summary = WeightSummary.of(log_ratio, 2.0)
    assert summary.clipped == pytest.approx(0.4)
    assert summary.ess == pytest.approx(weights.sum() ** 2 / (5 * (weights**2).sum()))
    assert WeightSummary.of(np.zeros(3), 5.0).to_dict() == {"ess": 1, "clipped": 0, "limit": 5}


def test_which_samplers_are_stochastic():
    assert [name for name in SAMPLERS if is_stochastic(name)] == ["ancestral", "sde-dpmsolver++"]
    assert is_stochastic("ddim", 0.1)


def test_the_ratios_gradient_is_that_of_the_calibrated_ratio():
    torch.manual_seed(0)
    ratio = RatioClassifier(2, 4, 6, width=8, n_blocks=1)
    torch.nn.init.normal_(ratio.head[-1].weight)
    alpha, sigma = alpha_sigma(SCHEDULER, torch.full((3,), 300))
    x = torch.randn(3, 2, 4, 6)
    point = Point(x, torch.zeros_like(x), torch.full((3,), 300), torch.ones(3), alpha, sigma)
    raw = RatioGradient(Strength(1.0), ratio).gradient(point)
    knots = np.linspace(0, 999, N_KNOTS)
    ratio.calibrate(Lines(knots, np.full(N_KNOTS, 0.25), np.full(N_KNOTS, 3.0)))
    guide = RatioGradient(Strength(1.0), ratio)
    assert float(raw.abs().max()) > 0
    torch.testing.assert_close(guide.gradient(point), 0.25 * raw)
    back = RatioGradient(Strength(1.0), ratio, sign=-1)
    nothing = torch.zeros_like(x)
    towards, away = (g.direction(point, nothing, None) for g in (guide, back))
    torch.testing.assert_close(away, -towards)


def test_correlations_are_corrected_only_where_that_is_asked_for():
    for mode in ("partial", "invert", "generate"):
        assert not Settings(mode).corrects_correlations
    assert Settings("invert", correction="correlations").corrects_correlations
    assert not Settings("partial", correction="marginals").corrects_correlations
