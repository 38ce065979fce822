"""Hard scatters with the pileup of a validation's samples, and what an analysis sees of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.compare.overlay_effects import SAMPLES, OverlaidSample, overlay_effects
from pileupgen.compare.records import OverlayEffects
from pileupgen.compare.selection import select_events
from pileupgen.errors import GeometryError, StoreError
from pileupgen.measure.hard_objects import HardObjects, ObjectFinder, OverlaidObjects
from pileupgen.overlay.choice import Choice, Limits, PileupPool, choose
from pileupgen.overlay.conditions import Conditions, examined_rows, require_alike
from pileupgen.overlay.library import Events, pool_of
from pileupgen.overlay.produce import suppress
from pileupgen.overlay.settings import Weights
from pileupgen.samples.mu_profile import MuProfile
from pileupgen.samples.store import ImageStore, usable_weights
from pileupgen.workflow.events_of import find_events

if TYPE_CHECKING:
    from pileupgen.calo.geometry import Grid
    from pileupgen.progress import Listener


MAX_EVENTS = 3000
"""Hard scatters that are overlaid at most: four clusterings of each take 20 ms."""
SHARES = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Parts of the smaller sample of pileup that hard scatters are overlaid for: the largest that the
profile of data leaves possible. No pileup event is used twice, for the bootstrap is over events."""
LIMITS = Limits(mu_tolerance=15.0)
BATCH = 100


@dataclass(frozen=True)
class OverlaidEvent:
    """One hard scatter without pileup and with each kind of it."""

    grid: Grid
    images: tuple[NDArray[np.float32], ...]
    """Without pileup, then in the order of ``titles``; GeV. Shape (L, n_eta, n_phi) each."""
    titles: tuple[str, ...]
    """Titles of the images."""
    jets: tuple[tuple[float, float], ...]
    """η and φ of the hard scatter's jets."""


@dataclass(frozen=True)
class _Pileup:
    """Pileup of one kind: its events, and which of them each hard scatter gets."""

    store: ImageStore
    rows: Ints
    weight: Floats
    cuts: tuple[float, ...]
    dead: Flags

    def add(self, hard: NDArray[np.float32], part: slice) -> NDArray[np.float32]:
        images = self.store.read(self.rows[part])
        return suppress(hard + images.energy, self.cuts, images.grid.cell_shares, self.dead)


def measure_overlay(
    signal: str,
    stores: dict[str, ImageStore],
    output: Path,
    *,
    weighted: bool,
    n_bootstrap: int,
    seed: int,
    listener: Listener,
) -> tuple[OverlayEffects, OverlaidEvent]:
    """Overlay the same hard scatters with mc, translated and data pileup, and compare.

    A hard scatter gets a translated event and, as mc, the source of that very event; μ of both
    and of the data's has the profile of data, where it is known. Pileup that is zero-suppressed
    suppresses the sum, too: at the smallest energies of its own hits.

    Parameters
    ----------
    stores : dict
        ``target``, ``source`` and ``translated`` of a validation.
    output : Path
        What the validation writes; stores drawn from cards are kept beside its folder.
    n_bootstrap, seed : int
        Draws of the bootstrap, and seed of all random choices.

    Raises
    ------
    StoreError
        If there are no hard scatters, or too little pileup of the data's μ.
    GeometryError
        If grids differ, or φ is not periodic.
    """
    grid = stores["target"].grid
    if not grid.is_periodic:
        raise GeometryError(
            f"Jets need the whole azimuth; grid '{grid.name}' covers a window.",
            "Leave --overlay out.",
        )
    hard = find_events(signal, "signal", output, grid, listener)
    pileup, rows = _pair(hard, stores, weighted, seed)
    finder = ObjectFinder(grid)
    found: dict[str, list[OverlaidObjects]] = {kind: [] for kind in SAMPLES}
    alone: list[HardObjects] = []
    with listener.progress("hard scatters with pileup", len(rows)) as advance:
        for begin in range(0, len(rows), BATCH):
            part = slice(begin, begin + BATCH)
            energy = hard.read(rows[part]).energy
            alone.append(finder.hard(energy))
            for kind in SAMPLES:
                found[kind].append(finder.overlaid(pileup[kind].add(energy, part), alone[-1]))
            advance(len(energy))
    objects = HardObjects.join(alone)
    weight = np.maximum(np.asarray(usable_weights(dict(hard.columns)), dtype=np.float64)[rows], 0)
    samples = {
        kind: OverlaidSample(
            OverlaidObjects.join(found[kind]),
            one.store.columns["mu"][one.rows].astype(np.float64),
            weight * one.weight,
        )
        for kind, one in pileup.items()
    }
    effects = overlay_effects(objects, samples, n_bootstrap, seed)
    shown = _event_to_show(objects)
    image = hard.read(rows[shown : shown + 1]).energy
    # Cut like those with pileup: else its many small energies would take most of the colour scale.
    cut = suppress(image.copy(), pileup["data"].cuts, grid.cell_shares, pileup["data"].dead)
    images, titles = [cut[0]], ["without pileup"]
    for kind in ("mc", "translated", "data"):
        images.append(pileup[kind].add(image, slice(shown, shown + 1))[0])
        mu = float(pileup[kind].store.columns["mu"][pileup[kind].rows[shown]])
        titles.append(f"with {kind} pileup" + (f", μ = {mu:.0f}" if np.isfinite(mu) else ""))
    is_here = objects.jet_event == shown
    places = zip(objects.jet_eta[is_here], objects.jet_phi[is_here], strict=True)
    jets = tuple((float(eta), float(phi)) for eta, phi in places)
    event = OverlaidEvent(grid, tuple(images), tuple(titles), jets)
    return effects.model_copy(update={"signal": hard.path.name}), event


