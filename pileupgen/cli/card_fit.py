"""`pileupgen cards fit`: a response card from recorded towers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pileupgen.cli.ui.console import terminal
from pileupgen.cli.ui.fit_table import show_fit


def fit_card(
    name: Annotated[str, typer.Argument(help="Card of the recorded sample.")],
    source: Annotated[
        str, typer.Option("--source", help="Card of a generated sample: generator, tune, √s, μ.")
    ] = "demo_mc",
    response: Annotated[
        str, typer.Option("--response", help="Response card to begin with: mc, data, or a path.")
    ] = "mc",
    events: Annotated[
        int, typer.Option("--events", "-n", min=2, help="Recorded events; half enter the fit.")
    ] = 1200,
    simulated: Annotated[int, typer.Option("--simulated", min=1, help="Simulated events.")] = 400,
    refine: Annotated[
        bool,
        typer.Option(
            help="Fit a smooth χ² as well, which has intervals; takes two to three times as long.",
        ),
    ] = True,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The fitted response card.")
    ] = Path("fitted_response.yaml"),
) -> None:
    """Fit the numbers of a response card to recorded towers.

    Energy sharing, thresholds, resolution, leakage and noise are changed until spectra of cells
    and products of neighbours in simulated events agree with those in recorded ones. The fit
    begins with the card --response. The generator, √s and μ have to be right: the fit attributes
    their errors to the detector.

    \b
    Examples:
      pileupgen cards fit recorded.yaml --source demo_data
      pileupgen cards fit delphes_mild --source a14_13tev.yaml
    """
    from pileupgen.workflow.response_fit import fit_card as fit

    found = fit(
        name,
        source,
        response,
        output,
        n_recorded=events,
        n_simulated=simulated,
        refined=refine,
        listener=terminal,
    )
    show_fit(found)
    terminal.next(f"pileupgen simulate --card {source} --response {output}")
