"""Try a data card: are its files there, whole and readable, and what do a few events look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import Imager
from pileupgen.errors import UnreadableInputError
from pileupgen.progress import Advance, silent
from pileupgen.samples.cards import DataCard
from pileupgen.samples.readers import InputFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CardCheck:
    """What a few events of a card's files hold."""

    n_events: int
    """Estimated number of events in all files."""
    grid: Grid
    """Axes of ``images``."""
    images: NDArray[np.float32]
    """Energy in GeV of the first events. Shape (n, L, n_eta, n_phi)."""
    mu: NDArray[np.float32]
    """Number of pileup interactions; NaN where unknown. Shape (n,)."""
    n_towers: int
    n_shared: int
    """Towers of these events, and how many of them are in several cells of the grid."""
    energy_outside: float
    """Fraction of their energy outside the grid's acceptance."""
    collections: Mapping[str, float] = field(default_factory=dict)
    """ΣE in GeV of each collection in these events, where the card joins several."""

    @property
    def sum_et(self) -> Floats:
        """ΣE_T of each event in GeV, with E_T = E / cosh η at the cell's centre; of showers ΣE."""
        rings = self.images.sum(axis=(1, 3), dtype=np.float64)
        return np.asarray(rings @ self.grid.transverse_shares)


def check_card(
    card: DataCard,
    files: Sequence[InputFile],
    grid: Grid,
    n_events: int = 3,
    advance: Advance = silent,
) -> CardCheck:
    """Read the first events of the first file, and one event of every other file.

    Parameters
    ----------
    files : sequence of Path
        The card's files, or the file of a generated sample.

    Raises
    ------
    InputError
        If a file cannot be used or holds no events.
    GeometryError
        If the towers do not have the grid's layers.
    """
    imager = Imager(grid)
    images: list[NDArray[np.float32]] = []
    outside, mu = np.zeros(grid.n_layers), []
    sums: dict[str, float] = {}
    for index, path in enumerate(files):
        wanted = n_events if index == 0 else 1
        n_found = 0
        for towers in card.open([path]).chunks(wanted):
            n_found += towers.n_events
            drawn, lost = imager.draw(towers)
            if index == 0:
                images.append(drawn)
                mu.append(towers.mu)
                outside += lost.sum(axis=0)
                for name, size in towers.collections.items():
                    sums[name] = sums.get(name, 0.0) + size
                n_towers, n_shared = imager.n_towers, imager.n_shared
        if n_found == 0:
            raise UnreadableInputError(f"{path} holds no events.", "Its tree is empty.")
        advance()
    with closing(card.open(list(files))) as reader:
        n_in_files = reader.estimate_events()
    energy = np.concatenate(images)
    total = float(energy.sum(dtype=np.float64) + outside.sum())
    return CardCheck(
        n_events=n_in_files,
        grid=grid,
        images=energy,
        mu=np.concatenate(mu),
        n_towers=n_towers,
        n_shared=n_shared,
        energy_outside=float(outside.sum()) / total if total else 0.0,
        collections=sums,
    )


def draw_events(check: CardCheck, title: str) -> Figure:
    """Draw the events of a check: one row an event, one column a layer.

    Returns
    -------
    matplotlib.figure.Figure
        Energy in GeV on a logarithmic scale, the same for all panels; cells without energy are
        white. Where there are negative cells, the scale is linear around zero.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm, SymLogNorm
    from matplotlib.figure import Figure

    images, grid = check.images, check.grid
    n, layers = len(images), grid.layers
    figure = Figure(figsize=(3.6 * len(layers) + 1.6, 2.7 * n + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n, len(layers), sharex=True, sharey=True, squeeze=False)
    size = np.abs(images[images != 0])
    high = float(size.max()) if len(size) else 1.0
    low = max(float(np.quantile(size, 0.01)), 1e-4 * high) if len(size) else 0.1
    has_negative = bool(np.any(images < 0))
    low = min(low, 0.99 * high)
    norm = SymLogNorm(low, vmin=-high, vmax=high) if has_negative else LogNorm(low, high, clip=True)
    mesh = None
    for row, image in enumerate(images):
        for column, layer in enumerate(layers):
            axis = axes[row, column]
            mesh = axis.pcolormesh(
                grid.phi_edges,
                np.asarray(grid.eta_edges),
                np.ma.masked_equal(image[column], 0.0),
                norm=norm,
                cmap="RdBu_r" if has_negative else "viridis",
                rasterized=True,
            )
            known = "" if np.isnan(check.mu[row]) else f", μ = {check.mu[row]:g}"
            axis.set_title(f"event {row}, {layer}{known}", fontsize="medium")
            if row == n - 1:
                axis.set_xlabel("φ [rad]")
            if column == 0:
                axis.set_ylabel("η")
    if mesh is not None:
        figure.colorbar(mesh, ax=axes, label="energy per cell [GeV]", pad=0.02)
    figure.suptitle(title)
    return figure