def _event_to_show(objects: HardObjects) -> int:
    """Give the first event with a jet of at least the upper quartile's p_T, or the first."""
    if not len(objects.jet_pt):
        return 0
    is_hard = objects.jet_pt >= np.quantile(objects.jet_pt, 0.75)
    return int(objects.jet_event[is_hard][0])


def _pair(
    hard: Events, stores: dict[str, ImageStore], weighted: bool, seed: int
) -> tuple[dict[str, _Pileup], Ints]:
    """Choose pileup of each kind for the hard scatters, and how many of these there are."""
    target, source, translated = (stores[role] for role in ("target", "source", "translated"))
    selection = select_events(target, source, translated, seed)
    # Of several translations of an event the first.
    _, first = np.unique(selection.source_of, return_index=True)
    made = selection.translated[first]
    of_mc = selection.source[selection.source_of[first]]
    has_release = weighted and "release_weight" in translated.columns
    weights: Weights = "release" if has_release else "event"
    pool = pool_of(translated, made, weights)
    real = pool_of(target, selection.target, "event")
    profile = None
    if np.isfinite(real.mu).all() and np.isfinite(pool.mu).all():
        profile = MuProfile.of(real.mu, real.weight)
    limit = min(len(hard), MAX_EVENTS)
    chosen, chosen_real = _choose_alike(pool, real, limit, seed, profile)
    n = len(chosen)
    # The same choice with the weights that the events have as mc.
    weighed = replace(pool, weight=pool_of(source, of_mc, "event").weight)
    chosen_mc = choose(weighed, n, seed, profile, LIMITS)
    if n == 0:
        raise StoreError(f"{hard.path} has no hard scatters.", "Give another --overlay.")
    mc_of = dict(zip(made.tolist(), of_mc.tolist(), strict=True))
    rows_of = {
        "data": (target, chosen_real.row, chosen_real.weight),
        "mc": (source, np.array([mc_of[row] for row in chosen.row.tolist()]), chosen_mc.weight),
        "translated": (translated, chosen.row, chosen.weight),
    }
    ours = _conditions(hard, np.arange(len(hard), dtype=np.int64))
    return {
        kind: _pileup(ours, store, selected, rows, weight)
        for (kind, (store, rows, weight)), selected in zip(
            rows_of.items(), (selection.target, selection.source, made), strict=True
        )
    }, np.arange(n, dtype=np.int64)


def _choose_alike(
    pool: PileupPool, real: PileupPool, limit: int, seed: int, profile: MuProfile | None
) -> tuple[Choice, Choice]:
    """Choose from both pools for as many events as both have the profile for."""
    for share in SHARES:
        n = min(limit, int(share * min(pool.n_sources, real.n_sources)))
        try:
            ours, theirs = (choose(one, n, seed, profile, LIMITS) for one in (pool, real))
        except StoreError:
            if share == SHARES[-1]:
                raise
        else:
            break
    return ours, theirs


def _pileup(
    hard: Conditions, store: ImageStore, selected: Ints, rows: Ints, weight: Floats
) -> _Pileup:
    found = _conditions(store, selected)
    require_alike(hard, found, is_cut=True)
    floors = tuple(float(floor) if np.isfinite(floor) else 0.0 for floor in found.floors)
    cuts = floors if found.is_suppressed else ()
    return _Pileup(store, rows, weight, cuts, hard.grid.is_dead | found.dead)


def _conditions(events: Events, rows: Ints) -> Conditions:
    images = events.read(rows[examined_rows(len(rows))])
    return Conditions.of(str(events.path), images, events.provenance)
