"""Records of a comparison's parts: tests, distances, ladder, tables.

:mod:`~pileupgen.compare.results` puts them together.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from pileupgen.measure.bootstrap import LEVEL, Estimate, Number

SIGMA_LIMIT = 37.0
"""σ beyond which double precision has no probability; larger values are given as this."""
CLEAR = 3.0
"""Significance in σ above which a test counts as a difference."""
MARGIN = 0.05
"""Mean W1/σ above the reference's that is called equivalent: what shifting every observable by a
twentieth of its standard deviation does."""

RowName = Literal["reference", "source", "translated"]
ROWS: tuple[RowName, ...] = ("reference", "source", "translated")
Replaced = Literal["reference", "source"]
"""The row whose events a control has."""
Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class Record(BaseModel):
    """Frozen record whose attributes' docstrings are the descriptions in the JSON schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TwoSampleTest(Record):
    """How well a classifier separates two samples."""

    auc: Unit
    """Area under the ROC curve, mean over seeds; 0.5 is chance."""
    spread: float
    """Standard deviation of the AUC over seeds."""
    error: float
    """Statistical error of the AUC at these numbers of events (Hanley & McNeil 1982, eq. 1)."""
    jsd: float
    """Jensen-Shannon divergence in units of ln 2, (ln 2 − BCE) / ln 2 with calibrated
    probabilities, mean over seeds; about 0, even below, for equal samples, 1 for disjoint ones."""
    jsd_spread: float
    """Standard deviation of the JSD over seeds."""
    n_seeds: int
    """Number of seeds."""

    @property
    def total_error(self) -> float:
        """Error of the AUC from events and from seeds."""
        return math.hypot(self.error, self.spread)


class TwoSampleTests(Record):
    """Classifier two-sample tests of a sample against the target."""

    features: TwoSampleTest | None = None
    """Test on the observables."""
    cells: TwoSampleTest | None = None
    """Test on the images."""


class PhysicsDistance(Record):
    """A distance between samples of features."""

    value: Number
    """The distance; of a row of several samples the median over them."""
    low: Number
    """Lower end of the 68 % bootstrap interval over events; of several samples the least value."""
    high: Number
    """Upper end of the interval; of several samples the greatest value."""
    jetnet_error: Number
    """What JetNet gives as the error: that of the fit (FPD), or half the spread over batches (KPD).
    It says nothing of how far the events at hand are from others of the same distribution."""


class SourceCorrelation(Record):
    """Correlation of events with those that they are linked to."""

    block: Estimate
    """Correlation of energies in blocks of cells; of a feature table the mean over its features."""
    cell: Estimate
    """Correlation of energies in single cells; undefined for a feature table."""
    n_pairs: int
    """Number of linked events."""
    features: dict[str, Estimate] = {}
    """Correlation of each feature of a feature table."""


class ObservableDistance(Record):
    """Distances of one observable to the target."""

    w1: Estimate
    """Wasserstein distance W1 over the target's σ; undefined where the target does not vary."""
    separation: Number
    """Separation power."""


class StatisticalTest(Record):
    """One statistical test."""

    family: Literal["observable", "block", "cell", "spectrum", "correlation"]
    """Kind of test."""
    name: str
    """What differs, where."""
    local: float
    """Significance in σ of this test by itself."""
    significance: float
    """Significance in σ, corrected for the number of tests; 0 where chance explains it easily."""


class Verdict(Record):
    """Result of all tests of a sample."""

    significance: float
    """Significance of the most extreme test in σ, corrected for the number of all tests."""
    n_tests: int
    """Number of tests."""
    n_clear: int
    """Number of tests beyond 3 σ, corrected for the number of all tests."""
    findings: tuple[StatisticalTest, ...]
    """The most extreme tests, most significant first."""


class Equivalence(Record):
    """Whether translated events are as near to the target as real ones, to within a margin.

    That no test finds a difference may be owed to few events. Two one-sided tests (Schuirmann, J.
    Pharmacokinet. Biopharm. 15 (1987) 657) ask how large a difference the events still allow; of a
    distance one side is wanted.
    """

    excess: Estimate
    """Mean W1/σ of the translated events less that of the reference."""
    limit: Number
    """Its upper limit at 95 % confidence."""
    margin: float = MARGIN
    """Largest excess that is called equivalent."""

    @property
    def holds(self) -> bool:
        """Whether the limit lies within the margin."""
        return self.limit <= self.margin


