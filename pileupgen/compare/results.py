"""The result of a comparison, frozen, and its form in ``metrics.json``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pileupgen.compare.definitions import DEFINITIONS_OF
from pileupgen.compare.mu_bins import MuBin
from pileupgen.compare.physics_distance import PhysicsDistance
from pileupgen.compare.pileup_physics import Quantity
from pileupgen.compare.shower_separation import ShowerSeparation
from pileupgen.compare.significance import Verdict
from pileupgen.compare.source_correlation import SourceCorrelation
from pileupgen.compare.two_sample import TwoSampleTest
from pileupgen.measure.bootstrap import LEVEL, Estimate
from pileupgen.measure.observables import Observable

SCHEMA = "pileupgen-metrics"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One sample against the target.

    Attributes
    ----------
    name : str
        ``"reference"``, ``"source"`` or ``"translated"``.
    label : str
        What figures call it.
    n_events : int
        Events compared with the target's; of each sample where the row is a mean over several.
    n_samples : int
        Samples the row is the mean over.
    effective_events : float
        (Σw)² / Σw² of their weights.
    distances : dict of Estimate
        W1/σ per observable; NaN where the target does not vary.
    separations : dict of float
        Separation power per observable.
    mean_distance, shift_removed : Estimate
        Headline; the fraction of the shift removed is NaN where source and reference do not differ.
    features, cells : TwoSampleTest or None
        Classifier two-sample tests on observables and on cells.
    source_correlation : SourceCorrelation or None
        To the source event.
    fpd, kpd : PhysicsDistance or None
        Fréchet and kernel physics distances on the observables.
    """

    name: str
    label: str
    n_events: int
    n_samples: int
    effective_events: float
    distances: dict[str, Estimate]
    separations: dict[str, float]
    mean_distance: Estimate
    shift_removed: Estimate
    features: TwoSampleTest | None = None
    cells: TwoSampleTest | None = None
    source_correlation: SourceCorrelation | None = None
    fpd: PhysicsDistance | None = None
    kpd: PhysicsDistance | None = None


Replaced = Literal["reference", "source"]
"""The row whose events a control has."""


@dataclass(frozen=True)
class Control:
    """A translation that stays in one domain.

    Attributes
    ----------
    row : Row
        Of translated real events: the reference's other real events against them, in the place of
        the target's. Of translated simulated events: against the target, in the place of the
        source's.
    replaces : str
        The row it is to be compared with.
    rise : Estimate
        Mean W1/σ less that of the row it replaces, whose events it shares; 0 where nothing changes.
    verdict : Verdict
        Where it differs from what it is compared with, as the other row's.
    """

    row: Row
    replaces: Replaced
    rise: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class PairedTruth:
    """Correlations with the true counterpart: the same interactions in the target's detector.

    Attributes
    ----------
    source : SourceCorrelation
        Source events with their true counterparts: what a perfect translation would reach in
        source_correlation to the source.
    translated : SourceCorrelation
        Translated events with the true counterparts of their sources.
    """

    source: SourceCorrelation
    translated: SourceCorrelation


