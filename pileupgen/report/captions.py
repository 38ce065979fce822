"""Title, description and caption of each figure of the report."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Caption:
    """Words of a figure; plain text."""

    title: str
    """Short."""
    alt: str
    """Description of the figure for readers who cannot see it."""
    see: str
    """What to look for."""


CAPTIONS = {
    "event_display": Caption(
        "One event before and after translation",
        "Maps of log10(E/MeV) in η and φ, one row per layer: a simulated event, the same event "
        "translated, and a real event chosen at random.",
        "The first two panels should have their large deposits in the same places, because the "
        "translation must keep the event. The last two should agree in occupancy, granularity and "
        "energy scale.",
    ),
    "event_path": Caption(
        "One event during its translation",
        "Maps of log10(E/MeV) in η and φ, layers summed. Upper row: a simulated event, noised or "
        "inverted up to the release time, decoded as simulation. Lower row: the same latents, "
        "denoised as data from the release time down to the translated event.",
        "Time runs to the right in the upper row and to the left in the lower one; each column is "
        "one diffusion time. The structure left in the last column is all that the translated "
        "event can inherit from its source.",
    ),
    "mean_maps": Caption(
        "Mean energy of each cell",
        "Maps of the mean energy per cell in η and φ for real, simulated and translated events, "
        "one row per layer, and ratios of the latter two to the first.",
        "The ratio of translated events should be pale everywhere. A coloured block is a region "
        "that was not learned, a stripe along φ a ring of cells; isolated coloured cells are "
        "statistical fluctuations.",
    ),
    "eta_profile": Caption(
        "Energy along η",
        "Mean energy in each ring of η for real, simulated and translated events, one column "
        "per layer, with the ratio to the real events below.",
        "Translated events should follow the points; the band around the ratio is the statistical "
        "error. The outer rings, where detectors differ most, are the hardest.",
    ),
    "cell_spectrum": Caption(
        "Spectrum of single cells",
        "Hits per event in bins of log10(E/MeV) on a logarithmic scale, one column per layer, "
        "with the ratio to the real events below.",
        "The lower edge shows thresholds and electronic noise, the upper tail hard deposits. The "
        "outermost bins include everything beyond them. Cells of negative energy, if there are "
        "any, are on the left.",
    ),
    "observables": Caption(
        "Observables of the events",
        "Histograms of event observables for real, simulated and translated events, each with "
        "the ratio to the real events below.",
        "Translated events should agree with the points within the band. A slope in the ratio "
        "means a wrong mean, a curvature a wrong width. The outermost bins include everything "
        "beyond them.",
    ),
    "correlations": Caption(
        "Correlations between cells",
        "Correlation of cell energies as a function of their distance in φ and in η, and between "
        "layers, for real, simulated and translated events.",
        "The decrease from one cell to the next reflects the size of showers. Values above the "
        "points mean images that are too smooth, values below too granular. Error bars are from a "
        "jackknife.",
    ),
    "feature_correlations": Caption(
        "Correlations between features",
        "Correlation matrix of the real events' features, and beside it the differences from it of "
        "simulated and of translated events.",
        "The last panel should be pale. Numbers in bold exceed 3 σ as single tests; among many "
        "pairs, a few do so by chance.",
    ),
    "pileup": Caption(
        "What pileup does to an analysis",
        "Six panels: density of transverse energy against μ, ρ against μ, transverse energy in "
        "random cones minus ρA, resolution of missing transverse energy, tail of the occupancy, "
        "mean W1/σ in bins of μ.",
        "μ is the number of pileup interactions of an event, ρ the median density of transverse "
        "energy in η-φ, and A the area of the cone. Jet calibration and isolation "
        "depend on these slopes and widths. In the last panel, translated events should be near "
        "the reference in every bin of μ.",
    ),
    "shower_profile": Caption(
        "Showers as a function of depth",
        "Means over showers of deposited energy, sparsity, centre and width in r, widths in η and "
        "φ, and standard deviations of the centres in η and φ, as a function of the layer, with "
        "the ratio to the target's showers below.",
        "Translated showers should follow the points. A shift along the axis means a wrong depth, "
        "a difference in width a wrong lateral shape.",
    ),
    "jets": Caption(
        "Pileup jets",
        "Number of pileup jets per event and spectrum of their transverse momentum, each with "
        "the ratio to the real events below.",
        "Jets combine neighbouring cells, so they are sensitive to correlations that distributions "
        "of single cells do not show.",
    ),
    "overlaid_event": Caption(
        "One hard scatter with pileup",
        "Maps of log10(E/MeV) in η and φ of one hard scatter, one row per layer: without pileup, "
        "and with simulated, translated and real pileup. Circles of R = 0.4 are around its jets; "
        "all panels are cut at the smallest hits of their pileup, the first at those of real "
        "pileup.",
        "The deposits of the first panel are in all of them. The third should look like the fourth "
        "in occupancy, granularity and energy scale; its pileup is the second's, translated.",
    ),
    "overlay": Caption(
        "Hard scatters with pileup",
        "Jets, missing transverse energy and isolation of the same hard scatters with simulated "
        "and translated pileup, each over that with real pileup.",
        "Circles nearer to 1 than squares are where translation helps an analysis; grey bars are "
        "the statistical error of real pileup.",
    ),
    "distances": Caption(
        "Distances of all observables",
        "W1/σ to the real events for each observable, for reference, source and translated events, "
        "with intervals.",
        "The reference is the smallest distance that can be expected with this number of events. "
        "Where the translated point coincides with that of the source, the translation has not "
        "improved the observable.",
    ),
    "release": Caption(
        "Choice of the release time",
        "AUC of a classifier of simulated against real events, and effective sample size of its "
        "weights, both as a function of the diffusion time.",
        "At small times the noised samples still differ and the weights are inefficient; at large "
        "times the events lose their source correlation. The vertical line marks the release time "
        "of these events.",
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
