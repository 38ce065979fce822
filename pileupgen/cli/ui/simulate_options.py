"""Options of `pileupgen simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

SimulatedOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="ROOT file to write; for jets an HDF5 file, with --check a folder. (default: "
        "simulated.root; PROCESS.root, PROCESS.h5 for hard scatters, jets; checks)",
    ),
]
GeneratorOption = Annotated[
    str | None,
    typer.Option(
        "--generator",
        "-g",
        help="Generator: pythia8, sibyll, or pythia6, which is untuned and a third too soft; epos "
        "and others of chromo download tables first. (default: pythia8)",
    ),
]
TuneOption = Annotated[
    int | None, typer.Option("--tune", help="Pythia 8's Tune:pp; 21 is A14. (default: 14)")
]
ProcessOption = Annotated[
    str | None,
    typer.Option(
        "--process",
        help="Process of pileup: inelastic, with pythia8 also nondiffractive, nsd or all; of hard "
        "scatters (pythia8): dijet, ttbar, zee or zmumu; of jets (pythia8): top or w. "
        "(default: inelastic)",
    ),
]
PtMinOption = Annotated[
    float | None,
    typer.Option("--pt-min", help="Least p_T of dijet's partons in GeV. (default: 30)"),
]
FillingOption = Annotated[
    str | None,
    typer.Option(
        "--filling",
        metavar="PATTERN",
        help="Filled (b) and empty (e) crossings, repeated, for response cards with pulse shapes. "
        "(default: all filled)",
    ),
]
ReadoutOption = Annotated[
    Literal["card", "unsuppressed", "noiseless"] | None,
    typer.Option(
        "--readout",
        help="Readout of the calorimeter: as the response card says; without zero suppression, so "
        "that energies can be negative; or also without noise, for hard scatters that pileup is "
        "added to. (default: card)",
    ),
]
SqrtSOption = Annotated[
    float | None,
    typer.Option("--sqrt-s", help="Centre-of-mass energy of pp in GeV. (default: 13000)"),
]
CheckOption = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Make no sample: compare single interactions with what ATLAS and CMS measured.",
    ),
]
TableOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--table",
        help="With --check: a measured table of your own, CSV or YODA text; may be repeated.",
        show_default=False,
    ),
]
MuOption = Annotated[
    float | None,
    typer.Option(
        "--mu", help="Mean number of interactions per event. (default: 60; of hard scatters 0)"
    ),
]
MuProfileOption = Annotated[
    Path | None,
    typer.Option("--mu-profile", help="Text file of μ and its probability; replaces --mu."),
]
PoolSizeOption = Annotated[
    int | None,
    typer.Option(
        "--pool-size",
        min=1,
        help="Number of minimum-bias interactions to draw from. (default: 12000)",
    ),
]
ResponseOption = Annotated[
    str | None,
    typer.Option(
        "--response", help="Response card: mc, data, out_of_time or a path. (default: mc)"
    ),
]
MirrorEtaOption = Annotated[
    bool | None,
    typer.Option(
        "--mirror-eta/--no-mirror-eta",
        help="Mirror each interaction in η with probability ½. (default: no)",
        show_default=False,
    ),
]
MinimumBiasOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--minimum-bias",
        help="Interactions of pileup in place of a generator's: HepMC (.gz too) or Delphes' "
        ".pileup; may be repeated.",
        show_default=False,
    ),
]
HardScatterOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--hard-scatter",
        help="Files of the same kinds with a hard scatter for each event; may be repeated.",
        show_default=False,
    ),
]
HepmcOption = Annotated[
    Path | None,
    typer.Option(
        "--hepmc", help="Write the pool of interactions as HepMC 3, too.", show_default=False
    ),
]
RntupleOption = Annotated[
    bool, typer.Option("--rntuple", help="Write an RNTuple in place of a tree.")
]
SimulatedEventsOption = Annotated[
    int | None,
    typer.Option(
        "--n-events",
        "-n",
        min=1,
        help="Number of events; with --check, of interactions at each energy. "
        "(default: 4000; 12000)",
    ),
]
SimulatedSeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="Random seed. (default: 1)")
]
SimulatedWorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Number of processes. (default: all cores)")
]
