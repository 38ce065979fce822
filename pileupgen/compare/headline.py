"""Headline numbers of a comparison: the rows that have them, and the one list of what is shown.

:data:`HEADLINE` lists the numbers that are shown: the report's tables and glossary, the terminal's
table, ``pileupgen compare`` and its CSV, and the conditions of ``validate --fail-if`` all go
through this list. A new number is a field of :class:`Row`, set where
:mod:`~pileupgen.compare.rows` makes the row, and an entry of the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import NonNegativeInt

from pileupgen.compare.records import (
    ObservableDistance,
    PhysicsDistance,
    Record,
    Replaced,
    SourceCorrelation,
    TwoSampleTest,
    TwoSampleTests,
    Verdict,
)
from pileupgen.measure.bootstrap import LEVEL, Estimate

Kind = Literal["images", "features", "showers"]


class Row(Record):
    """One sample against the target."""

    label: str
    """Label in figures."""
    n_events: NonNegativeInt
    """Events compared with the target's; of each sample where the row is a mean over several."""
    n_samples: int
    """Samples that the row is the mean over."""
    effective_events: float
    """(Σw)² / Σw² of their weights."""
    mean_w1: Estimate
    """Mean W1/σ over the observables that vary in the target."""
    shift_removed: Estimate
    """Fraction of the shift removed; undefined where source and reference do not differ."""
    two_sample: TwoSampleTests = TwoSampleTests()
    """Classifier two-sample tests."""
    source_correlation: SourceCorrelation | None = None
    """Correlation with the source events."""
    fpd: PhysicsDistance | None = None
    """Fréchet physics distance."""
    kpd: PhysicsDistance | None = None
    """Kernel physics distance."""
    observables: dict[str, ObservableDistance]
    """Distances of each observable."""


class Control(Record):
    """A translation that stays in one domain."""

    replaces: Replaced
    """Row whose events it has."""
    rise: Estimate
    """Mean W1/σ less that of the row it replaces, whose events it shares; 0 if nothing changes."""
    row: Row
    """Row of translated real events: the reference's samples against them, in the place of the
    target's events. Of translated simulated events: against the target, in the place of the
    source's."""
    verdict: Verdict
    """Tests against what it is compared with."""


@dataclass(frozen=True)
class HeadlineColumn:
    """What the numbers of one column of the headline table come from."""

    name: str
    label: str
    row: Row
    kind: Kind
    verdict: Verdict | None = None
    truth: SourceCorrelation | None = None
    ess: float | None = None
    rise: Control | None = None


@dataclass(frozen=True)
class Term:
    """A word that tables and figures use: key, what readers see, and what it means."""

    name: str
    label: str
    definition: str


@dataclass(frozen=True)
class HeadlineNumber:
    """A number of a sample that is shown."""

    name: str
    """Key in ``metrics.json`` and in CSV files."""
    label: str
    """What tables call it."""
    definition: str
    """What it means, with the paper that defines it."""
    get: Callable[[HeadlineColumn], Estimate | None]
    """Gives the value and its interval from a column, or None where it has none."""
    unit: Literal["", "σ", "events"] = ""
    """``""``, ``"σ"`` or ``"events"``."""
    scale: float = 1.0
    """What the number is multiplied by in tables; the label says so."""
    decimals: int = 3
    """Decimals in tables."""
    beside: bool = False
    """Whether ``pileupgen compare`` gives source and reference too."""
    overrides: Mapping[str, tuple[str, str]] | None = None
    """Label and definition by kind of sample, where they differ."""

    def term(self, kind: Kind) -> Term:
        """Label and definition for a kind of sample."""
        label, definition = (self.overrides or {}).get(kind, (self.label, self.definition))
        return Term(self.name, label, definition)


def _exact(value: float | None) -> Estimate | None:
    return None if value is None else Estimate(value, value, value)


def _around(value: float, error: float) -> Estimate:
    return Estimate(value, value - error, value + error)


def _auc(test: TwoSampleTest | None) -> Estimate | None:
    return None if test is None else _around(test.auc, test.total_error)


