from __future__ import annotations

import numpy as np
import pytest

from pileupgen.simulate.interactions import ETA_MAX, Interactions
from pileupgen.simulate.propagation import LIGHT, propagate
from pileupgen.simulate.response import Field3D

FIELD = Field3D(bz=2.0, radius=1.15, half_length=3.51)


def one(charge: int, pt: float, eta: float, phi: float) -> Interactions:
    return Interactions.select(
        np.array([1]),
        pid=np.array([211]),
        charge=np.array([charge]),
        px=np.array([pt * np.cos(phi)]),
        py=np.array([pt * np.sin(phi)]),
        pz=np.array([pt * np.sinh(eta)]),
        energy=np.array([pt * np.cosh(eta)]),
    )


def impact(particle: Interactions, z: float, field: Field3D = FIELD) -> tuple[float, float]:
    rows = np.arange(len(particle.pid))
    at = np.full(len(rows), z, dtype=np.float32)
    cot, phi = propagate(particle, rows, field).impact(rows, at, field)
    return float(cot[0]), float(phi[0])


def stepwise(charge: int, pt: float, eta: float, phi: float, z: float) -> tuple[float, float]:
    """Follow dp/dt = q v × B in small steps to the cylinder."""
    position, momentum = (
        np.array([0, 0, z]),
        pt * np.array([np.cos(phi), np.sin(phi), np.sinh(eta)]),
    )
    step = 2e-4
    turn = -LIGHT * charge * FIELD.bz * step / np.linalg.norm(momentum)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    half = np.array(
        [
            [np.cos(turn / 2), -np.sin(turn / 2), 0],
            [np.sin(turn / 2), np.cos(turn / 2), 0],
            [0, 0, 1],
        ]
    )
    while np.hypot(*position[:2]) < FIELD.radius and abs(position[2]) < FIELD.half_length:
        position = position + step * (half @ momentum) / np.linalg.norm(momentum)
        momentum = rotation @ momentum
    return position[2] / np.hypot(*position[:2]), np.arctan2(position[1], position[0])


@pytest.mark.parametrize(
    ("charge", "pt", "eta", "z"),
    [
        (1, 0.9, 0.4, 0.0),  # through the side
        (-1, 0.5, -0.9, 0.1),
        (1, 0.2, 0.8, 0.0),  # too soft for the side: spirals to the end
        (-1, 0.15, -0.5, -0.2),
        (1, 3.0, 2.5, 0.2),  # through the end at once
        (0, 1.0, 1.1, 0.1),
        (0, 1.0, -3.0, -0.15),
    ],
)
def test_agrees_with_stepwise_integration(charge: int, pt: float, eta: float, z: float) -> None:
    cot, phi = impact(one(charge, pt, eta, 0.7), z)
    expected_cot, expected_phi = stepwise(charge, pt, eta, 0.7, z)
    assert np.arcsinh(cot) == pytest.approx(np.arcsinh(expected_cot), abs=2e-3)
    assert np.angle(np.exp(1j * (phi - expected_phi))) == pytest.approx(0, abs=2e-3)


def test_positive_charge_turns_clockwise_in_a_field_along_z() -> None:
    assert impact(one(1, 1.0, 0.0, 0.0), 0.0)[1] < 0 < impact(one(-1, 1.0, 0.0, 0.0), 0.0)[1]


def test_soft_charged_particle_never_reaches_the_side() -> None:
    needed = 0.5 * LIGHT * FIELD.bz * FIELD.radius
    assert abs(impact(one(1, 1.01 * needed, 0.1, 0.0), 0.0)[0]) < 1
    corner = FIELD.half_length / FIELD.radius
    assert abs(impact(one(1, 0.99 * needed, 0.1, 0.0), 0.0)[0]) > corner


@pytest.mark.parametrize("eta", [-4.0, -1.0, 0.0, 0.3, 1.83, 4.8])
def test_without_field_all_go_straight(eta: float) -> None:
    field = Field3D(bz=0.0, radius=1.15, half_length=3.51)
    for charge in (-1, 0, 1):
        cot, phi = impact(one(charge, 0.3, eta, -2.0), 0.0, field)
        assert np.arcsinh(cot) == pytest.approx(eta, abs=1e-5)
        assert np.angle(np.exp(1j * (phi + 2.0))) == pytest.approx(0, abs=1e-5)


def test_vertex_shifts_the_impact_in_the_barrel() -> None:
    cot, _ = impact(one(0, 1.0, 0.0, 0.0), 0.23)
    assert cot == pytest.approx(0.23 / 1.15, rel=1e-5)


def test_mirrored_particle_hits_the_mirrored_point(interactions: Interactions) -> None:
    rows = np.arange(len(interactions.pid))
    z = np.linspace(-0.2, 0.2, len(rows), dtype=np.float32)
    mirrored = Interactions(**{**interactions.__dict__, "pz": -interactions.pz})
    cot, phi = propagate(interactions, rows, FIELD).impact(rows, z, FIELD)
    mirrored_cot, mirrored_phi = propagate(mirrored, rows, FIELD).impact(rows, -z, FIELD)
    np.testing.assert_array_equal(mirrored_cot, -cot)
    np.testing.assert_array_equal(mirrored_phi, phi)


def test_particle_at_rest_along_the_beam_ends_outside() -> None:
    assert np.isinf(impact(one(1, 0.1, 0.0, 0.0), 0.0)[0])


def test_selection_drops_what_no_calorimeter_sees() -> None:
    eta = np.array([0.0, ETA_MAX - 0.1, ETA_MAX + 0.1, 1.0])
    pt = np.array([1.0, 1.0, 1.0, 1e-6])
    found = Interactions.select(
        np.array([2, 0, 2]),
        pid=np.arange(4),
        charge=np.zeros(4),
        px=pt,
        py=np.zeros(4),
        pz=pt * np.sinh(eta),
        energy=pt * np.cosh(eta),
    )
    assert found.pid.tolist() == [0, 1]
    assert found.offsets.tolist() == [0, 2, 2, 2]
