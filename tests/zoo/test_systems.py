"""What every system of the collection has to keep, on made events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.errors import ConfigError, RunError, StoreError
from pileupgen.zoo.contract import (
    Budget,
    EventConditions,
    HasLikelihood,
    Symmetry,
    System,
    ZooSample,
)
from pileupgen.zoo.gan import Gan
from pileupgen.zoo.image_system import rows_of
from pileupgen.zoo.point_system import PointSystem
from pileupgen.zoo.registry import (
    POINT_YARDSTICK,
    SYSTEMS,
    YARDSTICK,
    chosen_systems,
    find_system,
)
from pileupgen.zoo.untrained import Untrained
from tests.toys import Toy

TINY_GRID = Grid((-0.8, -0.4, 0.0, 0.4, 0.8), 6, name="tiny")
ALIKE = Symmetry(phi=True, eta=True)
FEW = 6
TRANSLATORS = ["sliced-transport", "cycle", "perfekt"]
"""They do not generate; what they have to keep is in test_translators.py."""
ALIKE_OTHERS = (
    *("gan", "sdi-gan", "sdi-gan-intensity", "bib-ae-plain"),
    *("ddim", "ddpm-linear", "ddim-unconditional", "ddim-attention"),
    "caloclouds2-teacher",
)
"""They are others' networks with other options."""
ONE_OF_A_KIND = [name for name in SYSTEMS if name not in (*ALIKE_OTHERS, *TRANSLATORS)]


@pytest.fixture(scope="module")
def sample(toy: Toy) -> ZooSample:
    target = toy.energies(120, 1, grid=TINY_GRID, leak=0.3)
    source = toy.energies(120, 2, grid=TINY_GRID)
    return ZooSample(*(toy.images(energy, TINY_GRID) for energy in (target, source)), ALIKE)


@pytest.fixture(scope="module")
def conditions(sample: ZooSample) -> EventConditions:
    return EventConditions.of_pileup(sample.target)


@pytest.fixture(scope="module", params=ONE_OF_A_KIND)
def system(request, sample, conditions):
    """After two steps: laws hold whether much was learned or nothing."""
    if request.param == "spline-flow":
        pytest.importorskip("zuko")
    found = SYSTEMS[request.param].make()
    if "steps" in found.options:
        found.options = {**found.options, "steps": 4}
    found.batch = 30 if request.param in ("pixelcnn", "autoregressive") else 8
    found.fit(sample, conditions, Budget(60.0, max_steps=2), 1)
    return found


def test_it_has_what_the_interface_asks_for(system):
    assert isinstance(system, System)
    assert system.citation
    assert system.n_parameters >= 0
    assert system.n_evaluations >= 0


def test_an_event_depends_on_its_number_and_seed_alone(system, conditions):
    """Bit for bit, whatever it is made together with."""
    many = system.generate(conditions.taken(np.arange(11)), seed=5)
    assert many.shape == (11, *TINY_GRID.shape)
    assert many.dtype == np.float32
    assert np.isfinite(many).all()
    few = system.generate(conditions.taken(np.array([9, 3])), seed=5)
    np.testing.assert_array_equal(few, many[[9, 3]])
    other = system.generate(conditions.taken(np.array([9])), seed=6)
    assert (other[0] != many[9]).mean() > 0.1


def test_what_is_saved_makes_the_same_events(system, sample, conditions, tmp_path: Path):
    system.save(tmp_path / "system")
    again = type(system)()
    again.load(tmp_path / "system")
    again.batch = system.batch
    assert again.n_parameters == system.n_parameters
    assert again.n_evaluations == system.n_evaluations
    few = conditions.taken(np.arange(FEW))
    np.testing.assert_array_equal(again.generate(few, 2), system.generate(few, 2))
    if system.can_translate:
        events = rows_of(sample.source, np.arange(FEW))
        expected = system.translate(events, events.mu, 2)
        np.testing.assert_array_equal(again.translate(events, events.mu, 2), expected)


