"""Partial diffusion on pixels with stock diffusers, as its tutorials have it."""

from __future__ import annotations

import time

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor
from torch.nn import functional as F

from benchmarks.baselines.contract import Problem
from pileupgen.compare.quality import MethodOutput
from pileupgen.samples.store import Images

T_RELEASE, GUIDANCE = 300, 2.0
BATCH, NULL_SHARE = 32, 0.1
MULTIPLE = 8
"""The U-Net halves its images three times."""
THRESHOLD_QUANTILE = 0.001


class PixelDiffusion:
    """Noise a log image to t = 300, switch the class, denoise by 300 ancestral steps.

    A plain ``UNet2DModel`` with class labels (mc, data, none) and the noise-prediction loss;
    guidance by a second pass. Cells below the lowest energy of data's cells are set to null.
    """

    n_evaluations = 2 * (T_RELEASE + 1)
    is_slow = True

    def fit(self, problem: Problem) -> None:
        torch.manual_seed(problem.seed)
        grid, self.seed, self.device = problem.grid, problem.seed, problem.device
        self.pad = [(-size) % MULTIPLE for size in grid.shape[1:]]
        hits = problem.data.energy[problem.data.energy > 0]
        self.threshold = float(np.quantile(hits, THRESHOLD_QUANTILE))
        images = [self._logs(part.energy) for part in (problem.mc, problem.data)]
        both = torch.cat(images)
        self.mean, self.width = both.mean(dim=(0, 2, 3), keepdim=True), both.std()
        labels = torch.repeat_interleave(torch.arange(2), torch.tensor([len(x) for x in images]))
        self.scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=False)
        self.network = UNet2DModel(
            in_channels=grid.n_layers,
            out_channels=grid.n_layers,
            layers_per_block=1,
            block_out_channels=(32, 32, 64, 64),
            down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
            num_class_embeds=3,
        ).to(problem.device)
        self._train(self._padded((both - self.mean) / self.width), labels, problem.seconds)

    def _train(self, images: Tensor, labels: Tensor, seconds: float) -> None:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=4e-4)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            rows = torch.randint(len(images), (BATCH,))
            clean, label = images[rows].to(self.device), labels[rows].to(self.device)
            label = torch.where(torch.rand(BATCH, device=self.device) < NULL_SHARE, 2, label)
            t = torch.randint(1000, (BATCH,), device=self.device)
            noise = torch.randn_like(clean)
            noised = self.scheduler.add_noise(clean, noise, t)
            loss = F.mse_loss(self.network(noised, t, label).sample, noise)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            optimizer.step()
        self.network.eval()

    @torch.no_grad()
    def translate(self, images: Images) -> MethodOutput:
        rng = torch.Generator().manual_seed(self.seed)
        clean = self._padded((self._logs(images.energy) - self.mean) / self.width)
        noise = torch.randn(clean.shape, generator=rng)
        x = self.scheduler.add_noise(clean, noise, torch.tensor([T_RELEASE])).to(self.device)
        data = torch.full((len(x),), 1, device=self.device)
        none = torch.full_like(data, 2)
        for t in range(T_RELEASE, -1, -1):
            conditional = self.network(x, t, data).sample
            free = self.network(x, t, none).sample
            eps = free + (GUIDANCE + 1) * (conditional - free)
            x = self.scheduler.step(eps, t, x, generator=rng).prev_sample
        height, width = images.grid.shape[1:]
        logs = x.cpu()[:, :, :height, :width] * self.width + self.mean
        energy = torch.expm1(logs.clamp_max(12.0))
        return MethodOutput(energy=torch.where(energy < self.threshold, 0.0, energy).numpy())

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    @staticmethod
    def _logs(energy: np.ndarray) -> Tensor:
        return torch.log1p(torch.from_numpy(energy))

    def _padded(self, images: Tensor) -> Tensor:
        """Up to a multiple of what the U-Net can halve: φ goes on around, η with zeros."""
        wrapped = F.pad(images, (0, self.pad[1], 0, 0), mode="circular")
        return F.pad(wrapped, (0, 0, 0, self.pad[0]))
