"""What went into an image store."""

from __future__ import annotations

from dataclasses import dataclass

from pileupgen.fields import PlainRecord
from pileupgen.samples.census import Census


@dataclass(frozen=True)
class IngestSummary(PlainRecord):
    """What went into a store."""

    n_events: int
    n_towers: int
    n_shared: int
    """Events, towers, and towers that shared their energy among several cells."""
    layers: tuple[str, ...]
    """Order of the numbers per layer."""
    energy: tuple[float, ...]
    energy_outside: tuple[float, ...]
    energy_suppressed: tuple[float, ...]
    """Mean per event and layer in GeV, by weight as all means here are: in the images, outside the
    grid's acceptance, and taken away by the zero suppression."""
    occupancy: tuple[float, ...]
    """Fraction of cells with energy, per layer."""
    suppressed: tuple[float, ...]
    """Fraction of the cells with energy that the zero suppression emptied, per layer."""
    mean_sum_et: float
    sd_sum_et: float
    """Mean and standard deviation over events of ΣE_T in GeV, with E_T = E / cosh η at the cell's
    centre."""
    mean_mu: float
    sd_mu: float
    """Mean and standard deviation of μ over the events of which it is known; NaN if there are none.
    """
    census: Census
    """What the sample is judged by."""
    skipped: tuple[str, ...] = ()
    """Names of the files left out, wholly or from a fault on."""
    units: tuple[str, ...] = ()
    """Units of the features, where the layers are such; else empty. ``energy`` is then the mean of
    each feature in its unit."""
    sd: tuple[float, ...] = ()
    """Standard deviation over events of each feature; empty for calorimeters."""
    n_dead: tuple[int, ...] = ()
    n_silent: tuple[int, ...] = ()
    """Cells of the detector per layer that the geometry calls dead, and that it does not call so
    yet never had energy though their ring had; empty for features."""
    silent_places: tuple[str, ...] = ()
    """Some of the latter."""
    is_transverse: bool = True
    """Whether ``mean_sum_et`` is of E_T; of showers it is of E."""
    unread_weights: tuple[str, ...] = ()
    """What the files have that is called like event weights, varies, and is not read."""
