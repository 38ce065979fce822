"""How far events lie beyond what a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.diffusion.settings import OutOfRange
from pileupgen.diffusion.source_summary import SampleCheck
from pileupgen.errors import ImplausibleInputError
from pileupgen.models.calibration.space import CellSpace
from pileupgen.models.event_check import EventCheck, total_names, totals
from pileupgen.samples.store import Images, ImageStore

MAX_ENERGY_RATIO = 1000.0
"""A cell may exceed the largest one of its ring in training by this factor."""
MAX_MU_RATIO = 4.0
"""μ may lie outside the training's range by this factor."""
MAX_LOST = 0.2
"""Cells below the training's threshold may hold this part of an event's energy."""
_COMPARED_EVENTS = 2000
"""Source events, evenly spread, whose means are compared with the training's."""


@dataclass(frozen=True)
class InputRange:
    """Columns of source events, each of shape (N,)."""

    cells_above: NDArray[np.int32]
    """Cells above the largest of their layer and ring in training."""
    energy_ratio: NDArray[np.float32]
    """Largest ratio of a cell to that; 0 for an empty event."""
    cells_below: NDArray[np.int32]
    """Hits below the training's threshold, which are taken for null cells."""
    energy_below: NDArray[np.float32]
    """Their part of the event's energy, within 0 and 1."""
    mu_ratio: NDArray[np.float32]
    """Factor by which μ lies outside the training's range: above 1 above, below 1 below, 1 inside,
    NaN where it is not known."""
    distance: NDArray[np.float32]
    """Distance from the events of training; see :class:`EventCheck`. 0 where it has none."""
    unlike: NDArray[np.uint8]
    """1 where the distance is above 1."""

    def columns(self) -> dict[str, NDArray[Any]]:
        """Give the arrays by name."""
        return dict(vars(self))


def input_range(
    images: Images, space: CellSpace, check: EventCheck | None, domain: int
) -> InputRange:
    """Compare events with the training of their domain, 0 mc or 1 data."""
    size = np.abs(images.energy)
    ring = space.ring_of(size.shape[2])
    largest = space.largest[domain].numpy()[:, ring, None]
    ratio = np.divide(size, largest, out=np.zeros_like(size), where=largest > 0)
    # A ring that was empty in training: any hit is beyond, by no ratio that could be told.
    above = (ratio > 1) | ((largest == 0) & (size > 0))
    below = (size > 0) & (size < space.lowest_hits(domain)[:, None, None])
    total = size.sum(axis=(1, 2, 3), dtype=np.float64)
    lost = np.where(below, size, 0).sum(axis=(1, 2, 3), dtype=np.float64)
    low, high = (float(end) for end in space.mu_range)
    mu = images.mu.astype(np.float64)
    mu_ratio = np.where(mu > high, mu / max(high, 1e-9), np.where(mu < low, mu / max(low, 1e-9), 1))
    distance = np.zeros(len(images), dtype=np.float32)
    if check is not None:
        distance = check(torch.from_numpy(images.energy), domain, torch.from_numpy(images.mu))
    return InputRange(
        above.sum(axis=(1, 2, 3)).astype(np.int32),
        ratio.max(axis=(1, 2, 3)).astype(np.float32),
        below.sum(axis=(1, 2, 3)).astype(np.int32),
        (lost / np.maximum(total, 1e-12)).astype(np.float32),
        np.where(np.isfinite(mu), mu_ratio, np.nan).astype(np.float32),
        distance,
        (distance > 1).astype(np.uint8),
    )


def require_within(found: InputRange, images: Images, allowed: OutOfRange) -> None:
    """Refuse events that lie further outside than is allowed.

    Raises
    ------
    ImplausibleInputError
        Naming the first event, and how far it lies outside.
    """
    if allowed == "allow":
        return
    factor = 1.0 if allowed == "refuse" else MAX_ENERGY_RATIO
    mu_factor = 1.0 if allowed == "refuse" else MAX_MU_RATIO
    lost = 0.0 if allowed == "refuse" else MAX_LOST
    mu = np.nan_to_num(found.mu_ratio, nan=1.0)
    outside_mu = np.maximum(mu, 1 / np.maximum(mu, 1e-9))
    faults = (
        (found.energy_ratio, factor, "has a cell {:.4g} times the largest of its ring"),
        (outside_mu, mu_factor, "has μ a factor of {:.3g} outside the range"),
        (found.energy_below, lost, "has {:.0%} of its energy below the threshold"),
    )
    for values, limit, text in faults:
        if (values > limit).any():
            first = int(np.flatnonzero(values > limit)[0])
            raise ImplausibleInputError(
                f"Event {images.event_id[first]} {text.format(float(values[first]))} of training.",
                "Check unit and selection of the sample, or give --out-of-range allow.",
            )


def compare_sample(
    store: ImageStore, rows: Ints, check: EventCheck | None, domain: int
) -> SampleCheck | None:
    """Compare the means of a sample with those of the training of its domain, 0 mc or 1 data.

    None where the model does not know of its training's means.
    """
    if check is None or not len(rows):
        return None
    step = -(-len(rows) // _COMPARED_EVENTS)
    found, mus, weights = [], [], []
    for images in store.batches(rows[::step]):
        found.append(totals(torch.from_numpy(images.energy), check.transverse))
        mus.append(torch.from_numpy(images.mu))
        weights.append(images.weight)
    shift = check.compare(torch.cat(found), domain, torch.cat(mus), np.concatenate(weights))
    if shift is None:
        return None
    names = total_names(store.grid.layers)
    if store.grid.is_feature_table:
        names = list(store.grid.layers)
    order = np.argsort(-np.abs(shift.local), kind="stable")
    shifts = tuple((names[i], float(shift.shifts[i]), float(shift.local[i])) for i in order)
    return SampleCheck(sum(map(len, mus)), shift.significance, shifts)
