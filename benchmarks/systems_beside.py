"""What stands beside `pileupgen benchmark`: translations of the run, and orders known from papers.

After `pileupgen benchmark --run RUN --methods all`:

    python -m benchmarks.systems_beside --run RUN --translated FILE --translated FILE
    python -m benchmarks.systems_beside --run RUN --orders
    python -m benchmarks.systems_beside --run RUN --post
    python -m benchmarks.systems_beside --run PAIRS --pairs perfekt,sliced-transport

The first judges stores that `translate` wrote on the events of the benchmark, with its judge. The
second takes the systems as they were trained: how far apart two events of a GAN are that were made
at the same conditions, with and without the diversity term, and what DDIM in 50 steps differs by
from DDPM in 500. The third is the spectrum of cells of BIB-AE with and without its post-processor,
before and after output is brought to the target's marginals. The fourth is how near translated
events of a run of pairs are to what the same events became.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pileupgen.compare.quality import MethodOutput, Quality, QualityJudge
from pileupgen.measure.bootstrap import Estimate, estimate, resample
from pileupgen.samples.store import ImageStore
from pileupgen.zoo import image_system
from pileupgen.zoo.contract import EventConditions, ZooSample
from pileupgen.zoo.image_system import TARGET, ImageSystem
from pileupgen.zoo.pairs import paired_images
from pileupgen.zoo.registry import TRAINING_FREE, find_system

GANS = ("gan", "sdi-gan", "sdi-gan-intensity", "sdi-gan-regressor")
N_PAIRS = 300
N_DRAWS = 200
N_SPECTRA = 30
"""Bootstrap draws of spectra: all cells are sorted in each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--translated", type=Path, action="append", default=[])
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--post", action="store_true")
    parser.add_argument("--pairs", default="")
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--sampled", type=int, default=150, help="events of DDIM and DDPM")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    mc, data = (ImageStore(given.run / "data" / f"{domain}.h5") for domain in ("mc", "data"))
    if given.translated:
        judge = QualityJudge.of(mc, data, given.events, 3, given.seed)
        for path in given.translated:
            show(path.stem, judge.quality(MethodOutput(translated(path, judge)), on_cells=True))
    if given.orders:
        diversity(given.run, data, given.seed)
        steps(given.run, mc, data, given.sampled, given.seed)
    if given.post:
        post_processor(given.run, data, given.events, given.seed)
    for name in filter(None, given.pairs.split(",")):
        truth(given.run, name, mc, data, given.seed)


def show(name: str, found: Quality) -> None:
    """Print a row."""
    block = "" if found.block is None else f", blocks {found.block.value:.3f}"
    cells = (
        ""
        if found.cell_auc is None
        else f", cells {found.cell_auc:.3f} ± {found.cell_auc_error:.3f}"
    )
    print(
        f"{name}: W1/σ {found.w1.value:.3f} ± {found.w1.error:.3f}, AUC {found.auc:.3f} ± "
        f"{found.auc_error:.3f}{cells}{block}"
    )


def translated(path: Path, judge: QualityJudge) -> np.ndarray:
    """Translations of the judge's source events, in their order."""
    store = ImageStore(path)
    row = {int(event): i for i, event in enumerate(store.columns["source_event"])}
    wanted = [row[int(event)] for event in judge.source_images.event_id]
    return store.read(np.array(wanted)).energy


