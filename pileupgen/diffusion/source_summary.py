"""What is said of a translation's source events beside those of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.fields import PlainRecord

CLEAR_SHIFT = 5.0
"""σ above which a sample's means are called other than the training's."""
_N_NAMED = 3


@dataclass(frozen=True)
class RangeSummary(PlainRecord):
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


@dataclass(frozen=True)
class SampleCheck(PlainRecord):
    """How far the means of a whole sample lie from those of the training's events."""

    n_events: int
    """Events compared: some of the sample, evenly spread."""
    significance: float
    """Significance of the difference in all totals together, in σ."""
    shifts: tuple[tuple[str, float, float], ...]
    """Name of each total, the difference of its means over the events' standard deviation, and the
    same over its error; the most significant first."""

    @property
    def is_unlike(self) -> bool:
        """Whether the sample is clearly another one than the training's."""
        return self.significance > CLEAR_SHIFT

    def __str__(self) -> str:
        """Say how far it is, and in what."""
        found = f"the means of {self.n_events:,} events are {_sigma(self.significance)} from the "
        if not self.is_unlike:
            return f"{found}training's"
        largest = [
            f"{name} {shift:+.2f} standard deviations ({_sigma(local)})"
            for name, shift, local in self.shifts[:_N_NAMED]
        ]
        return f"{found}training's: {', '.join(largest)}"


def _sigma(value: float) -> str:
    return f"{abs(value):.1f} σ" if abs(value) < 37 else "more than 37 σ"
