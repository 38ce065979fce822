"""`pileupgen benchmark`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pileupgen.cli.ui.session import ConfigOption, DeviceOption, RunOption, SeedOption


def benchmark(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="NAME,…",
            help="Only these rows; beginnings of names will do. (default: all)",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="200 events and seconds of training a row: a rough table."),
    ] = False,
) -> None:
    """Compare a trained run with what one could do instead: quality and cost in one table.

    Nothing at all, quantile morphing, the Gaussian-copula map by itself and as mode transport,
    reweighting, a normalizing flow, diffusion on pixels (judged on 100 events, for which it takes
    ten minutes), and the run's own networks in three modes and as configured, on the same held-out
    events. Each row is measured once and kept. The baselines live in the repository, not in the
    package: it takes a checkout, and the extra 'baselines'.

    \b
    Examples:
      pileupgen benchmark --quick
      pileupgen benchmark --rows partial,invert,pixel
      pileupgen benchmark --run runs/delphes_nonlocal
    """
    from pileupgen.cli.ui.console import console, progress, say_read, say_wrote
    from pileupgen.cli.ui.session import choose_device, open_session, open_store

    table = _table_of_checkout()
    session = open_session(config, run, seed)
    session.adopt()
    chosen = table.chosen_rows(rows)
    for domain in ("mc", "data"):
        store = open_store(session.run.images(domain), f"pileupgen preprocess{session.arguments}")
        say_read(f"{store.path}  {len(store)} events")
    _require_trained(session.run.model, session.arguments)
    say_read(session.run.model)
    make = table.Plan.quick if quick else table.Plan.full
    plan = make(session.run.path, session.config.seed, choose_device(device))
    with progress("benchmark   ", len(chosen), "rows") as advance:
        _, written = table.run_table(plan, chosen, advance)
    console.print(written[0].read_text(encoding="utf-8"), soft_wrap=True, markup=False)
    for path in written:
        say_wrote(path)


def _table_of_checkout() -> Any:
    """The module ``benchmarks.table`` beside this package.

    Raises
    ------
    MissingInputError
        If this is no checkout.
    DependencyError
        If a baseline's package is missing.
    """
    from importlib.util import find_spec

    from pileupgen.errors import DependencyError, MissingInputError

    root = Path(__file__).parents[2]
    if not (root / "benchmarks" / "table.py").is_file():
        raise MissingInputError(
            "'pileupgen benchmark' needs the repository: an installed package has no benchmarks.",
            "Clone it, and run 'pip install -e .[baselines]' there.",
        )
    if find_spec("zuko") is None:
        raise DependencyError(
            "The normalizing flow needs zuko.", "pip install 'pileupgen[baselines]'"
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module("benchmarks.table")


def _require_trained(model: Path, arguments: str) -> None:
    from pileupgen.errors import RunError

    if not (model / "model_index.json").is_file():
        raise RunError(f"No trained model at {model}.", f"Run 'pileupgen train{arguments}' first.")
