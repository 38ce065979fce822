"""Jets of tops, W bosons and light partons: Pythia 8, anti-k_t, JetNet's coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import GeneratorError
from pileupgen.jets.spec import JetSpec
from pileupgen.measure.pileup_jets import import_fastjet
from pileupgen.parallel.chunks import Work
from pileupgen.simulate.generators import import_package, require, reseed, start_pythia

NEUTRINOS = (12, 14, 16)
_OUTGOING = 23
"""Pythia's status, of either sign, of what comes out of the hard process."""
N_LEADING = 2
"""Jets of an event that may be a parent's, in order of p_T: there are two parents."""


class HardJets:
    """Makes jets that depend on the seed alone.

    Raises
    ------
    DependencyError
        If Pythia 8 or FastJet is not installed.
    GeneratorError
        If Pythia refuses a setting or does not initialise.
    """

    def __init__(self, spec: JetSpec) -> None:
        require(spec.generator)
        # Loaded here, so that the processes forked later need not.
        self._ak = import_package("awkward")
        self._fastjet = import_fastjet()
        self._definition = self._fastjet.JetDefinition(self._fastjet.antikt_algorithm, spec.radius)
        self._pythia = start_pythia(spec.process, spec.switches(), spec.tune, spec.sqrt_s)
        self._spec = spec

    def generate(self, n_collisions: int, seed: int) -> dict[str, NDArray[np.float32]]:
        """Collide protons and keep the jets of the parents.

        Anti-k_t (0802.1189) by FastJet (1111.6097) of all stable particles but neutrinos. A jet is
        kept if it is one of the two leading ones, has p_T within the window, and lies within R/2 of
        a parent just before its decay.

        Returns
        -------
        dict
            ``particle_features`` (n, n_constituents, 4) and ``jet_features`` (n, 4), see
            :mod:`pileupgen.jets.jetnet_file`.

        Raises
        ------
        GeneratorError
            If Pythia gives up.
        """
        reseed(self._pythia, seed)
        batch = self._pythia.nextBatch(n_collisions)
        if len(batch) < n_collisions:
            raise GeneratorError("Pythia 8 makes no more events with these settings.")
        particles = batch.prt
        parents = self._parents(particles)
        jets, constituents = self._cluster(particles)
        kept = self._ours(jets, parents)
        return self._features(jets[kept], constituents[kept])

    def _parents(self, particles: Any) -> Any:
        """The last copy of parent and antiparent, or both partons of QCD; two an event."""
        ak, code = self._ak, self._spec.parent
        if code is None:
            return particles[abs(particles.status) == _OUTGOING].p
        return ak.concatenate(
            [particles[particles.id == sign * code][:, -1:].p for sign in (1, -1)], axis=1
        )

    def _cluster(self, particles: Any) -> tuple[Any, Any]:
        """Jets above the window's lower end in order of p_T, and their particles."""
        ak, spec = self._ak, self._spec
        visible = particles[particles.status > 0]
        for code in NEUTRINOS:
            visible = visible[abs(visible.id) != code]
        momentum = visible.p
        vectors = ak.zip(
            {"px": momentum.px, "py": momentum.py, "pz": momentum.pz, "E": momentum.e},
            with_name="Momentum4D",
        )
        clusters = self._fastjet.ClusterSequence(vectors, self._definition)
        low = spec.jet_pt[0] * spec.pt
        jets = clusters.inclusive_jets(min_pt=low)
        constituents = clusters.constituents(min_pt=low)
        order = ak.argsort(np.hypot(jets.px, jets.py), axis=1, ascending=False)[:, :N_LEADING]
        return jets[order], constituents[order]

    def _ours(self, jets: Any, parents: Any) -> Any:
        ak, spec = self._ak, self._spec
        pairs = ak.cartesian({"jet": _polar(ak, jets), "parent": _polar(ak, parents)}, nested=True)
        eta = pairs.jet.eta - pairs.parent.eta
        phi = _wrapped(pairs.jet.phi - pairs.parent.phi)
        near = ak.any(np.hypot(eta, phi) < 0.5 * spec.radius, axis=-1)
        return near & (np.hypot(jets.px, jets.py) < spec.jet_pt[1] * spec.pt)

    def _features(self, jets: Any, constituents: Any) -> dict[str, NDArray[np.float32]]:
        ak, n_kept = self._ak, self._spec.n_constituents
        jets, constituents = ak.flatten(jets), ak.flatten(constituents)
        axis, particle = _polar(ak, jets), _polar(ak, constituents)
        order = ak.argsort(particle.pt, axis=1, ascending=False)[:, :n_kept]
        particle = particle[order]
        columns = (
            particle.eta - axis.eta,
            _wrapped(particle.phi - axis.phi),
            particle.pt / axis.pt,
            ak.ones_like(particle.pt),
        )
        padded = [
            ak.to_numpy(ak.fill_none(ak.pad_none(column, n_kept, clip=True), 0.0))
            for column in columns
        ]
        mass2 = jets.E**2 - jets.px**2 - jets.py**2 - jets.pz**2
        features = (
            axis.pt,
            axis.eta,
            np.sqrt(np.maximum(mass2, 0.0)),
            ak.num(particle.pt, axis=1),
        )
        return {
            "particle_features": np.stack(padded, axis=2).astype(np.float32),
            "jet_features": np.stack([ak.to_numpy(column) for column in features], axis=1).astype(
                np.float32
            ),
        }


def _polar(ak: Any, momentum: Any) -> Any:
    pt = np.hypot(momentum.px, momentum.py)
    return ak.zip(
        {
            "pt": pt,
            "eta": np.arcsinh(momentum.pz / pt),
            "phi": np.arctan2(momentum.py, momentum.px),
        }
    )


def _wrapped(phi: Any) -> Any:
    """An angle difference, brought into [−π, π)."""
    return (phi + np.pi) % (2 * np.pi) - np.pi


def prepare_jets(job: Mapping[str, Any]) -> Work:
    """Initialise hard collisions; a chunk is ``{"n": …, "seed": …}``."""
    jets = HardJets(JetSpec.model_validate(job["spec"]))

    def work(chunk: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        return jets.generate(chunk["n"], chunk["seed"])

    return work
