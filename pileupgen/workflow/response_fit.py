"""A response card fitted to a recorded sample: what `pileupgen cards fit` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.calo.imaging import Imager
from pileupgen.calo.presets import get_grid
from pileupgen.calo.towers import Towers
from pileupgen.compare.distances import wasserstein
from pileupgen.errors import CardError, ImplausibleInputError
from pileupgen.files import require_no_folder, write_whole
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.progress import SILENT, Listener
from pileupgen.samples.store import Images
from pileupgen.simulate.calorimeter import TowerGrid
from pileupgen.simulate.cell_statistics import recorded_cells
from pileupgen.simulate.pool import read_pool
from pileupgen.simulate.produce import (
    default_cache,
    default_workers,
    provide_pool,
    scratch_folder,
)
from pileupgen.simulate.response import LAYERS, load_response
from pileupgen.simulate.response_fit import (
    ROUNDS,
    CellDeposits,
    ResponseFit,
    fit_response,
)
from pileupgen.simulate.spec import SampleSpec
from pileupgen.workflow.cards import load_named
from pileupgen.workflow.generated import spec_of_card

IMAGES = "atlas_barrel"
"""Geometry preset of the images that distances are taken on."""
POOR_FIT = 4.0
"""χ² over the numbers that it is summed over, from which on a fit is warned of."""
UNLIKE_THE_FIT = 7
"""Seed of the detector's random numbers in samples that the fit is judged on."""


@dataclass(frozen=True)
class CardFit:
    """A fitted card and what it explains.

    Attributes
    ----------
    fit : ResponseFit
        Numbers and χ².
    distances : dict of str to float
        Mean W1/σ over the observables to recorded events that the fit did not see: of the recorded
        ones that it saw, of simulated ones with the card begun with, and with the fitted one.
    path : Path
        The fitted response card.
    """

    fit: ResponseFit
    distances: dict[str, float]
    path: Path

    @property
    def explained(self) -> float:
        """Part of the shift that the fitted card explains: 0 none, 1 all."""
        floor, before, after = self.distances.values()
        return (before - after) / (before - floor)


def fit_card(
    recorded: str,
    source: str,
    response: str,
    output: Path,
    *,
    n_recorded: int = 1200,
    n_simulated: int = 400,
    fixed: Sequence[str] = (),
    refined: bool = True,
    listener: Listener = SILENT,
) -> CardFit:
    """Fit a response card to the first events of a recorded sample and write it.

    Every other event enters the fit, the rest judges it.

    Parameters
    ----------
    recorded, source : str
        Data cards by name or path: of the recorded sample, and of a generated one whose generator,
        tune, √s and μ are taken.
    refined : bool
        Also find the minimum of a smooth χ², and the interval of each number in which that rises by
        1 at most, the others fitted again.

    Raises
    ------
    CardError
        If a card is malformed, the source's is of no generated pileup, the recorded sample's names
        no files, or the response card has pulse shapes or periods.
    GeometryError
        If the recorded sample has other layers.
    ImplausibleInputError
        If there are too few events.
    """
    require_no_folder(output)
    spec = spec_of_card(source, {"response": response})
    if isinstance(spec, SampleSpec):
        # Each interaction is used once: events that share them fluctuate less among each other than
        # from one sample to another, and the fit knows only the former.
        once = {"separate_pools": ((1.0, 1.0),), "consecutive": 1, "n_events": n_simulated}
        spec = spec.model_copy(update=once)
    if not isinstance(spec, SampleSpec) or spec.is_hard or spec.files:
        raise CardError(
            f"{source} is no card of pileup from a generator.",
            "Take the card of a generated sample, such as demo_mc.",
        )
    begun = load_response(response)
    if begun.crossings != (0, 0):
        raise CardError(
            f"Response card '{response}' has pulse shapes: its cells see other crossings, which "
            "the fit does not simulate.",
            "Begin with a card without 'pulse', such as mc.",
        )
    if begun.periods:
        raise CardError(
            f"Response card '{response}' has periods: the fit is of one set of conditions, and "
            "would take those of the first for all.",
            "Begin with a card without 'periods', and fit events of one period.",
        )
    grid = TowerGrid(begun.ring_edges(), begun.ring_n_phi())
    card = load_named(recorded)
    if card.generate is not None:
        raise CardError(
            f"Card '{card.name}' ({card.path}) asks for a sample to be generated; it names no "
            "recorded files.",
            "Name a card with 'files', such as of a file that 'pileupgen simulate' wrote.",
        )
    listener.read(str(card.path))
    parts = list(card.open(card.input_files()).chunks(n_recorded))
    cells = recorded_cells(parts, grid)[:n_recorded]
    seen, unseen = cells[::2], cells[1::2]
    made = spec.pools()["pileup"]
    with listener.progress("deposits", made.pool_size + n_simulated, "interactions") as advance:
        with scratch_folder(output.parent) as scratch:
            pool, _ = provide_pool(made, default_cache(), scratch, default_workers(), advance)
        deposits = CellDeposits(spec, read_pool(pool), begun, n_simulated, advance)
    with listener.progress("fit", 12 + ROUNDS * refined, "steps") as advance:
        fit = fit_response(
            begun, deposits, seen, fixed=fixed, n_steps=12, refined=refined, advance=advance
        )
    aim = observed(unseen, grid)
    samples = {
        "recorded": seen,
        "begun with": deposits.measured(begun, UNLIKE_THE_FIT),
        "fitted": deposits.measured(fit.card, UNLIKE_THE_FIT),
    }
    distances = {name: mean_w1(observed(cells, grid), aim) for name, cells in samples.items()}
    values = fit.card.model_dump(mode="json")
    write_whole(output, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    listener.wrote(output, "response card")
    if fit.chi2 > POOR_FIT * fit.n_statistics:
        listener.warn(
            f"χ² is {fit.chi2:,.0f} for {fit.n_statistics} numbers: the fitted numbers of the card "
            "cannot describe these events, and neither they nor their errors mean much"
        )
    return CardFit(fit, distances, output)


def observed(cells: Floats, grid: TowerGrid) -> Sample:
    """Observables of images in |η| < 2.5, drawn from cells of shape (n, 2, n_cells)."""
    event, cell = np.nonzero(cells.any(axis=1))
    n = len(cells)
    towers = Towers(
        offsets=np.searchsorted(event, np.arange(n + 1)),
        edges=grid.edges[cell],
        energy=cells[event, :, cell].astype(np.float32),
        layers=LAYERS,
        mu=np.full(n, np.nan, dtype=np.float32),
        event_id=np.arange(n),
    )
    image_grid = get_grid(IMAGES)
    columns: dict[str, NDArray[Any]] = {
        "mu": towers.mu,
        "event_id": towers.event_id,
        "weight": np.ones(n),
        "split": np.zeros(n, dtype=np.uint8),
    }
    images = Images(Imager(image_grid).draw(towers)[0], image_grid, columns)
    return measure_sample("cells", "cells", [images], image_grid)


def mean_w1(sample: Sample, aim: Sample) -> float:
    """Mean W1/σ over the observables that vary.

    Raises
    ------
    ImplausibleInputError
        If none does.
    """
    spread = {name: float(values.std()) for name, values in aim.observables.items()}
    found = [
        float(wasserstein(sample.observables[name], aim.observables[name])[0]) / sigma
        for name, sigma in spread.items()
        if sigma > 0
    ]
    if not found:
        raise ImplausibleInputError("All recorded events are alike.", "Read more events.")
    return float(np.mean(found))
