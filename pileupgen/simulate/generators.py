"""Event generators: Pythia 8 itself, and the models that chromo wraps.

A generator runs in a process of its own (see :mod:`pileupgen.parallel.chunks`): most of chromo's
models are Fortran with one global state.
"""

from __future__ import annotations

import importlib
import socket
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np

from pileupgen.errors import DependencyError, GeneratorError
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.tunes import Tune, tune_settings

PYTHIA_PROCESSES: dict[str, tuple[str, ...]] = {
    "inelastic": ("SoftQCD:inelastic",),
    "nondiffractive": ("SoftQCD:nonDiffractive",),
    "nsd": (
        "SoftQCD:nonDiffractive",
        "SoftQCD:doubleDiffractive",
        "SoftQCD:centralDiffractive",
    ),
    "all": ("SoftQCD:all",),
}
"""Process → Pythia switches. ``nsd`` is all but single-diffractive, ``all`` adds elastic."""

JET_PROCESSES = ("top", "w", "qcd")
"""Hard processes that give samples of jets; of Pythia 8."""

HARD_PROCESSES: dict[str, dict[str, str]] = {
    "dijet": {"HardQCD:all": "on"},
    "ttbar": {"Top:gg2ttbar": "on", "Top:qqbar2ttbar": "on"},
    "zee": {
        "WeakSingleBoson:ffbar2gmZ": "on",
        "23:onMode": "off",
        "23:onIfAny": "11",
        "PhaseSpace:mHatMin": "60",
    },
    "zmumu": {
        "WeakSingleBoson:ffbar2gmZ": "on",
        "23:onMode": "off",
        "23:onIfAny": "13",
        "PhaseSpace:mHatMin": "60",
    },
}
"""Hard scatter → settings of Pythia 8; one lies in each event, pileup on top."""

DIJET_PT_MIN = 30.0
"""GeV; least p_T of the two partons of ``dijet`` where none is asked for."""

PROCESS_ALIASES = {"minbias": "inelastic"}

CHROMO_MODELS: dict[str, str] = {
    "sibyll": "Sibyll23d",
    "sibyll23e": "Sibyll23e",
    "sibyll21": "Sibyll21",
    "pythia6": "Pythia6",
    "epos": "EposLHC",
    "eposr": "EposLHCR",
    "qgsjet": "QGSJetIII",
    "qgsjet2": "QGSJetII04",
    "dpmjet": "DpmjetIII193",
    "phojet": "Phojet193",
}
"""Name → class of ``chromo.models``."""

UNTUNED = "untuned: energies a third too soft"
"""What is said of Pythia 6, which chromo runs with the author's defaults, not tuned to the LHC."""

OFFLINE = ("pythia8", "sibyll", "sibyll23e", "sibyll21", "pythia6")
"""Generators that need no tables to be fetched."""

GENERATORS = ("pythia8", *CHROMO_MODELS)

DOWNLOAD_TIMEOUT = 30.0
"""Seconds without an answer after which fetching tables is given up."""

STABLE_MM = 10.0
"""Particles with cτ above it (mm) are stable, as the LHC experiments have it."""


class Generator(Protocol):
    """Makes interactions that depend on the seed alone, not on what was made before."""

    def generate(self, n: int, seed: int) -> Interactions:
        """Make ``n`` interactions; called once in a process."""


def processes(generator: str) -> tuple[str, ...]:
    """Name the processes of pileup that a generator offers."""
    return tuple(PYTHIA_PROCESSES) if generator == "pythia8" else ("inelastic",)


def package(generator: str) -> str:
    """Name the distribution that holds a generator."""
    return "pythia8mc" if generator == "pythia8" else "chromo"


def generator_version(generator: str) -> str:
    """Installed version of the generator's package; empty where it is not installed."""
    try:
        return version(package(generator))
    except PackageNotFoundError:
        return ""


def require(generator: str) -> None:
    """Check that the generator's package is there.

    Raises
    ------
    DependencyError
        If it is not.
    """
    if not generator_version(generator):
        raise DependencyError(
            f"Generator '{generator}' needs the package {package(generator)}.",
            "pip install 'pileupgen[simulate]'",
        )


