"""What image stores know of every event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

COLUMNS: dict[str, tuple[str, str, str]] = {
    # name: (dtype, unit, meaning)
    "mu": ("f4", "1", "number of pileup interactions; NaN where unknown"),
    "event_id": ("i8", "1", "position of the event in its sample, from 0"),
    "weight": ("f8", "1", "event weight, of either sign; of a translated event its source's"),
    "weight_positive": (
        "f8",
        "1",
        "weights with those below 0 shared out among alike events; only where there are such",
    ),
    "group": (
        "i8",
        "1",
        "number shared by events that lie in one split, as those of one run or of one pool; only "
        "where the sample has such",
    ),
    "split": ("u1", "1", "0 train, 1 validation, 2 test"),
    "source_event": ("i8", "1", "event_id of the source event; -1 where there is none"),
    "seed": ("i8", "1", "seed that, with source_event and draw, fixes the event's noise"),
    "release_weight": ("f8", "1", "weight times exp(log_ratio), that clipped"),
    "log_ratio": ("f8", "1", "ln r(x_t, t_release), not clipped; 0 where there is no release"),
    "t_release": ("i4", "1", "timestep of the release; -1 where there is none"),
    "draw": ("i4", "1", "which translation of the source event, from 0"),
    "cells_above": ("i4", "1", "cells above the largest of their ring in training"),
    "energy_ratio": ("f4", "1", "largest ratio of a cell to that"),
    "cells_below": ("i4", "1", "hits below the training's threshold, taken for null cells"),
    "energy_below": ("f4", "1", "their part of the event's energy"),
    "mu_ratio": ("f4", "1", "factor of mu outside the training's range; 1 inside, NaN unknown"),
    "distance": ("f4", "1", "distance from the training's events; above 1 is unlike them"),
    "unlike": ("u1", "1", "1 where the event is unlike the training's; 1 in 1,000 by chance"),
    "member": ("i4", "1", "which model of an ensemble translated it, from 0"),
    "signal_event": ("i8", "1", "event_id of the hard scatter in its sample"),
    "signal_seed": ("i8", "1", "seed of the hard scatter's sample; -1 where there is none"),
    "signal_weight": ("f8", "1", "weight of the hard scatter"),
    "copy": ("i4", "1", "which use of the hard scatter, from 0"),
    "pileup_event": ("i8", "1", "event_id of the pileup in its library"),
    "pileup_source": ("i8", "1", "event_id of the event it was translated from, or its own"),
    "pileup_seed": ("i8", "1", "seed of the pileup's noise or sample; -1 where there is none"),
    "pileup_draw": ("i4", "1", "which translation of that event; -1 where there is none"),
    "pileup_member": ("i4", "1", "which model translated it; -1 where there is none"),
    "pileup_weight": ("f8", "1", "weight of the pileup over the mean of those drawn among"),
    "pileup_use": ("i4", "1", "how often its source event was used before"),
}


PARTICLE: dict[str, tuple[str, str, str]] = {
    "vertex_x": ("f4", "mm", "where the particle begins; only of samples of single particles"),
    "vertex_y": ("f4", "mm", "likewise"),
    "vertex_z": ("f4", "mm", "likewise"),
    "momentum_x": ("f4", "GeV", "momentum of the particle there"),
    "momentum_y": ("f4", "GeV", "likewise"),
    "momentum_z": ("f4", "GeV", "likewise"),
    "mass": ("f4", "GeV", "mass of the particle"),
    "charge": ("f4", "e", "charge of the particle"),
}
"""What a card may have read of single particles beside ``mu``: further conditions of an event."""
COLUMNS |= PARTICLE


def usable_weights(columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Event weights ≥ 0 of a store's columns: what learning and testing take."""
    return columns["weight_positive"] if "weight_positive" in columns else columns["weight"]
