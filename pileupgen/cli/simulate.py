"""`pileupgen simulate`: generators, pileup and a fast calorimeter, or jets; to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pileupgen.cli.ui.common import ConfigOption, DeviceOption, RunOption
from pileupgen.cli.ui.console import terminal


def simulate(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="ROOT file; of jets HDF5. (default: simulated.root, or top.h5)"
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
    n_events: Annotated[
        int | None, typer.Option("--n-events", "-n", min=1, help="Events. (default: 4000)")
    ] = None,
    mu: Annotated[
        float | None,
        typer.Option("--mu", help="Mean number of interactions per event. (default: 60)"),
    ] = None,
    mu_profile: Annotated[
        Path | None,
        typer.Option("--mu-profile", help="Two columns, mu and its probability; replaces --mu."),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            "-g",
            help="pythia8, sibyll; pythia6, which is untuned and a third too soft; epos and others "
            "fetch tables. (default: pythia8)",
        ),
    ] = None,
    tune: Annotated[
        int | None, typer.Option("--tune", help="Pythia 8's Tune:pp, 21 is A14. (default: 14)")
    ] = None,
    process: Annotated[
        str | None,
        typer.Option(
            "--process",
            help="Pileup: inelastic; with pythia8 also nondiffractive, nsd, all. Jets, pythia8: "
            "top, w. (default: inelastic)",
        ),
    ] = None,
    sqrt_s: Annotated[
        float | None, typer.Option("--sqrt-s", help="GeV, proton on proton. (default: 13000)")
    ] = None,
    pool_size: Annotated[
        int | None,
        typer.Option(
            "--pool-size", min=1, help="Minimum-bias interactions to draw from. (default: 12000)"
        ),
    ] = None,
    response: Annotated[
        str | None,
        typer.Option("--response", help="Response card: mc, data, or a path. (default: mc)"),
    ] = None,
    mirror_eta: Annotated[
        bool | None,
        typer.Option(
            "--mirror-eta/--no-mirror-eta",
            help="Mirror each interaction in η with probability ½. (default: no)",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed. (default: 1)")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes. (default: all cores)")
    ] = None,
    rntuple: Annotated[
        bool, typer.Option("--rntuple", help="Write an RNTuple in place of a tree.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Make it even if it is current.")] = False,
    config: ConfigOption = None,
    run: RunOption = None,
    device: DeviceOption = None,  # noqa: ARG001 - every command takes it; generators need none
) -> None:
    """Simulate pileup events: generator, overlay, fast calorimeter. Or jets.

    Writes a ROOT file with Delphes' own tree and branch names; in an RNTuple (--rntuple) without
    dots, Tower_Eta for Tower.Eta. The towers depend on the options
    and the seed alone. Samples that differ in --response only hold the same interactions.

    With --process top or w it makes jets of boosted tops or W bosons (p_T near 1 TeV, anti-k_t
    R = 0.8, 30 leading particles) and writes HDF5 in JetNet's layout.

    \b
    Examples:
      pileupgen simulate
      pileupgen simulate --tune 21 --response data --seed 2 -o data.root
      pileupgen simulate -g sibyll --mu 30 -n 1000 -o sibyll.root
      pileupgen simulate --process top -n 5000 -o top.h5
      pileupgen simulate --card demo_mc
      pileupgen simulate --config demo
    """
    from pileupgen.workflow.generated import parse_spec, simulate_to, spec_of_card
    from pileupgen.workflow.preprocess import generate_samples
    from pileupgen.workflow.run import choose_run

    options: dict[str, Any] = {
        "n_events": n_events,
        "mu": mu,
        "mu_profile": None if mu_profile is None else str(mu_profile),
        "generator": generator,
        "tune": tune,
        "process": process,
        "sqrt_s": sqrt_s,
        "pool_size": pool_size,
        "response": response,
        "mirror_eta": mirror_eta,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if config is not None or run is not None:
        opened = choose_run(config, run, listener=terminal)
        generate_samples(opened, replaced=[*given, *(["card"] if card else [])])
        terminal.next(f"pileupgen preprocess{opened.arguments}")
        return
    made = "pileupgen simulate"
    spec = parse_spec(given, made) if card is None else spec_of_card(card, given)
    name = None if card is None else Path(card).stem
    path = simulate_to(
        spec,
        output,
        name,
        force=force,
        workers=workers,
        container="rntuple" if rntuple else "ttree",
        listener=terminal,
    )
    before = "" if card is not None else f"name {path} under 'files' in a data card, then "
    terminal.next(f"{before}pileupgen preprocess")