@dataclass(frozen=True)
class Comparison:
    """Reference, source and translated beside each other.

    Attributes
    ----------
    kind : str
        What is compared: calorimeter images, showers on a grid of the CaloChallenge, or tables of
        features, which are then the observables.
    target_label : str
        What figures call the target.
    n_target : int
        Target events.
    observables : tuple of Observable
        In the order of tables and figures.
    reference, source, translated : Row
        The rows.
    ess : float
        Effective sample size of the translated events' weights over their number, whether or not
        the comparison uses them.
    weighted : bool
        Whether it does.
    null : Estimate or None
        Block source correlation of translated events to other events' sources, a control that must
        be 0.
    controls : tuple of Control
        Translations that stay in one domain, where they were given.
    truth : PairedTruth or None
        Where true pairs were given.
    verdicts : dict of Verdict
        By row, where it differs from the target by more than chance allows; the reference is a
        control.
    mu_bins : tuple of MuBin
        The headline in bins of μ.
    pileup : tuple of Quantity
        Pileup's own physics: densities, offsets, resolutions.
    showers : tuple of ShowerSeparation
        Separation powers in the CaloChallenge's own histograms, of showers.
    notes : tuple of str
        What a reader has to know.
    settings : dict
        Numbers of bootstrap draws and seeds, and the seed.
    """

    kind: Literal["images", "features", "showers"]
    target_label: str
    n_target: int
    observables: tuple[Observable, ...]
    reference: Row
    source: Row
    translated: Row
    ess: float
    weighted: bool = False
    null: Estimate | None = None
    controls: tuple[Control, ...] = ()
    truth: PairedTruth | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    mu_bins: tuple[MuBin, ...] = ()
    pileup: tuple[Quantity, ...] = ()
    showers: tuple[ShowerSeparation, ...] = ()
    notes: tuple[str, ...] = ()
    settings: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[Row, Row, Row]:
        """Reference, source, translated."""
        return (self.reference, self.source, self.translated)

    def headline(self) -> dict[str, float]:
        """Every single number of the translated sample by name, others with a suffix.

        Undefined numbers are left out.
        """
        numbers: dict[str, float] = {
            "shift_removed": self.translated.shift_removed.value,
            "ess": self.ess,
            "n_target": float(self.n_target),
        }
        for row, suffix in (
            (self.translated, ""),
            (self.source, "_source"),
            (self.reference, "_reference"),
        ):
            numbers |= {name + suffix: value for name, value in _row_numbers(row).items()}
            if row.name in self.verdicts:
                numbers[f"significance{suffix}"] = self.verdicts[row.name].significance
        for control in self.controls:
            name = control.row.name
            numbers |= {f"{key}_{name}": v for key, v in _row_numbers(control.row).items()}
            numbers[f"rise_{name}"] = control.rise.value
            numbers[f"significance_{name}"] = control.verdict.significance
        for quantity in self.pileup:
            for role, suffix in (("translated", ""), ("source", "_source"), ("target", "_target")):
                numbers[f"pileup_{quantity.name}{suffix}"] = quantity.values[role].value
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "definitions": DEFINITIONS_OF[self.kind],
            "settings": {**self.settings, "weighted": self.weighted, "level": LEVEL},
            "headline": self.headline(),
            "notes": list(self.notes),
            "target": {"label": self.target_label, "n_events": self.n_target},
            "observables": {
                record.name: {"label": record.label, "unit": record.unit}
                for record in self.observables
            },
            "rows": {row.name: _row_dict(row) for row in self.rows},
            "controls": {
                "null_source_correlation_block": None if self.null is None else asdict(self.null),
                "rows": {control.row.name: _control_dict(control) for control in self.controls},
            },
            "verdicts": {name: asdict(verdict) for name, verdict in self.verdicts.items()},
            "mu_bins": [asdict(mu_bin) for mu_bin in self.mu_bins],
            "pileup": {quantity.name: asdict(quantity) for quantity in self.pileup},
            "showers": {found.name: asdict(found) for found in self.showers},
            "truth": None if self.truth is None else asdict(self.truth),
        }
        return dict(_without_nan(values))


def _row_numbers(row: Row) -> dict[str, float]:
    numbers = {"mean_w1": row.mean_distance.value, "n_events": float(row.n_events)}
    for test, what in ((row.features, "features"), (row.cells, "cells")):
        if test is not None:
            numbers |= {f"auc_{what}": test.auc, f"jsd_{what}": test.jsd}
    for distance, what in ((row.fpd, "fpd"), (row.kpd, "kpd")):
        if distance is not None:
            numbers[what] = distance.value
    if row.source_correlation is not None:
        numbers["source_correlation_block"] = row.source_correlation.block.value
        numbers["source_correlation_cell"] = row.source_correlation.cell.value
    numbers |= {f"w1_{name}": distance.value for name, distance in row.distances.items()}
    numbers |= {f"separation_{name}": value for name, value in row.separations.items()}
    return numbers


def _row_dict(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "n_events": row.n_events,
        "n_samples": row.n_samples,
        "effective_events": row.effective_events,
        "mean_w1": asdict(row.mean_distance),
        "shift_removed": asdict(row.shift_removed),
        "two_sample": {
            "features": None if row.features is None else asdict(row.features),
            "cells": None if row.cells is None else asdict(row.cells),
        },
        "source_correlation": None
        if row.source_correlation is None
        else asdict(row.source_correlation),
        "fpd": None if row.fpd is None else asdict(row.fpd),
        "kpd": None if row.kpd is None else asdict(row.kpd),
        "observables": {
            name: {"w1": asdict(distance), "separation": row.separations[name]}
            for name, distance in row.distances.items()
        },
    }


def _control_dict(control: Control) -> dict[str, Any]:
    return {
        "replaces": control.replaces,
        "rise": asdict(control.rise),
        "row": _row_dict(control.row),
        "verdict": asdict(control.verdict),
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
