"""The settings of a generated sample as options of `pileupgen simulate`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

from pileupgen.cli.ui.gathered import gathered, option


def _option(kind: Any, *names: str, text: str, **more: Any) -> inspect.Parameter:
    return option(kind | None, None, *names, text=text, **more)


OPTIONS = (
    _option(
        int,
        "--n-events",
        "-n",
        min=1,
        text="Number of events; with --check, of interactions at each energy. "
        "(default: 4000; 12000)",
    ),
    _option(
        float,
        "--mu",
        text="Mean number of interactions per event. (default: 60; of hard scatters 0)",
    ),
    _option(Path, "--mu-profile", text="Text file of μ and its probability; replaces --mu."),
    _option(
        str,
        "--filling",
        metavar="PATTERN",
        text="Filled (b) and empty (e) crossings, repeated, for response cards with pulse shapes. "
        "(default: all filled)",
    ),
    _option(
        int,
        "--consecutive",
        min=1,
        metavar="N",
        text="Keep the readout of N crossings in a row, filled or not, before going on elsewhere: "
        "they see each other's pileup. (default: 1)",
    ),
    _option(
        str,
        "--generator",
        "-g",
        text="Generator: pythia8, sibyll, or pythia6, which is untuned and a third too soft; epos "
        "and others of chromo download tables first. (default: pythia8)",
    ),
    _option(
        str,
        "--tune",
        text="Pythia 8's Tune:pp, 21 is A14; or ET7, fitted to measurements. (default: 14)",
    ),
    _option(
        str,
        "--process",
        text="Process of pileup: inelastic, with pythia8 also nondiffractive, nsd or all; of hard "
        "scatters (pythia8): dijet, ttbar, zee or zmumu; of jets (pythia8): top, w or qcd; shower: "
        "single showers; zdc: particles in a zero-degree calorimeter. (default: inelastic)",
    ),
    _option(
        Literal["electron", "pion", "neutron", "proton"],
        "--particle",
        text="Particle of shower: electron, or pion, whose showers are hadronic; of zdc: neutron "
        "or proton. (default: electron; neutron)",
    ),
    _option(
        str,
        "--geometry",
        text="Voxels of shower: calochallenge_2 or calochallenge_3, rings and sectors; or cube_30, "
        "30 layers of 30 × 30 squares. (default: calochallenge_2)",
    ),
    _option(
        tuple[float, float],
        "--energy",
        metavar="LOW HIGH",
        text="Energies of the particles of shower or zdc in GeV, uniform in the logarithm. "
        "(default: 1 100; 20 300)",
    ),
    _option(
        float, "--angle", text="Angle of the particles of shower to the axis, degrees. (default: 0)"
    ),
    _option(float, "--pt-min", text="Minimum p_T of the partons of dijet in GeV. (default: 30)"),
    _option(float, "--sqrt-s", text="Centre-of-mass energy of pp in GeV. (default: 13600)"),
    _option(
        int,
        "--pool-size",
        min=1,
        text="Number of minimum-bias interactions to draw from. (default: 12000)",
    ),
    _option(
        str, "--response", text="Response card: mc, data, out_of_time or a path. (default: mc)"
    ),
    _option(
        Literal["card", "unsuppressed", "noiseless"],
        "--readout",
        text="Readout of the calorimeter: as the response card says; without zero suppression, so "
        "that energies can be negative; or also without noise, for hard scatters that pileup is "
        "added to. (default: card)",
    ),
    _option(
        str,
        "--period",
        metavar="NAME",
        text="Period of the response card that all events are of. (default: each event is of one "
        "of its periods, drawn by their parts)",
    ),
    _option(
        bool,
        "--mirror-eta/--no-mirror-eta",
        text="Mirror each interaction in η with probability ½. (default: no)",
    ),
    _option(int, "--seed", min=0, text="Random seed. (default: 1)"),
    _option(
        list[Path],
        "--minimum-bias",
        text="Interactions of pileup in place of a generator's: HepMC (.gz too) or Delphes' "
        ".pileup; may be repeated.",
    ),
    _option(
        list[Path],
        "--hard-scatter",
        text="Files of the same kinds with a hard scatter for each event; may be repeated.",
    ),
)


def _given(values: Mapping[str, Any]) -> AbstractContextManager[dict[str, Any]]:
    """The settings that were given, as a card's ``generate:`` would hold them."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [str(path) for path in value]
        return str(value) if isinstance(value, Path) else value

    # An option that may be repeated is an empty list where it is not given.
    return nullcontext({n: plain(v) for n, v in values.items() if v is not None and v != []})


with_sample = gathered("given", OPTIONS, _given)
"""Decorates a command that takes ``given``: settings of a generated sample that are options."""
