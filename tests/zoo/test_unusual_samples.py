"""Samples that are not the usual ones, and requests that do not fit, of every system."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pileupgen.calo.geometry import Grid
from pileupgen.calo.granularity import DeadRegion
from pileupgen.errors import ConfigError, GeometryError, RunError, StoreError, TrainingError
from pileupgen.samples.store import Images
from pileupgen.zoo import image_system
from pileupgen.zoo.autoregressive import Autoregressive
from pileupgen.zoo.contract import Budget, EventConditions, ZooSample
from pileupgen.zoo.diffusion import Ddpm
from pileupgen.zoo.flow_matching import FlowMatching
from pileupgen.zoo.flows import Flow
from pileupgen.zoo.image_system import ImageSystem
from pileupgen.zoo.marginals import Marginals
from pileupgen.zoo.point_system import PointSystem
from pileupgen.zoo.registry import SYSTEMS, find_system
from pileupgen.zoo.scores import Views
from tests.toys import Toy
from tests.zoo.test_systems import ALIKE, ONE_OF_A_KIND, TINY_GRID

ONE_STEP = Budget(60.0, max_steps=1)


def fitted(system: ImageSystem, sample: ZooSample) -> ImageSystem:
    if "steps" in system.options:
        system.options = {**system.options, "steps": 2}
    system.fit(sample, EventConditions.of_pileup(sample.target), ONE_STEP, 1)
    return system


def sample_of(toy: Toy, n: int = 30, grid: Grid = TINY_GRID, **columns) -> ZooSample:
    images = (toy.images(toy.energies(n, i, grid=grid), grid, **columns) for i in (1, 2))
    return ZooSample(*images, ALIKE)


@pytest.fixture(scope="module")
def translator(toy: Toy) -> ImageSystem:
    return fitted(Autoregressive(width=8), sample_of(toy))


# -- samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
@pytest.mark.parametrize("what", ["features", "one event", "no hit"])
def test_every_system_takes_every_sample(name, what, toy):
    if name == "spline-flow":
        pytest.importorskip("zuko")
    unknown = np.full(40, np.nan, dtype=np.float32)
    if what == "features":
        # One cell that has no place, values of either sign, and μ is not known.
        grid = Grid.of_features(["pt", "tau"], ["GeV", ""])
        energy = np.random.default_rng(0).normal(size=(40, 2, 1, 1)).astype(np.float32)
        sample = ZooSample(*(toy.images(e, grid, mu=unknown) for e in (energy, energy + 1)))
    elif what == "one event":
        sample = sample_of(toy, 1)
    else:
        nothing = toy.images(np.zeros((40, *TINY_GRID.shape), dtype=np.float32), TINY_GRID)
        sample = ZooSample(nothing, sample_of(toy, 40).source)
    system = find_system(name).make()
    if what == "features" and isinstance(system, PointSystem):
        with pytest.raises(TrainingError, match="features or have negative cells"):
            fitted(system, sample)
        return
    system = fitted(system, sample)
    conditions = EventConditions.of_pileup(sample.target)
    made = system.generate(conditions, 3)
    assert made.shape == sample.target.energy.shape
    assert np.isfinite(made).all()
    if what == "features":
        assert made.min() < 0 < made.max()
    if what == "no hit":
        assert not made.any()
    if system.can_translate:
        moved = system.translate(sample.source, sample.source.mu, 3)
        assert np.isfinite(moved).all()
        assert moved.any() == (what != "no hit")


@pytest.mark.parametrize("name", ["marginals", "autoregressive"])
def test_dead_cells_stay_empty(name, toy):
    """Also where the training's own images have energy in them."""
    grid = replace(TINY_GRID, dead_regions=(DeadRegion((-0.8, 0.0), (0.0, 1.5), "em"),))
    sample = sample_of(toy, grid=grid)
    assert sample.target.energy[:, grid.is_dead].any()
    system = fitted(find_system(name).make(), sample)
    made = [system.generate(EventConditions.of_pileup(sample.target), 1)]
    if system.can_translate:
        made.append(system.translate(sample.source, sample.source.mu, 1))
    for energy in made:
        assert not energy[:, grid.is_dead].any()
        assert energy[:, ~grid.is_dead].any()


