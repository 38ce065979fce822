"""What a sample's detector did to its events: thresholds, dead cells, the period of data taking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pileupgen.arrays import Flags, Ints
from pileupgen.calo.geometry import Grid, require_same_grid
from pileupgen.errors import CardError, GeometryError, ImplausibleInputError, StoreError
from pileupgen.overlay.settings import OverlaySettings
from pileupgen.samples.dead_cells import count_hits, find_silent
from pileupgen.samples.provenance import period_of
from pileupgen.samples.store import Images

EXAMINED_EVENTS = 512
"""Events of a sample that its conditions are found from."""
_RUN = 16
_NO_FLOOR = 0.02
"""GeV below which the smallest energy of a layer is taken for a sign that nothing is suppressed."""
_SAME_FLOOR = 0.1
"""Relative difference of two thresholds that are called the same."""
_OTHER_UNIT = 100.0
"""Ratio of the median energies of hits from which on two samples cannot have one unit."""


def examined_rows(n: int) -> Ints:
    """Rows that stand for a sample of n events: runs of neighbours, evenly spread."""
    if n <= EXAMINED_EVENTS:
        return np.arange(n)
    begins = np.linspace(0, n - _RUN, EXAMINED_EVENTS // _RUN).astype(np.int64)
    return np.unique(begins[:, None] + np.arange(_RUN))


@dataclass(frozen=True)
class Conditions:
    """Conditions of a sample."""

    name: str
    """The sample in messages."""
    grid: Grid
    """Its cells."""
    is_suppressed: bool
    """Whether cells below a threshold are emptied."""
    floors: tuple[float, ...]
    """Smallest |energy| of a hit in each layer, GeV; NaN of a layer without hits."""
    median: float
    """Median |energy| of a hit, GeV; NaN without hits."""
    dead: Flags
    """Cells that are dead by the geometry, or silent where their ring is not. Shape (L, n_eta,
    n_phi)."""
    period: str | None
    """Period that it has by its provenance."""

    @classmethod
    def of(cls, name: str, images: Images, provenance: Mapping[str, Any]) -> Conditions:
        """Find the conditions of a sample.

        Parameters
        ----------
        name : str
            What messages call it.

        Raises
        ------
        GeometryError
            If it is a table of features.
        """
        grid = images.grid
        if grid.is_feature_table:
            raise GeometryError(
                f"{name} is a table of features, which has no cells to add energies in.",
                "Overlay needs calorimeter images.",
            )
        # A cell of the detector that is spread over several of the image is judged as a whole.
        size = np.abs(images.energy) / grid.cell_shares[..., None].astype(np.float32)
        hits = [size[:, layer][size[:, layer] > 0] for layer in range(grid.n_layers)]
        floors = tuple(float(found.min()) if len(found) else float("nan") for found in hits)
        everything = np.concatenate(hits)
        return cls(
            name=name,
            grid=grid,
            is_suppressed=_is_suppressed(provenance, floors, bool(np.any(images.energy < 0))),
            floors=floors,
            median=float(np.median(everything)) if len(everything) else float("nan"),
            dead=grid.is_dead | find_silent(count_hits(images.energy)),
            period=period_of(provenance),
        )

    def describe(self, layers: tuple[str, ...]) -> str:
        """Describe what is suppressed, in words."""
        if not self.is_suppressed:
            return "not zero-suppressed"
        floors = ", ".join(
            f"{layer} from {floor:.2g} GeV"
            for layer, floor in zip(layers, self.floors, strict=True)
            if np.isfinite(floor)
        )
        return f"zero-suppressed ({floors})"


def _detector(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    return (provenance.get("card") or {}).get("detector") or {}


def _is_suppressed(
    provenance: Mapping[str, Any], floors: tuple[float, ...], has_negative: bool
) -> bool:
    """Whether energies are zero-suppressed: by the provenance, else by the energies."""
    made = provenance.get("source", provenance)
    settings = made.get("settings") or {}
    if made.get("stage") == "overlay":
        # Where one of two samples is not suppressed, neither is their sum, unless it is cut.
        return any(OverlaySettings(**settings).cuts) or all(made["suppressed"].values())
    if float(settings.get("zero_suppression") or 0) > 0:
        return True
    declared = _detector(made).get("suppressed")
    if declared is not None:
        return bool(declared)
    known = [floor for floor in floors if np.isfinite(floor)]
    return bool(known) and not has_negative and min(known) > _NO_FLOOR


def require_alike(
    signal: Conditions, pileup: Conditions, *, is_cut: bool, allow: frozenset[str] = frozenset()
) -> None:
    """Refuse samples whose energies cannot be added cell by cell.

    Parameters
    ----------
    is_cut : bool
        Whether the sum is cut at a threshold of its own, so that those of the samples may differ.
    allow : frozenset of str
        Of ``thresholds`` and ``period``: what may differ all the same.

    Raises
    ------
    GeometryError
        If the grids differ; dead cells may, see :attr:`Conditions.dead`.
    ImplausibleInputError
        If the energies cannot be of one unit.
    StoreError
        If thresholds differ and the sum is not cut.
    CardError
        If the cards name different periods.
    """
    ours, theirs = (_without_dead(one.grid) for one in (signal, pileup))
    require_same_grid(ours, theirs, signal.name, pileup.name)
    ratio = signal.median / pileup.median
    if np.isfinite(ratio) and not 1 / _OTHER_UNIT < ratio < _OTHER_UNIT:
        raise ImplausibleInputError(
            f"A hit of {signal.name} has {signal.median:.3g} GeV in the median, one of "
            f"{pileup.name} {pileup.median:.3g} GeV: they cannot be of one unit.",
            "Correct units.energy in the card of one of them.",
        )
    is_other = [
        abs(a - b) > _SAME_FLOOR * max(a, b)
        for a, b in zip(signal.floors, pileup.floors, strict=True)
    ]
    both = signal.is_suppressed and pileup.is_suppressed
    if both and any(is_other) and not is_cut and "thresholds" not in allow:
        layer = is_other.index(True)
        raise StoreError(
            f"The thresholds differ: in layer {signal.grid.layers[layer]} hits of {signal.name} "
            f"begin at {signal.floors[layer]:.3g} GeV, those of {pileup.name} at "
            f"{pileup.floors[layer]:.3g} GeV.",
            "Give --zero-suppression, at least the higher of them, for the sum; or "
            "--allow thresholds.",
        )
    differs = None not in (signal.period, pileup.period) and signal.period != pileup.period
    if differs and "period" not in allow:
        raise CardError(
            f"The cards name different periods: '{signal.period}' for {signal.name}, "
            f"'{pileup.period}' for {pileup.name}.",
            "Take samples of one period, or --allow period.",
        )


def _without_dead(grid: Grid) -> Grid:
    return Grid.from_dict({**grid.to_dict(), "dead_regions": ()})
