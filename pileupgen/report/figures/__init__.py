"""Figures of a comparison: functions of records that return a Matplotlib figure."""

from pileupgen.report.figures.all import validation_figures
from pileupgen.report.figures.correlations import correlation_figure
from pileupgen.report.figures.displays import event_display_figure
from pileupgen.report.figures.features import feature_correlation_figure
from pileupgen.report.figures.jets import jet_figure
from pileupgen.report.figures.maps import eta_profile_figure, mean_map_figure
from pileupgen.report.figures.observables import observable_figure
from pileupgen.report.figures.overlaid import overlay_figure
from pileupgen.report.figures.pileup import pileup_figure
from pileupgen.report.figures.release import release_figure
from pileupgen.report.figures.spectra import cell_spectrum_figure
from pileupgen.report.figures.style import write_figure
from pileupgen.report.figures.summary import distance_figure

__all__ = [
    "cell_spectrum_figure",
    "correlation_figure",
    "distance_figure",
    "eta_profile_figure",
    "event_display_figure",
    "feature_correlation_figure",
    "jet_figure",
    "mean_map_figure",
    "observable_figure",
    "overlay_figure",
    "pileup_figure",
    "release_figure",
    "validation_figures",
    "write_figure",
]
