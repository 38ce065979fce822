"""Title, description and caption of each figure of the report."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Caption:
    """Words of a figure; plain text.

    Attributes
    ----------
    title : str
        Short.
    alt : str
        Description of the figure for readers who cannot see it.
    see : str
        What to look for.
    """

    title: str
    alt: str
    see: str


CAPTIONS = {
    "event_display": Caption(
        "One event, before and after",
        "Maps of log10(E/MeV) in η and φ, one row a layer: a simulated event, the same event "
        "translated, and some real event.",
        "The first two panes should share their hot spots, since the event must remain itself. "
        "The last two should share their texture: how full, how grainy, how bright.",
    ),
    "event_path": Caption(
        "One event on its way",
        "Maps of log10(E/MeV) in η and φ, layers summed. Upper row: a simulated event, noised or "
        "inverted up to the release, read with the simulation's quantiles. Lower row: the same "
        "latents denoised as data from the release down to the translated event.",
        "Read the upper row to the right, the lower one to the left; each column is one time. What "
        "survives in the last column is what the translated event can know of its source.",
    ),
    "mean_maps": Caption(
        "Mean energy of each cell",
        "Maps of the mean energy per cell in η and φ for real, simulated and translated events, "
        "one row a layer, and ratios of the latter two to the real one.",
        "The ratio of translated events should be pale everywhere. A coloured block is a region "
        "that was not learnt, a stripe along φ a ring, a speckle only statistics.",
    ),
    "eta_profile": Caption(
        "Energy along η",
        "Mean energy in each ring of η for real, simulated and translated events, one column a "
        "layer, with a ratio to the real events below.",
        "Translated events should follow the points; the ratio's band is the statistical error. "
        "Watch the outer rings, where the detector changes most.",
    ),
    "cell_spectrum": Caption(
        "Spectrum of single cells",
        "Hits per event in bins of log10(E/MeV) on a logarithmic scale, one column a layer, with "
        "a ratio to the real events below.",
        "The low edge shows thresholds and electronic noise, the high tail hard deposits. "
        "The outermost bins hold what lies beyond them. Negative cells, if any, are to the left.",
    ),
    "observables": Caption(
        "Observables of the events",
        "Histograms of event observables for real, simulated and translated events, each with a "
        "ratio to the real events below.",
        "Translated events should lie on the points within the band. A slope in a ratio is a "
        "wrong mean, a bowl a wrong width. Entries beyond an axis are in its last bin.",
    ),
    "correlations": Caption(
        "How cells fluctuate together",
        "Correlation of cell energies against their distance in φ and in η, and between layers, "
        "for real, simulated and translated events.",
        "The fall from one cell to the next is the size of showers. Above the points means too "
        "smooth, below means too grainy. Bars are jackknife errors.",
    ),
    "feature_correlations": Caption(
        "How features depend on each other",
        "Correlation matrix of the real events' features, and beside it the differences to it of "
        "simulated and of translated events.",
        "The last pane should be pale. Bold numbers are beyond 3 σ by themselves; of many "
        "pairs a few are by chance.",
    ),
    "pileup": Caption(
        "What pileup does to an analysis",
        "Six panes: density of transverse energy against μ, ρ against μ, random cones less ρA, "
        "resolution of missing transverse energy, tail of the occupancy, mean W1/σ in bins of μ.",
        "Slopes and widths are what jet calibration and isolation depend on. In the last pane the "
        "translated points should lie near the reference in every bin of μ.",
    ),
    "shower_profile": Caption(
        "Showers in depth",
        "Means over showers of deposited energy, sparsity, centre and width in r, widths in η and "
        "φ, and standard deviations of the centres in η and φ, each against the layer, with a "
        "ratio to the target's showers below.",
        "Translated showers should follow the points: a shift along the axis is a wrong depth, a "
        "wrong width a wrong lateral shape.",
    ),
    "jets": Caption(
        "Pileup jets",
        "Number of pileup jets per event and spectrum of their transverse momentum, each with a "
        "ratio to the real events below.",
        "Jets gather neighbouring cells, so they show correlations that single cells hide.",
    ),
    "distances": Caption(
        "Every observable at a glance",
        "W1/σ to the real events for each observable, for reference, source and translated events, "
        "with intervals.",
        "The reference is the best that can be reached with this many events. A translated point "
        "on the source's has gained nothing.",
    ),
    "release": Caption(
        "Where to let go",
        "AUC of a classifier of simulated against real events, and effective sample size of its "
        "weights, both against the diffusion time.",
        "Released early, the samples still differ and weights are poor; released late, events "
        "forget themselves. The vertical line is where these events were released.",
    ),
}


def caption(name: str) -> Caption:
    """Give the words of a figure by its file name without suffix.

    >>> caption("observables_2").title
    'Observables of the events, page 2'
    """
    stem, page = name, ""
    if match := re.fullmatch(r"(\w+?)_(\d+)", name):
        stem, page = match.group(1), f", page {match.group(2)}"
    found = CAPTIONS.get(stem)
    if found is None:
        title = name.replace("_", " ")
        return Caption(title, f"Figure: {title}.", "")
    return Caption(found.title + page, found.alt, found.see)
