from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pileupgen.errors import ConfigError
from pileupgen.models.codec import EventNoise
from pileupgen.models.correction.marginals import S_MAX, MarginalCorrection
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.denoiser import Denoiser
from pileupgen.models.networks.layers import (
    PeriodicConv2d,
    patchify,
    rotary_angles,
    rotate,
    standardise_conditions,
    unpatchify,
    wrapped,
)
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.models.networks.local_pass import STRIP_RINGS, _band
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.networks.transformer import TransformerDenoiser


def scramble(network: nn.Module, seed: int = 0, std: float = 0.2) -> None:
    """Random weights everywhere: a law must hold for them all, not only at the start."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=std)
        parameter.requires_grad_(False)


def inputs(n: int = 4):
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(n, 8, 4, 6, generator=rng)
    return x, torch.arange(n) * 100, torch.arange(n) % 3, torch.full((n,), 55.0)


@pytest.mark.parametrize("has_coarse", [False, True])
@pytest.mark.parametrize("latent_channels", [8, 5])
def test_autoencoder_commutes_with_rolls_by_whole_patches(latent_channels, has_coarse):
    # With the coarse content they are of whole blocks: here of six cells.
    cells, positions = (6, 3) if has_coarse else (4, 2)
    sizes = {"width": 16, "n_blocks": 1, "n_heads": 2}
    network = Autoencoder(2, 8, 12, latent_channels=latent_channels, **sizes, has_coarse=has_coarse)
    scramble(network)
    scores, domain, mu = torch.randn(3, 2, 8, 12), torch.tensor([0, 1, 1]), torch.full((3,), 60.0)
    latents = network.encode(scores, domain, mu)
    assert latents.shape == (3, latent_channels, 4, 6)
    rolled = network.encode(scores.roll(cells, 3), domain, mu)
    torch.testing.assert_close(rolled, latents.roll(positions, 3), atol=1e-4, rtol=1e-4)
    mean, log_variance = network.decode(latents, domain, mu)
    mean_rolled, _ = network.decode(latents.roll(positions, 3), domain, mu)
    torch.testing.assert_close(mean_rolled, mean.roll(cells, 3), atol=1e-3, rtol=1e-3)
    assert log_variance.shape == scores.shape


@pytest.mark.parametrize("latent_channels", [4, 3])
def test_the_autoencoder_s_halves_see_distant_blocks_of_what_they_are_given(latent_channels):
    network = Autoencoder(
        1, 20, 24, (2, 2), latent_channels, width=16, n_blocks=0, n_heads=0, has_coarse=True
    )
    scramble(network, std=0.5)
    domain, mu = torch.zeros(1, dtype=torch.long), torch.full((1,), 60.0)
    rng = torch.Generator().manual_seed(3)

    def decode(latents):
        return network.decode(latents, domain, mu)[0]

    for given, apply in (
        (torch.randn(1, 1, 20, 24, generator=rng), lambda x: network.encode(x, domain, mu)),
        (torch.randn(1, *network.latent_shape, generator=rng), decode),
    ):
        changed = given.clone()
        changed[..., -3:, given.shape[3] // 2] += 3
        half = network.encoder if apply is not decode else network.decoder
        # What convolutions do not reach: the other end in η, half a turn away in φ.
        assert float((apply(changed) - apply(given))[..., :4, :2].abs().max()) > 1e-4
        half.coarse = None
        assert torch.equal(apply(changed)[..., :4, :2], apply(given)[..., :4, :2])


def test_autoencoder_begins_without_loss_when_the_latent_has_room():
    network = Autoencoder(2, 8, 12, latent_channels=8, width=16, n_blocks=1, n_heads=2)
    scores, domain, mu = torch.randn(3, 2, 8, 12), torch.tensor([0, 1, 1]), torch.full((3,), 60.0)
    mean, _ = network.decode(network.encode(scores, domain, mu), domain, mu)
    assert torch.equal(mean, scores)


def test_a_patch_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ConfigError, match="does not divide"):
        Autoencoder(2, 9, 12)


DENOISERS = [Denoiser, TransformerDenoiser, LocalDenoiser]


@pytest.mark.parametrize("kind", DENOISERS)
def test_denoiser_commutes_with_rolls_and_begins_as_the_closed_form(kind):
    network = kind(8, 4, 6, width=16, n_blocks=2)
    x, t, label, mu = inputs()
    alpha, sigma = torch.full((4,), 0.6), torch.full((4,), 0.8)
    first = network(x, t, label, mu, torch.zeros_like(x), alpha, sigma)
    assert torch.equal(first, network.closed_form(x, label, alpha, sigma))
    scramble(network, std=0.1)
    x_0 = torch.randn_like(x)
    out = network(x, t, label, mu, x_0, alpha, sigma)
    rolled = network(x.roll(2, 3), t, label, mu, x_0.roll(2, 3), alpha, sigma)
    torch.testing.assert_close(rolled, out.roll(2, 3), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize("changed", ["t", "label", "mu", "x_0"])
def test_denoiser_uses_every_condition(kind, changed):
    network = kind(8, 4, 6, width=16, n_blocks=2)
    scramble(network)
    x, t, label, mu = inputs()
    known = {"t": t, "label": label, "mu": mu, "x_0": torch.zeros_like(x)}
    other = {"t": t + 50, "label": (label + 1) % 3, "mu": mu + 20, "x_0": torch.ones_like(x)}
    before = network.residual(x, **known)
    after = network.residual(x, **{**known, changed: other[changed]})
    assert float((after - before).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", [Denoiser, TransformerDenoiser])
def test_a_denoiser_that_never_saw_its_own_estimate_is_shown_none(kind):
    x, t, label, mu = inputs()
    alpha, sigma = torch.full((4,), 0.6), torch.full((4,), 0.8)
    for is_shown in (True, False):
        network = kind(8, 4, 6, width=16, n_blocks=1, self_conditioned=is_shown)
        scramble(network)
        results = [
            network(x, t, label, mu, x_0, alpha, sigma)
            for x_0 in (torch.zeros_like(x), torch.ones_like(x))
        ]
        assert torch.equal(*results) is not is_shown


def test_a_local_denoiser_mirrors_where_the_detector_does_and_works_on_cells():
    for mirror in (True, False):
        network = LocalDenoiser(8, 4, 6, width=16, n_blocks=2, patch=(2, 2), mirror=mirror)
        scramble(network)
        standardise_conditions(network, torch.tensor([52.0, 60.0, 68.0]))
        fine = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(1))
        t, label, mu = torch.full((3,), 40), torch.tensor([0, 1, 2]), torch.full((3,), 60.0)

        def residual(cells, network=network, known=(t, label, mu)):
            x_t, x_0 = patchify(cells, (2, 2)).chunk(2, dim=1)
            return unpatchify(network.residual(x_t, *known, x_0), (2, 2))

        out = residual(fine)
        rolled = residual(fine.roll(1, 3))
        # Single precision rounds relative to the largest sums, not to each result.
        rounding = 1e-4 * float(out.std())
        torch.testing.assert_close(rolled, out.roll(1, 3), atol=rounding, rtol=0)
        mirrored = residual(fine.flip(2)).flip(2)
        assert bool(torch.allclose(mirrored, out, atol=rounding, rtol=0)) is mirror


def test_attention_sees_distances_around_the_ring_and_not_places():
    places = torch.arange(3).double(), torch.arange(6).double()
    angles = rotary_angles(*places, 3, 6, 16).view(3, 6, 8)
    rng = torch.Generator().manual_seed(2)
    query, key = torch.randn(2, 16, generator=rng).double()

    def product(one: tuple[int, int], other: tuple[int, int]) -> float:
        turned = [
            rotate(x[None, None, None], angles[place][None])
            for x, place in ((query, one), (key, other))
        ]
        return float((turned[0] * turned[1]).sum())

    assert product((0, 1), (1, 3)) == pytest.approx(product((1, 4), (2, 0)), abs=1e-4)
    assert product((0, 5), (0, 0)) == pytest.approx(product((2, 0), (2, 1)), abs=1e-4)
    assert product((0, 1), (0, 2)) != pytest.approx(product((0, 1), (0, 4)), abs=1e-2)


@pytest.mark.parametrize("kind", [Denoiser, TransformerDenoiser])
def test_the_source_is_seen_in_block_means_and_not_at_all_where_it_is_nan(kind):
    network = kind(8, 4, 6, width=16, n_blocks=1, patch=(2, 2), has_coarse=True)
    x, t, label, mu = inputs()
    nothing, source = torch.zeros_like(x), torch.randn_like(x)
    level = torch.full((4,), 0.6), torch.full((4,), 0.8)
    begun = network(x, t, label, mu, nothing, *level, source=source)
    assert torch.equal(begun, network.closed_form(x, label, *level))
    scramble(network, std=0.1)

    def out(x: torch.Tensor, source: torch.Tensor | None) -> torch.Tensor:
        return network.residual(x, t, label, mu, nothing, source=source)

    seen, none = out(x, source), out(x, None)
    assert network.coarse.block == (4, 3)
    assert network.coarse.content(source).shape == (4, 2, 1, 2)
    assert float((seen - none).abs().max()) > 1e-3
    torch.testing.assert_close(out(x, torch.full_like(x, torch.nan)), none)
    mixed = torch.where(torch.arange(4)[:, None, None, None] < 2, source, torch.nan)
    torch.testing.assert_close(out(x, mixed), torch.cat([seen[:2], none[2:]]))
    # Cells of a block that change places leave its mean as it was.
    shuffled = source.unflatten(3, (2, 3)).flip(4).flatten(3)
    torch.testing.assert_close(out(x, shuffled), seen)
    torch.testing.assert_close(
        out(x.roll(3, 3), source.roll(3, 3)), seen.roll(3, 3), atol=1e-5, rtol=1e-4
    )


def test_a_transformer_whose_heads_do_not_fit_is_refused():
    with pytest.raises(ConfigError, match="not a multiple of 4 × n_heads"):
        TransformerDenoiser(8, 4, 6, width=24, n_heads=4)
    with pytest.raises(ConfigError, match="not a multiple of 8"):
        Denoiser(8, 4, 6, width=20, patch=(2, 2), has_coarse=True)


def test_ratio_is_invariant_under_rolls():
    network = RatioClassifier(8, 4, 6, width=16, n_blocks=1)
    scramble(network)
    x, t, _, mu = inputs()
    alpha, sigma = torch.full((4,), 0.6), torch.full((4,), 0.8)
    log_r = network(x, t, mu, alpha, sigma)
    assert log_r.shape == (4,)
    torch.testing.assert_close(
        network(x.roll(1, 3), t, mu, alpha, sigma), log_r, atol=1e-3, rtol=1e-3
    )


def test_patchify_is_inverted_by_unpatchify():
    x = torch.randn(2, 3, 6, 8)
    assert torch.equal(unpatchify(patchify(x, (3, 2)), (3, 2)), x)


def test_event_noise_depends_on_seed_and_event_alone():
    together = EventNoise(7, [3, 5, 9]).normal((4,))
    alone = EventNoise(7, [5]).normal((4,))
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(alone, EventNoise(8, [5]).normal((4,)))
    assert not torch.equal(alone, EventNoise(7, [5], stream=1).normal((4,)))


def test_correction_restores_standard_normal_marginals_and_keeps_the_order():
    rng = torch.Generator().manual_seed(0)
    spoiled = 1.3 * torch.randn(600, 2, 8, 12, generator=rng) + 0.2
    correction = MarginalCorrection(2, 8)
    correction.fit(spoiled)
    fresh = 1.3 * torch.randn(600, 2, 8, 12, generator=rng) + 0.2
    corrected = correction(fresh)
    assert float(corrected.mean()) == pytest.approx(0, abs=0.01)
    assert float(corrected.std()) == pytest.approx(1, abs=0.01)
    one_ring = (fresh[:, 0, 2].flatten(), corrected[:, 0, 2].flatten())
    assert float(one_ring[1][one_ring[0].argsort()].diff().min()) > -1e-5


def test_correction_shifts_what_lies_beyond_its_knots():
    """Were the slope of the last two knots continued, two that lie together would blow it up."""
    correction = MarginalCorrection(1, 1)
    correction.knots[0, 0, -1] = correction.knots[0, 0, -2] + 0.004
    beyond = torch.tensor([[[[-9.0, -4.0, 4.0, 9.0]]]])
    top = S_MAX - float(correction.knots[0, 0, -1])
    expected = beyond + torch.tensor([0.0, 0.0, top, top])
    torch.testing.assert_close(correction(beyond), expected)


def test_convolution_of_a_lone_cell_is_that_of_its_ring():
    convolution = PeriodicConv2d(3, 5)
    scramble(convolution)
    x = torch.randn(4, 3, 1, 1, generator=torch.Generator().manual_seed(2))
    ring = convolution(x.expand(4, 3, 1, 6))
    torch.testing.assert_close(convolution(x).expand(4, 5, 1, 6), ring, atol=1e-5, rtol=1e-5)


def test_padding_in_phi_and_its_gradient_are_those_of_circular_padding():
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 4, 8, dtype=torch.float64)
    values, gradients = [], []
    for padded in (wrapped(x, 1), F.pad(x, (1, 1, 0, 0), mode="circular")):
        values.append(padded)
        gradients.append(torch.autograd.grad((weight * padded).sum(), x)[0])
    assert torch.equal(*values)
    assert torch.allclose(*gradients)


def test_padding_under_autocast_is_what_a_convolution_would_make_of_it():
    x = torch.randn(2, 3, 4, 6, requires_grad=True)
    convolution = nn.Conv2d(3, 5, 3, padding=(1, 0))
    results = []
    for padded in (lambda x: wrapped(x, 1), lambda x: torch.cat([x[..., -1:], x, x[..., :1]], 3)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = convolution(padded(x))
        results.append((out, torch.autograd.grad(out.square().sum(), x)[0]))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(convolution(wrapped(x, 1)), results[0][0])


@pytest.mark.parametrize("height", [1, 2, 7, 8, 17, 50])
def test_means_of_near_rings_leave_out_what_is_beyond_the_edges(height):
    x = torch.randn(2, 3, height, 4, generator=torch.Generator().manual_seed(height))
    rings = min(STRIP_RINGS, height // 2 * 2 + 1)
    expected = torch.nn.functional.avg_pool2d(
        x, (rings, 1), stride=1, padding=(rings // 2, 0), count_include_pad=False
    )
    found = torch.einsum("hk,nckw->nchw", _band(x.transpose(1, 2)), x)
    torch.testing.assert_close(found, expected)


def layers_formula(network, seen, condition):
    """The local layers as they would be written down, with the gradients that autograd finds."""

    def convolved(layer, x):
        weight = layer.weight
        if network.mirror:
            weight = (weight + weight.flip(2) + weight.flip(3) + weight.flip(2, 3)) / 4
        around = F.pad(x, (1, 1, 0, 0), mode="circular")
        return F.conv2d(around, weight, layer.bias, padding=(1, 0))

    ring = network.ring
    if network.mirror:
        ring = torch.cat([ring.flip(1)[:, : network.n_rings // 2], ring], dim=1)
    mean = seen.mean(dim=(2, 3)) * network.mean_scale
    hidden = convolved(network.first, seen) + ring + network.event(mean)[:, :, None, None]
    for index, block in enumerate(network.blocks):
        if index == len(network.blocks) // 2:
            squeezed = F.silu(network.squeeze(hidden))
            rings = min(STRIP_RINGS, network.n_rings // 2 * 2 + 1)
            near = F.avg_pool2d(
                squeezed, (rings, 1), stride=1, padding=(rings // 2, 0), count_include_pad=False
            )
            whole = squeezed.mean(dim=2, keepdim=True).expand_as(near)
            hidden = hidden + convolved(network.strip, torch.cat([near, whole], dim=1))
        scale, shift = block.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = hidden + block.mix(
            F.silu(convolved(block.convolution, hidden) * (1 + scale) + shift)
        )
    gate = 1 + network.gate(condition)
    return network.last(F.silu(hidden) * gate[:, :, None, None])


@pytest.mark.parametrize(
    ("shape", "mirror"), [((2, 5, 7), True), ((1, 4, 1), True), ((1, 3, 4), False)]
)
def test_the_local_layers_written_out_gradient_is_that_of_their_formula(shape, mirror):
    network = LocalDenoiser(*shape, width=4, n_blocks=3, mirror=mirror).double()
    scramble(network, std=0.5)
    network.requires_grad_(True)
    n_layers, height, width = shape
    seen = torch.randn(2, 2 * n_layers, height, width, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(2, *shape, dtype=torch.float64)
    layers = (network.first, network.event, network.blocks, network.squeeze, network.strip)
    of = [seen, condition, network.ring, *network.gate.parameters(), *network.last.parameters()]
    of += [parameter for layer in layers for parameter in layer.parameters()]
    results = []
    for function in (network.found_in, lambda *given: layers_formula(network, *given)):
        answer = function(seen, condition)
        results.append([answer, *torch.autograd.grad((answer * wanted).sum(), of)])
    for own, expected in zip(*results, strict=True):
        torch.testing.assert_close(own, expected)
    with torch.no_grad():
        torch.testing.assert_close(network.found_in(seen, condition), results[1][0])


def test_a_local_denoiser_is_shown_the_closed_forms_estimate_until_its_own_is_fed_back():
    x_t, closed, fed = torch.randn(3, 4, 8, 4, 6)
    fed[2:] = 0
    alpha, sigma = torch.full((4,), 0.8), torch.full((4,), 0.6)
    own = 0.8 * x_t - 0.6 * closed
    for is_conditioned in (False, True):
        network = LocalDenoiser(8, 4, 6, 4, 1, (2, 2), self_conditioned=is_conditioned)
        shown = network.estimate(fed, x_t, closed, alpha, sigma)
        torch.testing.assert_close(shown[2:], own[2:])
        torch.testing.assert_close(shown[:2], fed[:2] if is_conditioned else own[:2])
