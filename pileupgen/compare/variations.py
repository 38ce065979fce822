"""Headline numbers for other draws, other members of an ensemble, and without weights.

Draws of one event are not independent events, so a comparison takes one translation of each: draw 0
of member 0. The others show how far the headline depends on the draw and on the model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pileupgen.arrays import Ints
from pileupgen.compare.distance_table import DistanceTable
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.compare.selection import Selection
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.samples.store import ImageStore

N_BOOTSTRAP = 20


def copy_columns(store: ImageStore) -> tuple[Ints, Ints]:
    """Member and draw of each event, zeros where the store has no such columns, (N,) each."""
    zeros = np.zeros(len(store), dtype=np.int64)
    member, draw = (store.columns.get(name, zeros) for name in ("member", "draw"))
    return np.asarray(member, dtype=np.int64), np.asarray(draw, dtype=np.int64)


def without_weights(samples: Samples, selection: Selection, seed: int) -> str:
    """Give the mean W1/σ with the release weights and with the source events' weights, in words."""
    weight = samples.source.weight[selection.source_of]
    plain = replace(samples.translated, weight=weight)
    values = [
        _mean_distance(samples, part, selection, seed) for part in (samples.translated, plain)
    ]
    return (
        f"the mean W1/σ is {_text(values[0])} with the release weights and {_text(values[1])} "
        "without them"
    )


def over_copies(samples: Samples, selection: Selection, seed: int) -> tuple[str, ...]:
    """Give the mean W1/σ over draws and members in words; nothing where each event is there once.

    Parameters
    ----------
    samples : Samples
        Draw 0 of member 0 beside the others.
    selection : Selection
        Selected rows, of draw 0 of member 0.
    """
    translated = selection.stores.translated
    member, draw = copy_columns(translated)
    copies = sorted(set(zip(member.tolist(), draw.tolist(), strict=True)))
    if len(copies) < 2:
        return ()
    sources = translated.columns["source_event"]
    found: dict[tuple[int, int], float] = {}
    for offset, copy in enumerate(copies):
        rows = selection.translated + offset
        if rows[-1] >= len(sources) or np.any(sources[rows] != sources[selection.translated]):
            return ("not every event has every draw, so the spread over draws is not given",)
        sample = measure_sample(
            "translated", "translated", translated.batches(rows), translated.grid
        )
        weighed = replace(sample, weight=samples.source.weight[selection.source_of])
        found[copy] = _mean_distance(samples, weighed, selection, seed).value
    notes = ["each event is compared once, with draw 0 of ensemble member 0"]
    first = [value for (which, _), value in found.items() if which == 0]
    if len(first) > 1:
        notes.append(
            f"the mean W1/σ over {len(first)} draws is {_spread(first)}, without release weights"
        )
    members = sorted({which for which, _ in copies})
    if len(members) > 1:
        means = [np.mean([v for (which, _), v in found.items() if which == m]) for m in members]
        notes.append(
            f"the mean W1/σ over {len(members)} ensemble members is {_spread(means)}, without "
            "release weights"
        )
    return tuple(notes)


def _mean_distance(samples: Samples, part: Sample, selection: Selection, seed: int) -> Estimate:
    compared = Samples(samples.target, samples.reference[:1], samples.source, part)
    draws = Draws.of(compared, selection.source_of, N_BOOTSTRAP, seed)
    return DistanceTable.of(compared, draws, only=("translated",)).mean("translated")


def _spread(values: list[float] | list[np.floating]) -> str:
    return f"{np.mean(values):.3f} with a standard deviation of {np.std(values, ddof=1):.3f}"


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {estimate.error:.3f}"
