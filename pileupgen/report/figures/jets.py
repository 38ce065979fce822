"""Pileup jets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pileupgen.measure.pileup_jets import SPECTRUM_EDGES, JetSample
from pileupgen.report.figures.observables import folded_histogram
from pileupgen.report.figures.style import (
    Contents,
    draw_with_ratio,
    paired_panes,
    style,
    with_count,
)

MAX_BINS = 24


def jet_figure(samples: Sequence[JetSample]) -> Figure:
    """Draw multiplicity and p_T spectrum of pileup jets, each with a ratio pane.

    Parameters
    ----------
    samples : sequence of JetSample
        Target, source and translated.
    """
    labels = {sample.name: with_count(sample.label, len(sample.n_jets)) for sample in samples}
    with style():
        figure, panes = paired_panes(2)
        edges = _count_edges(samples)
        multiplicity = {
            s.name: folded_histogram(s.n_jets.astype(np.float64), edges, s.weight) for s in samples
        }
        draw_with_ratio(panes[0, 0], panes[1, 0], edges, multiplicity, labels)
        panes[0, 0].set_ylabel("fraction of events")
        panes[0, 0].set_ylim(bottom=0.0)
        panes[1, 0].set_xlabel("pileup jets per event")
        widths = np.diff(SPECTRUM_EDGES)
        spectra = {}
        for sample in samples:
            mean, error = sample.spectrum()
            spectra[sample.name] = Contents(mean / widths, error / widths)
        draw_with_ratio(panes[0, 1], panes[1, 1], SPECTRUM_EDGES, spectra, labels)
        filled = np.concatenate([c.value[c.value > 0] for c in spectra.values()])
        if len(filled):
            panes[0, 1].set_yscale("log")
            panes[0, 1].set_ylim(0.3 * filled.min(), 5 * filled.max())
        panes[0, 1].set_ylabel(r"jets per event and GeV")
        panes[1, 1].set_xlabel(r"jet $p_T - \rho A$ [GeV]")
        panes[1, 0].set_ylabel(f"ratio to {samples[0].label}")
        panes[0, 1].legend(loc="upper right", title=r"anti-$k_t$, $R$ = 0.4")
    return figure


def _count_edges(samples: Sequence[JetSample]) -> np.ndarray:
    """Bins of whole numbers of jets that hold 99 % of every sample."""
    high = max(int(np.quantile(sample.n_jets, 0.995)) for sample in samples) + 1
    low = min(int(np.quantile(sample.n_jets, 0.005)) for sample in samples)
    step = max(1, -(-(high - low) // MAX_BINS))
    return np.arange(low, high + step + 1, step) - 0.5
