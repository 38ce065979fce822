"""Results of a comparison: the content of ``metrics.json``.

:class:`Comparison` is what the file holds; its JSON schema is
``Comparison.model_json_schema(mode="serialization")``.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    computed_field,
    model_validator,
)

from pileupgen.compare.headline import (
    HEADLINE,
    Control,
    HeadlineColumn,
    HeadlineNumber,
    Kind,
    Row,
    glossary,
)
from pileupgen.compare.records import (
    ROWS,
    AgainstMeasurements,
    Equivalence,
    InputFile,
    Ladder,
    MethodRecord,
    MuBin,
    ObservableRecord,
    OverlayEffects,
    PairedTruth,
    Quantity,
    Record,
    RowName,
    ShowerSeparation,
    SourceCheck,
    TargetRecord,
    Verdict,
)
from pileupgen.measure.bootstrap import Estimate, Number
from pileupgen.measure.observables import Observable

SCHEMA: Literal["pileupgen-metrics"] = "pileupgen-metrics"
SCHEMA_VERSION: Literal[2] = 2


class Controls(Record):
    """Controls whose result is known beforehand."""

    null_source_correlation_block: Estimate | None = None
    """Block source correlation of translated events with other events' sources: must be 0."""
    rows: dict[str, Control] = Field(default_factory=dict)
    """Translations that stay in one domain."""


class Comparison(Record):
    """Reference, source and translated samples beside each other: ``metrics.json``."""

    model_config = ConfigDict(title="pileupgen metrics")

    schema_name: Literal["pileupgen-metrics"] = Field(SCHEMA, alias="schema")
    """What the file is."""
    schema_version: Literal[2] = SCHEMA_VERSION
    """Increased when programs that read the file have to change."""
    kind: Kind = "images"
    """What is compared: calorimeter images, showers on a grid of the CaloChallenge, or tables of
    features, which are then the observables."""
    settings: MethodRecord = MethodRecord()
    """How the comparison was made."""
    notes: tuple[str, ...] = ()
    """Remarks for the reader."""
    target: TargetRecord
    """What the rows are compared with."""
    observables: dict[str, ObservableRecord]
    """Observables in the order of tables and figures."""
    rows: dict[RowName, Row]
    """Reference, source and translated."""
    ess: Number
    """Effective sample size of the translated events' weights over their number, whether or not
    the comparison uses them."""
    controls: Controls = Controls()
    """Controls."""
    verdicts: dict[RowName, Verdict] = Field(default_factory=dict)
    """Tests against the target, by row."""
    equivalence: Equivalence | None = None
    """Whether the translated events are as near to the target as real ones."""
    mu_bins: tuple[MuBin, ...] = ()
    """The headline in bins of μ."""
    pileup: dict[str, Quantity] = Field(default_factory=dict)
    """Effects of pileup on an analysis: densities, offsets, resolutions."""
    showers: dict[str, ShowerSeparation] = Field(default_factory=dict)
    """Separation powers in the CaloChallenge's own histograms, of showers."""
    truth: PairedTruth | None = None
    """Correlations with true counterparts, where these were given."""
    inputs: dict[str, InputFile] = Field(default_factory=dict)
    """Files that were read, by role."""
    source_check: SourceCheck | None = None
    """Source events beside the training's, where the translated store tells."""
    translation: dict[str, Any] = Field(default_factory=dict)
    """How the events were translated."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of pileupgen and of libraries."""
    figures: tuple[str, ...] = ()
    """Figures, relative to the file."""
    ladder: Ladder | None = None
    """Variants of the translation, where they were made."""
    measurements: AgainstMeasurements | None = None
    """Check of the source's generator, where one was made."""
    overlay: OverlayEffects | None = None
    """Effects on hard scatters, where these were given to be overlaid."""

    @model_validator(mode="before")
    @classmethod
    def _without_derived(cls, values: Any) -> Any:
        """Leave out what a file holds for its readers and what follows from the rest."""
        if isinstance(values, dict):
            return {k: v for k, v in values.items() if k not in ("headline", "definitions")}
        return values

    @property
    def reference(self) -> Row:
        """Target events against other target events."""
        return self.rows["reference"]

    @property
    def source(self) -> Row:
        """Simulated events before translation."""
        return self.rows["source"]

    @property
    def translated(self) -> Row:
        """Simulated events after translation."""
        return self.rows["translated"]

    @property
    def records(self) -> tuple[Observable, ...]:
        """Observables with their names."""
        return tuple(Observable(name, r.label, r.unit) for name, r in self.observables.items())

    def columns(self) -> tuple[HeadlineColumn, ...]:
        """Everything that has headline numbers: reference, source, translated, then controls."""
        truths = {} if self.truth is None else dict(self.truth)
        own = (
            HeadlineColumn(
                name=name,
                label=name if (label := self.rows[name].label) == name else f"{name}: {label}",
                row=self.rows[name],
                kind=self.kind,
                verdict=self.verdicts.get(name),
                truth=truths.get(name),
                ess=self.ess if name == "translated" else None,
            )
            for name in ROWS
        )
        controls = (
            HeadlineColumn(name, one.row.label, one.row, self.kind, one.verdict, rise=one)
            for name, one in self.controls.rows.items()
        )
        return (*own, *controls)

    def column(self, name: str) -> HeadlineColumn:
        """Column of a row."""
        return next(column for column in self.columns() if column.name == name)

    def shown(self) -> list[tuple[HeadlineNumber, list[Estimate | None]]]:
        """Headline numbers that any column has, each with its values in the columns."""
        columns = self.columns()
        lines = [(number, [number.get(column) for column in columns]) for number in HEADLINE]
        return [line for line in lines if any(e and math.isfinite(e.value) for e in line[1])]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def headline(self) -> dict[str, FiniteFloat]:
        """Single numbers: those of the translated sample by name, others with a suffix."""
        numbers: dict[str, float] = {"n_target": float(self.target.n_events)}
        for column in sorted(self.columns(), key=lambda column: column.name != "translated"):
            suffix = "" if column.name == "translated" else f"_{column.name}"
            for number in HEADLINE:
                if (found := number.get(column)) is not None:
                    numbers[number.name + suffix] = found.value
            for name, distance in column.row.observables.items():
                numbers[f"w1_{name}{suffix}"] = distance.w1.value
                numbers[f"separation_{name}{suffix}"] = distance.separation
        for quantity in self.pileup.values():
            for role, suffix in (("translated", ""), ("source", "_source"), ("target", "_target")):
                numbers[f"pileup_{quantity.name}{suffix}"] = quantity.values[role].value
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def definitions(self) -> dict[str, str]:
        """What the numbers and terms mean."""
        return {term.name: term.definition for term in glossary(self.kind)}

    def to_json(self) -> str:
        """Text of ``metrics.json``; undefined numbers are null."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"
