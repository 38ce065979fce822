"""Inputs that several tests of this folder make."""

from __future__ import annotations

import numpy as np

from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.response import ResponseCard

PARTICLES = ((211, 1), (-211, -1), (22, 0), (130, 0), (11, -1), (13, -1), (12, 0), (310, 0))


def make_interactions(
    n: int, per_interaction: int, seed: int, eta_max: float = 4.5
) -> Interactions:
    rng = np.random.default_rng(seed)
    size = n * per_interaction
    kind = rng.integers(len(PARTICLES), size=size)
    pid, charge = np.array(PARTICLES).T
    pt = rng.exponential(0.8, size) + 0.1
    eta, phi = rng.uniform(-eta_max, eta_max, size), rng.uniform(-np.pi, np.pi, size)
    return Interactions.select(
        np.full(n, per_interaction),
        pid=pid[kind],
        charge=charge[kind],
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pt * np.sinh(eta),
        energy=np.hypot(pt * np.cosh(eta), 0.14),
    )


def change(card: ResponseCard, **values: object) -> ResponseCard:
    """The card with some values replaced; ``em__energy_min=1`` reaches into a part."""
    plain = card.model_dump(mode="json")
    for name, value in values.items():
        target = plain
        *path, last = name.split("__")
        for key in path:
            target = target[key]
        target[last] = value
    return ResponseCard.model_validate(plain)
