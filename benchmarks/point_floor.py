"""Why sets of points are told from showers, and by what: the floor of independent points.

    python -m benchmarks.point_floor --run runs/showers
    python -m benchmarks.point_floor --run runs/showers --systems marginals,epic-fm --seconds 120
    python -m benchmarks.point_floor --run runs/jets --systems marginals,point-marginals

Three samples that nobody trained stand beside systems of the collection: true showers taken to
points and back; and hits of training showers of the nearest incident energies, pooled and drawn
independently, as many and of as much energy in a layer as systems of points draw, once with points
moved to free cells and once with points of a cell summed. The latter are what a system of
independent points comes to when it has learned all that there is. Of each sample: mean W1/σ, W1/σ
of the radius, the two-sample test of `pileupgen benchmark --task showers`, and the same on groups
of its features, each with the incident energy. Of jets it is the systems alone, and the test on
constituents with their p_T alone and with their places alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from pileupgen.calo.constituents import n_constituents
from pileupgen.compare.jet_quality import JetJudge, measure_jets
from pileupgen.compare.shower_quality import SCALARS, ShowerJudge, measure_showers
from pileupgen.compare.two_sample import feature_test
from pileupgen.samples.store import Images, ImageStore
from pileupgen.zoo.base import FittedSystem
from pileupgen.zoo.contract import Budget, Energies, EventConditions, ZooSample
from pileupgen.zoo.point_system import PointSystem
from pileupgen.zoo.points import hits_of
from pileupgen.zoo.registry import POINT_YARDSTICK, chosen_systems, find_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--systems", default="")
    parser.add_argument("--seconds", type=float, default=120.0, help="CPU time of a training")
    parser.add_argument("--distilled", type=float, help="part of it that goes to a student")
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--near", type=int, default=60, help="showers whose hits are pooled")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    mc, data = (ImageStore(given.run / "data" / f"{domain}.h5") for domain in ("mc", "data"))
    sample = ZooSample.of_stores(data, mc)
    if n_constituents(data.grid):
        of_jets(given, JetJudge.of(mc, data, given.events, 3, given.seed), sample)
        return
    judge = ShowerJudge.of(mc, data, given.events, 3, given.seed)
    fitted = trained(POINT_YARDSTICK, sample, 1.0, given.seed)
    assert isinstance(fitted, PointSystem)
    others = np.random.default_rng([given.seed, 5]).permutation(
        np.flatnonzero(data.columns["split"] != 2)
    )
    real = data.read(np.sort(others[: given.events]))
    show("reference", judge, real)
    show("to points and back", judge, there_and_back(fitted, real))
    wanted = EventConditions.of_images(judge.wanted)
    for is_apart in (True, False):
        energy = pooled(fitted, sample, wanted, given.near, given.seed, is_apart=is_apart)
        name = f"pooled hits, {'moved' if is_apart else 'summed'}"
        show(name, judge, alike(judge, energy))
    for entry in chosen_systems(given.systems) if given.systems else ():
        begun = time.process_time()
        system = trained(entry.name, sample, given.seconds, given.seed, given.distilled)
        energy = system.generate(wanted, given.seed)
        show(
            f"{entry.name}, {system.trained.steps} steps, {time.process_time() - begun:.0f} s",
            judge,
            alike(judge, energy),
        )


def of_jets(given: argparse.Namespace, judge: JetJudge, sample: ZooSample) -> None:
    """Tests on constituents by groups, how often they come in order, and the scatter of sums."""
    wanted = EventConditions.of_images(judge.wanted)
    tables = {"reference": judge.reference.constituents}
    ordered = {}
    for entry in chosen_systems(given.systems):
        system = trained(entry.name, sample, given.seconds, given.seed)
        energy = system.generate(wanted, given.seed)
        made = measure_jets(Images(energy, sample.grid, judge.wanted.columns), entry.name)
        tables[entry.name] = made.constituents
        pt = energy.reshape(len(energy), -1, 3)[..., 2]
        ordered[entry.name] = f", {(np.diff(pt, axis=1) <= 0).mean():.2f} in order as made"
    last = judge.target.constituents.shape[1] - 1
    every = np.arange(last)
    groups = {"all": every, "p_T": every[2::3], "places": every[every % 3 < 2]}
    for name, table in tables.items():
        texts = []
        for label, columns in groups.items():
            pair = (x[:, [*columns, last]] for x in (judge.target.constituents, table))
            test = feature_test(*pair, n_seeds=judge.n_seeds, seed=judge.seed)
            texts.append(f"{label} {test.auc:.3f} ± {max(test.error, test.spread):.3f}")
        scatter = table[:, 2:last:3].sum(axis=1).std()
        print(f"{name}: {', '.join(texts)}; Σ p_T ± {scatter:.3f}{ordered.get(name, '')}")


def trained(
    name: str, sample: ZooSample, seconds: float, seed: int, distilled: float | None = None
) -> FittedSystem:
    """A system fitted to the target's training showers; of students with their part changed."""
    system = find_system(name).make()
    if distilled is not None and "distilled" in system.options:
        system = type(system)(**{**system.options, "distilled": distilled})
    system.fit(sample, EventConditions.of_images(sample.target), Budget(seconds), seed)
    return system


