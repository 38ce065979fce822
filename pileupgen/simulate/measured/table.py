"""Measured tables: published numbers with the selection that a prediction has to pass.

A table is a text file. Its head, lines of ``# key: value`` in YAML, says what was measured (see
:class:`TableHead`); below it stand the numbers, as CSV or as objects of YODA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from pydantic import Field, model_validator

from pileupgen.arrays import Floats
from pileupgen.errors import CardError, MissingInputError, UnreadableInputError
from pileupgen.faults import StrictModel, parse_model
from pileupgen.simulate.interactions import ETA_MAX
from pileupgen.simulate.measured.numbers import Rows, read_csv, read_yoda

TABLES = Path(__file__).parent / "tables"

UNITS = {
    "et_density": "GeV",
    "energy_flow": "GeV",
    "charged_density": "1",
    "charged_pt": "1/GeV^2",
    "charged_spectrum": "1",
    "sum_et_spectrum": "1/GeV",
}
"""Quantity → unit; what each of them is stands in :class:`TableHead`."""

WINDOWED = ("charged_pt", "charged_spectrum", "sum_et_spectrum")
"""Quantities taken in a window of |η|; the bins of the others are of η or |η| themselves."""

Quantity = Literal[
    "et_density",
    "energy_flow",
    "charged_density",
    "charged_pt",
    "charged_spectrum",
    "sum_et_spectrum",
]
Eta = Annotated[float, Field(ge=0, le=ETA_MAX)]
Momentum = Annotated[float, Field(ge=0, description="GeV")]


class EventSelection(StrictModel):
    """Events that count: those with enough charged particles in a window of |η|.

    Particles with cτ > 10 mm are stable; charged ones are those with electric charge, muons too.
    """

    n_charged: int = Field(ge=0, description="charged particles at least")
    pt_min: Momentum = 0.0
    abs_eta: tuple[Eta, Eta] = Field(description="from, to")
    both_sides: bool = Field(default=False, description="so many on either side of η = 0")


class ParticleSelection(StrictModel):
    """Particles that are summed over, in events that count."""

    pt_min: Momentum = 0.0
    charged_p_min: Momentum = 0.0
    neutral_p_min: Momentum = 0.0
    without: tuple[int, ...] = Field(default=(), description="|PDG codes| that are left out")


class TableHead(StrictModel):
    """What a table holds.

    Quantities, each a mean over the events that count:

    ``et_density``
        d²ΣE_T/dηdφ in bins of |η|, both sides together; E_T = E sin θ. GeV.
    ``energy_flow``
        dE/d|η| in bins of |η|, half the sum of both sides. GeV.
    ``charged_density``
        dN/dη of charged particles in bins of η.
    ``charged_pt``
        1/(2π p_T) d²N/dηdp_T of charged particles in a window of |η|, in bins of p_T. 1/GeV².
    ``charged_spectrum``
        1/N dN/dn, where n is the number of charged particles in a window of |η|.
    ``sum_et_spectrum``
        1/N dN/dΣE_T, where ΣE_T is the sum in a window of |η|, both sides together. 1/GeV.
    """

    name: str = Field(pattern=r"^[\w.-]+$", description="word that results are stored under")
    title: str
    source: str = Field(description="experiment and paper")
    quantity: Quantity
    unit: str
    sqrt_s: float = Field(ge=100, le=1e6, description="GeV, proton on proton")
    events: EventSelection
    particles: ParticleSelection = ParticleSelection()
    abs_eta: tuple[Eta, Eta] | None = Field(
        default=None, description="window, where the rows do not name it"
    )
    errors: str = Field(description="what the errors hold, and what is known of correlations")
    yoda_path: str | None = Field(default=None, description="object to take of several")

    @model_validator(mode="after")
    def _fits(self) -> TableHead:
        if self.unit != UNITS[self.quantity]:
            raise ValueError(
                f"{self.quantity} is in '{UNITS[self.quantity]}' here, not in '{self.unit}': "
                "convert the numbers"
            )
        for window in (self.events.abs_eta, self.abs_eta):
            if window is not None and window[0] >= window[1]:
                raise ValueError(f"abs_eta {window} must ascend")
        if self.abs_eta is not None and not self.is_windowed:
            raise ValueError(f"abs_eta is no key of {self.quantity}, whose bins are of η")
        return self

    @property
    def is_windowed(self) -> bool:
        """Whether the quantity is taken in a window of |η|."""
        return self.quantity in WINDOWED


@dataclass(frozen=True)
class MeasuredTable:
    """Published numbers with errors."""

    head: TableHead
    """What they are."""
    low: Floats
    high: Floats
    """Bin edges: η or |η|, GeV of p_T or ΣE_T, or a number of particles. Shape (n,)."""
    window: Floats
    """Window of |η| of each row; a row's own bin where the quantity has no window. Shape (n, 2)."""
    value: Floats
    """Measured, in ``head.unit``. Shape (n,)."""
    down: Floats
    up: Floats
    """Errors of each bin by itself. Shape (n,)."""
    correlated: Floats
    """Errors that all bins share, signed, one row a source; no row where none were published. Shape
    (n_sources, n)."""

    def __len__(self) -> int:
        return len(self.value)

    def total_error(self) -> tuple[Floats, Floats]:
        """Errors down and up with all sources added in quadrature, shape ``(n,)`` each."""
        shared = np.sum(self.correlated**2, axis=0)
        return np.sqrt(self.down**2 + shared), np.sqrt(self.up**2 + shared)


