"""A masked network: what a cell is, given the cells of earlier groups around it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.models.networks.layers import wrapped
from pileupgen.zoo.cells import N_FEATURES, PER_CELL, split_output, starting_bias

PERIOD = 3
"""Cells between two of one group, in η, and in φ where that divides the ring."""
WINDOW = 7
"""Cells in η and φ that a cell sees one by one."""
STRIP_RINGS = 8
"""Rings on either side whose mean tells of a φ sector."""


class CellOrder:
    """Cells in groups of a lattice: those of one group do not see each other, nor later ones.

    A group is a place of the lattice and a layer, the deepest layer first. Lattice places come in
    an order in which early ones are far from each other.

    Parameters
    ----------
    shape : (int, int, int)
        Layers, rings and cells in φ.
    """

    def __init__(self, shape: tuple[int, int, int], *, is_periodic: bool = True) -> None:
        self.n_layers, self.n_eta, self.n_phi = shape
        self.is_periodic = is_periodic
        self.step_eta = min(PERIOD, self.n_eta)
        self.step_phi = _period(self.n_phi) if is_periodic else min(PERIOD, self.n_phi)
        places = [(a, b) for a in range(self.step_eta) for b in range(self.step_phi)]
        places.sort(key=lambda place: ((place[0] + place[1]) % 3, place))
        self.groups = [
            (layer, *place) for place in places for layer in reversed(range(self.n_layers))
        ]
        """Layer, and first ring and column, of each group."""

    def __len__(self) -> int:
        return len(self.groups)

    def number(self) -> Tensor:
        """Group of every cell, (L, n_eta, n_phi)."""
        found = torch.zeros(self.n_layers, self.n_eta, self.n_phi, dtype=torch.long)
        for number in range(len(self)):
            found[self.cells(number)[1:]] = number
        return found

    def cells(self, number: int) -> tuple[slice, int, slice, slice]:
        """Index of a group's cells in an array (N, L, n_eta, n_phi)."""
        layer, row, column = self.groups[number]
        return (
            slice(None),
            layer,
            slice(row, None, self.step_eta),
            slice(column, None, self.step_phi),
        )


def _period(n_phi: int) -> int:
    """Smallest divisor of a ring's cells from ``PERIOD`` on, so that the lattice has no seam."""
    return next((n for n in range(PERIOD, n_phi + 1) if n_phi % n == 0), n_phi)


