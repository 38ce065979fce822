"""Layers of sets of points: EPiC layers, and layers that treat each point by itself.

EPiC: equivariant point clouds (Buhmann et al. 2301.08128, section 3.1). A vector of the event is
updated from the mean and the sum over points, then every point from itself and that vector; so
nothing depends on the order of points, and the cost grows like their number. Padded points are left
out of means and sums. Sums are over ``TYPICAL`` points, to be of order 1.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.models.networks.layers import zero_

TYPICAL = 300.0
"""What sums over points are divided by."""
N_TIMES = 8
"""Numbers that tell a network its time."""


def pooled(x: Tensor, mask: Tensor) -> Tensor:
    """Mean and sum over the points that there are.

    Parameters
    ----------
    x : Tensor, shape (N, P, C)
    mask : Tensor, shape (N, P)

    Returns
    -------
    Tensor, shape (N, 2 C)
    """
    total = (x * mask[..., None]).sum(dim=1)
    mean = total / mask.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.cat([mean, total / TYPICAL], dim=1)


def mean_of_points(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the points that there are, each alike; (N, P, F) and (N, P) to a scalar."""
    return (values * mask[..., None]).sum() / (mask.sum() * values.shape[2]).clamp_min(1)


def time_features(time: Tensor) -> Tensor:
    """Cosines and sines of a time in about (−2, 2), (N,) to (N, ``N_TIMES``)."""
    angle = math.pi / 4 * time[:, None] * 2.0 ** torch.arange(N_TIMES // 2)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class EpicLayer(nn.Module):
    """Update of an event's vector and of its points.

    Parameters
    ----------
    width, n_event : int
        Channels of a point and of the event.
    n_known : int
        Numbers that every update is shown: conditions and time.
    """

    def __init__(self, width: int, n_event: int, n_known: int) -> None:
        super().__init__()
        self.of_event = nn.Linear(2 * width + n_event + n_known, width)
        self.event = nn.Linear(width, n_event)
        self.own = nn.Linear(width, width)
        self.of_point = nn.Linear(n_event + n_known, width)
        self.point = nn.Linear(width, width)

    def forward(
        self, x: Tensor, event: Tensor, known: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N, P, width), (N, n_event), (N, n_known) and (N, P) to new points and event."""
        seen = torch.cat([pooled(x, mask), event, known], dim=1)
        event = event + self.event(F.leaky_relu(self.of_event(seen), 0.1))
        shift = self.of_point(torch.cat([event, known], dim=1))
        hidden = F.leaky_relu(self.own(F.leaky_relu(x, 0.1)) + shift[:, None], 0.1)
        return x + self.point(hidden), event


class EpicNet(nn.Module):
    """Points to points, or with ``n_judged`` to numbers of the event, through EPiC layers.

    Parameters
    ----------
    n_features, n_out : int
        Numbers of a point that go in and come out; 0 at first.
    n_known : int
        Conditions and time.
    n_noise : int
        Numbers of noise that an event has.
    n_judged : int
        Numbers of the event that come out of :meth:`judge`.
    """

    def __init__(
        self,
        n_features: int,
        n_out: int,
        n_known: int,
        *,
        n_noise: int = 0,
        n_judged: int = 0,
        width: int = 48,
        n_event: int = 12,
        n_layers: int = 3,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(n_features, width)
        self.event = nn.Linear(n_noise + n_known, n_event)
        self.layers = nn.ModuleList(EpicLayer(width, n_event, n_known) for _ in range(n_layers))
        if n_judged:
            n = 2 * width + n_event + n_known
            self.verdict = nn.Sequential(nn.Linear(n, width), nn.LeakyReLU(0.1))
            self.judged = nn.Linear(width, n_judged)
        else:
            self.last = nn.Linear(width, n_out)
            zero_(self.last)

    def _through(
        self, x: Tensor, mask: Tensor, known: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        seen = known if noise is None else torch.cat([noise, known], dim=1)
        event, points = F.leaky_relu(self.event(seen), 0.1), self.first(x)
        for layer in self.layers:
            points, event = layer(points, event, known, mask)
        return points, event

    def forward(
        self, x: Tensor, mask: Tensor, known: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """(N, P, n_features) to (N, P, n_out)."""
        points, _ = self._through(x, mask, known, noise)
        return self.last(F.leaky_relu(points, 0.1))

    def judge(self, x: Tensor, mask: Tensor, known: Tensor) -> Tensor:
        """(N, P, n_features) to (N, n_judged)."""
        points, event = self._through(x, mask, known, None)
        seen = torch.cat([pooled(F.leaky_relu(points, 0.1), mask), event, known], dim=1)
        return self.judged(self.verdict(seen))


class PointwiseNet(nn.Module):
    """Each point by itself, gated by what is known of the event: the PointWise Net of CaloClouds.

    Its layers (2305.04847, section 3.1; from Luo & Hu 2103.01458) are σ(G c) · (W x + b) + B c, c
    being conditions, latent numbers and time. 0 at first.
    """

    def __init__(
        self, n_features: int, n_known: int, widths: tuple[int, ...] = (64, 128, 128, 64)
    ) -> None:
        super().__init__()
        sizes = [n_features, *widths, n_features]
        n = 48
        self.known = nn.Linear(n_known, n)
        self.maps = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.gates = nn.ModuleList(nn.Linear(n, b) for b in sizes[1:])
        self.shifts = nn.ModuleList(nn.Linear(n, b, bias=False) for b in sizes[1:])
        zero_(self.maps[-1])
        zero_(self.shifts[-1])

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """(N, P, n_features) and (N, n_known) to (N, P, n_features)."""
        seen = F.silu(self.known(known))
        steps = zip(self.maps, self.gates, self.shifts, strict=True)
        for number, (own, gate, shift) in enumerate(steps):
            x = x if number == 0 else F.leaky_relu(x, 0.1)
            x = own(x) * torch.sigmoid(gate(seen))[:, None] + shift(seen)[:, None]
        return x
