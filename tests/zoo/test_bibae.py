"""BIB-AE: the post-processor is on or off, and changes cells one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.zoo import bibae
from pileupgen.zoo.bibae import BibAe, PostProcessor
from pileupgen.zoo.contract import Budget, EventConditions, ZooSample
from pileupgen.zoo.image_system import TARGET
from tests.toys import Toy
from tests.zoo.test_autoregressive import randomised
from tests.zoo.test_systems import ALIKE, TINY_GRID


@pytest.fixture(scope="module")
def system(toy: Toy) -> BibAe:
    images = toy.images(toy.energies(100, 1, grid=TINY_GRID, leak=0.3), TINY_GRID)
    found = BibAe()
    conditions = EventConditions.of_pileup(images)
    found.fit(ZooSample(images, symmetry=ALIKE), conditions, Budget(60.0, max_steps=8), 1)
    return found


def raw(system: BibAe, has_post: bool) -> torch.Tensor:
    system.options = {"post": has_post}
    mu = np.full((40, 1), 60.0, dtype=np.float32)
    return system._drawn(EventConditions(mu, np.arange(40)), 3)


@torch.no_grad()
def test_the_post_processor_changes_a_cell_by_itself():
    network = PostProcessor((2, 3, 4), 2)
    x, known = torch.randn(1, 2, 3, 4), torch.zeros(1, 2)
    assert torch.equal(network(x, known), x)
    randomised(network)
    other = x.clone()
    other[0, 1, 2, 3] += 1.0
    changed = network(other, known) != network(x, known)
    assert changed[0, 1, 2, 3]
    assert int(changed.sum()) == 1
    assert not torch.equal(network(x, known + 1.0), network(x, known))


def test_with_it_switched_off_the_same_events_come_without_it(system):
    without, with_it = raw(system, False), raw(system, True)
    known = system.conditions(torch.full((40, 1), 60.0))
    with torch.no_grad():
        torch.testing.assert_close(with_it, system.network.post(without, known))
    assert not torch.equal(with_it, without)
    parameters, passes = [], []
    for has_post in (False, True):
        system.options = {"post": has_post}
        parameters.append(system.n_parameters)
        passes.append(system.n_evaluations)
    post = sum(value.numel() for value in system.network.post.parameters())
    assert parameters[1] - parameters[0] == post
    assert passes == [1, 2]


def test_it_mends_the_spectrum_of_cells():
    """Cells of another width and mean: trained on their order alone, it brings them back."""
    from pileupgen.zoo.divergences import sorted_distance

    network, rng = PostProcessor((1, 2, 6), 2), torch.Generator().manual_seed(1)
    optimiser, known = torch.optim.Adam(network.parameters(), 0.03), torch.zeros(16, 2)
    found = []
    for _ in range(120):
        x, made = (torch.randn(16, 1, 2, 6, generator=rng) for _ in range(2))
        after = network(0.5 * made + 0.4, known)
        loss = sorted_distance(after.flatten(), x.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    assert np.mean(found[-20:]) < 0.4 * found[0]


def test_the_post_processor_is_trained_last_and_the_autoencoder_is_left_alone(toy, monkeypatch):
    """It has the budget's last quarter, and the decoder is the same with no step of it."""
    images = toy.images(toy.energies(100, 1, grid=TINY_GRID, leak=0.3), TINY_GRID)
    sample, conditions = ZooSample(images, symmetry=ALIKE), EventConditions.of_pileup(images)
    found = BibAe()
    found.fit(sample, conditions, Budget(60.0, max_steps=8), 1)
    assert found.trained.steps == 8
    assert float(found.network.post.last.weight.detach().abs().max()) > 0
    monkeypatch.setattr(bibae, "SHARE", 1.0)
    alone = BibAe()
    alone.fit(sample, conditions, Budget(60.0, max_steps=6), 1)
    assert float(alone.network.post.last.weight.detach().abs().max()) == 0
    for name, value in alone.network.vae.state_dict().items():
        torch.testing.assert_close(found.network.vae.state_dict()[name], value)


def test_a_short_training_of_it_mends_what_the_decoder_makes(toy):
    """Scores of one mean and width for all cells, by a decoder that is not trained at all."""
    images = toy.images(toy.energies(200, 1, grid=TINY_GRID, leak=0.3), TINY_GRID)
    found = BibAe()
    conditions = EventConditions.of_pileup(images)
    found.fit(ZooSample(images, symmetry=ALIKE), conditions, Budget(60.0, max_steps=1), 1)
    with torch.no_grad():
        found.network.vae.decoder.last.bias.fill_(0.5)
    scores = found.space.encode(images, images.mu, TARGET, 1)
    before = abs(float(raw(found, True).mean() - scores.mean()))
    found._train_post(found.views(images), scores, Budget(60.0, max_steps=60), 1)
    after = abs(float(raw(found, True).mean() - scores.mean()))
    assert before > 0.3
    assert after < 0.25 * before
