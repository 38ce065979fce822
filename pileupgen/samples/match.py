"""Matching of μ profiles, since a difference in pileup is not an effect of the detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.errors import StoreError
from pileupgen.samples.store import ImageStore, create_store, usable_weights

Mode = Literal["reweight", "resample"]
MAX_BINS = 40
EVENTS_PER_BIN = 25


@dataclass(frozen=True)
class MuWeights:
    """Ratio of two μ profiles."""

    weight: Floats
    """Weight of each event of the source; mean 1. Shape (N,)."""
    factor: Floats
    """That weight over the one that the event had. Shape (N,)."""
    edges: Floats
    """Bins in μ, the outer ones open. Shape (K + 1,)."""
    uncovered: float
    """Fraction of the target's events in bins where the source has none."""

    @property
    def n_effective(self) -> float:
        """Effective number of events, (Σw)² / Σw²."""
        return float(self.weight.sum() ** 2 / np.sum(self.weight**2))


@dataclass(frozen=True)
class MatchSummary:
    """A matched sample; means and standard deviations take the weights."""

    mode: str
    """``"reweight"`` or ``"resample"``."""
    n_before: int
    n_events: int
    """Events before and after."""
    n_effective: float
    """Effective number of events after it."""
    uncovered: float
    """Fraction of the target's events where the source has none."""
    energy: tuple[float, ...]
    occupancy: tuple[float, ...]
    """Per layer: mean energy of an event in GeV, fraction of cells with energy."""
    mean_sum_et: float
    sd_sum_et: float
    mean_mu: float
    sd_mu: float
    """ΣE_T in GeV, and μ."""


