"""`python -m benchmarks`: a trained run beside the baselines, in one table.

The baselines are no part of the package, so that nothing of it depends on theirs; this is run at
the root of the repository.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from pileupgen.cli.main import main
from pileupgen.cli.ui.common import ConfigOption, DeviceOption, RunOption, SeedOption
from pileupgen.errors import DependencyError, RunError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
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
    """Compare a trained run with the baselines: quality and cost in one table.

    Nothing at all, quantile morphing, the Gaussian-copula map by itself and as mode transport,
    reweighting, a normalizing flow, the autoregressive map, diffusion on pixels (judged on 100
    events, for which it takes ten minutes), and the run's own networks in three modes, as
    configured and by a student of that, on the same held-out events. Each row is measured once and
    kept. It needs the extra 'baselines'.

    \b
    Examples:
      python -m benchmarks --quick
      python -m benchmarks --rows partial,invert,pixel
      python -m benchmarks --run runs/delphes_nonlocal
    """
    from benchmarks.table import Plan, chosen_rows, run_table
    from pileupgen.cli.ui.console import console, terminal
    from pileupgen.workflow.model import choose_device
    from pileupgen.workflow.run import choose_run

    if find_spec("zuko") is None:
        raise DependencyError(
            "The normalizing flow needs zuko.", "pip install 'pileupgen[baselines]'"
        )
    opened = choose_run(config, run, seed, terminal)
    opened.adopt()
    chosen = chosen_rows(rows)
    for store in (opened.store("mc"), opened.store("data")):
        terminal.read(store.path, f"{len(store)} events")
    model = opened.directory.model
    if not (model / "model_index.json").is_file():
        raise RunError(
            f"No trained model at {model}.", f"Run 'pileupgen train{opened.arguments}' first."
        )
    terminal.read(model)
    make = Plan.quick if quick else Plan.full
    plan = make(opened.directory.path, opened.config.seed, choose_device(device))
    with terminal.progress("benchmark   ", len(chosen), "rows") as advance:
        _, written = run_table(plan, chosen, advance)
    console.print(written[0].read_text(encoding="utf-8"), soft_wrap=True, markup=False)
    for path in written:
        terminal.wrote(path)


if __name__ == "__main__":
    main(app)
