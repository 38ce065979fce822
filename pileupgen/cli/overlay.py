"""`pileupgen overlay`: hard scatters with pileup."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pileupgen.cli.ui.common import DryRunOption, ForceOption, show_plan
from pileupgen.cli.ui.console import terminal
from pileupgen.cli.ui.farm import with_farm
from pileupgen.cli.ui.settings import with_overlay


@with_farm
@with_overlay
def overlay(
    signal: Annotated[
        str,
        typer.Option(
            "--signal",
            metavar="CARD|STORE",
            help="Hard scatters: a card's name or path, or an image store.",
        ),
    ],
    pileup: Annotated[
        str,
        typer.Option(
            "--pileup",
            metavar="LIBRARY",
            help="Pileup: an overlay library, an image store, a run for its translated events, or "
            "a card.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Image store to write.")] = Path(
        "overlaid.h5"
    ),
    given: Any = None,
    split: Annotated[
        Literal["train", "validation", "test", "all"],
        typer.Option("--split", help="Split of the hard scatters."),
    ] = "all",
    max_events: Annotated[
        int | None,
        typer.Option("--max-events", "-n", min=1, help="Largest number of hard scatters."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed.")] = 1,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="NAME",
            help="What may differ between the samples: thresholds, period; may be repeated.",
        ),
    ] = None,
    bias: Annotated[
        bool,
        typer.Option(
            "--bias",
            help="If the pileup is zero-suppressed, compute the bias on simulated events.",
        ),
    ] = False,
    farm: Any = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Add pileup to hard scatters, cell by cell: translated, simulated or recorded pileup.

    Each hard scatter gets a pileup event of a μ that is drawn from a profile. What it gets depends
    on the two samples, the options, the seed and its position only: not on the number of workers,
    nor on interruptions. Every event keeps the ids, seeds and weights of both, and no source event
    of pileup is used more often than --max-reuse says.
    Energies are best added before the zero suppression: where the samples have unsuppressed
    energies, give the threshold of the sum with --zero-suppression.

    \b
    Examples:
      pileupgen overlay --signal signal.h5 --pileup runs/demo --bias
      pileupgen overlay --signal my_ttbar --pileup library.h5 --mu-profile flat:40,80 -j 2
      pileupgen overlay --signal signal.h5 --pileup raw.h5 --zero-suppression 0.5,1.0
      pileupgen overlay --signal signal.h5 --pileup library.h5 --copies 3 --max-reuse 2 --dry-run
    """
    from pileupgen.overlay.settings import OverlaySettings
    from pileupgen.workflow.overlay import OverlayRequest, plan_overlay
    from pileupgen.workflow.overlay import overlay as run_overlay

    request = OverlayRequest(
        signal, pileup, output, split, max_events, seed, tuple(allow or ()), force, bias
    )
    settings = OverlaySettings(**given)
    if dry_run:
        show_plan(plan_overlay(request, settings, terminal))
        return
    run_overlay(request, settings, farm=farm, listener=terminal)
