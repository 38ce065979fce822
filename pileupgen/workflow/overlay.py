"""Hard scatters with pileup: inputs, checks, choice, and the store that is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pileupgen.errors import ConfigError, PileupgenError, StoreError
from pileupgen.files import require_no_folder, require_not_read
from pileupgen.overlay.choice import Choice, Limits, PileupPool, choose
from pileupgen.overlay.conditions import Conditions, examined_rows, require_alike
from pileupgen.overlay.crossings import CrossingChoice, SingleInteractions, choose_crossings
from pileupgen.overlay.library import FileState, open_events, pool_of
from pileupgen.overlay.produce import Overlaying, Pairing, join_blocks, overlay_blocks
from pileupgen.overlay.settings import OverlaySettings
from pileupgen.progress import SILENT, Listener
from pileupgen.run import RunDirectory, fingerprint, hash_file, versions
from pileupgen.samples.mu_profile import MuProfile, parse_mu_profile, strata
from pileupgen.samples.store import ImageStore, usable_weights
from pileupgen.workflow.estimate import Duration, Plan, PlannedStep
from pileupgen.workflow.events_of import find_events

if TYPE_CHECKING:
    from pileupgen.compare.suppression_bias import SuppressionBias
    from pileupgen.overlay.library import Events
    from pileupgen.parallel.farm import Farm

ALLOWED = ("thresholds", "period")
"""Checks of the two samples against each other that can be allowed to fail."""
UNSUPPRESSED, HARD = "unsuppressed_pileup", "hard_dijet"
"""Cards of what the bias is computed from; the second where the hard scatters are suppressed."""
PRELOAD = ("pileupgen.overlay.produce",)


@dataclass(frozen=True)
class OverlayRequest:
    """What is to be overlaid; how is told by the settings."""

    signal: str
    """Card, image store or run of the hard scatters."""
    pileup: str
    """Overlay library, image store, run or card of the pileup."""
    output: Path
    """Store to write."""
    split: str = "all"
    """Which hard scatters."""
    max_events: int | None = None
    """Largest number of hard scatters."""
    seed: int = 1
    allow: tuple[str, ...] = ()
    """Names of ``ALLOWED``: what may differ."""
    force: bool = False
    """Whether to do it even where the store is current."""
    bias: bool = False
    """Whether to compute, on simulated events, what zero suppression before the sum costs."""


@dataclass(frozen=True)
class Overlaid:
    """A store of hard scatters with pileup."""

    path: Path
    n_events: int
    is_new: bool
    """Whether it was made by this call."""

    @property
    def store(self) -> ImageStore:
        """The store, to read events from."""
        return ImageStore(self.path)


@dataclass(frozen=True)
class _Ready:
    """Everything that is known before an event is overlaid."""

    pairing: Pairing
    overlaying: Overlaying
    signal: Conditions
    pileup: Conditions
    made_from: str
    provenance: dict[str, Any]


def overlay(
    request: OverlayRequest,
    settings: OverlaySettings | None = None,
    *,
    farm: Farm | None = None,
    listener: Listener = SILENT,
) -> Overlaid:
    """Add pileup to hard scatters and write them as an image store.

    Parameters
    ----------
    farm : Farm, optional
        Where blocks are made; the store does not depend on it.

    Raises
    ------
    InputError
        If a sample is missing or cannot be read.
    CardError
        If a card is malformed, or the cards name different periods.
    ConfigError
        If a setting does not fit.
    GeometryError
        If the grids differ.
    StoreError
        If the library is too small, does not cover the profile, has other thresholds, or is
        changed meanwhile.
    OutputError
        If the store cannot be written; finished blocks stay.
    """
    ready = _prepare(request, settings or OverlaySettings(), listener)
    target, n = request.output, len(ready.pairing)
    _tell(ready, listener)
    provenance = ready.provenance
    if request.bias and ready.pileup.is_suppressed:
        bias = _suppression_bias(ready, target, listener)
        for line in bias.lines():
            listener.tell("bias", line)
        provenance = {**provenance, "suppression_bias": bias.to_dict()}
    if not request.force and _is_current(target, ready.made_from):
        listener.current("overlay", target)
        return Overlaid(target, n, is_new=False)
    executor = None if farm is None else farm.open(*PRELOAD)
    overlaying = ready.overlaying
    if isinstance(ready.pairing.choice, CrossingChoice):
        library = ready.pairing.pileup
        with listener.progress("single interactions", len(library)) as advance:
            singles = SingleInteractions.of(library, advance)
        overlaying = replace(overlaying, pileup=singles)
    pairing = ready.pairing
    with listener.progress("overlay", n) as advance:
        blocks = overlay_blocks(overlaying, pairing, target, ready.made_from, advance, executor)
    with listener.progress("write", n) as advance:
        join_blocks(blocks, pairing, target, provenance, advance)
    listener.wrote(target, f"{n:,} events, {target.stat().st_size / 1e6:.1f} MB")
    listener.next(f"pileupgen export --store {target} --format root, or parquet")
    return Overlaid(target, n, is_new=True)


def plan_overlay(
    request: OverlayRequest, settings: OverlaySettings | None = None, listener: Listener = SILENT
) -> Plan:
    """Plan :func:`overlay`: everything is checked and chosen, no event is overlaid."""
    ready = _prepare(request, settings or OverlaySettings(), listener)
    _tell(ready, listener)
    if not request.force and _is_current(request.output, ready.made_from):
        return Plan("overlay", (PlannedStep(f"nothing: {request.output} is current"),))
    n, cells = len(ready.pairing), int(np.prod(ready.signal.grid.shape))
    what = f"overlay {n:,} events of {cells:,} cells to {request.output}"
    return Plan("overlay", (PlannedStep(what, Duration(None, "it depends on the disk")),))


def _prepare(request: OverlayRequest, settings: OverlaySettings, listener: Listener) -> _Ready:
    for name in request.allow:
        if name not in ALLOWED:
            raise ConfigError(f"No check '{name}' to allow.", f"Known: {', '.join(ALLOWED)}.")
    require_no_folder(request.output)
    pileup = find_events(request.pileup, "pileup", request.output, None, listener)
    signal = find_events(request.signal, "signal", request.output, pileup.grid, listener)
    require_not_read(request.output, [signal.path, pileup.path])
    rows = _signal_rows(signal, request)
    found = [_conditions(events) for events in (signal, pileup)]
    require_alike(found[0], found[1], is_cut=bool(settings.cuts), allow=frozenset(request.allow))
    cuts = _cuts(settings, signal.grid.layers)
    profile = _profile(settings.mu_profile)
    pool = pool_of(pileup, np.arange(len(pileup), dtype=np.int64), settings.weights)
    limits = Limits(settings.max_reuse, settings.copies, settings.mu_tolerance)
    pool, n = pool.part(*settings.part), len(rows) * settings.copies
    chosen: Choice | CrossingChoice
    if settings.interactions:
        chosen = _crossings(pileup, pool, n, request.seed, profile, limits, settings.keep)
    else:
        chosen = choose(pool, n, request.seed, profile, limits)
    states = tuple(FileState.of(events.path) for events in (signal, pileup))
    dead = found[0].grid.is_dead | found[1].dead
    provenance = {
        "stage": "overlay",
        "signal": _described(signal),
        "pileup": _described(pileup),
        "settings": settings.to_dict(),
        "seed": request.seed,
        "selection": {"split": request.split, "max_events": request.max_events},
        "suppressed": {"signal": found[0].is_suppressed, "pileup": found[1].is_suppressed},
        "n_dead_cells": int(dead.sum()),
        "profile": None if profile is None else [profile.mu.tolist(), profile.probability.tolist()],
        "versions": versions("numpy", "h5py"),
    }
    made_from = fingerprint(provenance)
    return _Ready(
        Pairing(signal, pileup, rows, settings.copies, chosen),
        Overlaying(signal, pileup, cuts, dead, states),
        found[0],
        found[1],
        made_from,
        {**provenance, "made_from": made_from},
    )


def _crossings(
    pileup: Events,
    pool: PileupPool,
    n: int,
    seed: int,
    profile: MuProfile | None,
    limits: Limits,
    keep: float,
) -> CrossingChoice:
    """Choose the interactions of n crossings."""
    if profile is None:
        raise ConfigError("--interactions needs --mu-profile.", "Try --mu-profile poisson:60.")
    if np.any(pool.weight != pool.weight[:1]):
        raise StoreError(
            f"The single interactions of {pileup.path} have weights, and the sum of "
            "several of them can have only one.",
            "Take --weights none.",
        )
    other = pool.mu[np.isfinite(pool.mu) & (strata(np.nan_to_num(pool.mu)) != 1)]
    if len(other):
        raise StoreError(
            f"{len(other):,} of {len(pool.mu):,} events of {pileup.path} are no single "
            f"interactions: their μ is {other.min():g} … {other.max():g}.",
            "Leave --interactions out for whole pileup events, or make a library of one "
            "interaction an event: mu: 1 and mu_spread: fixed in the card's generate.",
        )
    grid = pileup.grid
    detector = (pileup.provenance.get("card") or {}).get("detector") or {}
    is_alike = bool(detector.get("phi_symmetric")) and grid.is_periodic and grid.is_phi_uniform
    step = int(grid.layer_widths.max())
    n_turns = grid.n_phi // step if is_alike else 1
    return choose_crossings(pool, n, seed, profile, limits.reuse, step, n_turns, keep)


def _signal_rows(signal: Events, request: OverlayRequest) -> Any:
    if isinstance(signal, ImageStore):
        rows = signal.indices(request.split, request.max_events)
    else:
        rows = np.arange(len(signal), dtype=np.int64)[: request.max_events]
    if not len(rows):
        raise StoreError(
            f"{signal.path} has no events in split '{request.split}'.", "Choose another --split."
        )
    return rows


def _conditions(events: Events) -> Conditions:
    images = events.read(examined_rows(len(events)))
    return Conditions.of(str(events.path), images, events.provenance)


def _cuts(settings: OverlaySettings, layers: Sequence[str]) -> tuple[float, ...]:
    cuts = settings.cuts
    if len(cuts) == 1:
        return cuts * len(layers)
    if cuts and len(cuts) != len(layers):
        raise ConfigError(
            f"--zero-suppression has {len(cuts)} numbers for the layers {', '.join(layers)}.",
            "Give one number, or one for each layer.",
        )
    return cuts


def _profile(text: str) -> MuProfile | None:
    """Read the target profile; None for the library's own."""
    if text == "library":
        return None
    path = Path(text)
    if path.is_dir():
        path = RunDirectory(path).images("data")
        if not path.is_file():
            raise ConfigError(f"{text} is no run with data: there is no {path}.")
    if path.suffix in (".h5", ".hdf5") and path.is_file():
        columns = open_events(path).columns
        weight = np.maximum(np.asarray(usable_weights(columns), dtype=np.float64), 0.0)
        return MuProfile.of(columns["mu"], weight)
    return parse_mu_profile(text)