def test_corrections_are_fitted_on_events_in_proportion_to_their_weights(toy, monkeypatch):
    """Source events of weight 0, much higher than the others, come first in the file."""
    monkeypatch.setattr(image_system, "CORRECTION_EVENTS", 60)
    target = toy.images(toy.energies(90, 1, grid=TINY_GRID), TINY_GRID)
    weight = np.repeat([0.0, 1.0], [60, 90])
    energy = np.concatenate(
        [toy.energies(60, 2, 4.0, grid=TINY_GRID), toy.energies(90, 3, grid=TINY_GRID)]
    )
    source = toy.images(energy, TINY_GRID, weight=weight)
    system = fitted(Autoregressive(width=8), ZooSample(target, source))
    moved = system.translate(source, source.mu, 1)[60:]
    assert (moved > 0).mean() == pytest.approx((target.energy > 0).mean(), abs=0.03)


def test_no_event_is_made_of_none(translator, toy):
    conditions = EventConditions.of_pileup(sample_of(toy).target).taken(np.arange(0))
    assert translator.generate(conditions, 1).shape == (0, *TINY_GRID.shape)
    none = toy.images(np.zeros((0, *TINY_GRID.shape), dtype=np.float32), TINY_GRID)
    assert translator.translate(none, none.mu, 1).shape == (0, *TINY_GRID.shape)
    assert translator.nats_gained(none, none.mu, 1).shape == (0,)


def test_a_cell_beyond_all_that_was_learned_keeps_its_place(translator, toy):
    """In double precision all such ranks are 1: by rank alone they would become one energy."""
    images = toy.images(toy.energies(3, 5, grid=TINY_GRID), TINY_GRID)
    images.energy[:, 0, 1, 2] = [1e3, 1e4, 1e5]
    moved = translator.translate(images, images.mu, 1)[:, 0, 1, 2]
    ratio = moved[1:] / moved[:-1]
    assert (ratio > 5).all()
    assert moved[0] > 100


def turned(grid: Grid, energy: np.ndarray) -> list[torch.Tensor]:
    views = Views(grid, ALIKE, torch.zeros(len(energy), 2), np.ones(len(energy)))
    images = torch.from_numpy(energy)
    return [views.draw((images,), 4, torch.Generator().manual_seed(seed))[0] for seed in range(20)]


def test_events_are_turned_by_whole_cells_of_the_detector():
    grid = replace(TINY_GRID, layer_n_phi=(6, 3))
    energy = np.random.default_rng(1).random((3, *grid.shape)).astype(np.float32)
    energy[:, 1] = np.repeat(energy[:, 1, :, ::2], 2, axis=2)
    views = turned(grid, energy)
    for view in views:
        assert torch.equal(view[:, 1, :, ::2], view[:, 1, :, 1::2])
    assert len({float(view[0, 0, 0, 0]) for view in views}) > 5


def test_events_are_not_turned_over_dead_cells():
    grid = replace(TINY_GRID, dead_regions=(DeadRegion((-0.8, 0.8), (0.0, 1.5)),))
    energy = np.where(grid.is_dead, 0.0, 1.0).astype(np.float32)[None]
    for view in turned(grid, energy):
        assert not view[:, torch.from_numpy(grid.is_dead)].any()


# -- what is said of them -------------------------------------------------------------------------


def test_a_likelihood_is_exact_where_no_cell_has_a_random_rank(toy):
    full = 1.0 + np.random.default_rng(0).lognormal(size=(30, *TINY_GRID.shape))
    kinds = {"nulls": np.where(full > 1.8, full, 0.0), "none": full}
    kinds["signed"] = kinds["nulls"] - 2 * full * (full < 1.3)
    exact = {}
    for kind, energy in kinds.items():
        sample = ZooSample(toy.images(energy.astype(np.float32), TINY_GRID))
        systems = Flow(n_couplings=1), Autoregressive(width=4)
        exact[kind] = [fitted(system, sample).is_exact for system in systems]
    assert exact == {"nulls": [False, True], "none": [True, True], "signed": [False, False]}