def _jsd(test: TwoSampleTest | None) -> Estimate | None:
    return None if test is None else _around(test.jsd, test.jsd_spread)


def _interval(distance: PhysicsDistance | None) -> Estimate | None:
    return None if distance is None else Estimate(distance.value, distance.low, distance.high)


def _block(found: SourceCorrelation | None) -> Estimate | None:
    return None if found is None else found.block


def _cell(found: SourceCorrelation | None) -> Estimate | None:
    return None if found is None else found.cell


_PHYSICS = (
    "{} physics distance on {}, as JetNet defines it (arXiv:2211.10295). The interval is from "
    "bootstrap over events; of the reference, which has several samples, the value is their median "
    "and the interval their range"
)
_OBSERVABLES, _CHALLENGE = "the observables", "the CaloChallenge's features, in batches of 10,000"
_CORRELATION = (
    "correlation, over all events and places, of the energies in {} with those of {}, layers "
    "summed, each place's mean removed: 1 if nothing moved, 0 for unrelated events"
)
_FEATURE_CORRELATION = (
    "correlation over events of each feature with that of {}, mean over the features"
)
_SOURCE, _TRUTH = "the source event", "the same interactions in the target's detector"

HEADLINE: tuple[HeadlineNumber, ...] = (
    HeadlineNumber(
        "mean_w1",
        "mean W1/σ",
        "mean of W1/σ over the observables that vary in the target",
        lambda column: column.row.mean_w1,
        beside=True,
    ),
    HeadlineNumber(
        "max_w1",
        "largest W1/σ",
        "W1/σ of the observable that is farthest from the target, with that observable's interval; "
        "the largest of many fluctuates upwards, so compare it with the reference's",
        lambda column: max(
            (one.w1 for one in column.row.observables.values() if one.w1.is_known),
            key=lambda w1: w1.value,
            default=None,
        ),
    ),
    HeadlineNumber(
        "rise",
        "rise of mean W1/σ",
        "mean W1/σ of a control less that of the row whose events it has: what the translation "
        "itself adds where nothing should change",
        lambda column: None if column.rise is None else column.rise.rise,
    ),
    HeadlineNumber(
        "shift_removed",
        "fraction of the shift removed",
        "(mean W1/σ of source − mean W1/σ) / (mean W1/σ of source − mean W1/σ of reference): 0 for "
        "the source itself, 1 where real events are as far from the target",
        lambda column: column.row.shift_removed,
    ),
    HeadlineNumber(
        "auc_features",
        "AUC, observables",
        "area under the ROC curve of a classifier (cross-fitted gradient boosting on the "
        "observables) that tells the sample from the target: 0.5 if it cannot, 1 if it always can",
        lambda column: _auc(column.row.two_sample.features),
    ),
    HeadlineNumber(
        "jsd_features",
        "JSD, observables",
        "Jensen-Shannon divergence to the target over ln 2, from the same classifier's calibrated "
        "probabilities: 0 for equal samples, 1 for disjoint ones",
        lambda column: _jsd(column.row.two_sample.features),
    ),
    HeadlineNumber(
        "auc_cells",
        "AUC, cells",
        "the same for a φ-periodic convolutional network on the images",
        lambda column: _auc(column.row.two_sample.cells),
    ),
    HeadlineNumber(
        "jsd_cells",
        "JSD, cells",
        "Jensen-Shannon divergence from the network on the images",
        lambda column: _jsd(column.row.two_sample.cells),
    ),
    HeadlineNumber(
        "fpd",
        "FPD × 1000",
        _PHYSICS.format("Fréchet", _OBSERVABLES),
        lambda column: _interval(column.row.fpd),
        scale=1000.0,
        decimals=2,
        overrides={"showers": ("FPD × 1000", _PHYSICS.format("Fréchet", _CHALLENGE))},
    ),
    HeadlineNumber(
        "kpd",
        "KPD × 1000",
        _PHYSICS.format("Kernel", _OBSERVABLES),
        lambda column: _interval(column.row.kpd),
        scale=1000.0,
        decimals=2,
        overrides={"showers": ("KPD × 1000", _PHYSICS.format("Kernel", _CHALLENGE))},
    ),
    HeadlineNumber(
        "source_correlation_block",
        "source correlation, blocks",
        _CORRELATION.format("blocks of about 0.5 × 60° in η × φ", _SOURCE),
        lambda column: _block(column.row.source_correlation),
        overrides={
            "features": ("source correlation, features", _FEATURE_CORRELATION.format(_SOURCE))
        },
    ),
    HeadlineNumber(
        "source_correlation_cell",
        "source correlation, cells",
        _CORRELATION.format("single cells", _SOURCE),
        lambda column: _cell(column.row.source_correlation),
    ),
    HeadlineNumber(
        "truth_correlation_block",
        "correlation with the truth, blocks",
        _CORRELATION.format("blocks", _TRUTH),
        lambda column: _block(column.truth),
        overrides={
            "features": (
                "correlation with the truth, features",
                _FEATURE_CORRELATION.format(_TRUTH),
            )
        },
    ),
    HeadlineNumber(
        "truth_correlation_cell",
        "correlation with the truth, cells",
        _CORRELATION.format("single cells", _TRUTH),
        lambda column: _cell(column.truth),
    ),
    HeadlineNumber(
        "significance",
        "significance",
        "the most extreme of all statistical tests against the target, in Gaussian standard "
        "deviations σ, corrected for the number of tests (Bonferroni). The tests are on "
        "observables, blocks, cells, the cell spectrum and correlations of cells",
        lambda column: _exact(getattr(column.verdict, "significance", None)),
        unit="σ",
        beside=True,
        overrides={
            "features": (
                "significance",
                "the most extreme of all statistical tests against the target, in Gaussian "
                "standard deviations σ, corrected for the number of tests (Bonferroni). The tests "
                "are on features and their correlations",
            )
        },
    ),
    HeadlineNumber(
        "ess",
        "effective sample size",
        "(Σw)² / Σw² of the translated events' release weights w over their number",
        lambda column: _exact(column.ess),
    ),
    HeadlineNumber(
        "n_events",
        "events",
        "events that are compared with the target's",
        lambda column: _exact(float(column.row.n_events)),
        unit="events",
    ),
)

