"""`pileupgen demo`: demonstrations, each in one command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pileupgen.cli.ui.common import DeviceOption, SeedOption
from pileupgen.cli.ui.console import console, terminal
from pileupgen.cli.ui.jet_table import distance_rows, distance_table


def jetnet(
    run: Annotated[
        Path | None,
        typer.Option("--run", "-r", help="Run directory. (default: runs/jetnet)"),
    ] = None,
    input_top: Annotated[
        Path | None,
        typer.Option("--input-top", help="JetNet's t.hdf5, instead of jets from Pythia 8."),
    ] = None,
    input_w: Annotated[
        Path | None,
        typer.Option("--input-w", help="JetNet's w.hdf5; needs --input-top."),
    ] = None,
    n_jets: Annotated[
        int, typer.Option("--n-jets", min=50, help="Held-out jets of each class in the figure.")
    ] = 1000,
    seed: SeedOption = None,
    device: DeviceOption = None,
) -> None:
    """Turn top jets into W jets and back: switch the class label and denoise.

    Simulates jets of boosted tops and W bosons (or reads JetNet's own), preprocesses, trains,
    translates top into W, validates, and draws the figure of the diffusion: pure noise, the steps
    in between, and the final jets. What is done already is not done again.

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

    from pileupgen.errors import ConfigError
    from pileupgen.files import write_whole
    from pileupgen.jets import figure_data as demo_figure
    from pileupgen.run import fingerprint
    from pileupgen.workflow.run import Run

    opened = Run.open(folder, listener=terminal)
    directory, settings = opened.directory, opened.config.translate
    if settings.t_release == "auto":
        raise ConfigError("The demonstration takes a timestep as t_release, not 'auto'.")
    table, seed = directory.validation / "jetnet.json", opened.config.seed
    translation = settings.provenance()
    made_from = fingerprint([directory.details("train")["made_from"], n_jets, translation, seed])
    figures = directory.validation / "figures"
    if directory.is_current("demo", made_from, [table]):
        terminal.current("demo", table)
        console.print(distance_table(json.loads(table.read_text(encoding="utf-8"))))
    else:
        total = demo_figure.n_steps(directory)
        with terminal.progress("follow jets ", total, "steps") as advance:
            found = demo_figure.compute(directory, n_jets, settings, seed, advance)
        for path in demo_figure.draw(found, figures):
            terminal.wrote(path)
        rows = distance_rows(found)
        write_whole(table, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        directory.finish("demo", made_from, {"n_jets": n_jets, "translation": translation})
        console.print(distance_table(rows))
    page = directory.validation / "report.html"
    terminal.next(f"look at {figures / 'denoising_mass.png'} and {page}")


COMMANDS = {"jetnet": jetnet}