class PairedTruth(Record):
    """Correlations with the true counterpart: the same interactions in the target's detector."""

    source: SourceCorrelation
    """Correlation of source events: what a perfect translation would reach."""
    translated: SourceCorrelation
    """Correlation of translated events."""


class MuBin(Record):
    """The headline of events with μ in [low, high)."""

    low: float
    """Lower edge in μ."""
    high: float
    """Upper edge in μ; the last bin holds it."""
    n_target: int
    """Target events."""
    n_translated: int
    """Translated events."""
    mean_distance: dict[str, Estimate]
    """Mean W1/σ by row, σ that of the bin's target events."""
    shift_removed: Estimate
    """Fraction of the shift removed by the translated events."""
    source_correlation: Estimate
    """Source correlation of blocks."""


class Quantity(Record):
    """A number of a whole sample."""

    name: str
    """Key."""
    label: str
    """Matplotlib mathtext."""
    unit: str
    """Unit; empty where there is none."""
    values: dict[str, Estimate]
    """Values by role: target, source, translated."""


class ShowerSeparation(Record):
    """Separation power in one of the CaloChallenge's histograms."""

    name: str
    """What is histogrammed."""
    family: str
    """The observable without its layer."""
    n_bins: int
    """Bins."""
    values: dict[str, Number]
    """Separation power from the target by row; the reference's is the median over its samples.
    Undefined where a sample has nothing within the edges."""
    outside: dict[str, Number]
    """Fraction of the entries outside the edges, of the target and of each row."""


class TargetRecord(Record):
    """The sample that the others are compared with."""

    label: str
    """Label in figures."""
    n_events: NonNegativeInt
    """Its number of events."""


class ObservableRecord(Record):
    """Name of an observable."""

    label: str
    """Matplotlib mathtext."""
    unit: str
    """Unit; empty where there is none."""


class MethodRecord(Record):
    """How the comparison was made."""

    n_bootstrap: int = 0
    """Resamplings that intervals are made from."""
    n_seeds: int = 0
    """Seeds of the two-sample test on observables."""
    seed: int = 0
    """Seed of all random choices."""
    weighted: bool = False
    """Whether translated events carry their release weights."""
    level: float = LEVEL
    """Probability content of the intervals."""


class SourceCheck(Record):
    """The translation's source events beside those that its model was trained on."""

    n_events: NonNegativeInt
    """Source events."""
    n_unlike: NonNegativeInt
    """Events unlike the training's; 1 in 1,000 is by chance."""
    n_above: NonNegativeInt
    """Events with cells above the largest of their ring in training."""
    cells_above: NonNegativeInt
    """These cells."""
    energy_ratio: float
    """Largest ratio of a cell to the largest of its ring in training."""
    n_below: NonNegativeInt
    """Events with hits below the training's threshold."""
    cells_below: NonNegativeInt
    """These hits, which are taken for empty cells."""
    n_mu: NonNegativeInt
    """Events with μ outside the training's range."""
    mu_low: float
    """Smallest factor by which μ lies outside; 1 where none lies below."""
    mu_high: float
    """Largest such factor; 1 where none lies above."""
    significance: Number
    """Significance of the difference of the sample's means from the training's, in σ; null where
    not known."""
    shifts: tuple[tuple[str, float, float], ...] = ()
    """Each total of an event, the difference of its means over the events' standard deviation, and
    the same over its error; the most significant first."""
    is_unlike: bool = False
    """Whether the sample, or far more of its events than chance has, is unlike the training's."""


class InputFile(Record):
    """A file that was read."""

    path: str
    """Path at the time."""
    sha256: str
    """Its hash."""
    n_events: NonNegativeInt
    """Its number of events."""


TELLING = 0.05
"""Difference in W1/σ or in an AUC that events have to show by ``CLEAR`` errors, before it means
anything that they show none."""


