"""How far events lie beyond what a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pileupgen.diffusion.settings import OutOfRange
from pileupgen.errors import ImplausibleInputError
from pileupgen.models.calibration.scaling import CellSpace
from pileupgen.models.event_check import EventCheck
from pileupgen.samples.store import Images

MAX_ENERGY_RATIO = 1000.0
"""A cell may exceed the largest one of its ring in training by this factor."""
MAX_MU_RATIO = 4.0
"""μ may lie outside the training's range by this factor."""
MAX_LOST = 0.2
"""Cells below the training's threshold may hold this part of an event's energy."""


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


@dataclass(frozen=True)
class RangeSummary:
    """What a translated store says of its source events.

    Attributes
    ----------
    n_events, n_above, n_below, n_mu, n_unlike : int
        Events, and those with cells above the training's largest, with hits below its threshold,
        outside its μ, and unlike its events.
    cells_above, cells_below : int
        Such cells in all events.
    energy_ratio, mu_low, mu_high : float
        Largest ratio of a cell; smallest and largest ratio of μ.
    """

    n_events: int
    n_above: int
    cells_above: int
    energy_ratio: float
    n_below: int
    cells_below: int
    n_mu: int
    mu_low: float
    mu_high: float
    n_unlike: int

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> RangeSummary:
        """Sum up the columns of a store, one row for each event."""
        above, below, mu = columns["cells_above"], columns["cells_below"], columns["mu_ratio"]
        outside = mu[np.isfinite(mu) & (mu != 1)]
        return cls(
            len(above),
            int((above > 0).sum()),
            int(above.sum()),
            float(columns["energy_ratio"].max(initial=0)),
            int((below > 0).sum()),
            int(below.sum()),
            len(outside),
            float(outside.min(initial=1)),
            float(outside.max(initial=1)),
            int(columns["unlike"].sum()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a stage's record."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Say what lies outside, a sentence each."""
        found = []
        if self.cells_above:
            found.append(
                f"{self.cells_above:,} cells of {self.n_above:,} events are above the training's "
                f"largest of their ring, up to {self.energy_ratio:.3g} times: calibrated by the "
                "ratio of the outermost quantiles"
            )
        if self.cells_below:
            found.append(
                f"{self.cells_below:,} cells of {self.n_below:,} events are below the training's "
                "threshold: taken for empty"
            )
        if self.n_mu:
            found.append(
                f"{self.n_mu:,} events have μ outside the training's range, by factors of "
                f"{self.mu_low:.3g} to {self.mu_high:.3g}"
            )
        return found

    @property
    def unlike(self) -> str:
        """How many events are unlike the training's."""
        share = self.n_unlike / max(self.n_events, 1)
        return f"{self.n_unlike:,} of {self.n_events:,} events ({share:.2%}), 0.10% expected"

    @property
    def is_unlike(self) -> bool:
        """Whether clearly more events are unlike the training's than chance flags.

        Above 1 %, and by more than three standard deviations of a Poisson number of that mean: the
        threshold is itself known to a factor only.
        """
        limit = 0.01 * self.n_events
        return self.n_unlike > limit + 3 * limit**0.5
