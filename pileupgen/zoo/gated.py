"""Gated masked convolutions in two stacks (van den Oord et al. 1606.05328, fig. 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.zoo.cells import N_FEATURES, PER_CELL, split_output, starting_bias
from pileupgen.zoo.layers import continued

REACH = 2
"""Rings above, and cells on either side, that one layer sees."""


class GatedLayer(nn.Module):
    """One layer of both stacks.

    The vertical stack sees the rings above and its own, whose features know of rings above only;
    the horizontal one sees the cells to the left, and the vertical stack at its cell.

    Parameters
    ----------
    n_vertical, n_horizontal : int
        Channels that come in; that a first layer takes the image itself is said by ``is_first``.
    width : int
        Channels that go out of either stack.
    n_conditions : int
    is_first : bool
        Whether a cell's own place is unseen.
    is_ring : bool
        Whether φ closes to a full turn.
    """

    def __init__(
        self,
        n_vertical: int,
        n_horizontal: int,
        width: int,
        n_conditions: int,
        *,
        is_first: bool,
        is_ring: bool,
    ) -> None:
        super().__init__()
        self.is_first, self.n_vertical, self.n_horizontal = is_first, n_vertical, n_horizontal
        self.is_ring = is_ring
        rows = REACH if is_first else REACH + 1
        self.vertical = nn.Conv2d(n_vertical, 2 * width, (rows, 2 * REACH + 1))
        self.horizontal = nn.Conv2d(n_horizontal, 2 * width, (1, rows))
        self.down = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.condition = nn.Linear(n_conditions, 4 * width)

    def vertical_row(self, above: Tensor, conditions: Tensor) -> Tensor:
        """(N, C, rows, W), as many rows as the kernel has, to (N, width, 1, W)."""
        seen = continued(above, REACH, is_ring=self.is_ring)
        return self._gate(self.vertical(seen), self.condition(conditions).chunk(2, dim=1)[0])

    def vertical_image(self, x: Tensor, conditions: Tensor) -> Tensor:
        """(N, C, H, W) to (N, width, H, W): all rows at once."""
        # A first layer's last row would see beyond the image's: its kernel ends one row above.
        padded = F.pad(x, (0, 0, REACH, 0))
        return self.vertical_row(padded[:, :, :-1] if self.is_first else padded, conditions)

    def horizontal_cell(self, left: Tensor, vertical: Tensor, conditions: Tensor) -> Tensor:
        """(N, C, h, columns), as many columns as the kernel has, to (N, width, h, columns')."""
        hidden = self.horizontal(left) + self.down(vertical.movedim(1, -1)).movedim(-1, 1)
        found = self._gate(hidden, self.condition(conditions).chunk(2, dim=1)[1])
        found = self.out(found.movedim(1, -1)).movedim(-1, 1)
        return found if self.is_first else found + left[..., REACH:]

    def horizontal_image(self, x: Tensor, vertical: Tensor, conditions: Tensor) -> Tensor:
        """(N, C, H, W) to (N, width, H, W): all cells at once."""
        padded = F.pad(x, (REACH, 0))
        padded = padded[..., :-1] if self.is_first else padded
        return self.horizontal_cell(padded, vertical, conditions)

    def _gate(self, hidden: Tensor, offset: Tensor) -> Tensor:
        signal, gate = (hidden + offset[:, :, None, None]).chunk(2, dim=1)
        return torch.tanh(signal) * torch.sigmoid(gate)


class _Head(nn.Module):
    """Two dense layers; at first a cell is what its marginal says."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(n_in, width), nn.Linear(width, PER_CELL)
        with torch.no_grad():
            self.second.weight.zero_()
            self.second.bias.copy_(starting_bias())

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.silu(self.first(x)))


class GatedStacks(nn.Module):
    """All layers, and what a cell may be: its layers one after another, the deepest first.

    Parameters
    ----------
    shape : (int, int, int)
        L, n_eta, n_phi.
    n_conditions, width, n_blocks : int
    is_ring : bool
        Whether φ closes to a full turn.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_conditions: int,
        width: int = 24,
        n_blocks: int = 5,
        *,
        is_ring: bool,
    ) -> None:
        super().__init__()
        self.shape, n_in = shape, N_FEATURES * shape[0]
        self.layers = nn.ModuleList(
            GatedLayer(
                n_in if index == 0 else width,
                n_in if index == 0 else width,
                width,
                n_conditions,
                is_first=index == 0,
                is_ring=is_ring,
            )
            for index in range(n_blocks)
        )
        self.ring = nn.Parameter(torch.zeros(shape[1], width))
        # A layer is told of the deeper ones at its own cell, which are drawn before it.
        self.heads = nn.ModuleList(_Head(width + n_in, 2 * width) for _ in range(shape[0]))

    @property
    def stack(self) -> list[GatedLayer]:
        """The layers in their order."""
        return [layer for layer in self.layers if isinstance(layer, GatedLayer)]

    def forward(self, cells: Tensor, conditions: Tensor) -> Tensor:
        """Features of every cell, (N, H, W, width), from (N, 2 L, H, W): of earlier cells only."""
        vertical, horizontal = cells, cells
        for layer in self.stack:
            vertical = layer.vertical_image(vertical, conditions)
            horizontal = layer.horizontal_image(horizontal, vertical, conditions)
        return horizontal.permute(0, 2, 3, 1) + self.ring[:, None]

    def head(self, features: Tensor, own: Tensor, layer: int) -> tuple[Tensor, ...]:
        """What one layer of cells may be.

        Parameters
        ----------
        features : Tensor, shape (…, width)
            Of the cells.
        own : Tensor, shape (…, 2 L)
            What the cells show of themselves; only deeper layers are looked at.
        layer : int

        Returns
        -------
        logit : Tensor, shape (…)
        log_weight, mean, log_width : Tensors, shape (…, K)
        """
        deeper = torch.zeros(own.shape[-1])
        deeper[N_FEATURES * (layer + 1) :] = 1.0
        found = self.heads[layer](torch.cat([features, own * deeper], dim=-1))
        return split_output(found)