def make_generator(
    generator: str,
    process: str,
    tune: Tune | None,
    sqrt_s: float,
    pt_min: float | None = None,
) -> Generator:
    """Initialise a generator in this process.

    Parameters
    ----------
    generator : str
        One of ``GENERATORS``.
    process : str
        One of :func:`processes`, or with Pythia 8 of ``HARD_PROCESSES``.
    tune : int, str or None
        Pythia 8's ``Tune:pp``, or a name of ``TUNES``.
    sqrt_s : float
        Centre-of-mass energy of the proton pair in GeV.
    pt_min : float, optional
        Least p_T of the partons of ``dijet``, GeV.

    Raises
    ------
    DependencyError
        If the package is not installed.
    GeneratorError
        If the generator refuses the settings, or tables it needs cannot be fetched.
    """
    require(generator)
    if generator == "pythia8":
        threshold = {} if pt_min is None else {"PhaseSpace:pTHatMin": f"{pt_min:.10g}"}
        return Pythia8(process, tune, sqrt_s, threshold)
    return Chromo(generator, sqrt_s)


def import_package(module: str) -> Any:
    """Import a package that an extra brings.

    Raises
    ------
    DependencyError
        If it is installed but broken.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(
            f"The package {module} is installed but does not load: {error}.",
            "pip install --force-reinstall 'pileupgen[simulate]'",
        ) from error


def start_pythia(
    process: str, switches: Mapping[str, str], tune: Tune | None, sqrt_s: float
) -> Any:
    """Initialise Pythia 8 for a pair of protons.

    Parameters
    ----------
    process : str
        What error messages call it.
    tune : int, str or None
        ``Tune:pp``, or a name of ``TUNES``; None leaves Pythia's default.
    sqrt_s : float
        GeV.

    Raises
    ------
    GeneratorError
        If Pythia refuses a setting or does not initialise.
    """
    pythia = import_package("pythia8mc").Pythia("", False)
    settings = {
        "Print:quiet": "on",
        # A check of each event for momentum and charge, which takes a twentieth of the time.
        "Check:event": "off",
        # All multiparton interactions but prompt quarkonia: too rare to be seen in a calorimeter,
        # and a tenth of the time of an interaction, as their masses are drawn in each trial.
        "MultipartonInteractions:processLevel": "2",
        "Beams:eCM": f"{sqrt_s:.10g}",
        **tune_settings(tune),
        **switches,
        "ParticleDecays:limitTau0": "on",
        "ParticleDecays:tau0Max": f"{STABLE_MM:g}",
        "Random:setSeed": "on",
        "Random:seed": "1",
    }
    for name, value in settings.items():
        if not pythia.readString(f"{name} = {value}"):
            raise GeneratorError(
                f"Pythia 8 refuses '{name} = {value}'.",
                "See the tunes and beam settings in Pythia's manual.",
            )
    if not pythia.init():
        raise GeneratorError(
            f"Pythia 8 does not initialise: {process}, tune {tune}, √s = {sqrt_s:g} GeV.",
            "Some tunes need LHAPDF, which the Python wheel lacks; 14 and 21 do not.",
        )
    return pythia


def reseed(pythia: Any, seed: int) -> None:
    """Restart the random numbers of Pythia, from any seed ≥ 0."""
    pythia.rndm.init(1 + seed % 900_000_000)


class Pythia8:
    """Pythia 8 (Bierlich et al., 2203.11601), soft QCD or a hard scatter of a proton pair.

    Parameters
    ----------
    process, tune, sqrt_s
        As for :func:`make_generator`; ``tune`` None leaves Pythia's default.

    Raises
    ------
    GeneratorError
        If Pythia refuses a setting or does not initialise.
    """

    def __init__(
        self,
        process: str,
        tune: Tune | None,
        sqrt_s: float,
        changes: Mapping[str, str] | None = None,
    ) -> None:
        # Loaded here, so that the processes forked later need not.
        self._ak = import_package("awkward")
        switches = HARD_PROCESSES.get(process)
        if switches is None:
            switches = dict.fromkeys(PYTHIA_PROCESSES[process], "on")
        switches = {**switches, **(changes or {})}
        self._pythia = start_pythia(process, switches, tune, sqrt_s)

    def generate(self, n: int, seed: int) -> Interactions:
        """Make ``n`` interactions, from Pythia's random generator seeded again.

        Raises
        ------
        GeneratorError
            If Pythia gives up.
        """
        ak = self._ak
        reseed(self._pythia, seed)
        parts: list[dict[str, Any]] = []
        missing = n
        while missing > 0:
            batch = self._pythia.nextBatch(missing)
            if len(batch) == 0:
                raise GeneratorError("Pythia 8 makes no more events with these settings.")
            particles = batch.prt
            particles = particles[particles.status > 0]
            momentum = particles.p
            pid = np.asarray(ak.flatten(particles.id))
            found = Interactions.select(
                np.asarray(ak.num(particles.id)),
                pid=pid,
                charge=self._charges(pid),
                px=np.asarray(ak.flatten(momentum.px)),
                py=np.asarray(ak.flatten(momentum.py)),
                pz=np.asarray(ak.flatten(momentum.pz)),
                energy=np.asarray(ak.flatten(momentum.e)),
            )
            parts.append(found.arrays())
            missing -= len(batch)
        return Interactions.join(parts)

    def _charges(self, pid: Any) -> Any:
        codes, where = np.unique(pid, return_inverse=True)
        data = self._pythia.particleData
        return np.array([round(data.charge(int(code))) for code in codes], dtype=np.int8)[where]


class Chromo:
    """A hadronic model wrapped by chromo (Dembinski et al., 2023).

    Parameters
    ----------
    name : str
        A key of ``CHROMO_MODELS``.
    sqrt_s : float
        GeV.

    Raises
    ------
    GeneratorError
        If the model refuses the energy, or its tables cannot be fetched.
    """

    def __init__(self, name: str, sqrt_s: float) -> None:
        chromo = import_package("chromo")
        self._name = name
        try:
            model = getattr(chromo.models, CHROMO_MODELS[name])
        except AttributeError as error:
            raise GeneratorError(
                f"This version of chromo has no model {CHROMO_MODELS[name]}.",
                "pip install --upgrade chromo",
            ) from error
        previous = socket.getdefaulttimeout()
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                beams = chromo.kinematics.CenterOfMass(sqrt_s, "p", "p")
                self._model = model(beams, seed=1)
        except (ConnectionError, TimeoutError, OSError) as error:
            raise GeneratorError(
                f"'{name}' ({CHROMO_MODELS[name]}) needs tables that chromo fetches once from the "
                f"network, and that failed.",
                "Repeat it with a connection, or take a generator that needs none: "
                f"{', '.join(OFFLINE)}.",
            ) from error
        except (ValueError, RuntimeError) as error:
            raise GeneratorError(
                f"'{name}' does not initialise at √s = {sqrt_s:g} GeV: {error}."
            ) from error
        finally:
            socket.setdefaulttimeout(previous)

    def generate(self, n: int, seed: int) -> Interactions:
        """Make ``n`` interactions, from the model's random generator seeded again.

        Raises
        ------
        GeneratorError
            If the model gives up.
        """
        self._model.random_state = np.random.PCG64(seed).state
        finals = []
        try:
            for event in self._model(n):
                final = event.final_state()
                finals.append(
                    (final.pid.copy(), final.charge.copy(), final.px.copy(),
                     final.py.copy(), final.pz.copy(), final.en.copy())
                )  # fmt: skip
        except RuntimeError as error:
            raise GeneratorError(f"'{self._name}' stopped: {error}.") from error
        names = ("pid", "charge", "px", "py", "pz", "energy")
        columns = dict(zip(names, map(np.concatenate, zip(*finals, strict=True)), strict=True))
        return Interactions.select(np.array([len(final[0]) for final in finals]), **columns)