class MaskedCells(nn.Module):
    """Hit probability and density of every cell's score given earlier groups, domain and μ.

    One convolution over a window, whose weights are masked group by group and which is computed at
    the group's cells alone; beside it means over rings, over the event and along strips in η of
    the cells that are known by then. Then two dense layers. All groups and both domains share the
    weights; each group, ring and domain has its own offsets and gains.

    Parameters
    ----------
    order : CellOrder
    n_conditions : int
        Numbers of the conditions.
    width : int
        Hidden units.
    is_eta_symmetric : bool
        Whether rings at η and −η share their offsets.
    """

    def __init__(
        self, order: CellOrder, n_conditions: int, width: int = 48, *, is_eta_symmetric: bool = True
    ) -> None:
        super().__init__()
        self.order = order
        n_channels = N_FEATURES * order.n_layers
        self.reach = (
            min(WINDOW // 2, order.n_eta - 1),
            min(WINDOW // 2, (order.n_phi - 1) // 2 if order.is_periodic else order.n_phi - 1),
        )
        size = 2 * self.reach[0] + 1, 2 * self.reach[1] + 1
        self.weight = nn.Parameter(
            torch.randn(width, n_channels, *size) / math.sqrt(0.3 * n_channels * size[0] * size[1])
        )
        self.means = nn.Linear(6 * n_channels, width)
        self.condition = nn.Linear(n_conditions, width)
        self.group = nn.Parameter(0.1 * torch.randn(len(order), width))
        self.domain = nn.Parameter(0.1 * torch.randn(2, width))
        self.gain = nn.Parameter(torch.zeros(2, len(order), width))
        ring = torch.arange(order.n_eta)
        if is_eta_symmetric:
            ring = torch.minimum(ring, order.n_eta - 1 - ring)
        self.ring = nn.Parameter(torch.zeros(int(ring.max()) + 1, width))
        self.second = nn.Linear(width, width)
        self.last = nn.Parameter(torch.zeros(2, PER_CELL, width))
        self.bias = nn.Parameter(starting_bias().repeat(2, len(order), 1))
        # Plain attributes, made again from the shape: a saved state holds what was trained.
        self._ring_of = ring
        self._number = order.number()
        self._mask = self._seen_in_window()
        rows = torch.arange(order.n_eta)
        apart = (rows[:, None] - rows[None]).abs()
        self._bands = [
            (apart <= reach).float() for reach in (min(2, order.n_eta), order.n_eta, STRIP_RINGS)
        ]

    def _seen_in_window(self) -> Tensor:
        """Whether a place of the window is of an earlier group, (groups, channels, k_η, k_φ)."""
        order, (up, side) = self.order, self.reach
        table = {group: number for number, group in enumerate(order.groups)}
        shape = len(order), order.n_layers, 2 * up + 1, 2 * side + 1
        mask = torch.zeros(shape)
        for number, (_, row, column) in enumerate(order.groups):
            for layer in range(order.n_layers):
                for i in range(2 * up + 1):
                    for j in range(2 * side + 1):
                        place = (
                            layer,
                            (row + i - up) % order.step_eta,
                            (column + j - side) % order.step_phi,
                        )
                        mask[number, layer, i, j] = float(table[place] < number)
        return mask.repeat_interleave(N_FEATURES, dim=1)

    def forward(
        self, cells: Tensor, number: int, domain: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the cells of one group may be.

        Parameters
        ----------
        cells : Tensor, shape (N, 2 L, n_eta, n_phi)
            See :func:`~pileupgen.zoo.cells.cell_features`; those of this and later groups change
            nothing.
        number : int
            The group.
        domain : int64 Tensor, shape (N,)
        condition : Tensor, shape (N, n_conditions)

        Returns
        -------
        logit : Tensor, shape (N, rows, columns)
            To be added to that of the marginal hit probability.
        log_weight, mean, log_width : Tensors, shape (N, rows, columns, K)
            Of the normal components of a hit's score.
        """
        order = self.order
        _, row, column = order.groups[number]
        step = order.step_eta, order.step_phi
        rows = slice(row, None, step[0])
        up, side = self.reach
        padded = F.pad(cells, (0, 0, up, up))
        if order.is_periodic:
            padded = wrapped(padded, side) if side else padded
        else:
            padded = F.pad(padded, (side, side))
        weight = self.weight * self._mask[number]
        hidden = F.conv2d(padded[:, :, row:, column:], weight, stride=step)
        means = self._means(cells, number)[:, :, rows, column :: step[1]]
        hidden = hidden.permute(0, 2, 3, 1) + self.means(means.permute(0, 2, 3, 1))
        offset = self.group[number] + self.domain[domain] + self.condition(condition)
        hidden = hidden + self.ring[self._ring_of[rows]][:, None] + offset[:, None, None]
        hidden = F.silu(hidden * (1 + self.gain[domain, number])[:, None, None])
        hidden = F.silu(self.second(hidden)) + hidden
        n, n_rows, n_columns, _ = hidden.shape
        out = torch.bmm(hidden.flatten(1, 2), self.last[domain].transpose(1, 2))
        out = out.view(n, n_rows, n_columns, -1) + self.bias[domain, number][:, None, None]
        return split_output(out)

    def _means(self, cells: Tensor, number: int) -> Tensor:
        """Sums of known cells over near rings, the event, and strips, (N, 6 · 2 L, n_eta, n_phi).

        Divided by the root of how many cells there are, so that they are of order 1.
        """
        order = self.order
        known = (self._number < number).float().repeat_interleave(N_FEATURES, dim=0)
        known_cells = cells * known
        near, whole, strip = self._bands
        of_ring = known_cells.sum(dim=3, keepdim=True)
        parts = [
            (band @ of_ring / (band.sum(dim=1, keepdim=True) * order.n_phi).sqrt()).expand_as(cells)
            for band in (near, whole)
        ]
        parts.append((of_ring / math.sqrt(order.n_phi)).expand_as(cells))
        strips = strip @ known_cells / strip.sum(dim=1, keepdim=True).sqrt()
        parts.append(strips)
        for shift in (-1, 1):
            moved = strips.roll(shift, 3)
            if not order.is_periodic:
                moved = moved.clone()
                moved[..., 0 if shift > 0 else -1] = 0.0
            parts.append(moved)
        return torch.cat(parts, dim=1)