def mu_weights(
    source: NDArray[np.floating[Any]],
    target: NDArray[np.floating[Any]],
    source_weight: Floats | None = None,
    target_weight: Floats | None = None,
) -> MuWeights:
    """Weights that give the source's events the target's μ profile.

    Bins hold about equally many events of both samples together, at least ``EVENTS_PER_BIN`` of
    each on average.

    Parameters
    ----------
    source, target : float arrays, shapes (N,) and (M,)
        μ of each event; those of which it is not known (NaN) take no part: in the source they
        get weight 0.
    source_weight, target_weight : float64 arrays, shapes (N,) and (M,), optional
        Weights ≥ 0 that the events have already; the profiles are those under them.

    Raises
    ------
    StoreError
        If μ is not known for any event, or the profiles do not overlap.
    """
    own = np.ones(len(source)) if source_weight is None else source_weight
    others = np.ones(len(target)) if target_weight is None else target_weight
    for name, mu in (("source", source), ("target", target)):
        if not np.any(np.isfinite(mu)):
            raise StoreError(
                f"μ of the {name} is not known for any event, so it cannot be matched.",
                "Name it in the cards' mu, or leave out --match-mu.",
            )
    all_source, is_known = source, np.isfinite(source)
    others, target = others[np.isfinite(target)], target[np.isfinite(target)]
    weights, source = own[is_known], source[is_known]
    n_bins = int(np.clip(min(len(source), len(target)) // EVENTS_PER_BIN, 1, MAX_BINS))
    pooled = np.concatenate([source, target]).astype(np.float64)
    inner = np.unique(np.quantile(pooled, np.linspace(0, 1, n_bins + 1)[1:-1]))
    counts = [
        np.bincount(
            np.searchsorted(inner, mu.astype(np.float64), side="right"),
            weights=weight,
            minlength=len(inner) + 1,
        )
        for mu, weight in ((source, weights), (target, others))
    ]
    in_source, in_target = counts[0] / weights.sum(), counts[1] / others.sum()
    is_covered = in_source > 0
    if not np.any(in_target[is_covered] > 0):
        raise StoreError(
            f"The μ profiles do not overlap: ⟨μ⟩ = {source.mean():.1f} and {target.mean():.1f}.",
            "No weight can correct this; simulate with the data's pileup.",
        )
    ratio = np.where(is_covered, in_target / np.where(is_covered, in_source, 1.0), 0.0)
    factor = np.zeros(len(all_source))
    factor[is_known] = ratio[np.searchsorted(inner, source.astype(np.float64), side="right")]
    weight = own * factor
    edges = np.concatenate([[pooled.min()], inner, [pooled.max()]])
    return MuWeights(
        weight / weight.mean(), factor / weight.mean(), edges, float(in_target[~is_covered].sum())
    )


def match_mu(path: Path, target: Path, mode: Mode, seed: int) -> MatchSummary:
    """Rewrite a store so that its μ profile is that of another.

    Parameters
    ----------
    path : Path
        The store; takes its name again when it is whole.
    mode : str
        ``"reweight"`` keeps all events and writes their weights; ``"resample"`` keeps an event
        with a probability in proportion to the ratio of the profiles, each at most once; it keeps
        the weight that it had. Events of which μ is not known get weight 0, or are left out.

    Raises
    ------
    StoreError
        If μ is not known, or the profiles do not overlap.
    """
    store, other = ImageStore(path), ImageStore(target)
    own = usable_weights(store.columns)
    found = mu_weights(store.columns["mu"], other.columns["mu"], own, usable_weights(other.columns))
    rows = np.arange(len(store), dtype=np.int64)
    factor = found.factor
    if mode == "resample":
        chance = np.random.default_rng([seed, len(store)]).random(len(store))
        rows = rows[chance < factor / factor.max()]
        factor = np.ones(len(store))
    record = {"mode": mode, "seed": seed, "edges": [float(edge) for edge in found.edges]}
    sums = _WeightedSums(store)
    with create_store(
        path, store.grid, store.domain, {**store.provenance, "match_mu": record}
    ) as writer:
        for batch in store.batches(rows):
            low = writer.n_events
            now = factor[rows[low : low + len(batch)]]
            sums.add(batch.energy, batch.mu, now * batch.weight)
            changed: dict[str, NDArray[Any]] = {
                name: batch.columns[name] * now
                for name in ("weight", "weight_positive")
                if name in batch.columns
            }
            writer.append(batch.energy, {**batch.columns, **changed})
    return sums.summary(mode, found, factor[rows] * own[rows])


class _WeightedSums:
    """Means over the events of a stream, with weights."""

    def __init__(self, store: ImageStore) -> None:
        self._per_energy = store.grid.transverse_shares
        self._n_before = len(store)
        self._n_cells = store.grid.n_eta * store.grid.n_phi
        self._energy, self._filled = np.zeros((2, store.grid.n_layers))
        self._sum_et: list[Floats] = []
        self._mu: list[Floats] = []

    def add(self, energy: NDArray[np.float32], mu: NDArray[np.float32], weight: Floats) -> None:
        rings = energy.sum(axis=3, dtype=np.float64)
        self._energy += weight @ rings.sum(axis=2)
        self._filled += weight @ np.count_nonzero(energy, axis=(2, 3))
        self._sum_et.append(rings.sum(axis=1) @ self._per_energy)
        self._mu.append(mu.astype(np.float64))

    def summary(self, mode: Mode, found: MuWeights, weight: Floats) -> MatchSummary:
        total = float(weight.sum())
        sum_et, mu = np.concatenate(self._sum_et), np.concatenate(self._mu)
        mean_sum_et, sd_sum_et = _moments(sum_et, weight)
        is_known = np.isfinite(mu)
        mean_mu, sd_mu = _moments(mu[is_known], weight[is_known])
        return MatchSummary(
            mode=mode,
            n_before=self._n_before,
            n_events=len(weight),
            n_effective=total**2 / float(np.sum(weight**2)),
            uncovered=found.uncovered,
            energy=tuple(float(value) for value in self._energy / total),
            occupancy=tuple(float(value) for value in self._filled / total / self._n_cells),
            mean_sum_et=mean_sum_et,
            sd_sum_et=sd_sum_et,
            mean_mu=mean_mu,
            sd_mu=sd_mu,
        )


def _moments(values: Floats, weight: Floats) -> tuple[float, float]:
    mean = float(np.average(values, weights=weight))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))
