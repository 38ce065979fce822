"""`pileupgen demo`: demonstrations, each in one command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pileupgen.cli.ui.session import DeviceOption, SeedOption

if TYPE_CHECKING:
    from pileupgen.jets.emergence import PathFigure


def jetnet(
    run: Annotated[
        Path | None,
        typer.Option("--run", "-r", help="Run directory. (default: runs/jetnet)"),
    ] = None,
    input_top: Annotated[
        Path | None,
        typer.Option(
            "--input-top",
            help="JetNet's t.hdf5, instead of jets from Pythia 8.",
            show_default=False,
        ),
    ] = None,
    input_w: Annotated[
        Path | None,
        typer.Option("--input-w", help="JetNet's w.hdf5; goes with it.", show_default=False),
    ] = None,
    n_jets: Annotated[
        int, typer.Option("--n-jets", min=50, help="Held-out jets of each class in the figure.")
    ] = 1000,
    seed: SeedOption = None,
    device: DeviceOption = None,
) -> None:
    """Turn top jets into W jets and back: switch the class label and denoise.

    Simulates jets of boosted tops and W bosons (or reads JetNet's own), preprocesses, trains,
    translates top into W, validates, and draws the figure of the diffusion: the noise, the way out
    of it, and the end. What is done already is not done again.

    \b
    Examples:
      pileupgen demo jetnet
      pileupgen demo jetnet --input-top t.hdf5 --input-w w.hdf5 --run runs/jetnet_own
    """
    # Networks of a table are too small to be shared between threads; read when torch is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from pileupgen.cli.preprocess import preprocess
    from pileupgen.cli.train import train
    from pileupgen.cli.translate import translate
    from pileupgen.cli.validate import validate

    name = _choose_config(input_top, input_w)
    folder = run or Path("runs") / name
    config = Path(name)
    preprocess(config=config, run=folder, seed=seed)
    train(run=folder, device=device)
    translate(run=folder, device=device)
    validate(run=folder)
    _show_ways(folder, n_jets)


def _choose_config(input_top: Path | None, input_w: Path | None) -> str:
    """The config's name; files given are handed to its cards."""
    from pileupgen.errors import ConfigError, MissingInputError

    if input_top is None and input_w is None:
        return "jetnet"
    if input_top is None or input_w is None:
        raise ConfigError("--input-top and --input-w go together.", "Give both, or neither.")
    for variable, path in (("JETNET_TOP", input_top), ("JETNET_W", input_w)):
        if not path.is_file():
            raise MissingInputError(
                f"No file {path}.", "JetNet's files are at https://zenodo.org/records/6975118."
            )
        os.environ[variable] = str(path.resolve())
    return "jetnet_files"


def _show_ways(folder: Path, n_jets: int) -> None:
    """Draw the figure, and tell how near the jets come."""
    import json

    from pileupgen.cli.ui.console import progress, say_current, say_next, say_wrote
    from pileupgen.cli.ui.session import open_session
    from pileupgen.errors import ConfigError
    from pileupgen.files import write_whole
    from pileupgen.jets import figure_data as demo_figure
    from pileupgen.run import fingerprint

    session = open_session(None, folder)
    directory, t_release = session.run, session.config.translate.t_release
    if not isinstance(t_release, int):
        raise ConfigError(f"The demonstration takes a timestep as t_release, not '{t_release}'.")
    table, seed = directory.validation / "jetnet.json", session.config.seed
    made_from = fingerprint([directory.details("train")["made_from"], n_jets, t_release, seed])
    figures = directory.validation / "figures"
    if directory.is_current("demo", made_from, [table]):
        say_current("demo", table)
        _show_table(json.loads(table.read_text(encoding="utf-8")))
    else:
        total = demo_figure.n_steps(directory, t_release)
        with progress("follow jets ", total, "steps") as advance:
            found = demo_figure.compute(directory, n_jets, t_release, seed, advance)
        for path in demo_figure.draw(found, figures):
            say_wrote(path)
        rows = _rows(found)
        write_whole(table, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        directory.finish("demo", made_from, {"n_jets": n_jets, "t_release": t_release})
        _show_table(rows)
    say_next(f"look at {figures / 'denoising_mass.png'} and {directory.validation / 'report.html'}")


def _rows(figures: dict[str, PathFigure]) -> list[dict[str, str | float]]:
    return [
        {
            "variable": figure.label,
            "unit": figure.unit,
            "class": pane.title,
            "noise": pane.noise_distance,
            "emulated": pane.distance,
            "switched": pane.switched_distance,
            "unchanged": pane.source_distance,
            "reference": pane.reference,
        }
        for figure in figures.values()
        for pane in figure.panes
    ]


def _show_table(rows: list[dict[str, str | float]]) -> None:
    from rich.table import Table

    from pileupgen.cli.ui.console import console

    table = Table(title="1D Wasserstein distances to real jets", title_justify="left")
    columns = {
        "variable": "",
        "class": "",
        "noise": "noised real to Gaussian",
        "unchanged": "other class as it is",
        "switched": "other class, switched",
        "emulated": "emulated from noise",
        "reference": "reference",
    }
    for key, heading in columns.items():
        table.add_column(heading or key, justify="left" if not heading else "right")
    for row in rows:
        unit = f" {row['unit']}" if row["unit"] else ""
        cells = [
            f"{row[key]:.3g}{unit if key != 'noise' else ''}" if columns[key] else str(row[key])
            for key in columns
        ]
        table.add_row(*cells)
    console.print(table)


COMMANDS = {"jetnet": jetnet}