def alike(judge: ShowerJudge, energy: Energies) -> Images:
    """Showers made at the conditions that the judge asks for."""
    return Images(energy, judge.wanted.grid, judge.wanted.columns)


def there_and_back(system: PointSystem, real: Images) -> Images:
    """True showers through scores of points and back, with their own hits and sums of layers."""
    space, points = system.space, hits_of(real, 5)
    back = np.zeros_like(real.energy)
    for row, n in enumerate(points.count):
        lengths = torch.rand(1, n, generator=torch.Generator().manual_seed(row))
        place = torch.from_numpy(points.place[row : row + 1, :n])
        energy = torch.from_numpy(points.energy[row : row + 1, :n])
        found = space.decode(space.encode(place, energy, lengths))
        wanted = (
            (real.energy[row] > 0).sum(axis=(1, 2)),
            real.energy[row].sum(axis=(1, 2), dtype=np.float64),
        )
        back[row] = space.image(*(x[0].numpy() for x in found), wanted, is_apart=True)
    return Images(back, real.grid, real.columns)


def pooled(
    system: PointSystem,
    sample: ZooSample,
    wanted: EventConditions,
    n_near: int,
    seed: int,
    *,
    is_apart: bool,
) -> Energies:
    """Showers of independent hits of the training showers that are nearest in energy."""
    hits, _, sums = system._told(wanted, seed)
    points, logs = hits_of(sample.target, 7), np.log(sample.target.mu)
    energy = np.zeros((len(wanted), *sample.grid.shape), dtype=np.float32)
    for event, own in enumerate(np.log(wanted.values[:, 0])):
        rng = np.random.default_rng([seed, 3, event])
        near = np.argsort(np.abs(logs - own))[:n_near]
        mask = points.mask[near]
        place, of_points = points.place[near][mask], points.energy[near][mask]
        layer = np.floor(place[:, 0]).astype(np.int64)
        rows = [
            rng.choice(found if len(found := np.flatnonzero(layer == n)) else len(layer), count)
            for n, count in enumerate(hits[event])
        ]
        chosen = np.concatenate(rows)
        told = hits[event], sums[event]
        energy[event] = system.space.image(
            place[chosen], of_points[chosen], told, is_apart=is_apart
        )
    return energy


def show(name: str, judge: ShowerJudge, images: Images) -> None:
    """Print distances, the two-sample test, and the same by groups of features."""
    found, target = measure_showers(images), judge.target
    n_layers, n_rings, _ = images.grid.shape
    first = n_layers + n_rings
    places = {label: first + i for i, label in enumerate(SCALARS.values())}
    groups = {
        "layers": [*range(n_layers)],
        "rings": [*range(n_layers, first)],
        "hits, response": [places["hits"], places["E_vis/E_inc"]],
        "axis": [places["⟨x⟩"], places["⟨y⟩"]],
        "depth": [places["⟨z⟩"]],
    }

    def auc(columns: list[int]) -> str:
        pair = target.features[:, columns], found.features[:, columns]
        test = feature_test(*pair, n_seeds=judge.n_seeds, seed=judge.seed)
        return f"{test.auc:.3f} ± {max(test.error, test.spread):.3f}"

    quality = judge._quality(found)
    parts = [f"{label} {auc([*columns, first + len(places)])}" for label, columns in groups.items()]
    radius = quality.distances["radial"]
    print(
        f"{name}: W1/σ {quality.w1.value:.3f} ± {quality.w1.error:.3f}, radius {radius.value:.3f} "
        f"± {radius.error:.3f}, AUC {quality.auc:.3f} ± {quality.auc_error:.3f}; "
        f"{', '.join(parts)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
