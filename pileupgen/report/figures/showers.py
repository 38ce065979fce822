"""Profiles of showers: the CaloChallenge's observables against the layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pileupgen.arrays import quotient
from pileupgen.compare.results import Comparison
from pileupgen.measure.observables import Observable
from pileupgen.measure.sample import Sample
from pileupgen.measure.showers import FAMILIES, ShowerSet
from pileupgen.report.figures.style import (
    Contents,
    draw_with_ratio,
    grid_of_panes,
    style,
    with_count,
)

N_COLUMNS = 4
_MEANS = ("e", "sparsity", "centre_r", "width_r", "width_eta", "width_phi")
"""Families whose mean is drawn; means of the centres are 0, so that their widths are drawn."""
_SPREADS = ("centre_eta", "centre_phi")


def shower_profile_figure(target: Sample, source: Sample, translated: Sample) -> Figure:
    """Draw what is measured in every layer against the layer, each with a ratio pane.

    Parameters
    ----------
    target, source, translated : Sample
        Showers on one of the challenge's grids.
    """
    samples = (target, source, translated)
    observables = ShowerSet(target.grid)
    families = (*_MEANS, *_SPREADS)
    with style():
        figure, panes = grid_of_panes(len(families), N_COLUMNS, between=0.28)
        for (main, below), family in zip(panes, families, strict=True):
            _panel(main, below, samples, observables, family)
        handles, labels = main.get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=3, fontsize="large")
    return figure


def _panel(
    main: Axes, below: Axes, samples: Sequence[Sample], observables: ShowerSet, family: str
) -> None:
    layers = observables.layers_of(family)
    edges = np.arange(len(layers) + 1, dtype=np.float64) - 0.5
    contents = {
        sample.name: _profile(sample, [f"{family}_{layer}" for layer in layers], family)
        for sample in samples
    }
    labels = {sample.name: with_count(sample.label, len(sample)) for sample in samples}
    draw_with_ratio(main, below, edges, contents, labels)
    record = observables[f"{family}_{layers[0]}"]
    symbol = record.label.split(",")[0]
    what = rf"$\sigma$({symbol})" if family in _SPREADS else f"mean {symbol}"
    main.set_ylabel(f"{what} [{record.unit}]" if record.unit else what)
    main.yaxis.set_major_locator(MaxNLocator(5, prune="lower"))
    main.use_sticky_edges = False
    main.margins(x=0, y=0.08)
    if len(layers) <= N_COLUMNS + 1:
        below.set_xticks(range(len(layers)), [layer.removeprefix("layer_") for layer in layers])
    for axes in (main, below):
        axes.minorticks_off()
    below.set_xlabel("layer")


def _profile(sample: Sample, names: list[str], family: str) -> Contents:
    """Mean over showers, or their standard deviation, with its error."""
    share = sample.weight / sample.weight.sum()
    values = np.stack([sample.observables[name] for name in names], axis=1)
    mean = share @ values
    centred = np.square(values - mean)
    if family not in _SPREADS:
        return Contents(mean, np.sqrt(np.square(share) @ centred))
    spread = np.sqrt(share @ centred)
    error = np.sqrt(np.square(share) @ np.square(centred - np.square(spread)))
    return Contents(spread, quotient(error, 2 * spread))


def farthest_records(comparison: Comparison) -> tuple[Observable, ...]:
    """Choose totals, and of what is measured in every layer that where translated is farthest."""
    by_name = {record.name: record for record in comparison.records}
    distances = comparison.translated.observables
    chosen = [by_name["e_total"], by_name["e_ratio"]]
    for family in FAMILIES:
        layers = [name for name in by_name if name.rpartition("_layer_")[0] == family]
        far = [np.nan_to_num(distances[name].w1.value, nan=-1.0) for name in layers]
        chosen.append(by_name[layers[int(np.argmax(far))]])
    return tuple(chosen)
