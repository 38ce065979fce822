"""Figures of a comparison: functions of records that return a Matplotlib figure."""

from pileupgen.validation.figures.all import validation_figures
from pileupgen.validation.figures.correlations import correlation_figure
from pileupgen.validation.figures.displays import event_display_figure
from pileupgen.validation.figures.features import feature_correlation_figure
from pileupgen.validation.figures.jets import jet_figure
from pileupgen.validation.figures.maps import eta_profile_figure, mean_map_figure
from pileupgen.validation.figures.observables import observable_figure
from pileupgen.validation.figures.pileup import pileup_figure
from pileupgen.validation.figures.release import release_figure
from pileupgen.validation.figures.spectra import cell_spectrum_figure
from pileupgen.validation.figures.style import write_figure
from pileupgen.validation.figures.summary import distance_figure

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
    "pileup_figure",
    "release_figure",
    "validation_figures",
    "write_figure",
]