class Difference(Record):
    """How far a variant of a translation is from the one as asked, on paired events."""

    value: Estimate
    """Above 0 where the variant is worse."""
    sigma: Number
    """Over the standard deviation of the paired bootstrap draws; null where nothing differs."""


class Rung(Record):
    """One variant of a translation against the target."""

    name: str
    """Its key."""
    label: str
    """What tables call it."""
    mean_w1: Estimate
    """Mean W1/σ over the observables."""
    auc: Estimate
    """Area under the ROC curve of the two-sample test on observables."""
    block: Estimate
    """Source correlation in blocks."""
    significance: float
    """Significance of the most significant test, in σ."""
    finding: str
    """Which test that is."""
    families: dict[str, Estimate] = {}
    """Mean W1/σ over each family of observables."""
    removed: dict[str, Estimate]
    """Fraction of the shift removed, of all observables and of each family; undefined where the
    source's shift is not clear."""
    physics: dict[str, Estimate] = {}
    """Mean ρ, its resolution and the width of the missing E_T over those of the target."""
    w1_rise: Difference | None = None
    """Difference from the variant as asked; null for that variant itself."""
    auc_rise: Difference | None = None
    """The same of the AUC."""
    plain_w1: Estimate | None = None
    """Mean W1/σ without the correction after the decode, where there is one to leave out."""
    plain_auc: Estimate | None = None
    """The same of the AUC."""


class Ladder(Record):
    """Variants of a translation with one part left out each, on the same events."""

    reference: Estimate
    """Mean W1/σ of real events compared with other real events."""
    reference_families: dict[str, Estimate] = {}
    """The same over each family of observables."""
    rungs: tuple[Rung, ...]
    """Variants, from the source to the translation with its release weights."""
    n_events: NonNegativeInt
    """Source events of each variant."""
    settings: dict[str, Any]
    """Settings of the variant as asked."""

    def __getitem__(self, name: str) -> Rung:
        """The rung of a name."""
        return next(rung for rung in self.rungs if rung.name == name)

    def __contains__(self, name: str) -> bool:
        """Whether there is a rung of a name."""
        return any(rung.name == name for rung in self.rungs)


class PublishedTable(Record):
    """A published table, and how the source's generator does against it."""

    title: str
    """What was measured."""
    source: str
    """Who measured it, and where it is published."""
    found: str
    """Range of the ratio, bins within errors and χ², in words."""


class EtaBin(Record):
    """A bin of |η|: what a measurement asks of the source's generator, and what the samples do."""

    low: float
    """Lower edge in |η|."""
    high: float
    """Upper edge in |η|."""
    asked: Estimate
    """E_T density of single interactions, measured over generated."""
    target: Estimate
    """ΣE_T of an interaction in the calorimeter, target over source."""
    translated: Estimate
    """ΣE_T of an interaction in the calorimeter, translated over source."""


class AgainstMeasurements(Record):
    """The source's generator against published measurements, and the samples beside it."""

    generator: str
    """Generator and tune, and the energies of the check and of the sample."""
    published: tuple[PublishedTable, ...] = ()
    """Tables of the check."""
    bins: tuple[EtaBin, ...] = ()
    """Bins of the E_T density that lie in the samples' acceptance."""


class AnalysisNumber(Record):
    """A number that an analysis takes from hard scatters with pileup of different kinds."""

    family: str
    """Jets, pileup jets, E_T^miss or isolation."""
    name: str
    """Name in words."""
    unit: str
    """Unit; empty for a pure number."""
    values: dict[str, Estimate]
    """Value by kind of pileup: ``data``, ``mc``, ``translated``."""
    sigmas: dict[str, Number]
    """Difference from ``data`` over its standard deviation, of ``mc`` and ``translated``; the hard
    scatters are the same. Null where it has none."""


class OverlayEffects(Record):
    """The same hard scatters with simulated, translated and real pileup."""

    signal: str = ""
    """The hard scatters."""
    n_events: NonNegativeInt
    """How many."""
    numbers: tuple[AnalysisNumber, ...]
    """Numbers that there are enough objects for."""

    def n_near(self, kind: str, limit: float = 2.0) -> int:
        """Count the numbers that differ from data by less than so many standard deviations."""
        return sum(abs(one.sigmas[kind]) < limit for one in self.numbers)
