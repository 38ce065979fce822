"""What would make the gradient of the denoiser less noisy: variances at a trained network.

python -m benchmarks.gradient_variance --run runs/nonlocal [--batches 48]

Late in training the noise of the gradient decides how many steps are needed. Each way makes batches
of as many evaluations of the network as a step has, so that variances compare at equal cost. The
variance of a parameter's gradient over batches is taken in units of its mean square, as the
optimiser does, and averaged over parameters; ± is the spread over random halves of the batches.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pileupgen.config import load_config
from pileupgen.diffusion.pipeline import TranslationPipeline
from pileupgen.models.networks.denoiser import FieldDenoiser
from pileupgen.run import RunDirectory
from pileupgen.samples.store import ImageStore
from pileupgen.training.data import Augmentation, Batch, ScoreSample
from pileupgen.training.objectives import Denoising

Drawn = dict[str, Tensor]
N_HALVES, N_TIME_BINS = 60, 8
AS_IT_IS = "as it is"


class Gradients:
    """Gradients of a trained network's own training, batch by batch."""

    def __init__(self, run: RunDirectory, batch_size: int) -> None:
        config, pipeline = (
            load_config(run.path / "config.yaml"),
            TranslationPipeline.load(run.model),
        )
        stores = ImageStore(run.images("mc")), ImageStore(run.images("data"))
        self.sample = ScoreSample(stores, pipeline.calibration, "train", config.calibration.before)
        self.objective = Denoising(
            pipeline.autoencoder,
            pipeline.scheduler,
            config.denoiser.label_dropout,
            config.denoiser.self_conditioning,
            config.denoiser.prediction_type,
            focus=config.denoiser.focus,
        )
        self.network: FieldDenoiser = pipeline.denoiser.requires_grad_(True).train()
        self.size, self.augmentation = batch_size, Augmentation(1)

    def of(self, batch: Batch, drawn: Drawn) -> Tensor:
        """Gradient of the mean loss, all parameters one after another."""
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.objective.loss(self.network, batch, drawn).mean()
        parameters = list(self.network.parameters())
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        flat = [(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs]
        return torch.cat(flat).double()

    def plain(self, step: int) -> tuple[Batch, Drawn]:
        """A batch as the training has it."""
        batch = self.sample.batch(step, self.size, 7, self.augmentation)
        return batch, self.objective.draw(batch, torch.Generator().manual_seed(step))

    def without_ceilings(self, step: int) -> tuple[Batch, Drawn]:
        """Null cells' ranks are not averaged over in the target."""
        batch, drawn = self.plain(step)
        return replace(batch, ceiling=None), drawn

    def doubled(self, step: int, sign: float | None, one_time: bool) -> tuple[Batch, Drawn]:
        """Half of the events, each twice: noise times ``sign`` or other, at one time or two."""
        batch, _ = self.plain(step)
        n = self.size // 2
        twice = batch.rows(torch.arange(n).repeat(2))
        drawn = self.objective.draw(twice, torch.Generator().manual_seed(step))
        shared = {"label_coin", "self_coin", *(("t",) if one_time else ())}
        drawn = {name: v[:n].repeat(2) if name in shared else v for name, v in drawn.items()}
        if sign is not None:
            drawn["eps"] = torch.cat([drawn["eps"][:n], sign * drawn["eps"][:n]])
        return twice, drawn


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path, required=True)
    options.add_argument("--batches", type=int, default=48)
    options.add_argument("--batch-size", type=int, default=32)
    given = options.parse_args()
    gradients = Gradients(RunDirectory(given.run), given.batch_size)
    ways: dict[str, Callable[[int], tuple[Batch, Drawn]]] = {
        AS_IT_IS: gradients.plain,
        "null cells' ranks not averaged": gradients.without_ceilings,
        "pairs of opposite noise": lambda step: gradients.doubled(step, -1.0, one_time=True),
        "two times, noise of their own": lambda step: gradients.doubled(step, None, one_time=False),
        "two times, the same noise": lambda step: gradients.doubled(step, 1.0, one_time=False),
    }
    found = {
        name: torch.stack([gradients.of(*make(step)) for step in range(given.batches)])
        for name, make in ways.items()
    }
    unit = torch.cat(list(found.values())).square().mean(dim=0)
    used = unit > 0
    rng = np.random.default_rng(1)

    def variance(values: Tensor) -> float:
        return float((values.var(dim=0)[used] / unit[used]).mean())

    def half(values: Tensor) -> Tensor:
        return values[rng.permutation(len(values))[: len(values) // 2]]

    print(f"load {os.getloadavg()[0]:.0f}; variance of the gradient of {given.batch_size} events")
    for name, values in found.items():
        ratios = [variance(half(values)) / variance(half(found[AS_IT_IS])) for _ in range(N_HALVES)]
        ratio = variance(values) / variance(found[AS_IT_IS])
        print(f"{name:32} {ratio:.2f} ± {np.std(ratios):.2f}")
    squares = []
    for step in range(given.batches, given.batches + 8):
        batch, drawn = gradients.plain(step)
        for event in range(len(batch)):
            row = slice(event, event + 1)
            one = gradients.of(batch.rows(row), {name: v[row] for name, v in drawn.items()})
            squares.append(
                (int(drawn["t"][event]), float((one.square()[used] / unit[used]).mean()))
            )
    bins = np.array_split(np.array(sorted(squares)), N_TIME_BINS)
    mean = np.array([part[:, 1].mean() for part in bins])
    shown = ", ".join(
        f"t {part[0, 0]:.0f} … {part[-1, 0]:.0f}: {value:.2f}"
        for part, value in zip(bins, np.sqrt(mean / mean.mean()), strict=True)
    )
    print(f"root mean square of an event's gradient: {shown}")
    # By Cauchy and Schwarz no density of t does better than one in proportion to it.
    print(f"the best density of t: {np.sqrt(mean).mean() ** 2 / mean.mean():.2f}")


if __name__ == "__main__":
    main()
