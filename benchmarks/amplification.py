"""How many real events a generated sample is worth, by errors of quantiles (2008.06545).

    python -m benchmarks.amplification known --repeats 20 --output amplification.json
    python -m benchmarks.amplification run --run RUN --systems marginals,flow --train 200 \\
        --repeats 4 --seconds 30 --output amplification.json

The first draws training samples from two normals at ∓ 4, of which the truth is known, fits four
generators to each and draws as many points as `--generated` says: two normals with their five free
numbers, kernels of Scott's width, a spline flow and a GAN. The second trains systems of the
collection on events of a run, apart in each repeat, and looks at `--observable` of what they
generate; the truth are all events of data that the training did not have. Beside them stands the
training's own sample, as it is. Repeats that the output file has already are not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import gaussian_kde, norm
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from pileupgen.arrays import Floats
from pileupgen.compare.amplification import quantile_edges, quantile_error, worth_of
from pileupgen.files import write_whole
from pileupgen.measure.observables import ObservableSet
from pileupgen.run import hash_file
from pileupgen.samples.store import ImageStore
from pileupgen.zoo.contract import Budget, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.registry import chosen_systems

BINS = (10, 20, 50)
PLACE = 4.0
"""The normals have their means at ∓ this and the width 1."""
N_STEPS, N_NOISE, WIDTH = 800, 8, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("known", "run"))
    parser.add_argument("--run", type=Path)
    parser.add_argument("--systems", default="marginals")
    parser.add_argument("--observable", default="sum_et")
    parser.add_argument("--train", type=int, default=100, help="events of each training")
    parser.add_argument("--generated", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0, help="CPU time of a training")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    if given.what == "run" and given.run is None:
        parser.error("give --run, a run directory with images")
    key = key_of(given)
    kept = json.loads(given.output.read_text()) if given.output.exists() else {}
    rows: list[dict[str, Any]] = kept.setdefault(key, [])
    for number in range(len(rows), given.repeats):
        begun = time.process_time()
        rows.append(known(given, number) if given.what == "known" else of_run(given, number))
        write_whole(given.output, json.dumps(kept))
        print(f"repeat {number + 1} of {given.repeats}: {time.process_time() - begun:.0f} s of CPU")
    show(rows[: given.repeats], given.train)


def key_of(given: argparse.Namespace) -> str:
    """All that the rows of a file depend on, of a run its events, too."""
    names = ("what", "systems", "observable", "train", "generated", "seconds", "seed")
    values = [str(getattr(given, name)) for name in names]
    if given.what == "run":
        values.append(hash_file(given.run / "data" / "data.h5")[:16])
    return " ".join(values)


def show(rows: list[dict[str, Any]], n_train: int) -> None:
    """Print what each kind of sample is worth."""
    print(f"events that a sample is worth; every training had {n_train}")
    for name in rows[0]["errors"]:
        texts = []
        for place, n_bins in enumerate(BINS):
            errors = np.array([row["errors"][name][place] for row in rows])
            found = worth_of(errors, n_bins, rows[0]["n_truth"] or np.inf).events
            texts.append(f"{n_bins}: {found.value:.0f} ({found.low:.0f} to {found.high:.0f})")
        print(f"{name:>16}  {', '.join(texts)}")


def known(given: argparse.Namespace, number: int) -> dict[str, Any]:
    """Errors of generators that were fitted to one sample of two normals."""
    rng = np.random.default_rng([given.seed, number])
    sample = rng.normal(size=given.train) + PLACE * rng.choice([-1, 1], size=given.train)
    n, seed = given.generated, 1000 * given.seed + number
    fitted = GaussianMixture(2, random_state=seed).fit(sample[:, None])
    made = {
        "the sample": sample,
        "true form": fitted.sample(n)[0][:, 0],
        "kernels": gaussian_kde(sample).resample(n, seed=rng)[0],
        "spline flow": spline_flow(sample, n, seed),
        "gan": gan(sample, n, seed),
    }
    places = np.linspace(-10, 10, 200_001)
    below = 0.5 * (norm.cdf(places - PLACE) + norm.cdf(places + PLACE))
    edges = [np.interp(np.arange(1, k) / k, below, places) for k in BINS]
    errors = {name: [quantile_error(x, edge) for edge in edges] for name, x in made.items()}
    return {"errors": errors, "n_truth": 0}


def spline_flow(sample: Floats, n: int, seed: int) -> Floats:
    """Points of a rational-quadratic spline, with a tenth of the points to stop by."""
    import zuko

    torch.manual_seed(seed)
    x = torch.from_numpy(sample / 5).float()[:, None]
    held, x = x[: len(x) // 10], x[len(x) // 10 :]
    flow = zuko.flows.NSF(1, 0, transforms=1, bins=8)
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    best, state = np.inf, flow.state_dict()
    for _ in range(150):
        loss = -flow().log_prob(x).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            now = float(-flow().log_prob(held).mean())
        if now < best:
            best, state = now, {k: v.clone() for k, v in flow.state_dict().items()}
    flow.load_state_dict(state)
    with torch.no_grad():
        return 5 * flow().sample((n,))[:, 0].double().numpy()


def gan(sample: Floats, n: int, seed: int) -> Floats:
    """Points of a GAN with a logistic loss, the mean of the last half of its generators."""
    torch.manual_seed(seed)
    real = torch.from_numpy(sample / 5).float()[:, None]
    maker, critic = _mlp(N_NOISE, nn.Identity()), _mlp(1, nn.Dropout(0.2))
    mean = torch.optim.swa_utils.AveragedModel(
        maker, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    makes = torch.optim.Adam(maker.parameters(), 5e-4, betas=(0.5, 0.9))
    tells = torch.optim.Adam(critic.parameters(), 5e-4, betas=(0.5, 0.9))
    loss = nn.functional.softplus
    for _ in range(N_STEPS):
        made = maker(torch.randn(len(real), N_NOISE))
        smeared = real + 0.02 * torch.randn_like(real)
        of_critic = loss(-critic(smeared)).mean() + loss(critic(made.detach())).mean()
        _step(tells, of_critic)
        _step(makes, loss(-critic(made)).mean())
        mean.update_parameters(maker)
    with torch.no_grad():
        return 5 * mean(torch.randn(n, N_NOISE))[:, 0].double().numpy()


def _mlp(n: int, between: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(n, WIDTH), nn.LeakyReLU(0.2), between),
        *(nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2), between),
        nn.Linear(WIDTH, 1),
    )


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def of_run(given: argparse.Namespace, number: int) -> dict[str, Any]:
    """Errors of systems that were trained on some events of a run, none in two repeats."""
    store = ImageStore(given.run / "data" / "data.h5")
    order = np.random.default_rng([given.seed, 3]).permutation(len(store))
    chosen = order[number * given.train : (number + 1) * given.train]
    if len(chosen) < given.train:
        raise SystemExit(f"{len(store)} events are too few for {number + 1} × {given.train}.")
    rest = np.setdiff1d(np.arange(len(store)), chosen)
    truth, images = store.read(rest), store.read(np.sort(chosen))
    measure = ObservableSet(store.grid)

    def values(energy: np.ndarray) -> Floats:
        return measure.measure(energy, np.arange(len(energy)))[given.observable]

    of_truth = values(truth.energy)
    made = {"the sample": values(images.energy)}
    conditions = EventConditions.of_pileup(truth.cycled(given.generated))
    conditions = EventConditions(conditions.values, np.arange(len(conditions)), conditions.names)
    sample = ZooSample(images, None, Symmetry.of_stores(store))
    for entry in chosen_systems(given.systems):
        system = entry.make()
        seen = EventConditions.of_pileup(images)
        system.fit(sample, seen, Budget(given.seconds), given.seed + number)
        made[entry.name] = values(system.generate(conditions, given.seed))
    edges = [quantile_edges(of_truth, k) for k in BINS]
    errors = {name: [quantile_error(x, edge) for edge in edges] for name, x in made.items()}
    return {"errors": errors, "n_truth": len(of_truth)}


if __name__ == "__main__":
    main()
