"""`pileupgen simulate`: generators, pileup and a fast calorimeter, or jets; to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pileupgen.cli.ui.session import ConfigOption, DeviceOption, RunOption

if TYPE_CHECKING:
    from pileupgen.jets.produce import JetSummary
    from pileupgen.jets.spec import JetSpec
    from pileupgen.simulate.produce import SampleSummary
    from pileupgen.workflow.generated import Spec

DEFAULT_NAME = "simulated"


def simulate(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="ROOT file; of jets HDF5. (default: simulated.root, or top.h5)",
            show_default=False,
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
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed. (default: 1)")] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes. (default: all cores)"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make it even if it is current.")] = False,
    config: ConfigOption = None,
    run: RunOption = None,
    device: DeviceOption = None,  # noqa: ARG001 - every command takes it; generators need none
) -> None:
    """Simulate pileup events: generator, overlay, fast calorimeter. Or jets.

    Writes a ROOT file with Delphes' own tree and branch names. The towers depend on the options
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
    from pileupgen.cli.ui.console import console, progress, say_current, say_next
    from pileupgen.simulate.produce import default_cache
    from pileupgen.workflow.generated import is_current, make, n_units, suffix

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
        _samples_of_a_config(config, run, [*given, *(["card"] if card else [])])
        return
    spec = _from_card(card, given) if card is not None else _from_options(given)
    path = output or Path(f"{_default_name(card, spec)}{suffix(spec)}")
    console.print(f"[bold]make[/]   {describe(spec)}", soft_wrap=True)
    if not force and is_current(spec, path):
        say_current("simulate", path)
    else:
        with progress("simulate", n_units(spec)) as advance:
            summary = make(spec, path, advance, cache=default_cache(), workers=workers)
        _say_made(summary)
    say_next(
        "pileupgen preprocess"
        if card is not None
        else f"name {path} under 'files' in a data card, then pileupgen preprocess"
    )


def _default_name(card: str | None, spec: Spec) -> str:
    from pileupgen.jets.spec import JetSpec

    if card is not None:
        return Path(card).stem
    return spec.process if isinstance(spec, JetSpec) else DEFAULT_NAME


def _say_made(summary: SampleSummary | JetSummary) -> None:
    from pileupgen.cli.ui.console import say_read, say_wrote
    from pileupgen.simulate.produce import SampleSummary

    if isinstance(summary, SampleSummary) and summary.pool is not None:
        if summary.pool_was_cached:
            say_read(f"{summary.pool} (minimum-bias pool)")
        else:
            say_wrote(summary.pool, "minimum-bias pool, kept for the next sample")
    say_wrote(summary.path, summary.note)


def _samples_of_a_config(config: Path | None, run: Path | None, others: list[str]) -> None:
    """Make the samples that a config's cards ask for, where `preprocess` looks for them."""
    from pileupgen.cli.preprocess import find_card, generate_sample
    from pileupgen.cli.ui.console import say_next, say_read
    from pileupgen.cli.ui.sample_table import DOMAINS
    from pileupgen.cli.ui.session import open_session
    from pileupgen.errors import ConfigError

    if others:
        raise ConfigError(
            f"--config takes its samples from cards; it does not go with {', '.join(others)}.",
            "Change the card, or leave --config and --run out.",
        )
    session = open_session(config, run)
    for domain in DOMAINS:
        card = find_card(session, domain)
        if card.generate is None:
            say_read(f"{domain}: card '{card.name}' names files, there is nothing to make")
        else:
            generate_sample(session, card)
    say_next(f"pileupgen preprocess{session.arguments}")


def describe(spec: Spec) -> str:
    """One line that says what will be made."""
    from pileupgen.jets.spec import JetSpec
    from pileupgen.simulate.generators import UNTUNED

    if isinstance(spec, JetSpec):
        return _describe_jets(spec)
    tune = "" if spec.tune is None else f" tune {spec.tune}"
    if spec.generator == "pythia6":
        tune = f" ({UNTUNED})"
    mu = f"⟨μ⟩ = {spec.mu:g}" if spec.mu_profile is None else "a given μ profile"
    return (
        f"{spec.n_events} events, {mu}, {spec.generator}{tune} {spec.process} at "
        f"{spec.sqrt_s / 1000:g} TeV, pool of {spec.pool_size}, response '{spec.response}', "
        f"seed {spec.seed}"
    )


def _describe_jets(spec: JetSpec) -> str:
    return (
        f"{spec.n_events} {spec.process} jets of p_T near {spec.pt:g} GeV, {spec.generator} tune "
        f"{spec.tune} at {spec.sqrt_s / 1000:g} TeV, anti-k_t R = {spec.radius:g}, "
        f"{spec.n_constituents} leading particles, seed {spec.seed}"
    )


def _from_options(given: dict[str, Any]) -> Spec:
    from pileupgen.workflow.generated import parse_spec

    return parse_spec(given, "pileupgen simulate")


def _from_card(name: str, given: dict[str, Any]) -> Spec:
    from pileupgen.errors import CardError
    from pileupgen.resources import find_file
    from pileupgen.samples.cards import load_card
    from pileupgen.workflow.generated import parse_spec

    card = load_card(find_file(name, "data_cards"))
    if card.generate is None:
        raise CardError(
            f"Card '{card.name}' ({card.path}) names files; it has no 'generate'.",
            "Take a card of a generated sample, or give the options yourself.",
        )
    return parse_spec(
        {**card.generate, **given}, f"'generate' in {card.path}", folder=card.path.parent
    )