@pytest.mark.parametrize("name", ["autoregressive", "flow", "ddpm", "ddim", "flow-matching"])
def test_evaluations_are_as_many_as_are_counted(name, toy):
    sample = sample_of(toy)
    system = find_system(name).make()
    system.fit(sample, EventConditions.of_pileup(sample.target), Budget(60.0, max_steps=0), 1)
    assert system.trained.steps == 0
    calls: list[int] = []
    nets = system.network.nets if name == "flow" else [system.network]
    for net in nets:
        net.register_forward_hook(lambda *_: calls.append(1))
    system.generate(EventConditions.of_pileup(sample.target).taken(np.arange(2)), 1)
    assert len(calls) == system.n_evaluations
    assert f"{system.n_evaluations} " in SYSTEMS[name].what or name in ("flow", "autoregressive")


# -- what does not fit ----------------------------------------------------------------------------


def test_an_unknown_option_is_no_silent_default():
    with pytest.raises(ConfigError, match="no option 'diverity'"):
        type(find_system("gan").make())(diverity=0.1)
    with pytest.raises(ConfigError, match="no sampler 'dpm'"):
        Ddpm(sampler="dpm")
    with pytest.raises(ConfigError, match="0 steps"):
        FlowMatching(steps=0)


def test_a_folder_is_not_taken_for_another_system_of_the_same_networks(toy, tmp_path: Path):
    fitted(Ddpm(steps=2), sample_of(toy)).save(tmp_path / "ddpm")
    with pytest.raises(StoreError, match="a Ddpm, not a FlowMatching"):
        FlowMatching().load(tmp_path / "ddpm")


@pytest.mark.parametrize("part", ["weights.safetensors", "calibration", "system.json", "generate"])
def test_a_damaged_folder_changes_nothing(part, translator, tmp_path: Path):
    folder = tmp_path / "system"
    translator.save(folder)
    path = folder / part
    if path.is_dir():
        path = next(path.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:40])
    system = Autoregressive(width=5)
    with pytest.raises(StoreError, match="train again"):
        system.load(folder)
    assert system.options == {"width": 5}
    assert not system.corrections


def test_what_was_not_learned_is_not_done(translator, toy):
    sample = sample_of(toy)
    conditions = EventConditions.of_pileup(sample.target)
    with pytest.raises(RunError, match="not fitted"):
        Marginals().generate(conditions, 1)
    alone = fitted(Autoregressive(width=4), ZooSample(sample.target))
    with pytest.raises(RunError, match="not learned to translate"):
        alone.translate(sample.source, sample.source.mu, 1)
    other = replace(TINY_GRID, n_phi=12)
    wide = toy.images(toy.energies(3, 1, grid=other), other)
    with pytest.raises(GeometryError, match=r"\(2, 4, 12\).*\(2, 4, 6\)"):
        translator.translate(wide, wide.mu, 1)
    with pytest.raises(ConfigError, match="energy"):
        translator.generate(EventConditions(conditions.values, conditions.event_id, ("energy",)), 1)


def broken(images: Images, what: str) -> Images:
    if what == "NaN":
        return Images(np.full_like(images.energy, np.nan), images.grid, images.columns)
    if what == "no source events":
        nothing = {name: values[:0] for name, values in images.columns.items()}
        return Images(images.energy[:0], images.grid, nothing)
    return images.weighted(np.full(len(images), {"all 0": 0.0, "negative": -1.0}[what]))


@pytest.mark.parametrize("what", ["NaN", "no source events", "all 0", "negative"])
def test_what_cannot_be_learned_from_is_named(what, toy):
    sample = sample_of(toy)
    with pytest.raises(TrainingError, match=what):
        fitted(Marginals(), ZooSample(sample.target, broken(sample.source, what)))


def test_conditions_and_grids_have_to_fit(toy):
    sample, system = sample_of(toy), Marginals()
    conditions = EventConditions.of_pileup(sample.target)
    with pytest.raises(ConfigError, match="mu of every target event"):
        system.fit(sample, conditions.taken(np.arange(3)), ONE_STEP, 1)
    angle = EventConditions(conditions.values, conditions.event_id, ("angle",))
    with pytest.raises(ConfigError, match="Conditions angle of shape"):
        system.fit(sample, angle, ONE_STEP, 1)
    other = replace(TINY_GRID, n_phi=12)
    wide = toy.images(toy.energies(3, 1, grid=other), other)
    with pytest.raises(GeometryError, match="one grid"):
        system.fit(ZooSample(sample.target, wide), conditions, ONE_STEP, 1)
