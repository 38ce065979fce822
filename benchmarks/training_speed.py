"""Training speed: this loop against denoising-diffusion-pytorch's Trainer, and against the machine.

python benchmarks/training_speed.py [--config demo] [--steps 15] [--repeat 3]

The same denoiser, batch size and made-up latents in one process; the trainers take their steps in
turn, so that what else the machine does hits them alike. Both draw batches, train with AdamW or
Adam on v with self-conditioning, clip gradients and average weights; the other Trainer gets its
latents from memory, not from image files. Rates are events per second of wall time and of CPU time;
the latter is the one to look at where the machine is shared.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from pileupgen.calo.presets import get_grid
from pileupgen.config import Config, load_config
from pileupgen.diffusion.schedule import alpha_sigma, make_scheduler
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import NULL, FieldDenoiser
from pileupgen.resources import find_file
from pileupgen.samples.store import ImageStore, assign_splits, create_store
from pileupgen.training.checkpoints import Making
from pileupgen.training.data import Augmentation, ScoreSample
from pileupgen.training.loop import Stage, TrainingLoop, global_batch
from pileupgen.training.networks import new_denoiser
from pileupgen.training.objectives import Denoising
from pileupgen.training.replicas import Replicas
from pileupgen.training.step import optimise

if importlib.util.find_spec("torchvision") is None:
    # The other trainer reads image files with it; here it gets its latents from memory.
    sys.modules["torchvision"] = MagicMock()

from denoising_diffusion_pytorch import GaussianDiffusion, Trainer

N_EVENTS = 400
WARM_UP = 2
OURS, THEIRS = "pileupgen", "denoising-diffusion-pytorch"
Times = NDArray[np.float64]
"""Seconds, shape (steps, 2): wall and CPU."""


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
    options.add_argument("--steps", type=int, default=15)
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

    rounds = []
    for _ in range(repeat):
        with contextlib.ExitStack() as stack:
            parts = codec, sample, held_out, latents
            rounds.append(one_round(config, *parts, steps, folder, stack))
    peak = statistics.median(matrix_rate() for _ in range(repeat))
    flops = step_flops(config, codec, sample, held_out) / config.training.batch_size
    print(f"{torch.get_num_threads()} threads; latents {codec.latent_shape}")
    print(f"bf16 matrix product 2048³: {peak / 1e9:.0f} GFLOP/s of CPU time")
    print(f"training: {flops / 1e9:.3f} GFLOP/event")
    rates = {}
    for name in rounds[0]:
        costs = np.concatenate([one[name] for one in rounds]) / config.training.batch_size
        wall, cpu = 1 / costs.mean(axis=0)
        rates[name] = np.array([1 / one[name].mean(axis=0) for one in rounds])
        print(f"{name:36} {wall:8.1f} events/s {cpu:8.1f} events/CPU s {cpu * flops / peak:7.3f}")
    for mine, other in (("bf16", "bf16"), ("no", "no"), ("bf16", "no")):
        ratios = rates[f"{OURS}, {mine}"] / rates[f"{THEIRS}, {other}"]
        shown = ", ".join(f"{wall:.2f} wall {cpu:.2f} CPU" for wall, cpu in ratios)
        print(f"ratio, {mine} against {other}, of each repeat: {shown}")


def one_round(
    config: Config,
    codec: CellPatches,
    sample: ScoreSample,
    held_out: ScoreSample,
    latents: Tensor,
    steps: int,
    folder: Path,
    stack: contextlib.ExitStack,
) -> dict[str, Times]:
    """Wall and CPU seconds of each trainer's steps, taken in turn."""
    takers: dict[str, tuple[str, Callable[[], object]]] = {}
    for precision in ("bf16", "no"):
        stage = stage_of(config, codec, sample, held_out, steps + WARM_UP)
        quiet = config.training.model_copy(update={"tensorboard": False})
        ours = TrainingLoop(stage, quiet, 1, accelerator_of(precision))
        ours.network.train()
        ours.replicas = stack.enter_context(Replicas.of(ours.network, ours.accelerator))
        takers[f"{OURS}, {precision}"] = (precision, ours.take_step)
        AcceleratorState._reset_state(True)
        theirs = their_trainer(config, codec, latents, precision, folder)
        takers[f"{THEIRS}, {precision}"] = (precision, partial(their_step, theirs))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in takers}
    for number in range(WARM_UP + steps):
        for name, (precision, take) in takers.items():
            # All accelerators share one state, the last one's.
            AcceleratorState._shared_state["_mixed_precision"] = precision
            begin = time.perf_counter(), time.process_time()
            take()
            if number >= WARM_UP:
                wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
                times[name].append((wall, cpu))
    return {name: np.array(pairs) for name, pairs in times.items()}


def their_step(trainer: Any) -> None:
    trainer.train_num_steps = trainer.step + 1
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.train()


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
        alone = Replicas(network, [], map)
        optimise(alone, stage.objective, optimizer, batch, drawn, accelerator, grad_clip=1.0)
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