def test_marginals_are_those_of_the_target(system, sample, conditions):
    """They are learned on the output, so that hardly trained networks have them, too."""
    made = system.generate(conditions, seed=3)
    hits, expected = made > 0, sample.target.energy > 0
    assert hits.mean() == pytest.approx(expected.mean(), abs=0.02)
    found, wanted = np.log(made[hits]), np.log(sample.target.energy[expected])
    # Energies of points are scaled to sums of layers that were drawn apart.
    is_of_points = isinstance(system, PointSystem)
    tolerance = 0.1 if is_of_points else 0.05
    assert np.median(found) == pytest.approx(np.median(wanted), abs=tolerance)


def test_only_some_translate(system, sample):
    few = sample.source
    if system.can_translate:
        assert system.translate(few, few.mu, 1).shape == few.energy.shape
    else:
        with pytest.raises(RunError, match="only generates"):
            system.translate(few, few.mu, 1)


def test_independent_cells_are_the_likelihood_that_others_are_measured_from(system, sample):
    """After two steps hardly anything is gained or lost."""
    if isinstance(system, HasLikelihood):
        gained = system.nats_gained(sample.target, sample.target.mu, 1)
        assert gained.shape == (len(sample.target),)
        assert abs(gained.mean()) < 0.1


def test_a_folder_of_something_else_is_no_system(tmp_path: Path):
    with pytest.raises(StoreError, match="no such system"):
        SYSTEMS[YARDSTICK].make().load(tmp_path)


def test_names_are_found_or_the_like_is_offered():
    assert [entry.name for entry in chosen_systems("all")] == list(SYSTEMS)
    assert [entry.name for entry in chosen_systems("flow, marginals,flow")] == [YARDSTICK, "flow"]
    with pytest.raises(ConfigError, match="pixelcn"):
        find_system("pixelcn")
    with pytest.raises(ConfigError, match="No system"):
        chosen_systems(" ,")


def test_each_addition_to_the_gan_is_a_term_of_its_own(sample, conditions):
    """The same random numbers: what is switched on changes the generator, by itself."""
    values = []
    alone = ("diversity", "intensity", "regressor")
    for options in ({}, *({name: 0.3} for name in alone), dict.fromkeys(alone, 0.3)):
        system = Gan(**options)
        system.fit(sample, conditions, Budget(60.0, max_steps=3), 1)
        assert ("regressor" in system.network) == ("regressor" in options)
        weight = dict(system.network["generator"].named_parameters())["trunk.last.weight"]
        values.append(weight.detach().numpy().copy())
    for i, one in enumerate(values):
        for other in values[:i]:
            assert not np.array_equal(one, other)


def test_linear_and_cosine_schedules_begin_clean_and_end_in_noise(sample, conditions):
    for name in ("ddpm", "ddpm-linear"):
        alpha, sigma = find_system(name).make()._alpha_sigma()
        assert float(alpha[0]) > 0.99
        assert float(alpha[-1]) < 0.02
        assert (alpha[1:] < alpha[:-1]).all()
        assert np.allclose(alpha**2 + sigma**2, 1.0, atol=1e-6)


def test_a_training_that_was_changed_is_another_one() -> None:
    student, teacher = (SYSTEMS[f"caloclouds2-{name}"] for name in ("cm", "teacher"))
    assert student.training == teacher.training
    assert replace(student, recipe=student.recipe + 1).training != student.training
    assert replace(student, recipe=0).training == {
        "kind": "CaloClouds2",
        "options": {"distilled": 0.5},
    }


def test_yardsticks_have_nothing_to_train(sample, conditions) -> None:
    """Both are of one base: no network, no step and no time, whatever the budget."""
    for name in (YARDSTICK, POINT_YARDSTICK):
        found = find_system(name).make()
        assert isinstance(found, Untrained)
        found.fit(sample, conditions, Budget(60.0, max_steps=3), 1)
        assert (found.n_parameters, found.n_evaluations, found.trained.steps) == (0, 0, 0)
        assert not {"train", "make_network", "n_evaluations"} & set(vars(type(found)))
