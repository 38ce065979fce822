"""Spectra of single cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from pileupgen.arrays import Floats
from pileupgen.measure.sample import Sample
from pileupgen.measure.spectrum import SPECTRUM_EDGES
from pileupgen.report.figures.style import (
    Contents,
    draw_with_ratio,
    paired_panes,
    style,
    with_count,
)

SHOWN = 1e-6
"""Share of a layer's cells that a bin must hold to be shown by itself."""


def cell_spectrum_figure(target: Sample, source: Sample, translated: Sample) -> Figure:
    """Draw hits per event in bins of log10(E/MeV), one column a layer, with a ratio pane.

    Bands are the standard error of the mean over events. The outermost bins shown hold what lies
    beyond them. A layer with negative cells has them to the left, in bins of log10(−E/MeV); the two
    bins in the middle hold what is nearer to 0.

    Parameters
    ----------
    target, source, translated : Sample
        On one grid.
    """
    samples = (target, source, translated)
    labels = {sample.name: with_count(sample.label, len(sample)) for sample in samples}
    layers = target.grid.layers
    with style():
        figure, panes = paired_panes(len(layers))
        for layer, name in enumerate(layers):
            main, below = panes[:, layer]
            axis = _Axis.of(samples, layer)
            contents = {sample.name: axis.contents(sample, layer) for sample in samples}
            draw_with_ratio(main, below, axis.edges, contents, labels)
            filled = np.concatenate([c.value[c.value > 0] for c in contents.values()])
            if len(filled):
                main.set_yscale("log")
                main.set_ylim(0.3 * filled.min(), (40.0 if axis.is_signed else 5.0) * filled.max())
            main.set_title(f"layer {name}", loc="left")
            axis.label(main, below)
        panes[0, 0].set_ylabel("cells per event and bin")
        panes[1, 0].set_ylabel(f"ratio to {target.label}")
        panes[0, -1].legend(loc="upper right")
    return figure


@dataclass(frozen=True)
class _Axis:
    """Inner bins [first, last) of a layer's spectra, and [first, last_left) of cells below 0."""

    first: int
    last: int
    last_left: int

    @classmethod
    def of(cls, samples: Sequence[Sample], layer: int) -> _Axis:
        right = [sample.cells.spectrum[layer] for sample in samples]
        left = [sample.cells.negative[layer] for sample in samples]
        first, last = _populated(right)
        if not any(spectrum.any() for spectrum in left):
            return cls(first, last, first)
        first_left, last_left = _populated(left)
        return cls(min(first, first_left), last, last_left)

    @property
    def is_signed(self) -> bool:
        return self.last_left > self.first

    @property
    def edges(self) -> Floats:
        """log10(E/MeV); where signed ± its distance to the first edge."""
        right = SPECTRUM_EDGES[self.first : self.last + 1]
        if not self.is_signed:
            return right
        left = SPECTRUM_EDGES[self.first + 1 : self.last_left + 1]
        return np.concatenate([(right[0] - left)[::-1], right - right[0]])

    def contents(self, sample: Sample, layer: int) -> Contents:
        cells = sample.cells
        right = self._fold(cells.spectrum[layer], cells.spectrum_error[layer], self.last)
        if not self.is_signed:
            return right
        left = self._fold(cells.negative[layer], cells.negative_error[layer], self.last_left)
        return Contents(
            np.concatenate([left.value[::-1], right.value]),
            np.concatenate([left.error[::-1], right.error]),
        )

    def _fold(self, value: Floats, error: Floats, last: int) -> Contents:
        """Contents of the bins up to ``last``; what lies beyond goes to the outermost."""
        folded = []
        for array in (value, error**2):
            inner = array[1 + self.first : 1 + last].copy()
            inner[0] += array[: 1 + self.first].sum()
            inner[-1] += array[1 + last :].sum()
            folded.append(inner)
        return Contents(folded[0], np.sqrt(folded[1]))

    def label(self, main: Axes, below: Axes) -> None:
        """Name the axis of energies; a signed one is marked in decades of MeV."""
        if not self.is_signed:
            below.set_xlabel(r"cell $\mathrm{log_{10}}$($E$/MeV)")
            return
        low = SPECTRUM_EDGES[self.first]
        left, right = (
            np.arange(np.ceil(low + 1e-6), np.floor(SPECTRUM_EDGES[last] + 1e-6) + 1)
            for last in (self.last_left, self.last)
        )
        places = np.concatenate([low - left[::-1], right - low])
        names = [f"$-10^{d:.0f}$" for d in left[::-1]] + [f"$10^{d:.0f}$" for d in right]
        for axes in (main, below):
            axes.axvline(0.0, color="0.7", linewidth=0.6, zorder=0)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_locator(FixedLocator(list(places)))
        below.set_xticks(places, names)
        below.set_xlabel("cell $E$ [MeV]")


def _populated(spectra: Sequence[Floats]) -> tuple[int, int]:
    """First and one past the last inner bin that any sample fills."""
    shares = [s / s.sum() for s in spectra if s.sum() > 0]
    if not shares:
        return 0, len(SPECTRUM_EDGES) - 1
    filled = np.flatnonzero(np.max(shares, axis=0)[1:-1] > SHOWN)
    if not len(filled):
        return 0, len(SPECTRUM_EDGES) - 1
    return int(filled[0]), int(filled[-1]) + 1
