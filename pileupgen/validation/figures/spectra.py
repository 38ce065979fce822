"""Spectra of single cells."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from pileupgen.validation.figures.style import (
    Contents,
    draw_with_ratio,
    paired_panes,
    style,
    with_count,
)
from pileupgen.validation.sample import SPECTRUM_EDGES, Sample

SHOWN = 1e-6
"""Share of a layer's cells that a bin must hold to be shown by itself."""


def cell_spectrum_figure(target: Sample, source: Sample, translated: Sample) -> Figure:
    """Draw hits per event in bins of log10(E/MeV), one column a layer, with a ratio pane.

    Bands are the standard error of the mean over events. The outermost bins shown hold what lies
    beyond them.

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
            first, last = _populated([sample.cells.spectrum[layer] for sample in samples])
            contents = {sample.name: _fold(sample, layer, first, last) for sample in samples}
            draw_with_ratio(main, below, SPECTRUM_EDGES[first : last + 1], contents, labels)
            filled = np.concatenate([c.value[c.value > 0] for c in contents.values()])
            if len(filled):
                main.set_yscale("log")
                main.set_ylim(0.3 * filled.min(), 5.0 * filled.max())
            main.set_title(f"layer {name}", loc="left")
            below.set_xlabel(r"cell $\mathrm{log_{10}}$($E$/MeV)")
        panes[0, 0].set_ylabel("cells per event and bin")
        panes[1, 0].set_ylabel(f"ratio to {target.label}")
        panes[0, -1].legend(loc="upper right")
    return figure


def _populated(spectra: list[np.ndarray]) -> tuple[int, int]:
    """First and one past the last inner bin that any sample fills."""
    shares = [s / s.sum() for s in spectra if s.sum() > 0]
    if not shares:
        return 0, len(SPECTRUM_EDGES) - 1
    filled = np.flatnonzero(np.max(shares, axis=0)[1:-1] > SHOWN)
    if not len(filled):
        return 0, len(SPECTRUM_EDGES) - 1
    return int(filled[0]), int(filled[-1]) + 1


def _fold(sample: Sample, layer: int, first: int, last: int) -> Contents:
    """Contents of inner bins [first, last); what lies beyond goes to the outermost."""
    folded = []
    for array in (sample.cells.spectrum[layer], sample.cells.spectrum_error[layer] ** 2):
        inner = array[1 + first : 1 + last].copy()
        inner[0] += array[: 1 + first].sum()
        inner[-1] += array[1 + last :].sum()
        folded.append(inner)
    return Contents(folded[0], np.sqrt(folded[1]))
