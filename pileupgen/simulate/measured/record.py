"""Results of checks in the user's cache, and what they say about a sample's generator."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path

from pileupgen.files import write_whole
from pileupgen.simulate.generators import generator_version
from pileupgen.simulate.measured.check import GeneratorCheck
from pileupgen.simulate.spec import SampleSpec


def check_name(spec: SampleSpec) -> str:
    """Name of the check of a spec's generator, tune and process at its energy."""
    tune = "" if spec.tune is None else f"-tune{spec.tune}"
    return f"{spec.generator}{tune}-{spec.process}-{spec.sqrt_s:g}GeV"


def write_check(check: GeneratorCheck, path: Path) -> None:
    """Write a check as JSON.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    write_whole(path, json.dumps(check.to_dict(), indent=1, ensure_ascii=False) + "\n")


def read_check(path: Path) -> GeneratorCheck | None:
    """Read a check; None where there is none, or none that this version wrote."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return GeneratorCheck.from_dict(json.loads(path.read_text(encoding="utf-8")))
    return None


def cached_path(spec: SampleSpec, cache: Path) -> Path:
    """Path of the last check of a spec's generator, tune, process and energy in the cache."""
    return cache / "checks" / f"{check_name(spec)}.json"


def nearest_check(spec: SampleSpec, cache: Path) -> GeneratorCheck | None:
    """Last check of a spec's generator, tune and process; None if there is none.

    Of several energies it is the one nearest to the spec's, on a logarithmic scale.
    """
    any_energy = check_name(spec).removesuffix(f"{spec.sqrt_s:g}GeV")
    found = [read_check(path) for path in (cache / "checks").glob(f"{any_energy}*GeV.json")]
    checks = [check for check in found if check is not None and check.tables]
    return min(checks, key=lambda one: abs(math.log(one.sqrt_s / spec.sqrt_s)), default=None)


def where_checked(check: GeneratorCheck, spec: SampleSpec) -> str:
    """Say what was checked, and what of it does not fit a spec."""
    where = f"{check.label} at {check.sqrt_s / 1000:g} TeV"
    if check.sqrt_s != spec.sqrt_s:
        where += f", not checked at {spec.sqrt_s / 1000:g} TeV"
    if check.version != generator_version(spec.generator):
        where += f", version {check.version}"
    return where


def last_check(spec: SampleSpec, cache: Path) -> str:
    """Say in one line what :func:`nearest_check` found, or how to check."""
    check = nearest_check(spec, cache)
    if check is None:
        tune = "" if spec.tune is None else f" --tune {spec.tune}"
        return (
            "this generator was not checked against measurements yet: "
            f"pileupgen simulate --check -g {spec.generator}{tune} --process {spec.process}"
        )
    differing = [table.head.name for table in check.tables if table.differs]
    first = next((t for t in check.tables if t.head.quantity == "et_density"), check.tables[0])
    verdict = f"differs in {', '.join(differing)}" if differing else "no table differs"
    return f"{where_checked(check, spec)}: {first.head.title}, {first.spread}; {verdict}"
