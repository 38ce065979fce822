"""The spectrum of single cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.measure.observables import MEV

SPECTRUM_EDGES = np.round(np.linspace(0.0, 7.5, 76), 6)
"""Inner bin edges of the cell spectrum in log10(E/MeV); under- and overflow come on top."""


def event_spectra(energy: NDArray[np.float32]) -> Floats:
    """Count each event's cells above 0 in bins of log10(E/MeV).

    Parameters
    ----------
    energy : float32 array, shape (N, L, n_eta, n_phi)
        GeV.

    Returns
    -------
    float64 array, shape (N, L, len(SPECTRUM_EDGES) + 1)
        Underflow first, overflow last.
    """
    n_events, n_layers = energy.shape[:2]
    n_bins = len(SPECTRUM_EDGES) + 1
    event, layer, i_eta, i_phi = np.nonzero(energy > 0)
    logs = np.log10(energy[event, layer, i_eta, i_phi].astype(np.float64) * MEV)
    width = SPECTRUM_EDGES[1] - SPECTRUM_EDGES[0]
    bins = np.floor((logs - SPECTRUM_EDGES[0]) / width + 1e-9).astype(np.int64) + 1
    flat = (event * n_layers + layer) * n_bins + np.clip(bins, 0, n_bins - 1)
    counts = np.bincount(flat, minlength=n_events * n_layers * n_bins)
    return counts.reshape(n_events, n_layers, n_bins).astype(np.float64)