TERMS: tuple[Term, ...] = (
    Term("target", "target", "real events that no network was trained on"),
    Term(
        "reference",
        "reference",
        "other real events, in disjoint samples as large as the source sample, compared with the "
        "target: what statistical fluctuation alone gives, and the best that can be reached",
    ),
    Term("source", "source", "simulated events as they are, before translation"),
    Term("translated", "translated", "the same simulated events after translation"),
    Term(
        "w1",
        "W1/σ",
        "one-dimensional Wasserstein distance of an observable to the target over the target's "
        "standard deviation: by how many standard deviations the distribution has to be moved",
    ),
    Term(
        "separation",
        "separation power",
        "½ Σ (h₁ − h₂)² / (h₁ + h₂) of unit-sum histograms of the sample and of the target, with "
        "under- and overflow: 0 for equal, 1 for disjoint ones",
    ),
    Term(
        "control",
        "control",
        "events translated within their own domain, put in the place of those they were made "
        "from: real ones in the reference, simulated ones in the source. Nothing should change",
    ),
    Term(
        "interval",
        "interval",
        f"{100 * LEVEL:.2f} % (one standard deviation), from bootstrap over events; source and "
        "translated events are drawn together",
    ),
)
_SHOWER_TERM = Term(
    "separation_challenge",
    "separation power, CaloChallenge",
    "separation power in the CaloChallenge's own histograms, what lies outside their edges "
    "dropped (arXiv:2410.21611)",
)


def glossary(kind: Kind) -> tuple[Term, ...]:
    """List the terms and headline numbers of a kind of sample with their definitions."""
    numbers = [
        number.term(kind)
        for number in HEADLINE
        if kind != "features" or not number.name.endswith(("_cells", "_cell"))
    ]
    return (*TERMS, *([_SHOWER_TERM] if kind == "showers" else []), *numbers)
