"""Speed of translation, store to store, against a plain diffusers loop with the same networks.

python -m benchmarks.translate_speed --run runs/demo [--events 100] [--steps 10,5,4]

The plain loop is that of the diffusers tutorials: DDPM's ancestral steps from t_release to 0, one
pass with the class and one without, single precision. Both read the same held-out events, encode,
decode and correct them by the same code, and write a store. All in one process, one after another.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.parts import Parts
from pileupgen.compare.quality import MethodOutput, QualityJudge
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import EventKeys, Events
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.pipeline import Correction
from pileupgen.diffusion.production import Blocks, Member, Production, produce
from pileupgen.diffusion.schedule import alpha_sigma
from pileupgen.diffusion.settings import MICRO_BATCH, Settings
from pileupgen.models.codec import EventNoise
from pileupgen.models.correction.correlations import FieldCorrection
from pileupgen.models.networks.denoiser import DATA, MC, NULL
from pileupgen.run import RunDirectory
from pileupgen.samples.store import Images, ImageStore, create_store

Rows = NDArray[np.int64]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/demo"))
    options.add_argument("--events", type=int, default=100)
    options.add_argument(
        "--correction-events", type=int, default=100, help="0: nothing is corrected"
    )
    options.add_argument("--steps", default="10,5,4", help="of our own solver, with commas")
    options.add_argument("--guidance", default="classifier-free,closed-form")
    options.add_argument("--t-release", type=int, default=300)
    options.add_argument("--w", type=float, default=2.0)
    options.add_argument("--no-plain", action="store_true", help="leave the plain loop out")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    run = RunDirectory(given.run)
    mc, data = (ImageStore(run.images(domain)) for domain in ("mc", "data"))
    pipeline = PileupTranslationPipeline.from_pretrained(run.model)
    judge = QualityJudge.of(mc, data, given.events, 1, given.seed)
    rows = mc.indices("test", given.events)
    training = mc.read(mc.indices("train", given.correction_events))
    real = data.read(data.indices("train", 4 * given.correction_events))
    base = Settings("partial", given.t_release, given.w)
    record: dict[str, Any] = {"load_before": os.getloadavg(), "events": len(rows), "rows": []}
    print(f"{len(rows)} events, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        energies: dict[str, NDArray[np.float32]] = {}
        rates: dict[str, float] = {}
        if not given.no_plain:
            plain = PlainLoop(pipeline, given.t_release, given.w, given.seed)
            if len(training):
                plain.fit(training, real)
            seconds = timed(lambda: plain.produce(mc, rows, Path(folder) / "plain.h5"))
            energies["plain"] = ImageStore(Path(folder) / "plain.h5").read().energy
            rates["plain"] = len(rows) / seconds
            show(record, "plain loop", rates["plain"], None, judge, energies["plain"])
        for guidance, steps in product(given.guidance.split(","), map(int, given.steps.split(","))):
            settings = replace(base, num_inference_steps=steps, guidance=guidance)
            correction = None
            if len(training):
                correction = fit_correction(pipeline, training, real, settings, given.seed)
            member = Member(pipeline, settings, correction)
            target = Path(folder) / f"{guidance}-{steps}.h5"
            parts = Parts(pipeline, correction)
            with parts.watched():
                seconds = timed(partial(ours, mc, rows, member, given.seed, target))
            energy = ImageStore(target).read().energy
            rate = len(rows) / seconds
            extra: dict[str, Any] = {
                "network_share": parts.of_networks / seconds / torch.get_num_threads(),
                "of_matrix_rate": flops_per_event(pipeline, settings) * rate / matrix_rate(),
                "times_plain": rate / rates["plain"] if rates else None,
            }
            if rates:
                difference = judge.gap_difference(energy, energies["plain"])
                extra["shift_removed_less_plain"] = (difference.value, difference.error)
            show(record, f"{guidance}, {steps} steps", rate, extra, judge, energy)
    record["load_after"] = os.getloadavg()
    print(json.dumps(record))


def show(
    record: dict[str, Any],
    name: str,
    rate: float,
    extra: dict[str, Any] | None,
    judge: QualityJudge,
    energy: NDArray[np.float32],
) -> None:
    """Print a row and keep it."""

    quality = judge.quality(MethodOutput(energy=energy)).to_dict()
    row = {"name": name, "events_per_s": rate, **(extra or {}), "quality": quality}
    record["rows"].append(row)
    notes = ", ".join(f"{key} {_short(value)}" for key, value in (extra or {}).items())
    gap = quality["shift_removed"]
    print(
        f"{name:26} {rate:8.2f} events/s; fraction of the shift removed {gap['value']:.3f} ± "
        f"{0.5 * (gap['high'] - gap['low']):.3f}, AUC {quality['auc']:.3f}; {notes}",
        flush=True,
    )


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:+.4f} ± {value[1]:.4f}"
    return "–" if value is None else f"{value:.3g}"


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def ours(mc: ImageStore, rows: Rows, member: Member, seed: int, target: Path) -> None:
    """What `pileupgen translate` does once its models are loaded."""
    production = Production(mc, rows, [member], seed)
    produce(production, Blocks(target, "benchmark", rows, 1), target, {})


def fit_correction(
    pipeline: PileupTranslationPipeline, images: Images, real: Images, settings: Settings, seed: int
) -> Correction:
    return pipeline.fit_correction(
        images.energy, images.mu, images.event_id, seed, settings, real=real
    )


class PlainLoop:
    """Partial diffusion as one would write it with diffusers, batch by batch."""

    def __init__(
        self, pipeline: PileupTranslationPipeline, t_release: int, w: float, seed: int
    ) -> None:
        self.pipeline, self.t_release, self.w, self.seed = pipeline, t_release, w, seed
        grid = pipeline.geometry
        n_channels = pipeline.calibration.n_channels
        self.correction = FieldCorrection(n_channels, grid.n_eta, grid.n_phi, grid.is_eta_symmetric)

    def fit(self, images: Images, real: Images) -> None:
        """Its own correction, on training events that it has translated."""
        scores = torch.cat([scores for _, scores in self._scores(images)])
        self.correction.fit(scores, self.pipeline.real_scores(real, DATA, self.seed))

    def produce(self, mc: ImageStore, rows: Rows, target: Path) -> None:
        with create_store(target, mc.grid, "mc_to_data", {}) as writer:
            for images in mc.batches(rows, MICRO_BATCH):
                for part, scores in self._scores(images):
                    mu = torch.from_numpy(part.mu)
                    energy = self.pipeline.calibration.decode(self.correction(scores), DATA, mu)
                    writer.append(energy.numpy(), part.columns)

    def _scores(self, images: Images) -> Iterator[tuple[Images, Tensor]]:
        for begin in range(0, len(images), MICRO_BATCH):
            rows = slice(begin, begin + MICRO_BATCH)
            columns = {name: values[rows] for name, values in images.columns.items()}
            part = Images(images.energy[rows], images.grid, columns)
            yield part, self._translate(part)

    @torch.no_grad()
    def _translate(self, images: Images) -> Tensor:
        pipeline, scheduler = self.pipeline, self.pipeline.scheduler
        mu = torch.from_numpy(images.mu)
        noise = EventNoise(self.seed, images.event_id)
        uniform = noise.uniform(images.energy.shape[1:])
        codec = pipeline.codec
        latents = codec.encode(torch.from_numpy(images.energy), MC, mu, uniform)
        rng = torch.Generator().manual_seed(self.seed)
        eps = noise.normal(tuple(latents.shape[1:]))
        x = scheduler.add_noise(latents, eps, torch.tensor([self.t_release]))
        x_0 = torch.zeros_like(x)
        for t in range(self.t_release, -1, -1):
            times = torch.full((len(x),), t)
            alpha, sigma = alpha_sigma(scheduler, times)
            data, none = (
                pipeline.denoiser(x, times, torch.full_like(times, label), mu, x_0, alpha, sigma)
                for label in (DATA, NULL)
            )
            step = scheduler.step(none + (self.w + 1) * (data - none), t, x, generator=rng)
            x, x_0 = step.prev_sample, step.pred_original_sample
        return codec.decode_scores(x, DATA, mu)


def flops_per_event(pipeline: PileupTranslationPipeline, settings: Settings) -> float:
    """Floating-point operations of a translation, counted."""
    n = MICRO_BATCH
    energy = np.zeros((n, *pipeline.geometry.shape), dtype=np.float32)
    mu = np.full(n, 60.0, dtype=np.float32)
    events = Events(energy, mu, EventKeys(np.arange(n), 1))
    with FlopCounterMode(display=False) as counter:
        list(pipeline.translator(Direction()).parts(events, settings))
    return float(counter.get_total_flops()) / n


def matrix_rate(n: int = 2048, repeat: int = 3) -> float:
    """Floating-point operations per second of a bf16 matrix product, the best of a few."""
    a, b = (torch.randn(n, n).bfloat16() for _ in range(2))
    best = min(timed(lambda: a @ b) for _ in range(repeat + 1))
    return 2 * n**3 / best


if __name__ == "__main__":
    main()