def read_table(path: Path) -> MeasuredTable:
    """Read a measured table.

    Parameters
    ----------
    path : Path
        CSV, or YODA text (``SCATTER2D`` or ``ESTIMATE1D``), told by a line ``BEGIN YODA…``.
        Columns of a CSV: ``low, high, value``, ``error`` or ``error_down, error_up``, and any
        number of ``sys_<source>``, signed errors that all bins share; of a quantity in windows
        also ``abs_eta_low, abs_eta_high``, unless the head has ``abs_eta``.

    Raises
    ------
    MissingInputError
        If there is no such file.
    CardError
        If the head is malformed; all faults are named.
    UnreadableInputError
        If the numbers are; with the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise MissingInputError(f"No measured table {path}.", "Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableInputError(
            f"{path} cannot be read as a measured table: {error}.", "Give CSV or YODA text."
        ) from error
    n_head = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    head = _read_head(lines[:n_head], path)
    rows = (
        read_yoda(lines[n_head:], path, head.yoda_path)
        if any(line.startswith("BEGIN YODA") for line in lines)
        else read_csv(lines, n_head, path, with_windows=head.is_windowed and head.abs_eta is None)
    )
    return _table(head, rows, path)


def shipped_tables() -> list[MeasuredTable]:
    """Read the tables that ship with pileupgen, by name."""
    return [read_table(path) for path in sorted(TABLES.glob("*.csv"))]


def _read_head(lines: Sequence[str], path: Path) -> TableHead:
    where = f"head of {path}"
    hint = "The file begins with lines of '# key: value', as the shipped tables do."
    try:
        values = yaml.safe_load("\n".join(line[1:].removeprefix(" ") for line in lines))
    except yaml.YAMLError as error:
        raise CardError(f"{where} is no YAML: {error}.", hint) from error
    return parse_model(TableHead, values or {}, where, hint=hint)


def _table(head: TableHead, rows: Rows, path: Path) -> MeasuredTable:
    own = np.stack([rows.low, rows.high], axis=1)
    window = own if rows.window is None else rows.window
    if head.is_windowed and rows.window is None:
        if head.abs_eta is None:
            raise CardError(f"head of {path}: '{head.quantity}' needs 'abs_eta', its window of |η|")
        window = np.tile(head.abs_eta, (len(own), 1))
    may_be_negative = head.quantity == "charged_density"
    shared = np.abs(rows.correlated).sum(axis=0)
    faults = (
        (rows.low >= rows.high, "low must be below high"),
        (window[:, 0] >= window[:, 1], "abs_eta_low must be below abs_eta_high"),
        ((rows.low < 0) & (not may_be_negative), f"bins of {head.quantity} are not negative"),
        ((np.abs(window) > ETA_MAX).any(axis=1), f"|η| is at most {ETA_MAX:g}"),
        (rows.value <= 0, "the measured value must be above zero"),
        ((rows.down < 0) | (rows.up < 0), "errors must not be negative"),
        (np.minimum(rows.down, rows.up) + shared <= 0, "the measured error is zero"),
    )
    for wrong, what in faults:
        if wrong.any():
            raise UnreadableInputError(
                f"{path}, row {int(np.argmax(wrong)) + 1} of the numbers: {what}.",
                "Correct the row.",
            )
    return MeasuredTable(
        head=head,
        low=rows.low,
        high=rows.high,
        window=window,
        value=rows.value,
        down=rows.down,
        up=rows.up,
        correlated=rows.correlated,
    )