def _described(events: Events) -> dict[str, Any]:
    return {
        "name": events.path.name,
        "n_events": len(events),
        "sha256": hash_file(events.path),
        "provenance": events.provenance,
    }


def _is_current(target: Path, made_from: str) -> bool:
    try:
        return bool(ImageStore(target).provenance.get("made_from") == made_from)
    except PileupgenError:
        return False


def _tell(ready: _Ready, listener: Listener) -> None:
    """Say what was found of the samples, and what was chosen."""
    pairing, layers = ready.pairing, ready.signal.grid.layers
    listener.read(pairing.signal.path, f"{len(pairing.rows):,} hard scatters")
    listener.read(pairing.pileup.path, f"{len(pairing.pileup):,} pileup events")
    for which, found in (("signal", ready.signal), ("pileup", ready.pileup)):
        listener.tell(which, found.describe(layers))
    listener.tell("choice", describe_choice(pairing.choice, pairing.pileup.columns["mu"]))
    silent = int(ready.overlaying.dead.sum() - ready.signal.grid.is_dead.sum())
    if silent:
        listener.tell("dead", f"{silent:,} cells, dead in the pileup and so in the sum")
    if ready.pileup.is_suppressed:
        both = "both samples are" if ready.signal.is_suppressed else "the pileup is"
        listener.warn(
            f"{both} zero-suppressed: energies below the threshold are missing from the sum, which "
            "biases energies, occupancy and jets; --bias computes by how much, on simulated events."
        )


