from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pileupgen.errors import CardError
from pileupgen.measure.jet_variables import (
    VARIABLES,
    JetArrays,
    energy_correlations,
    jet_variables,
    subjettiness,
)
from pileupgen.measure.subjet_axes import wta_kt_axes

Floats = NDArray[np.float64]


def make_jets(n: int, n_places: int = 12, seed: int = 1) -> JetArrays:
    """Jets of 4 to ``n_places`` particles around up to three prongs."""
    rng = np.random.default_rng(seed)
    particles = np.zeros((n, n_places, 4))
    prongs = rng.uniform(-0.4, 0.4, (n, 3, 2))
    for row in range(n):
        size = rng.integers(4, n_places + 1)
        which = rng.integers(3, size=size)
        particles[row, :size, :2] = prongs[row, which] + rng.normal(0, 0.05, (size, 2))
        particles[row, :size, 2] = np.sort(rng.exponential(0.1, size))[::-1]
        particles[row, :size, 3] = 1
    jets = np.tile([1000.0, 0.3, 150.0, 9.0], (n, 1))
    return JetArrays(particles, jets)


def momenta(jets: JetArrays) -> Any:
    ak = pytest.importorskip("awkward")
    rows = []
    for eta, phi, pt in zip(jets.eta, jets.phi, jets.pt, strict=True):
        here = pt > 0
        eta, phi, pt = eta[here], phi[here], pt[here]
        columns = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
        names = ("px", "py", "pz", "E")
        rows.append([dict(zip(names, map(float, v), strict=True)) for v in zip(*columns)])  # noqa: B905
    return ak.Array(rows, with_name="Momentum4D")


def cluster(jets: JetArrays, scheme: str) -> Any:
    fastjet = pytest.importorskip("fastjet")
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 100.0, getattr(fastjet, scheme))
    return fastjet.ClusterSequence(momenta(jets), definition)


@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_axes_are_those_of_fastjet(n_axes: int) -> None:
    jets = make_jets(40)
    clusters = cluster(jets, "WTA_pt_scheme")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = clusters.exclusive_jets(n_axes)
    pt = np.hypot(found.px, found.py)
    theirs = np.stack(
        [
            np.asarray(np.arcsinh(found.pz / pt).to_list()),
            np.asarray(np.arctan2(found.py, found.px).to_list()),
        ],
        axis=2,
    )
    ours = wta_kt_axes(jets.pt, jets.eta, jets.phi, n_axes)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one[np.lexsort(one.T)], other[np.lexsort(other.T)], atol=1e-9)


@pytest.mark.parametrize("func", ["c2", "d2"])
def test_correlations_are_those_of_fastjet(func: str) -> None:
    jets = make_jets(30)
    clusters = cluster(jets, "E_scheme")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = clusters.exclusive_jets_energy_correlator(njets=1, func=func, beta=1)
    ours = jet_variables(jets, [func])[:, 0]
    np.testing.assert_allclose(np.asarray(theirs).ravel(), ours, rtol=1e-6)


def test_correlations_of_three_particles_by_hand() -> None:
    particles = np.array([[[0.0, 0.0, 0.5, 1], [0.3, 0.0, 0.3, 1], [0.0, 0.4, 0.2, 1]]])
    jets = JetArrays(particles, np.array([[1000.0, 0.0, 0.0, 3.0]]))
    e2, e3 = energy_correlations(jets)
    assert e2[0] == pytest.approx(0.15 * 0.3 + 0.1 * 0.4 + 0.06 * 0.5)
    assert e3[0] == pytest.approx(0.03 * 0.3 * 0.4 * 0.5)


def test_mass_of_two_particles_by_hand() -> None:
    particles = np.array([[[0.4, 0.0, 0.5, 1], [-0.4, 0.0, 0.5, 1]]])
    jets = JetArrays(particles, np.array([[1000.0, 2.0, 0.0, 2.0]]))
    # m² = 2 p_T1 p_T2 (cosh Δη − cos Δφ)
    expected = 1000 * np.sqrt(0.5 * (np.cosh(0.8) - 1))
    assert jet_variables(jets, ["mass"])[0, 0] == pytest.approx(expected)


def test_subjettiness_falls_and_vanishes() -> None:
    jets = make_jets(50)
    taus = [subjettiness(jets, n) for n in range(1, 13)]
    assert np.all(taus[0] > taus[2])
    np.testing.assert_allclose(taus[11], 0, atol=1e-12)


def test_order_and_absent_particles_do_not_matter() -> None:
    jets, rng = make_jets(20), np.random.default_rng(2)
    order = rng.permuted(np.tile(np.arange(12), (20, 1)), axis=1)
    shuffled = np.take_along_axis(jets.particles, order[..., None], axis=1)
    hidden = shuffled.copy()
    hidden[shuffled[..., 3] == 0, :3] = 7.0
    names = list(VARIABLES)
    np.testing.assert_allclose(
        jet_variables(JetArrays(hidden, jets.jets), names), jet_variables(jets, names), atol=1e-9
    )


def test_turn_around_the_axis_does_not_matter() -> None:
    jets = make_jets(20)
    turned = jets.particles.copy()
    turned[..., 0], turned[..., 1] = jets.particles[..., 1], -jets.particles[..., 0]
    names = ["girth", "ptd", "c2", "d2", "tau1", "tau21", "tau32"]
    np.testing.assert_allclose(
        jet_variables(JetArrays(turned, jets.jets), names), jet_variables(jets, names), atol=1e-9
    )


def test_empty_and_single_particle_jets_are_finite() -> None:
    particles = np.zeros((2, 5, 4))
    particles[1, 0] = (0.1, 0.2, 0.9, 1.0)
    values = jet_variables(JetArrays(particles, np.ones((2, 4))), list(VARIABLES))
    assert np.isfinite(values).all()
    assert values[1, list(VARIABLES).index("tau21")] == 0


def test_constituents_by_name() -> None:
    jets = make_jets(5)
    found = jet_variables(jets, ["ptrel_1", "etarel_3", "phirel_12"])
    np.testing.assert_array_equal(found[:, 0], jets.particles[:, 0, 2])
    np.testing.assert_array_equal(found[:, 1], jets.particles[:, 2, 0])
    np.testing.assert_array_equal(found[:, 2], jets.particles[:, 11, 1])


@pytest.mark.parametrize("name", ["mas", "ptrel_0", "ptrel_13", "tau"])
def test_unknown_variable_is_named(name: str) -> None:
    with pytest.raises(CardError, match=f"'{name}'"):
        jet_variables(make_jets(2), [name])
