"""How well generated events have the properties that they are asked for."""

from __future__ import annotations

import numpy as np

from pileupgen.compare.systems import ControlCurve
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import EventConditions, HasControl
from pileupgen.zoo.properties import PROPERTIES

N_VALUES = 7
"""Asked values of a property, even between the 5 % and the 95 % quantile of target events."""
N_EVENTS = 100
"""Events made at each, at the conditions of target events."""
CENTRAL = (0.5, 0.16, 0.84)


def control_curves(
    system: HasControl, conditions: EventConditions, target: Images, seed: int
) -> tuple[ControlCurve, ...]:
    """Ask for values of every property that a system knows, and measure the events.

    Parameters
    ----------
    system : HasControl
        Fitted.
    conditions : EventConditions
        The same events, by number and conditions, are made at every value.
    target : Images
        Test events, which say which values are asked for.
    seed : int
    """
    few = conditions.taken(np.arange(min(N_EVENTS, len(conditions))))
    found = []
    for name in system.properties:
        label, measure = PROPERTIES[name]
        real = measure(target.energy)
        ends = np.clip(np.quantile(real, (0.05, 0.95)), *system.property_range(name))
        asked = np.linspace(float(ends[0]), float(ends[1]), N_VALUES)
        made = [
            measure(system.controlled(few, name, np.full(len(few), value), seed)) for value in asked
        ]
        medians, lows, highs = np.quantile(made, CENTRAL, axis=1)
        # Of each event by itself: the events are the same ones at every value.
        centred = asked - asked.mean()
        slopes = np.asarray(made).T @ centred / max(float(centred @ centred), 1e-30)
        middle, low, high = np.quantile(real, CENTRAL).tolist()
        found.append(
            ControlCurve(
                name=name,
                label=label,
                asked=tuple(asked.tolist()),
                median=tuple(medians.tolist()),
                low=tuple(lows.tolist()),
                high=tuple(highs.tolist()),
                real=(middle, low, high),
                slope=float(slopes.mean()),
                slope_error=float(slopes.std() / np.sqrt(len(slopes))),
            )
        )
    return tuple(found)
