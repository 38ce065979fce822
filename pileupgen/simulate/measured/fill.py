"""Predictions for measured tables from generated interactions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.measured.table import EventSelection, MeasuredTable, ParticleSelection

Flags = Flags


@dataclass(frozen=True)
class Sums:
    """Sums over the events that count, from which a mean and its covariance follow."""

    n_generated: int
    n_selected: int
    """Events made, and those that count."""
    first: Floats
    """Sum of the table's quantities over the events that count. Shape (n,)."""
    second: Floats
    """Sum of their products. Shape (n, n)."""

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.n_generated + other.n_generated,
            self.n_selected + other.n_selected,
            self.first + other.first,
            self.second + other.second,
        )

    def mean(self) -> Floats:
        """Mean over the events that count, shape ``(n,)``."""
        return self.first / self.n_selected

    def covariance(self) -> Floats:
        """Statistical covariance of :meth:`mean`, shape ``(n, n)``; of an independent event each.

        For a spectrum it is the multinomial one, p(1 − p)/N on the diagonal.
        """
        mean = self.mean()
        return (self.second / self.n_selected - np.outer(mean, mean)) / (self.n_selected - 1)


class Particles:
    """What the selections need of generated particles, computed once for all tables."""

    def __init__(self, events: Interactions) -> None:
        px, py, pz = (np.asarray(p, dtype=np.float64) for p in (events.px, events.py, events.pz))
        self.n_events = len(events)
        self.event = np.repeat(np.arange(self.n_events), np.diff(events.offsets))
        self.pt = np.hypot(px, py)
        self.p = np.hypot(self.pt, pz)
        self.eta = np.arcsinh(pz / self.pt)
        self.energy = np.asarray(events.energy, dtype=np.float64)
        self.charged = events.charge != 0
        self.code = np.abs(events.pid)

    def count(self, which: Flags) -> Ints:
        """Number of such particles in each event."""
        return np.bincount(self.event[which], minlength=self.n_events)

    def sum(self, which: Flags, weight: Floats) -> Floats:
        """Sum of their weights in each event."""
        sums = np.bincount(self.event[which], weight[which], minlength=self.n_events)
        return np.asarray(sums, dtype=np.float64)

    def histogram(
        self, which: Flags, x: Floats, weight: Floats, low: Floats, high: Floats
    ) -> Floats:
        """Sum of weights by event and bin ``low ≤ x < high``, shape ``(n_events, n)``."""
        found = np.zeros((self.n_events, len(low)))
        for column, (begin, end) in enumerate(zip(low, high, strict=True)):
            found[:, column] = self.sum(which & (x >= begin) & (x < end), weight)
        return found


def fill(table: MeasuredTable, particles: Particles) -> Sums:
    """Fill a table from generated interactions.

    The measurement's own selection is applied to stable particles, as
    :class:`~pileupgen.simulate.measured.table.TableHead` describes it: first the events that
    count, then the particles in them. No detector is simulated; the measurements are corrected
    for theirs.
    """
    counts = _events(table.head.events, particles)
    chosen = _particles(table.head.particles, particles) & counts[particles.event]
    each = _QUANTITIES[table.head.quantity](table, particles, chosen)[counts]
    return Sums(particles.n_events, int(counts.sum()), each.sum(axis=0), each.T @ each)


def one_entry(table: MeasuredTable) -> Floats:
    """What a single entry adds to each bin of a spectrum, shape ``(n,)``; zero of a density."""
    width = table.high - table.low
    if table.head.quantity in ("sum_et_spectrum", "charged_spectrum"):
        return 1 / width
    if table.head.quantity == "charged_pt":
        middle = 0.5 * (table.low + table.high)
        return 1 / (2 * np.pi * middle * width * 2 * np.diff(table.window)[:, 0])
    return np.zeros(len(table))


def _events(selection: EventSelection, particles: Particles) -> Flags:
    eta, (low, high) = particles.eta, selection.abs_eta
    able = particles.charged & (particles.pt > selection.pt_min)
    if selection.both_sides:
        sides = [able & (side * eta > low) & (side * eta < high) for side in (-1, 1)]
    else:
        sides = [able & (np.abs(eta) >= low) & (np.abs(eta) < high)]
    return np.all([particles.count(side) >= selection.n_charged for side in sides], axis=0)


def _particles(selection: ParticleSelection, particles: Particles) -> Flags:
    least = np.where(particles.charged, selection.charged_p_min, selection.neutral_p_min)
    chosen = (particles.p >= least) & (particles.pt >= selection.pt_min)
    return chosen & ~np.isin(particles.code, selection.without)


def _et_density(table: MeasuredTable, particles: Particles, chosen: Flags) -> Floats:
    et = particles.energy * particles.pt / particles.p
    sums = particles.histogram(chosen, np.abs(particles.eta), et, table.low, table.high)
    return sums / (2 * (table.high - table.low) * 2 * np.pi)


def _energy_flow(table: MeasuredTable, particles: Particles, chosen: Flags) -> Floats:
    eta = np.abs(particles.eta)
    sums = particles.histogram(chosen, eta, particles.energy, table.low, table.high)
    return sums / (2 * (table.high - table.low))


def _charged_density(table: MeasuredTable, particles: Particles, chosen: Flags) -> Floats:
    chosen = chosen & particles.charged
    one = np.ones_like(particles.eta)
    sums = particles.histogram(chosen, particles.eta, one, table.low, table.high)
    return sums / (table.high - table.low)


def _charged_pt(table: MeasuredTable, particles: Particles, chosen: Flags) -> Floats:
    found = np.empty((particles.n_events, len(table)))
    for window, rows in _windows(table):
        inside = chosen & particles.charged & _within(particles, window)
        weight = 1 / (2 * np.pi * particles.pt * 2 * (window[1] - window[0]))
        low, high = table.low[rows], table.high[rows]
        sums = particles.histogram(inside, particles.pt, weight, low, high)
        found[:, rows] = sums / (high - low)
    return found


def _charged_spectrum(table: MeasuredTable, particles: Particles, chosen: Flags) -> Floats:
    return _spectrum(table, particles, chosen & particles.charged, np.ones_like(particles.eta))


def _sum_et_spectrum(table: MeasuredTable, particles: Particles, chosen: Flags) -> Floats:
    return _spectrum(table, particles, chosen, particles.energy * particles.pt / particles.p)


def _spectrum(table: MeasuredTable, particles: Particles, chosen: Flags, weight: Floats) -> Floats:
    found = np.empty((particles.n_events, len(table)))
    for window, rows in _windows(table):
        total = particles.sum(chosen & _within(particles, window), weight)[:, None]
        low, high = table.low[rows], table.high[rows]
        found[:, rows] = ((total >= low) & (total < high)) / (high - low)
    return found


def _windows(table: MeasuredTable) -> list[tuple[Floats, Flags]]:
    """Each window of |η|, with the rows that have it."""
    windows = np.unique(table.window, axis=0)
    return [(window, np.all(table.window == window, axis=1)) for window in windows]


def _within(particles: Particles, window: Floats) -> Flags:
    eta = np.abs(particles.eta)
    return (eta >= window[0]) & (eta < window[1])


_QUANTITIES: dict[str, Callable[[MeasuredTable, Particles, Flags], Floats]] = {
    "et_density": _et_density,
    "energy_flow": _energy_flow,
    "charged_density": _charged_density,
    "charged_pt": _charged_pt,
    "charged_spectrum": _charged_spectrum,
    "sum_et_spectrum": _sum_et_spectrum,
}
