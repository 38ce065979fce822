"""All figures of a validation, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from pileupgen.compare.validation import Validation
from pileupgen.measure.sample import Sample
from pileupgen.report.figures.correlations import correlation_figure
from pileupgen.report.figures.displays import event_display_figure, event_path_figure
from pileupgen.report.figures.features import feature_correlation_figure
from pileupgen.report.figures.jets import jet_figure
from pileupgen.report.figures.maps import eta_profile_figure, mean_map_figure
from pileupgen.report.figures.observables import N_PER_PAGE, observable_figure
from pileupgen.report.figures.pileup import pileup_figure
from pileupgen.report.figures.release import release_figure
from pileupgen.report.figures.showers import farthest_records, shower_profile_figure
from pileupgen.report.figures.spectra import cell_spectrum_figure
from pileupgen.report.figures.summary import distance_figure

if TYPE_CHECKING:
    from pileupgen.diffusion.event_path import EventPath
    from pileupgen.diffusion.release import ReleaseScan

Draw = Callable[[], Figure]

MAX_COLUMNS = 6
"""Layers of which a figure can have one column each."""


def validation_figures(
    validation: Validation,
    curve: ReleaseScan | None = None,
    t_release: int | None = None,
    path: EventPath | None = None,
) -> Iterator[tuple[str, Draw]]:
    """Give the names of the figures and functions that draw them.

    Parameters
    ----------
    t_release : int, optional
        Where the translated events were released.
    path : EventPath, optional
        Path of the displayed event through the diffusion, for images.
    """
    samples, comparison = validation.samples, validation.comparison
    trio = (samples.target, samples.source, samples.translated)
    is_table = comparison.kind == "features"
    records = comparison.records
    if comparison.kind == "showers":
        yield from _shower_figures(validation, trio)
        records = farthest_records(comparison)
    elif not is_table:
        yield from _image_figures(validation, path)
    for number, begin in enumerate(range(0, len(records), N_PER_PAGE), start=1):
        page = records[begin : begin + N_PER_PAGE]
        yield f"observables_{number}", partial(observable_figure, *trio, page)
    if is_table:
        yield "feature_correlations", partial(feature_correlation_figure, *trio)
    elif comparison.kind == "images":
        yield "correlations", partial(correlation_figure, *trio)
        yield "pileup", partial(pileup_figure, *trio, comparison)
    if validation.jets:
        yield "jets", partial(jet_figure, validation.jets)
    yield "distances", partial(distance_figure, comparison, records)
    if curve is not None:
        yield "release", partial(release_figure, curve, t_release)


def _image_figures(validation: Validation, path: EventPath | None) -> Iterator[tuple[str, Draw]]:
    """Figures of the images themselves."""
    samples, display = validation.samples, validation.display
    if display is None:
        return
    trio = (samples.target, samples.source, samples.translated)
    titles = [
        f"{samples.source.label}, event {display.source_event}",
        "the same event, translated",
        f"{samples.target.label}, event {display.target_event} (chosen at random)",
    ]
    images = [display.source, display.translated, display.target]
    yield "event_display", partial(event_display_figure, images, titles, samples.target.grid)
    if path is not None:
        grid = samples.target.grid
        yield "event_path", partial(event_path_figure, path, display.translated, grid)
    yield "mean_maps", partial(mean_map_figure, *trio)
    yield "eta_profile", partial(eta_profile_figure, *trio)
    yield "cell_spectrum", partial(cell_spectrum_figure, *trio)


def _shower_figures(
    validation: Validation, trio: tuple[Sample, Sample, Sample]
) -> Iterator[tuple[str, Draw]]:
    """Figures of showers; those with a column for each layer only where there are few."""
    yield "shower_profile", partial(shower_profile_figure, *trio)
    if validation.samples.target.grid.n_layers <= MAX_COLUMNS:
        yield "cell_spectrum", partial(cell_spectrum_figure, *trio)