def trained(run: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Heads and folders of the systems that the benchmark keeps."""
    for path in sorted((run / "systems" / "models").glob("*/system.json")):
        yield json.loads(path.read_text(encoding="utf-8")), path.parent


def load(run: Path, name: str) -> ImageSystem:
    """A system as the benchmark trained it."""
    entry = find_system(name)
    for head, folder in trained(run):
        system = entry.make()
        kept = {k: v for k, v in head["options"].items() if k not in TRAINING_FREE}
        if head["kind"] == type(system).__name__ and kept == entry.training["options"]:
            system.load(folder)
            return system
    raise SystemExit(f"{name} is not trained: pileupgen benchmark --run {run} --methods {name}")


def diversity(run: Path, data: ImageStore, seed: int) -> None:
    """Mean |difference| of two events at the same μ, over that of real ones."""
    images = data.read(data.indices("test", 2 * N_PAIRS))
    order = np.argsort(images.mu)
    logs = np.log1p(images.energy[order])
    real = np.abs(logs[0::2] - logs[1::2]).mean(axis=(1, 2, 3))
    conditions = EventConditions.of_pileup(images)
    few = conditions.taken(order[0::2])
    counts = resample(len(real), N_DRAWS, np.random.default_rng(seed)) / len(real)
    for name in GANS:
        system = load(run, name)
        one, other = (np.log1p(system.generate(few, s)) for s in (seed, seed + 1))
        apart = np.abs(one - other).mean(axis=(1, 2, 3))
        # Of sums of events: cells are brought to their marginals, whatever the GAN does.
        sums = [
            np.log(np.expm1(x).sum(axis=(1, 2, 3))) for x in (one, other, logs[0::2], logs[1::2])
        ]
        of_sums, of_real = np.abs(sums[0] - sums[1]), np.abs(sums[2] - sums[3])
        for what, mine, its in (("cells", apart, real), ("ΣE", of_sums, of_real)):
            found = estimate(mine.mean() / its.mean(), (mine @ counts) / (its @ counts))
            print(f"{name}: two events at one μ differ in {what} by {found.value:.3f} "
                  f"({found.low:.3f} to {found.high:.3f}) of what real ones do")  # fmt: skip


def steps(run: Path, mc: ImageStore, data: ImageStore, n: int, seed: int) -> None:
    """The same network by DDIM in 25 and 50 steps and by DDPM in 100 and 500."""
    judge = QualityJudge.of(mc, data, n, 3, seed)
    sample = ZooSample.of_stores(data)
    # The slow sampler's marginals are learned on as many events as are judged.
    image_system.CORRECTION_EVENTS = n
    conditions = EventConditions.of_pileup(sample.target)
    show("reference", judge.reference_quality())
    for sampler, n_steps in (("ddim", 25), ("ddim", 50), ("ddpm", 100), ("ddpm", 500)):
        system = load(run, "ddpm")
        system.options = {**system.options, "sampler": sampler, "steps": n_steps}
        system.fit_corrections(sample, conditions)
        energy = system.generate(EventConditions.of_pileup(judge.wanted), seed)
        show(f"{sampler}, {n_steps} steps", judge.quality(MethodOutput(energy), has_source=False))


def post_processor(run: Path, data: ImageStore, n: int, seed: int) -> None:
    """W1 of the energies of cells, each layer for itself, of BIB-AE's events."""
    system = load(run, "bib-ae")
    images = data.read(data.indices("test", n))
    conditions = EventConditions.of_pileup(images)
    rng = np.random.default_rng(seed)
    draws = [np.arange(len(images)), *rng.integers(len(images), size=(N_SPECTRA, len(images)))]
    for is_brought in (False, True):
        found = {}
        for has_post in (False, True):
            system.options = {"post": has_post}
            system.fit_corrections(ZooSample.of_stores(data), conditions_of(data))
            scores = system._drawn(conditions, seed)
            if is_brought:
                scores = system.corrections["generate"](scores)
            made = system.space.decode(scores, images.mu, TARGET)
            found[has_post] = np.array([spectra_apart(made[d], images.energy[d]) for d in draws])
        where = "after" if is_brought else "before"
        for place, unit in enumerate(("σ of ln(1 + E)", "MeV of E")):
            without, with_it = (found[has_post][:, place] for has_post in (False, True))
            texts = [interval(estimate(x[0], x[1:])) for x in (without, with_it, without - with_it)]
            print(
                f"{where} marginals are brought, W1 of cells in {unit}: without {texts[0]}, with "
                f"{texts[1]}, less {texts[2]}"
            )


def spectra_apart(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Means over layers of W1 of all cells: of ln(1 + E) over the other's σ, of E in MeV."""
    logs, energies = [], []
    for layer in range(one.shape[1]):
        a, b = (np.sort(x[:, layer], axis=None) for x in (one, other))
        energies.append(1000 * np.abs(a - b).mean())
        a, b = np.log1p(a), np.log1p(b)
        logs.append(np.abs(a - b).mean() / b.std())
    return float(np.mean(logs)), float(np.mean(energies))


def conditions_of(data: ImageStore) -> EventConditions:
    """μ of the training events."""
    return EventConditions.of_pileup(data.read(data.indices("train")))


def interval(one: Estimate) -> str:
    """A value and its 68 % interval."""
    return f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})"


def truth(run: Path, name: str, mc: ImageStore, data: ImageStore, seed: int) -> None:
    """Mean |difference| of ln(1 + E) of translated events' cells and blocks to the pair's."""
    system = load(run, name)
    pairs = [store.read(store.indices("test")) for store in (data, mc)]
    target, source = paired_images(pairs[0], pairs[1])
    moved = system.translate(source, source.mu, seed)
    counts = resample(len(source), N_DRAWS, np.random.default_rng(seed)) / len(source)
    logs = [np.log1p(x) for x in (source.energy, moved, target.energy)]
    sums = [np.log(x.sum(axis=(1, 2, 3))) for x in (source.energy, moved, target.energy)]
    for what, values in (("cells", logs), ("ΣE", sums)):
        missed = [np.abs(x - values[2]).reshape(len(source), -1).mean(axis=1) for x in values[:2]]
        ratio = estimate(
            missed[1].mean() / missed[0].mean(), (missed[1] @ counts) / (missed[0] @ counts)
        )
        print(f"{name}: {what} of the pair are missed by {interval(ratio)} of what the source is")


if __name__ == "__main__":
    main()
