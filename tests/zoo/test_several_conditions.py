"""Events of several conditions: what systems learn of them, and what those of one refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.errors import ConfigError, TrainingError
from pileupgen.samples.store import Images
from pileupgen.zoo import image_system, scores
from pileupgen.zoo.contract import Budget, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.image_system import rows_of
from pileupgen.zoo.places import PlaceSpace
from pileupgen.zoo.registry import SYSTEMS
from tests.toys import Toy

OPEN = Grid(tuple(np.linspace(-4.0, 4.0, 9)), 10, ("fibres",), -0.5, 0.5, name="plane")
TAKES = ("marginals", "flow", "gan", "sdi-gan-regressor", "cvae", "ddim", "flow-matching")
N = 240


def spots(n: int, seed: int) -> Images:
    """Whole photons around a place that follows from the momentum, more of them at more energy."""
    rng = np.random.default_rng([3, seed])
    energy, place = rng.uniform(20, 60, n), rng.normal(size=(n, 2))
    x, y = np.meshgrid(OPEN.eta_centres, 10 * OPEN.phi_centres, indexing="ij")
    far = (x - 1.2 * place[:, :1, None]) ** 2 + (y - 1.2 * place[:, 1:, None]) ** 2
    light = rng.poisson(0.1 * energy[:, None, None] * np.exp(-far / 3))
    columns = {
        "mu": energy.astype(np.float32),
        "momentum_x": place[:, 0].astype(np.float32),
        "momentum_y": place[:, 1].astype(np.float32),
        "mass": np.full(n, 0.94, dtype=np.float32),
        "event_id": np.arange(n),
        "weight": np.ones(n),
    }
    return Images(light[:, None].astype(np.float32), OPEN, columns)


@pytest.fixture(scope="module", autouse=True)
def _few_tables():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "N_BINS", 1)
        patch.setattr(image_system, "CORRECTION_EVENTS", 100)
        yield


@pytest.fixture(scope="module")
def sample() -> ZooSample:
    # What the card calls alike is not, for events with a direction.
    return ZooSample(spots(N, 1), symmetry=Symmetry(phi=True, eta=True))


@pytest.fixture(scope="module")
def conditions(sample: ZooSample) -> EventConditions:
    return EventConditions.of_images(sample.target)


def test_what_does_not_vary_is_no_condition(conditions):
    assert conditions.names == ("mu", "momentum_x", "momentum_y", "mass")
    assert conditions.varying().names == ("mu", "momentum_x", "momentum_y")
    alone = EventConditions(np.full((3, 1), 60.0, dtype=np.float32), np.arange(3))
    assert alone.varying().names == ("mu",)


def test_of_an_event_without_a_particle_mu_is_the_only_condition(toy: Toy):
    images = toy.images(toy.energies(3))
    found, expected = EventConditions.of_images(images), EventConditions.of_pileup(images)
    assert found.names == expected.names
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize("name", TAKES)
def test_a_system_takes_several(name, sample, conditions, tmp_path: Path):
    system = SYSTEMS[name].make()
    if "steps" in system.options:
        system.options = {**system.options, "steps": 3}
    system.batch = 8
    system.fit(sample, conditions, Budget(60.0, max_steps=3), 1)
    assert system.names == ("mu", "momentum_x", "momentum_y")
    assert system.symmetry == Symmetry()
    few = conditions.taken(np.arange(11))
    made = system.generate(few, 5)
    assert made.shape == (11, *OPEN.shape)
    assert (made == np.round(made)).all()
    np.testing.assert_array_equal(system.generate(few.taken(np.array([9, 3])), 5), made[[9, 3]])
    system.save(tmp_path / name)
    again = SYSTEMS[name].make()
    again.load(tmp_path / name)
    again.options, again.batch = system.options, 8
    np.testing.assert_array_equal(again.generate(few, 5), made)
    with pytest.raises(ConfigError, match="learned mu, momentum_x, momentum_y"):
        system.generate(few.named(("mu", "mass")), 5)


def test_light_is_at_its_place_even_where_fibres_are_independent(sample, conditions):
    """Quantiles are those of a place: rings would spread the light evenly along y."""
    system = SYSTEMS["marginals"].make()
    system.fit(sample, conditions, Budget(1.0), 1)
    made = system.generate(conditions, 2).mean(axis=(0, 1))
    expected = sample.target.energy.mean(axis=(0, 1))
    assert expected[4, 5] > 5 * expected[4, 0]
    assert np.corrcoef(made.ravel(), expected.ravel())[0, 1] > 0.88
    assert made.sum() == pytest.approx(expected.sum(), rel=0.05)


def test_a_trained_network_puts_light_where_the_particle_goes(sample, conditions):
    """With the sign of its momentum, in both directions; independent fibres cannot."""
    few = conditions.taken(np.arange(120))
    x, y = OPEN.eta_centres, 10 * OPEN.phi_centres
    for name, least, most in (("marginals", -0.3, 0.3), ("cvae", 0.35, 1.0)):
        system = SYSTEMS[name].make()
        system.fit(sample, conditions, Budget(60.0, max_steps=120), 1)
        light = system.generate(few, 3)[:, 0]
        total = np.maximum(light.sum(axis=(1, 2)), 1)
        centre = light.sum(axis=2) @ x / total, light.sum(axis=1) @ y / total
        for axis in (0, 1):
            follows = np.corrcoef(centre[axis], few.values[:, 1 + axis])[0, 1]
            assert least < follows < most, (name, axis)


def test_scores_of_places_come_back(sample):
    space = PlaceSpace(OPEN)
    space.fit(sample)
    images = rows_of(sample.target, np.arange(20))
    encoded = space.encode(images, images.mu, 1, 3)
    np.testing.assert_array_equal(space.apart(space.alike(encoded)), encoded)
    np.testing.assert_array_equal(space.decode(encoded, images.mu, 1), images.energy)
    assert space.is_alive(1).shape == OPEN.shape


@pytest.mark.parametrize("name", ["pixelcnn", "corrvae", "latent-diffusion", "ddim-attention"])
def test_a_system_of_one_condition_says_so(name, sample, conditions):
    with pytest.raises(TrainingError, match="one condition"):
        SYSTEMS[name].make().fit(sample, conditions, Budget(1.0, max_steps=1), 1)
