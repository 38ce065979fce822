"""Generators and translators beside each other: one row each, and what stands beside them all."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import StringIO

from pileupgen.compare.jet_quality import JetJudge, JetQuality
from pileupgen.compare.quality import Quality, QualityJudge
from pileupgen.compare.shower_quality import ShowerJudge, ShowerQuality
from pileupgen.compare.zdc_quality import ZdcJudge, ZdcQuality
from pileupgen.fields import PlainRecord

AnyJudge = QualityJudge | ShowerJudge | ZdcJudge | JetJudge
AnyQuality = Quality | ShowerQuality | ZdcQuality | JetQuality
"""What the judges of the tasks give."""

N_ERRORS = 2.0
"""Errors by which an AUC must be higher than another to be called worse."""


@dataclass(frozen=True)
class ControlCurve(PlainRecord):
    """What events have of a property that a generator was asked for."""

    name: str
    label: str
    """The property with its unit."""
    asked: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    """Median and central 68 % of the events at each asked value."""
    real: tuple[float, float, float]
    """Median and central 68 % of target events."""
    slope: float
    slope_error: float
    """Rise of the measured property over the rise of the asked one, by least squares; 1 is full
    control."""


@dataclass(frozen=True)
class SystemRow(PlainRecord):
    """A system, judged in one of its uses."""

    name: str
    family: str
    what: str
    """In a few words."""
    citation: str
    use: str
    """``generate``: events from noise at conditions of target events; ``translate``: source events
    made alike."""
    quality: AnyQuality
    n_parameters: int
    n_evaluations: int
    """Passes through a network that an event takes, one after another."""
    training_seconds: float
    """CPU time of the training steps."""
    training_steps: int
    event_ms: float
    """CPU time of one event, in ms, in the batches that the system makes."""
    nats: float | None = None
    nats_error: float | None = None
    """ln p of a target event above that of independent cells, nats a cell, and its error."""
    nats_are_exact: bool | None = None
    """False where it is a lower bound."""
    single_ms: float | None = None
    batch_ms: float | None = None
    """CPU time of one thread for an event made alone, and for one of 100 made together, in ms."""
    controls: tuple[ControlCurve, ...] = ()
    """Curves of a generator whose events can be asked for a property."""

    @property
    def label(self) -> str:
        """Name and use."""
        return f"{self.name}, translating" if self.use == "translate" else self.name


@dataclass(frozen=True)
class SystemTable(PlainRecord):
    """What a benchmark found."""

    task: str
    minutes: float
    """Budget of each training."""
    n_train: int
    """Training events of the target."""
    reference: AnyQuality
    source: AnyQuality
    """Other target events, and source events as they are, against the target."""
    rows: tuple[SystemRow, ...]
    yardstick: str
    """Name of the row of independent cells."""
    simulation_ms: float | None = None
    """CPU time of an event of the built-in simulation that the target is from, in ms; else None."""

    def is_worse_than_yardstick(self, row: SystemRow) -> bool | None:
        """Whether the AUC on cells, and on observables, is above that of independent cells.

        Either must be above by more than ``N_ERRORS`` errors, and the other not below by as much;
        None where the yardstick was not measured.
        """
        yard = next((one.quality for one in self.rows if one.name == self.yardstick), None)
        if yard is None:
            return None
        pulls = [
            (mine - its) / max((error**2 + its_error**2) ** 0.5, 1e-9)
            for (mine, error), (its, its_error) in zip(
                _tests(row.quality), _tests(yard), strict=False
            )
        ]
        return any(p > N_ERRORS for p in pulls) and not any(p < -N_ERRORS for p in pulls)

    def to_csv(self) -> str:
        """Write one line a row, with the ends of the intervals."""
        lines = []
        for row in self.rows:
            values = row.to_dict()
            values.pop("controls")
            quality = values.pop("quality")
            quality |= quality.pop("distances", {}) | quality.pop("channels", {})
            for key, value in quality.items():
                if isinstance(value, dict):
                    values |= {
                        key: value["value"],
                        f"{key}_low": value["low"],
                        f"{key}_high": value["high"],
                    }
                else:
                    values[key] = value
            lines.append(values)
        columns = list(dict.fromkeys(key for line in lines for key in line))
        text = StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()


def _tests(found: AnyQuality) -> list[tuple[float, float]]:
    """AUC and error of the two-sample tests that were made."""
    tests = [(found.auc, found.auc_error)]
    if found.cell_auc is not None and found.cell_auc_error is not None:
        tests.append((found.cell_auc, found.cell_auc_error))
    return tests
