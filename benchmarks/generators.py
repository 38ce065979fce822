"""Every generator that runs without a download against what detectors measured.

python -m benchmarks.generators [--events 20000] [--seed 1] [--workers 2]
    [--only pythia8:21,sibyll] [--out runs/generators]

The tables and the selection are those of `pileupgen simulate --check`, whose results are used where
they are current. Prints ratios of generated to measured and χ²/n; writes the two figures that
compare the generators into the folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pileupgen.cli.ui.console import terminal
from pileupgen.report.figures.measured import measured_figure
from pileupgen.report.figures.style import write_figure
from pileupgen.simulate.measured.check import GeneratorCheck, TableCheck
from pileupgen.workflow.generator_check import check_spec, check_to

GENERATORS = {
    "Pythia 8 Monash": "pythia8:14",
    "Pythia 8 A14": "pythia8:21",
    "Pythia 8 A2": "pythia8:8",
    "Pythia 8 4C": "pythia8:5",
    "SIBYLL 2.3d": "sibyll",
    "Pythia 6, untuned": "pythia6",
    "Pythia 8 CUETP8M1": "pythia8:18",
    "SIBYLL 2.3e": "sibyll23e",
    "SIBYLL 2.1": "sibyll21",
    "Pythia 8 ET7": "pythia8:ET7",
}
"""Name in the tables: generator and, of Pythia 8, the tune; the figures show the first six."""

N_DRAWN = 6

BY_BIN = ("atlas_2012_et_density", "cms_2011_energy_flow_900", "cms_2011_energy_flow_7000")
"""Tables that are shown bin by bin."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=20_000, help="at each energy")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--workers", type=int)
    options.add_argument("--only", help="generators, as pythia8:21,sibyll")
    options.add_argument("--out", type=Path, default=Path("runs/generators"))
    given = options.parse_args()
    only = given.only.split(",") if given.only else list(GENERATORS.values())
    found: dict[str, list[GeneratorCheck]] = {}
    for label, name in GENERATORS.items():
        if name in only:
            generator, _, tune = name.partition(":")
            values = {"generator": generator, "n_events": given.events, "seed": given.seed}
            spec = check_spec({**values, **({"tune": tune} if tune else {})}, label)
            found[label] = check_to(
                spec,
                given.out / name.replace(":", "_"),
                workers=given.workers,
                listener=terminal,
            )
    tables = {label: tables_of(checks) for label, checks in found.items()}
    for name in BY_BIN:
        print(by_bin(name, tables))
    print(chi2(tables))
    at_7 = [checks[-1] for checks in found.values()][:N_DRAWN]
    for name in ("atlas_2012_et_density", "cms_2011_energy_flow_7000"):
        write_figure(measured_figure(at_7, name), given.out, f"generators_{name}")


def tables_of(checks: Sequence[GeneratorCheck]) -> dict[str, TableCheck]:
    """Tables of all energies by name."""
    return {table.head.name: table for check in checks for table in check.tables}


def by_bin(name: str, tables: dict[str, dict[str, TableCheck]]) -> str:
    """Ratios of one table, a line a generator."""
    first = next(iter(tables.values()))[name]
    bins = [f"{low:.4g}–{high:.4g}" for low, high in zip(first.low, first.high, strict=True)]
    lines = [f"\n{first.head.title}\n", f"| | {' | '.join(bins)} | within errors |"]
    lines.append("|---" * (len(bins) + 2) + "|")
    errors = zip(first.measured, first.down, first.up, strict=True)
    measured = " | ".join(f"{value:.3g} −{down:.2g} +{up:.2g}" for value, down, up in errors)
    lines.append(f"| measured / {first.head.unit} | {measured} | |")
    for label, of_generator in tables.items():
        table = of_generator[name]
        pairs = zip(table.ratio, table.ratio_error, strict=True)
        ratios = " | ".join(f"{ratio:.3f} ± {error:.3f}" for ratio, error in pairs)
        lines.append(f"| {label} | {ratios} | {table.n_within} of {table.n_bins} |")
    return "\n".join(lines)


def chi2(tables: dict[str, dict[str, TableCheck]]) -> str:
    """χ²/n of every table, a line a generator."""
    names = list(next(iter(tables.values())))
    lines = [f"\n| χ²/n | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for label, found in tables.items():
        values = " | ".join(f"{found[name].chi2 / found[name].n_bins:.1f}" for name in names)
        lines.append(f"| {label} | {values} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
