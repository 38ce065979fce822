"""Parameters, memory and time of training, from the configs: python benchmarks/sizes.py [config …].

One training step of each network is done on the CPU with a few events, its floating-point
operations and the activations kept for the gradient counted, and scaled to the batch. Time is that
count over a rate that is assumed: see --tflops and --fraction.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.config import Config, load_config
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.resources import find_file
from pileupgen.training.data import Batch
from pileupgen.training.networks import new_autoencoder, new_denoiser, new_ratio, new_space
from pileupgen.training.objectives import Denoising, DensityRatio, Objective, Reconstruction

N_EVENTS = 4
COPIES = 5
"""Of a parameter, four bytes each: weight, gradient, two moments, moving average."""


@dataclass(frozen=True)
class Size:
    """One network's training."""

    name: str
    parameters: int
    steps: int
    flops_per_event: float
    bytes_per_event: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("config", nargs="*", default=["demo", "atlas", "hl-lhc"])
    options.add_argument("--gpus", type=int, default=None, help="default: 1, 16 for hl-lhc")
    options.add_argument("--tflops", type=float, default=312, help="peak of a GPU (A100, bf16)")
    options.add_argument("--fraction", type=float, default=0.2, help="of the peak, assumed")
    given = options.parse_args()
    print("| config | network | parameters | steps × batch | GFLOP/event | PFLOP | memory | time |")
    print("|---|---|---|---|---|---|---|---|")
    for name in given.config:
        gpus = given.gpus or (16 if name == "hl-lhc" else 1)
        show(name, gpus, given.tflops * 1e12 * given.fraction)


def show(name: str, gpus: int, rate: float) -> None:
    config = load_config(find_file(name, "configs"))
    batch = config.training.batch_size
    held = min(config.training.micro_batch or batch, batch // gpus)
    total, frozen = 0.0, 0
    for size in measure(config):
        flops = size.flops_per_event * size.steps * batch
        total += flops
        memory = 4 * (COPIES * size.parameters + frozen) + held * size.bytes_per_event
        hours = flops / (rate * gpus) / 3600
        print(
            f"| {name} | {size.name} | {size.parameters / 1e6:.2f} M | {size.steps:,} × {batch} | "
            f"{size.flops_per_event / 1e9:.2f} | {flops / 1e15:,.3g} | {memory / 1e9:.1f} GB "
            f"({held} events) | {hours:.2g} h on {gpus} |"
        )
        frozen += size.parameters if size.name == "autoencoder" else 0
    print(f"| {name} | all | | | | {total / 1e15:,.3g} | | {total / rate / gpus / 3600:.2g} h |")


def measure(config: Config) -> list[Size]:
    """Count a step of each network."""
    grid = grid_of(config.preprocess.geometry)
    n_channels = new_space(config, grid, mirror=False).n_channels
    image = (n_channels, *grid.shape[1:])
    codec = new_autoencoder(config, grid, n_channels)
    schedule = config.schedule
    scheduler = make_scheduler(
        schedule.num_train_timesteps, schedule.power, schedule.s, schedule.shift
    )
    settings = config.denoiser
    denoising = Denoising(
        codec, scheduler, 0.0, 0.5, settings.prediction_type, loss_weighting=settings.loss_weighting
    )
    sizes = []
    if isinstance(codec, Autoencoder):
        objective = Reconstruction(codec.latent_shape, config.autoencoder.latent_noise, (1, 1))
        sizes.append(count(codec, objective, config.autoencoder.steps, image))
    codec.requires_grad_(False)
    denoiser = new_denoiser(settings, codec, mirror=True)
    sizes.append(count(denoiser, denoising, settings.steps, image))
    ratio = new_ratio(config.ratio, codec)
    sizes.append(count(ratio, DensityRatio(codec, scheduler), config.ratio.steps, image))
    return sizes


def grid_of(geometry: str | dict[str, Any]) -> Grid:
    return get_grid(geometry) if isinstance(geometry, str) else Grid.from_dict(geometry)


def count(network: nn.Module, objective: Objective, steps: int, image: tuple[int, ...]) -> Size:
    n = N_EVENTS
    rng = torch.Generator().manual_seed(1)
    scores = torch.randn(n, *image, generator=rng)
    batch = Batch(scores, torch.arange(n) % 2, torch.full((n,), 60.0), torch.arange(n))
    drawn = objective.draw(batch, rng)
    if "self_coin" in drawn:
        drawn["self_coin"] = (torch.arange(n) % 2).float()  # half of the events, as on average
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective.loss(network, batch, drawn).mean()
        loss.backward()
    parameters = sum(p.numel() for p in network.parameters())
    shared = sum(p.numel() * 2 for p in network.parameters())  # weights cast to bf16
    activations = max(sum(kept.values()) - shared, 0)
    return Size(objective.name, parameters, steps, counter.get_total_flops() / n, activations / n)


if __name__ == "__main__":
    main()
