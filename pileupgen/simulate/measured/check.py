"""A generator judged by measured tables: predictions, errors, χ²."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from pileupgen.arrays import Floats
from pileupgen.errors import GeneratorError
from pileupgen.parallel.chunks import Work, run_chunks
from pileupgen.progress import Advance, silent
from pileupgen.run import fingerprint
from pileupgen.simulate.generators import generator_version, make_generator, require
from pileupgen.simulate.measured.fill import Particles, Sums, fill, one_entry
from pileupgen.simulate.measured.table import MeasuredTable, TableHead, read_table
from pileupgen.simulate.pool import pool_chunks
from pileupgen.simulate.spec import SampleSpec
from pileupgen.simulate.tunes import Tune

SIGNIFICANT = 0.01
"""A χ² less probable than this is called a difference."""


@dataclass(frozen=True)
class TableCheck:
    """One table, measured and generated."""

    head: TableHead
    """What was measured."""
    n_generated: int
    n_selected: int
    """Events made, and those that passed the measurement's selection."""
    low: Floats
    high: Floats
    window: Floats
    measured: Floats
    down: Floats
    up: Floats
    """Bins and measured values as in ``MeasuredTable``; ``down`` and ``up`` are total errors."""
    generated: Floats
    error: Floats
    """Prediction and its statistical error. Shape (n,)."""
    chi2: float
    """See :func:`judge`."""

    @property
    def n_bins(self) -> int:
        """Bins of the table."""
        return len(self.measured)

    @property
    def ratio(self) -> Floats:
        """Generated over measured, shape ``(n,)``."""
        return self.generated / self.measured

    @property
    def ratio_error(self) -> Floats:
        """Statistical error of the ratio, shape ``(n,)``."""
        return self.error / self.measured

    @property
    def n_within(self) -> int:
        """Bins that agree within the measured and the statistical error together."""
        side = np.where(self.generated > self.measured, self.up, self.down)
        distance = np.abs(self.generated - self.measured)
        return int(np.count_nonzero(distance <= np.hypot(side, self.error)))

    @property
    def probability(self) -> float:
        """Probability of a χ² at least as large, if bins and errors are what they are taken for."""
        return float(chdtrc(self.n_bins, self.chi2))

    @property
    def differs(self) -> bool:
        """Whether the generator differs from the measurement."""
        return self.probability < SIGNIFICANT

    @property
    def spread(self) -> str:
        """Range of the ratio and number of bins within errors, in words.

        Bins whose statistical error exceeds the measured one do not count for the range, unless
        they all do.
        """
        known = self.error <= np.maximum(self.down, self.up)
        ratio = self.ratio[known] if known.any() else self.ratio
        return (
            f"generated / measured {ratio.min():.2f} … {ratio.max():.2f}, "
            f"{self.n_within} of {self.n_bins} bins within errors"
        )

    @property
    def note(self) -> str:
        """The result in one line."""
        verdict = "differs" if self.differs else "agrees"
        return f"{self.spread}, χ²/n = {self.chi2:.1f}/{self.n_bins}: {verdict}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with what follows from them."""
        derived = ("ratio", "ratio_error", "n_within", "probability")
        names = [field.name for field in fields(self) if field.name != "head"]
        plain = {name: _plain(getattr(self, name)) for name in (*names, *derived)}
        return {"head": self.head.model_dump(mode="json"), **plain}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TableCheck:
        """Inverse of :meth:`to_dict`."""
        names = [field.name for field in fields(cls) if field.name != "head"]
        arrays: dict[str, Any] = {
            name: np.array(values[name]) if isinstance(values[name], list) else values[name]
            for name in names
        }
        return cls(head=TableHead.model_validate(values["head"]), **arrays)


@dataclass(frozen=True)
class GeneratorCheck:
    """A generator against the tables of one energy."""

    generator: str
    process: str
    tune: Tune | None
    sqrt_s: float
    """GeV."""
    n_events: int
    seed: int
    """Interactions made, and from which seed."""
    version: str
    """Version of the generator's package."""
    fingerprint: str
    """Fingerprint of all that the result depends on."""
    tables: tuple[TableCheck, ...]

    @property
    def label(self) -> str:
        """Generator and tune, as legends have them."""
        return self.generator if self.tune is None else f"{self.generator} tune {self.tune}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "tables": [table.to_dict() for table in self.tables]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GeneratorCheck:
        """Inverse of :meth:`to_dict`."""
        plain = {field.name: values[field.name] for field in fields(cls)}
        tables = tuple(TableCheck.from_dict(table) for table in plain.pop("tables"))
        return cls(**plain, tables=tables)