class RowCache:
    """Features of the cells that are there already, for drawing cell after cell.

    Each layer keeps the rows above for its vertical stack and the cells to the left for its
    horizontal one; a cell costs as much as it does in :meth:`GatedStacks.forward`.
    """

    def __init__(self, network: GatedStacks, conditions: Tensor) -> None:
        self._network, self._conditions = network, conditions
        n, (_, _, self._width) = len(conditions), network.shape
        self._above = [
            torch.zeros(n, layer.n_vertical, REACH, self._width) for layer in network.stack
        ]
        self._row: list[Tensor] = []
        self._left: list[Tensor] = []

    def begin_row(self) -> None:
        """Compute the vertical stack of the next row, from the rows above."""
        self._row, own = [], None
        for index, layer in enumerate(self._network.stack):
            above = self._above[index]
            if own is not None:
                above = torch.cat([above, own], dim=2)
                self._above[index] = above[:, :, 1:]
            own = layer.vertical_row(above, self._conditions)
            self._row.append(own)
        self._left = [
            torch.zeros(len(above), layer.n_horizontal, 1, REACH)
            for above, layer in zip(self._above, self._network.stack, strict=True)
        ]

    def features(self, row: int, column: int) -> Tensor:
        """Features of the next cell of the row, (N, width)."""
        own: Tensor | None = None
        for index, layer in enumerate(self._network.stack):
            left = self._left[index]
            if own is not None:
                left = torch.cat([left, own], dim=3)
                self._left[index] = left[..., 1:]
            vertical = self._row[index][..., column : column + 1]
            own = layer.horizontal_cell(left, vertical, self._conditions)
        assert own is not None
        return own[:, :, 0, 0] + self._network.ring[row]

    def show(self, cell: Tensor) -> None:
        """Tell what the cell has become, (N, 2 L)."""
        self._left[0] = torch.cat([self._left[0][..., 1:], cell[:, :, None, None]], dim=3)

    def end_row(self, row: Tensor) -> None:
        """Tell what the row has become, (N, 2 L, W)."""
        self._above[0] = torch.cat([self._above[0][:, :, 1:], row[:, :, None]], dim=2)
