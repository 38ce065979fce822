"""`pileupgen simulate`: generators, pileup and a fast calorimeter, jets or showers; to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pileupgen.cli.ui.common import ConfigOption, DeviceOption, RunOption
from pileupgen.cli.ui.console import terminal
from pileupgen.cli.ui.simulate_options import with_sample


@with_sample
def simulate(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="ROOT file to write; for jets, showers and zdc HDF5, with --check a folder. "
            "(default: simulated.root; PROCESS.root for hard scatters, PROCESS.h5; checks)",
        ),
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(
            "--card",
            help="Make the sample that a data card describes: a name or a path. "
            "The options below replace what it says.",
        ),
    ] = None,
    given: Any = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Number of processes. (default: all cores)"),
    ] = None,
    hepmc: Annotated[
        Path | None, typer.Option("--hepmc", help="Also write the pool of interactions as HepMC 3.")
    ] = None,
    rntuple: Annotated[
        bool, typer.Option("--rntuple", help="Write an RNTuple in place of a tree.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Make no sample; compare single interactions with measurements of ATLAS and CMS.",
        ),
    ] = False,
    table: Annotated[
        list[Path] | None,
        typer.Option(
            "--table",
            help="With --check: a measured table of your own, CSV or YODA text; may be repeated.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make the sample even if it is up to date.")
    ] = False,
    config: ConfigOption = None,
    run: RunOption = None,
    device: DeviceOption = None,  # noqa: ARG001 - every command takes it; generators need none
) -> None:
    """Simulate pileup events, hard scatters, jets or single particles.

    A generator makes interactions, which are overlaid and pass a fast calorimeter. The ROOT file
    has Delphes' tree and branch names; an RNTuple (--rntuple) has Tower_Eta for Tower.Eta. The
    towers depend on the options and the seed alone. Samples that differ in --response only hold
    the same interactions.

    With --process dijet, ttbar, zee or zmumu each event has a hard scatter, which 'pileupgen
    overlay' adds pileup to; --mu adds simulated pileup here. With top, w or qcd it makes jets of
    boosted tops, W bosons or light partons (p_T near 1 TeV, anti-k_t R = 0.8, 30 leading particles)
    and writes HDF5 in JetNet's layout. With shower it makes showers of electrons or pions by a
    parametrisation and writes HDF5 in the CaloChallenge's layout. With zdc it makes neutrons or
    protons in a zero-degree calorimeter: photons in every fibre, and nine numbers of the particle.

    With --check it compares the generator with published measurements, applying their own
    selection to particles, and writes ratios, χ² and figures into a folder.

    \b
    Examples:
      pileupgen simulate
      pileupgen simulate --tune 21 --response data --seed 2 -o data.root
      pileupgen simulate -g sibyll --mu 30 -n 1000 -o sibyll.root
      pileupgen simulate --process dijet --pt-min 40 --readout noiseless -o dijet.root
      pileupgen simulate --process top -n 5000 -o top.h5
      pileupgen simulate --process shower --energy 1 100 -n 5000 -o shower.h5
      pileupgen simulate --process shower --particle pion --geometry cube_30 -o pions.h5
      pileupgen simulate --process zdc --particle neutron -n 5000 -o neutrons.h5
      pileupgen simulate --card demo_mc
      pileupgen simulate --check -g sibyll
      pileupgen simulate --config demo
    """
    from pileupgen.cli.ui.check_table import show_checks
    from pileupgen.workflow.generated import parse_spec, simulate_to, spec_of_card
    from pileupgen.workflow.generator_check import check_spec, check_to
    from pileupgen.workflow.preprocess import generate_samples
    from pileupgen.workflow.run import choose_run

    aside = {name: value for name, value in (("hepmc", hepmc), ("rntuple", rntuple)) if value}
    if config is not None or run is not None:
        opened = choose_run(config, run, listener=terminal)
        named = {"card": card, "check": check, "table": table, "output": output, **aside}
        generate_samples(opened, replaced=[*given, *(name for name in named if named[name])])
        terminal.next(f"pileupgen preprocess{opened.arguments}")
        return
    made = "pileupgen simulate"
    if check or table:
        wanted = check_spec({**given, **aside}, made, card)
        checked = (wanted, output or Path("checks"), table or ())
        show_checks(check_to(*checked, force=force, workers=workers, listener=terminal))
        return
    spec = parse_spec(given, made) if card is None else spec_of_card(card, given)
    path = simulate_to(
        spec,
        output,
        None if card is None else Path(card).stem,
        force=force,
        workers=workers,
        container="rntuple" if rntuple else "ttree",
        hepmc=hepmc,
        listener=terminal,
    )
    before = "" if card is not None else f"name {path} under 'files' in a data card, then "
    terminal.next(f"{before}pileupgen preprocess")
