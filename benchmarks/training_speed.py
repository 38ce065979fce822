"""Training speed: this loop against denoising-diffusion-pytorch's Trainer, and against the machine.

python benchmarks/training_speed.py [--config demo] [--steps 20] [--repeat 3]

The same denoiser, batch size and made-up latents in one process, in alternation. Both loops draw
batches, train with AdamW or Adam on v with self-conditioning, clip gradients and average weights;
the other Trainer gets its latents from memory, not from image files. Rates are events per second of
wall time and of CPU time; the latter is the one to look at where the machine is shared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from denoising_diffusion_pytorch import GaussianDiffusion, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from pileupgen.calo.geometry import get_grid
from pileupgen.config import Config, load_config
from pileupgen.diffusion.schedule import alpha_sigma, make_scheduler
from pileupgen.models.calibration import CellCalibration
from pileupgen.models.cell_patches import CellPatches
from pileupgen.models.denoiser import NULL, FieldDenoiser
from pileupgen.resources import find_file
from pileupgen.samples.store import ImageStore, assign_splits, create_store
from pileupgen.training.checkpoints import Making
from pileupgen.training.data import Augmentation, ScoreSample
from pileupgen.training.loop import Stage, global_batch, train_stage
from pileupgen.training.networks import new_denoiser
from pileupgen.training.objectives import Denoising
from pileupgen.training.step import optimise

N_EVENTS = 400
WARM_UP = 2


class TheirNetwork(nn.Module):
    """The same denoiser under the interface that GaussianDiffusion asks for."""

    def __init__(self, denoiser: FieldDenoiser, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.denoiser, self.scheduler = denoiser, make_scheduler(1000)
        self.channels = self.out_dim = shape[0]
        self.self_condition, self.random_or_learned_sinusoidal_cond = True, False

    def forward(self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        alpha, sigma = alpha_sigma(self.scheduler, t)
        label, mu = torch.full_like(t, NULL), torch.full_like(alpha, 60.0)
        x_0 = torch.zeros_like(x) if x_self_cond is None else x_self_cond
        return self.denoiser(x, t, label, mu, x_0, alpha, sigma)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", default="demo")
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--repeat", type=int, default=3)
    given = options.parse_args()
    config = load_config(find_file(given.config, "configs"))
    with tempfile.TemporaryDirectory() as folder:
        compare(config, given.steps, given.repeat, Path(folder))


def compare(config: Config, steps: int, repeat: int, folder: Path) -> None:
    stores = (made_up(folder / "mc.h5", 0), made_up(folder / "data.h5", 1))
    grid = stores[0].grid
    calibration = CellCalibration(grid.n_layers, grid.n_eta, grid.n_phi, 64, 1, 1)
    images = [store.read(store.indices("train")) for store in stores]
    calibration.fit([part.energy for part in images], [part.mu for part in images])
    sample, held_out = (ScoreSample(stores, calibration, s) for s in ("train", "validation"))
    codec = CellPatches(grid.n_layers, grid.n_eta, grid.n_phi, config.autoencoder.patch)
    batch = sample.in_order(N_EVENTS, 1)
    latents = codec.encode(batch.scores, batch.label, batch.mu)
    batch_size = config.training.batch_size

    def ours(precision: str) -> Callable[[], tuple[float, float]]:
        def run() -> tuple[float, float]:
            stage = stage_of(config, codec, sample, held_out, steps + WARM_UP)
            times: list[tuple[float, float]] = []

            def note(*_: int, **__: float) -> None:
                times.append((time.perf_counter(), time.process_time()))

            quiet = {"tensorboard": False, "evaluate_every": 10**9, "checkpoint_every": 10**9}
            settings = config.training.model_copy(update=quiet)
            train_stage(stage, settings, 1, accelerator_of(precision), note)
            # The last step also evaluates and saves, which the other Trainer is spared, too.
            begin, end = times[WARM_UP], times[-2]
            return rate(begin, end, (steps - 1) * batch_size)

        return run

    def theirs(precision: str) -> Callable[[], tuple[float, float]]:
        def run() -> tuple[float, float]:
            AcceleratorState._reset_state(True)
            trainer = their_trainer(config, codec, latents, precision, folder)
            trainer.train_num_steps = WARM_UP
            trainer.train()
            begin = (time.perf_counter(), time.process_time())
            trainer.train_num_steps = WARM_UP + steps
            trainer.train()
            end = (time.perf_counter(), time.process_time())
            return rate(begin, end, steps * batch_size)

        return run

    contenders = {
        f"{name}, {precision}": make(precision)
        for precision in ("bf16", "no")
        for name, make in (("pileupgen", ours), ("denoising-diffusion-pytorch", theirs))
    }
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    peaks = []
    for _ in range(repeat):
        peaks.append(matrix_rate())
        for name, run in contenders.items():
            results[name].append(run())
    flops = step_flops(config, codec, sample, held_out) / batch_size
    peak = statistics.median(peaks)
    print(f"{torch.get_num_threads()} threads; batch {batch_size}, latents {codec.latent_shape}")
    print(f"bf16 matrix product 2048³: {peak / 1e9:.0f} GFLOP/s of CPU time")
    print(f"training: {flops / 1e9:.3f} GFLOP/event")
    for name, pairs in results.items():
        wall, cpu = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        print(f"{name:36} {wall:8.1f} events/s {cpu:8.1f} events/CPU s {cpu * flops / peak:7.3f}")
    for precision in ("bf16", "no"):
        ratios = [
            [mine[i] / other[i] for i in (0, 1)]
            for mine, other in zip(
                results[f"pileupgen, {precision}"],
                results[f"denoising-diffusion-pytorch, {precision}"],
                strict=True,
            )
        ]
        wall, cpu = (statistics.median(ratio[i] for ratio in ratios) for i in (0, 1))
        print(f"ratio, {precision}: {wall:.2f} wall, {cpu:.2f} CPU")


def made_up(path: Path, domain: int) -> ImageStore:
    rng = np.random.default_rng([1, domain])
    grid = get_grid("atlas")
    energy = np.exp(rng.standard_normal((N_EVENTS, *grid.shape), dtype=np.float32))
    with create_store(path, grid, ("mc", "data")[domain], {}) as writer:
        columns = {
            "mu": np.full(N_EVENTS, 60.0),
            "event_id": np.arange(N_EVENTS),
            "weight": np.ones(N_EVENTS),
            "split": assign_splits(0, N_EVENTS, (0.6, 0.15, 0.25), 1),
        }
        writer.append(np.where(energy > 1, energy, 0).astype(np.float32), columns)
    return ImageStore(path)


def stage_of(
    config: Config, codec: CellPatches, sample: ScoreSample, held_out: ScoreSample, steps: int
) -> Stage:
    folder = Path(tempfile.mkdtemp())
    settings = config.denoiser
    objective = Denoising(
        codec,
        make_scheduler(1000),
        settings.label_dropout,
        settings.self_conditioning,
        settings.prediction_type,
    )
    network = new_denoiser(settings, codec, mirror=True)
    log = folder / "log.jsonl"
    roll = Augmentation(config.autoencoder.patch[1], eta_mirror=True)
    return Stage(
        network, objective, sample, held_out, steps, roll, folder / "c", log, Making("speed")
    )


def accelerator_of(precision: str) -> Accelerator:
    AcceleratorState._reset_state(True)
    return Accelerator(cpu=True, mixed_precision=precision)


def their_trainer(
    config: Config, codec: CellPatches, latents: Tensor, precision: str, folder: Path
) -> Any:
    images = folder / "images"
    if not images.exists():
        images.mkdir()
        for index in range(100):  # its constructor asks for a folder of images
            Image.new("RGB", codec.latent_shape[:0:-1]).save(images / f"{index}.png")
    network = TheirNetwork(new_denoiser(config.denoiser, codec, mirror=True), codec.latent_shape)
    diffusion = GaussianDiffusion(
        network,
        image_size=codec.latent_shape[1:],
        timesteps=1000,
        objective="pred_v",
        beta_schedule="cosine",
        auto_normalize=False,
    )
    trainer = Trainer(
        diffusion,
        str(images),
        train_batch_size=config.training.batch_size,
        train_lr=config.training.learning_rate,
        save_and_sample_every=10**9,
        results_folder=str(folder / "results"),
        amp=precision != "no",
        mixed_precision_type=precision,
        calculate_fid=False,
    )
    trainer.dl = endless(latents, config.training.batch_size)
    return trainer


def endless(latents: Tensor, batch_size: int) -> Any:
    loader: DataLoader[Tensor] = DataLoader(
        latents,  # type: ignore[arg-type]
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
    )
    while True:
        yield from loader


def rate(
    begin: tuple[float, float], end: tuple[float, float], n_events: int
) -> tuple[float, float]:
    return n_events / (end[0] - begin[0]), n_events / (end[1] - begin[1])


def matrix_rate(n: int = 2048, repeat: int = 5) -> float:
    """Floating-point operations per second of CPU time of a bf16 matrix product."""
    a, b = (torch.randn(n, n).bfloat16() for _ in range(2))
    a @ b
    begin = time.process_time()
    for _ in range(repeat):
        a @ b
    return 2 * n**3 * repeat / (time.process_time() - begin)


def step_flops(
    config: Config, codec: CellPatches, sample: ScoreSample, held_out: ScoreSample
) -> float:
    stage = stage_of(config, codec, sample, held_out, 1)
    accelerator = accelerator_of("no")
    network, optimizer = accelerator.prepare(
        stage.network, torch.optim.AdamW(stage.network.parameters())
    )
    batch, drawn = global_batch(stage, 0, config.training.batch_size, 1)
    with FlopCounterMode(display=False) as counter:
        optimise(network, stage.objective, optimizer, batch, drawn, accelerator, grad_clip=1.0)
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
