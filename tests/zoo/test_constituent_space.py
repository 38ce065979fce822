"""Systems of points on jets: what becomes of constituents on the way to scores and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from pileupgen.calo.constituents import constituents_of
from pileupgen.compare.distances import wasserstein
from pileupgen.errors import TrainingError
from pileupgen.zoo import point_system
from pileupgen.zoo.constituent_space import ConstituentSpace
from pileupgen.zoo.contract import Budget, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.point_marginals import PointMarginals
from pileupgen.zoo.point_system import PointSystem, PointViews
from pileupgen.zoo.registry import SYSTEMS
from tests.compare.test_jet_quality import GRID, P, jets_of, make_tables

POINTS = [
    name
    for name, entry in SYSTEMS.items()
    if entry.family == "points" and name != "caloclouds2-teacher"
]
N = 600


@pytest.fixture(scope="module", autouse=True)
def _few_to_learn_marginals_from() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point_system, "CORRECTION_EVENTS", 50)
        yield


@pytest.fixture(scope="module")
def sample() -> ZooSample:
    return ZooSample(jets_of(*make_tables(N, 1)), symmetry=Symmetry(phi=True, eta=True))


def fitted(system: PointSystem, sample: ZooSample, steps: int = 2) -> PointSystem:
    if "steps" in system.options:
        system.options = {**system.options, "steps": 3}
    conditions = EventConditions.of_pileup(sample.target)
    system.fit(sample, conditions, Budget(60.0, max_steps=steps), 1)
    return system


@pytest.fixture(scope="module")
def yardstick(sample: ZooSample) -> PointSystem:
    return fitted(PointMarginals(), sample)


def wanted(n: int, pt: float | np.ndarray = 1000.0) -> EventConditions:
    values = np.broadcast_to(np.asarray(pt, dtype="f4"), n)[:, None]
    return EventConditions(np.ascontiguousarray(values), np.arange(n))


def test_constituents_come_back_from_their_scores(sample):
    space = ConstituentSpace(GRID, is_eta_symmetric=False)
    space.fit(sample)
    points = space.points_of(sample.target, 0)
    place, pt = (torch.from_numpy(x[points.mask]) for x in (points.place, points.energy))
    x = space.encode(place, pt, torch.rand(len(pt)))
    assert x.shape == (len(pt), 3)
    assert x.mean(dim=0).abs().max() < 0.03
    assert (x.std(dim=0) - 1).abs().max() < 0.03
    again, energy = space.decode(x)
    torch.testing.assert_close(again, place, atol=2e-4, rtol=0)
    torch.testing.assert_close(energy, pt, atol=0, rtol=2e-3)
    # Nothing is farther out than what was seen.
    wild, most = space.decode(1e3 * torch.randn(100, 3))
    assert wild.abs().max() <= place.abs().max() + 1e-4
    assert most.max() <= pt.max() * 1.001


def test_jets_of_the_yardstick_have_the_marginals_and_independent_constituents(sample, yardstick):
    made = jets_of(yardstick.generate(wanted(N), 3), np.full(N, 1000.0))
    both = []
    for images in (sample.target, made):
        found = constituents_of(images.energy)
        is_there = found[..., 2] > 0
        # Of two prongs: where the leading constituents are is known from where the others are.
        lean = np.abs((found[:, 0, :2] * found[:, 1, :2]).sum(axis=1)).mean()
        both.append((found[is_there], is_there.sum(axis=1), found[..., 2].sum(axis=1), lean))
    (real, hits, sums, lean), (fake, its_hits, its_sums, its_lean) = both
    for axis in range(3):
        spread = real[:, axis].std()
        assert wasserstein(real[:, axis], fake[:, axis])[0] < 0.08 * spread
    assert np.bincount(its_hits, minlength=P + 1) == pytest.approx(
        np.bincount(hits, minlength=P + 1), abs=45
    )
    assert its_hits.max() <= P
    assert wasserstein(sums, its_sums)[0] < 0.01
    # Independent ones are at any angle to each other.
    assert its_lean < 0.8 * lean


def test_numbers_follow_the_pt_of_the_jet():
    """Jets of higher p_T have more constituents, and so have generated ones."""
    tables, _ = make_tables(N, 2)
    hits = (constituents_of(tables)[..., 2] > 0).sum(axis=1)
    pt = (100.0 * hits + np.random.default_rng(1).uniform(-50, 50, N)).astype("f4")
    system = fitted(PointMarginals(), ZooSample(jets_of(tables, pt)))
    for asked in (3, 5, 6):
        made = system.generate(wanted(100, 100.0 * asked), 1)
        found = (constituents_of(made)[..., 2] > 0).sum(axis=1)
        assert found.mean() == pytest.approx(asked, abs=0.25)


@pytest.mark.parametrize("name", POINTS)
def test_a_jet_depends_on_its_number_and_seed_alone(name, sample, tmp_path):
    """Bit for bit, whatever it is made together with, and from a file as well."""
    system = fitted(SYSTEMS[name].make(), sample)
    conditions = wanted(30, np.linspace(850, 1150, 30))
    many = system.generate(conditions, 5)
    assert many.shape == (30, *GRID.shape)
    found = constituents_of(many)
    # They stand in order of p_T, and absent ones are 0.
    np.testing.assert_array_equal(found.reshape(many.shape), many)
    few = system.generate(conditions.taken(np.array([21, 4])), 5)
    np.testing.assert_array_equal(few, many[[21, 4]])
    assert (system.generate(conditions, 6) != many).mean() > 0.5
    system.save(tmp_path / "system")
    again = type(system)()
    again.load(tmp_path / "system")
    np.testing.assert_array_equal(again.generate(conditions, 5), many)


def test_the_sum_of_pt_is_what_was_drawn(sample, yardstick):
    """Unless the option leaves that out."""
    conditions = wanted(40)
    _, _, sums = yardstick._told(conditions, 2)
    made = constituents_of(yardstick.generate(conditions, 2))[..., 2].sum(axis=1)
    np.testing.assert_allclose(made, sums[:, 0], rtol=1e-5)
    free = fitted(PointMarginals(calibrated=False), sample)
    loose = constituents_of(free.generate(conditions, 2))[..., 2].sum(axis=1)
    assert np.abs(loose - sums[:, 0]).max() > 0.1


def test_training_jets_are_mirrored_where_the_cards_say_so(sample):
    one = jets_of(*make_tables(1, 5))
    space = ConstituentSpace(GRID, is_eta_symmetric=False)
    space.fit(sample)
    points = space.points_of(one, 0)
    seen = {}
    for symmetry in (Symmetry(), Symmetry(phi=True), Symmetry(phi=True, eta=True)):
        views = PointViews(points, space, symmetry, torch.zeros(1, 2), np.ones(1))
        signs = set()
        for seed in range(16):
            x, mask, _ = views.draw(1, torch.Generator().manual_seed(seed))
            place = space.decode(x[mask])[0].numpy() / points.place[points.mask]
            np.testing.assert_allclose(np.abs(place), 1.0, rtol=0.05)
            signs.add(tuple(np.sign(place[0])))
        seen[symmetry] = signs
    both, eta, none = Symmetry(phi=True, eta=True), Symmetry(phi=True), Symmetry()
    assert seen[none] == {(1, 1)}
    assert seen[eta] == {(1, 1), (1, -1)}
    assert seen[both] == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_jets_without_constituents_are_refused_and_some_are_none(sample):
    nothing = replace(sample.target, energy=0 * sample.target.energy)
    with pytest.raises(TrainingError, match="No jet of the target has constituents"):
        fitted(PointMarginals(), ZooSample(nothing))
    energy = sample.target.energy.copy()
    energy[: N // 2] = 0
    system = fitted(PointMarginals(), ZooSample(replace(sample.target, energy=energy)))
    made = constituents_of(system.generate(wanted(200), 1))
    assert made.any(axis=(1, 2)).mean() == pytest.approx(0.5, abs=0.1)