def judge(table: MeasuredTable, sums: Sums) -> TableCheck:
    """Compare a filled table with what was measured.

    χ² = rᵀ V⁻¹ r with r the generated less the measured value. V is the sum of the measured
    errors of single bins (of two sides the one where the prediction lies), of s sᵀ for every
    source of error s that the bins share, and of the statistical covariance of the prediction.
    Where no generated event fell into a bin of a spectrum, the Poisson error is that of the
    measured value.

    Raises
    ------
    GeneratorError
        If fewer than two events pass the selection.
    """
    if sums.n_selected < 2:
        raise GeneratorError(
            f"{sums.n_selected} of {sums.n_generated} generated events pass the selection of "
            f"'{table.head.name}'; at least 2 are needed.",
            "Make more events: -n.",
        )
    generated, covariance = sums.mean(), sums.covariance()
    empty = sums.first == 0
    expected = table.value * one_entry(table) / sums.n_selected
    covariance[empty, empty] = np.maximum(expected[empty], 0)
    own = np.where(generated > table.value, table.up, table.down)
    total = np.diag(own**2) + table.correlated.T @ table.correlated + covariance
    residual = generated - table.value
    down, up = table.total_error()
    return TableCheck(
        head=table.head,
        n_generated=sums.n_generated,
        n_selected=sums.n_selected,
        low=table.low,
        high=table.high,
        window=table.window,
        measured=table.value,
        down=down,
        up=up,
        generated=generated,
        error=np.sqrt(np.diag(covariance)),
        chi2=float(residual @ np.linalg.solve(total, residual)),
    )


def check_fingerprint(spec: SampleSpec, tables: Sequence[MeasuredTable]) -> str:
    """16 hex digits of all that a check depends on."""
    arrays = ("low", "high", "window", "value", "down", "up", "correlated")
    numbers = [[getattr(table, name).tolist() for name in arrays] for table in tables]
    heads = [table.head.model_dump(mode="json") for table in tables]
    return fingerprint([spec.pool_fingerprint(), heads, numbers])


def check_generator(
    spec: SampleSpec,
    tables: Mapping[Path, MeasuredTable],
    scratch: Path,
    workers: int,
    advance: Advance = silent,
) -> GeneratorCheck:
    """Run a generator and compare it with tables of its energy.

    The interactions are those of the minimum-bias pool of the same spec; nothing of them is kept.

    Parameters
    ----------
    spec : SampleSpec
        Generator, process, tune, energy, pool size (the number of events) and seed are used.
    tables : mapping
        Tables of the spec's energy by their files, from which the processes read them.
    scratch : Path
        An existing, empty folder.
    workers : int
        Processes at a time; the result does not depend on it.

    Raises
    ------
    DependencyError
        If the generator is not installed.
    GeneratorError
        If it fails, or hardly any event passes a selection.
    """
    require(spec.generator)
    task = {
        "task": "pileupgen.simulate.measured.check:prepare_check",
        "generator": spec.generator,
        "process": spec.process,
        "tune": spec.tune,
        "sqrt_s": spec.sqrt_s,
        "tables": [str(path.resolve()) for path in tables],
    }
    sums: list[Sums | None] = [None] * len(tables)
    for part in run_chunks(task, pool_chunks(spec), workers, scratch):
        for i, before in enumerate(sums):
            made, selected = part[f"counts{i}"].tolist()
            found = Sums(made, selected, part[f"first{i}"], part[f"second{i}"])
            sums[i] = found if before is None else before + found
        advance(int(part["counts0"][0]))
    judged = [
        judge(table, found) for table, found in zip(tables.values(), sums, strict=True) if found
    ]
    return GeneratorCheck(
        generator=spec.generator,
        process=spec.process,
        tune=spec.tune,
        sqrt_s=spec.sqrt_s,
        n_events=spec.pool_size,
        seed=spec.seed,
        version=generator_version(spec.generator),
        fingerprint=check_fingerprint(spec, list(tables.values())),
        tables=tuple(judged),
    )


def prepare_check(job: Mapping[str, Any]) -> Work:
    """Initialise a generator in a process of its own; a chunk is ``{"n": …, "seed": …}``."""
    tables = [read_table(Path(path)) for path in job["tables"]]
    generator = make_generator(job["generator"], job["process"], job["tune"], job["sqrt_s"])

    def work(chunk: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        particles = Particles(generator.generate(chunk["n"], chunk["seed"]))
        found: dict[str, NDArray[Any]] = {}
        for i, table in enumerate(tables):
            sums = fill(table, particles)
            found[f"counts{i}"] = np.array([sums.n_generated, sums.n_selected])
            found[f"first{i}"] = sums.first
            found[f"second{i}"] = sums.second
        return found

    return work


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
