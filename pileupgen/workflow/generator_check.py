"""Generators judged by what detectors measured: what `pileupgen simulate --check` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pileupgen.errors import CardError, ConfigError
from pileupgen.progress import SILENT, Listener
from pileupgen.report.figures.measured import measured_figure
from pileupgen.report.figures.style import write_figure
from pileupgen.simulate.measured.check import GeneratorCheck, check_fingerprint, check_generator
from pileupgen.simulate.measured.record import cached_path, check_name, read_check, write_check
from pileupgen.simulate.measured.table import TABLES, MeasuredTable, read_table
from pileupgen.simulate.produce import default_cache, default_workers, scratch_folder
from pileupgen.simulate.spec import SampleSpec
from pileupgen.workflow.generated import spec_of_card

NOT_FOR_CHECKS = (
    "mu",
    "mu_profile",
    "filling",
    "consecutive",
    "response",
    "readout",
    "period",
    "mirror_eta",
    "pool_size",
    "pt_min",
    "minimum_bias",
    "hard_scatter",
    "hepmc",
    "rntuple",
)
"""Settings and files of a sample that say nothing about its generator."""


def check_spec(given: Mapping[str, Any], where: str, card: str | None = None) -> SampleSpec:
    """Read what generator to check; ``n_events`` is the number of interactions at each energy.

    Parameters
    ----------
    where : str
        Begins every message.
    card : str, optional
        A data card whose generator, tune, process and seed are taken where ``given`` has none.

    Raises
    ------
    CardError
        Naming every fault.
    ConfigError
        If a setting does not belong to a generator.
    """
    refused = [name for name in NOT_FOR_CHECKS if name in given]
    if refused:
        raise ConfigError(
            f"{where}: {', '.join(refused)} do not go with --check, which looks at single "
            "interactions before any detector.",
            "Leave them out; -n is the number of interactions at each energy.",
        )
    values = dict(given)
    if card is not None:
        of_card = spec_of_card(card, {})
        if not isinstance(of_card, SampleSpec) or of_card.files:
            raise ConfigError(
                f"{where}: card '{card}' has no generator of minimum bias to check.",
                "Take the card of generated pileup, such as demo_mc.",
            )
        kept = of_card.model_dump(include={"generator", "process", "tune", "seed"})
        values = {**kept, **values}
    if "n_events" in values:
        values["pool_size"] = values.pop("n_events")
    spec = SampleSpec.parse(values, where)
    if spec.is_hard:
        raise ConfigError(
            f"{where}: measurements are of minimum bias, '{spec.process}' is a hard process.",
            "Leave --process out.",
        )
    return spec


def choose_tables(
    own: Sequence[Path], sqrt_s: float | None = None
) -> dict[float, dict[Path, MeasuredTable]]:
    """Measured tables by energy in GeV: those that ship, and files of the user's own.

    Raises
    ------
    CardError
        If two have the same name, or a head is malformed.
    ConfigError
        If there is none at the energy that is asked for.
    InputError
        If a file cannot be read.
    """
    tables = {path: read_table(path) for path in (*sorted(TABLES.glob("*.csv")), *own)}
    chosen: dict[float, dict[Path, MeasuredTable]] = {}
    names: dict[str, Path] = {}
    for path, table in tables.items():
        before = names.setdefault(table.head.name, path)
        if before != path:
            raise CardError(
                f"{before} and {path} are both named '{table.head.name}'.",
                "Change 'name' in the head of your own.",
            )
        chosen.setdefault(table.head.sqrt_s, {})[path] = table
    if sqrt_s is not None and sqrt_s not in chosen:
        known = " and ".join(f"{energy:g}" for energy in sorted(chosen))
        raise ConfigError(
            f"Nothing was measured at {sqrt_s:g} GeV; there are tables at {known} GeV.",
            "Leave --sqrt-s out, or give a table of your own: --table FILE.",
        )
    energies = sorted(chosen) if sqrt_s is None else [sqrt_s]
    return {energy: chosen[energy] for energy in energies}


def check_to(
    spec: SampleSpec,
    folder: Path,
    own: Sequence[Path] = (),
    *,
    force: bool = False,
    workers: int | None = None,
    listener: Listener = SILENT,
) -> list[GeneratorCheck]:
    """Check a generator at every energy that has tables; write numbers and figures.

    Parameters
    ----------
    spec : SampleSpec
        See :func:`check_spec`; its energy restricts the tables where it was set.
    folder : Path
        For a JSON file an energy and a figure (PNG and PDF) a table. The JSON goes to the user's
        cache too, where later samples find it.
    workers : int, optional
        Processes; all cores if not given.

    Returns
    -------
    list of GeneratorCheck
        One an energy, ascending.
    """
    wanted = spec.sqrt_s if "sqrt_s" in spec.model_fields_set else None
    checks = []
    for energy, tables in choose_tables(own, wanted).items():
        at_energy = spec.model_copy(update={"sqrt_s": energy})
        check = _check(at_energy, tables, folder, force, workers, listener)
        checks.append(check)
        path = folder / f"{check_name(at_energy)}.json"
        before = None if force else read_check(path)
        if before is None or before.fingerprint != check.fingerprint:
            for table in check.tables:
                write_figure(measured_figure([check], table.head.name), folder, table.head.name)
            # Last, so that the figures are there where it is.
            write_check(check, path)
            listener.wrote(path, f"and its figures ({len(check.tables)}) beside it")
        for table in check.tables:
            listener.tell("check", f"{table.head.title}: {table.note}")
    return checks


def _check(
    spec: SampleSpec,
    tables: Mapping[Path, MeasuredTable],
    folder: Path,
    force: bool,
    workers: int | None,
    listener: Listener,
) -> GeneratorCheck:
    kept = cached_path(spec, default_cache())
    last = None if force else read_check(kept)
    if last is not None and last.fingerprint == check_fingerprint(spec, list(tables.values())):
        listener.current("simulate --check", kept)
        return last
    what = f"{spec.generator}, {spec.sqrt_s / 1000:g} TeV"
    with (
        scratch_folder(folder) as scratch,
        listener.progress(what, spec.pool_size, "interactions") as advance,
    ):
        check = check_generator(spec, tables, scratch, workers or default_workers(), advance)
    write_check(check, kept)
    return check