def _suppression_bias(ready: _Ready, output: Path, listener: Listener) -> SuppressionBias:
    """Compute it at the library's thresholds, on simulated pileup that is not suppressed."""
    from pileupgen.compare.suppression_bias import suppression_bias

    grid = ready.signal.grid
    pileup = find_events(UNSUPPRESSED, "pileup", output, grid, listener)
    signal = ready.pairing.signal
    if ready.signal.is_suppressed:
        signal = find_events(HARD, "signal", output, grid, listener)
    n = min(len(pileup), len(signal))
    rows = np.arange(n, dtype=np.int64)
    cuts = tuple(floor if np.isfinite(floor) else 0.0 for floor in ready.pileup.floors)
    return suppression_bias(signal.read(rows).energy, pileup.read(rows).energy, cuts, grid)


def describe_choice(choice: Choice | CrossingChoice, mu: Any) -> str:
    """Describe the chosen pileup in one line."""
    if isinstance(choice, CrossingChoice):
        return (
            f"{len(choice):,} crossings of {choice.number.mean():.2f} interactions "
            f"({choice.number.min()} … {choice.number.max()}), each used at most "
            f"{_times(choice.n_uses)}"
        )
    chosen = np.asarray(mu, dtype=np.float64)[choice.row]
    known = chosen[np.isfinite(chosen)]
    uses = _times(int(choice.use.max()) + 1)
    text = f"{len(choice.row):,} overlays, each source event used at most {uses}"
    if len(known):
        text += f", ⟨μ⟩ {known.mean():.2f} ({known.min():.0f} … {known.max():.0f})"
    if choice.n_moved:
        text += f"; {choice.n_moved:,} from a μ nearby, their own being used up"
    if choice.uncovered > 0:
        text += f"; {choice.uncovered:.2g} of the profile is beyond the library"
    return text


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
