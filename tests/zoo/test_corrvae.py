"""CorrVAE: events have the property that they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.errors import ConfigError
from pileupgen.report.figures.control import control_figure
from pileupgen.workflow.control import control_curves
from pileupgen.zoo.contract import Budget, EventConditions, HasControl, ZooSample
from pileupgen.zoo.corrvae import N_SHARED, CorrVae, PropertyMap
from pileupgen.zoo.properties import PROPERTIES, PropertyScale, properties_of
from tests.toys import Toy
from tests.zoo.test_systems import ALIKE, TINY_GRID


@pytest.fixture(scope="module")
def images(toy: Toy):
    return toy.images(toy.energies(100, 1, grid=TINY_GRID, leak=0.3), TINY_GRID)


@pytest.fixture(scope="module")
def system(images) -> CorrVae:
    found = CorrVae()
    conditions = EventConditions.of_pileup(images)
    found.fit(ZooSample(images, symmetry=ALIKE), conditions, Budget(60.0, max_steps=60), 1)
    return found


def randomised_map() -> PropertyMap:
    torch.manual_seed(1)
    network = PropertyMap()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


@torch.no_grad()
def test_latents_are_moved_to_the_value_and_no_farther():
    network, w = randomised_map(), torch.randn(50, N_SHARED)
    for index in range(len(PROPERTIES)):
        wanted = network(torch.randn(50, N_SHARED))[:, index]
        moved = network.moved(w, index, wanted)
        torch.testing.assert_close(network(moved)[:, index], wanted, atol=1e-3, rtol=0)
        # Along the mask alone.
        step = moved - w
        along = network.mask[index] / network.mask[index].norm()
        torch.testing.assert_close(step, (step @ along)[:, None] * along, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_property_rises_along_its_mask():
    network = randomised_map()
    s = torch.linspace(-6, 6, 200)[:, None].expand(-1, len(PROPERTIES))
    y = network.of_projection(s)
    assert (y[1:] > y[:-1]).all()


def test_properties_have_mean_0_and_variance_1_whatever_the_condition():
    rng = np.random.default_rng(1)
    condition = torch.from_numpy(rng.normal(size=(2000, 1)))
    total = np.exp(1.0 + 0.5 * condition.numpy()[:, 0] + 0.1 * rng.normal(size=2000))
    values = torch.from_numpy(np.stack([total, np.full(2000, 0.7)], axis=1))
    scale = PropertyScale(1)
    scale.fit(values, condition, torch.ones(2000).double())
    y = scale(values, condition)
    assert float(y[:, 0].mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(y[:, 0].std()) == pytest.approx(1.0, abs=1e-3)
    assert abs(np.corrcoef(y[:, 0].numpy(), condition[:, 0])[0, 1]) < 1e-3
    assert not y[:, 1].abs().max() > 1e-3  # a constant says nothing


def test_events_follow_what_they_are_asked_for(system, images):
    conditions = EventConditions.of_pileup(images)
    assert isinstance(system, HasControl)
    curves = control_curves(system, conditions, images, 3)
    by_name = {curve.name: curve for curve in curves}
    assert list(by_name) == list(PROPERTIES)
    for curve in curves:
        assert 0.25 < curve.slope < 1.4
        assert curve.median[0] < curve.real[0] < curve.median[-1]
    figure = control_figure([("corrvae", curve) for curve in curves])
    assert [axes.get_xlabel() for axes in figure.axes] == [f"asked: {c.label}" for c in curves]


def test_events_asked_for_what_they_are_anyway_are_those_made_without(system, images):
    """Latents are not moved where they give the wanted value already."""
    conditions = EventConditions.of_pileup(images).taken(np.arange(4))
    made = system.generate(conditions, 3)
    noise = system.network.properties
    from pileupgen.models.codec import EventNoise

    w = EventNoise(3, conditions.event_id).normal((system.network.n_latents,))[:, -N_SHARED:]
    known = system.conditions(torch.from_numpy(conditions.values))
    with torch.no_grad():
        y = noise(w)[:, :1].double()
        scale = system.network.scale
        shown = scale._shown(known)
        values = (y * scale.spread[0] + shown @ scale.slope[:, :1])[:, 0].exp().numpy()
    again = system.controlled(conditions, "sum", values, 3)
    np.testing.assert_allclose(again, made, rtol=2e-3, atol=1e-3)


def test_what_was_not_learned_is_refused(system, images):
    conditions = EventConditions.of_pileup(images).taken(np.arange(3))
    with pytest.raises(ConfigError, match="no property 'summ'"):
        system.controlled(conditions, "summ", np.ones(3), 1)
    _, high = system.property_range("sum")
    assert high == pytest.approx(float(properties_of(images.energy)[:, 0].max()))
    with pytest.raises(ConfigError, match="learned from"):
        system.controlled(conditions, "sum", np.full(3, 1.1 * high), 1)
