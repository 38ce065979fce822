from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pileupgen.calo.constituents import n_constituents
from pileupgen.errors import CardError, InputError, MissingFieldError, UnreadableInputError
from pileupgen.jets.jetnet_file import create_jetnet_file
from pileupgen.jets.reader import DEFAULT_VARIABLES
from pileupgen.measure.jet_variables import jet_variables
from pileupgen.samples.cards import load_card
from tests.measure.test_jet_variables import make_jets

CARD = """\
name: tops
what: jets
domain: mc
files: "*.hdf5"
format: jetnet
{more}
detector: {{text: none}}
how_made: by a test
selection: none
licence: CC0-1.0
contact: nobody
"""


def write(path: Path, n: int, seed: int = 1) -> None:
    jets = make_jets(n, seed=seed)
    with create_jetnet_file(path, 12, {}) as writer:
        writer.append(jets.particles.astype(np.float32), jets.jets.astype(np.float32))


def card(folder: Path, more: str = "") -> Path:
    path = folder / "tops.yaml"
    path.write_text(CARD.format(more=more))
    return path


def test_jets_become_a_table_of_their_variables(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", 7)
    write(tmp_path / "b.hdf5", 5, seed=2)
    found = load_card(card(tmp_path))
    towers = list(found.open(found.input_files()).chunks())
    assert found.grid is not None
    assert found.grid.layers == DEFAULT_VARIABLES
    assert found.grid.units is not None
    assert found.grid.units[:3] == ("GeV", "GeV", "")
    values = np.concatenate([part.energy for part in towers])
    assert values.shape == (12, len(DEFAULT_VARIABLES))
    expected = jet_variables(make_jets(5, seed=2), DEFAULT_VARIABLES)
    np.testing.assert_allclose(values[7:], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([t.event_id for t in towers]), np.arange(12))


def test_features_are_chosen_by_the_card(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", 3)
    found = load_card(card(tmp_path, "options: {features: [jet_mass, ptrel_2]}"))
    (towers,) = found.open(found.input_files()).chunks()
    np.testing.assert_allclose(towers.energy[:, 0], 150)
    np.testing.assert_allclose(towers.energy[:, 1], make_jets(3).particles[:, 1, 2], rtol=1e-6)


def test_groups_and_weights_are_one_number_a_jet(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", 4)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["run"], file["few"] = np.array([[7], [7], [8], [9]]), np.array([1, 2])
    found = load_card(card(tmp_path, "group: run"))
    (towers,) = found.open(found.input_files()).chunks()
    assert towers.group is not None
    assert towers.group.tolist() == [7, 7, 8, 9]
    for name in ("particle_features", "few"):
        for heading in ("group", "weight"):
            found = load_card(card(tmp_path, f"{heading}: {name}"))
            with pytest.raises(MissingFieldError, match=f"no '{name}'"):
                list(found.open(found.input_files()).chunks())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("options: {features: [masss]}", "Did you mean 'mass'"),
        ("options: {features: [mass, mass]}", "distinct"),
        ("options: {dataset: a}", "unknown key"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(CardError, match=message):
        load_card(card(tmp_path, more))


def test_files_of_another_layout_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["particle_features"] = np.zeros((4, 30, 3))
        file["jet_features"] = np.zeros((4, 4))
    found = load_card(card(tmp_path))
    with pytest.raises(UnreadableInputError, match="JetNet's layout"):
        list(found.open(found.input_files()).chunks())
    (tmp_path / "a.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"a\.hdf5"):
        list(found.open(found.input_files()).chunks())


def test_jet_that_is_not_finite_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", 6)
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        values = file["particle_features"][:]
        values[4, 2, 1] = np.nan
        del file["particle_features"]
        file["particle_features"] = values
    found = load_card(card(tmp_path))
    with pytest.raises(UnreadableInputError, match="jet 4"):
        list(found.open(found.input_files()).chunks())


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1), damage=st.binary(min_size=1, max_size=100))
def test_a_damaged_file_is_read_or_refused_by_name(
    tmp_path: Path, place: float, damage: bytes
) -> None:
    whole, path = tmp_path / "whole.h5", tmp_path / "a.hdf5"
    if not whole.exists():
        write(whole, 20)
    content = whole.read_bytes()
    begin = int(place * (len(content) - len(damage)))
    path.write_bytes(content[:begin] + damage + content[begin + len(damage) :])
    found = load_card(card(tmp_path))
    said = str(path)
    try:
        list(found.open(found.input_files()).chunks())
    except InputError as error:
        said = error.message
    assert str(path) in said


def test_constituents_are_a_table_conditioned_on_the_pt_of_the_jet(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", 5)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        # A place whose mask is 0 is absent, whatever else is there.
        file["particle_features"][2, 1] = [0.3, 0.2, 0.1, 0.0]
        file["jet_features"][:, 0] = [900, 950, 1000, 1050, 1100]
    found = load_card(card(tmp_path, "options: {constituents: 4}\nmu: pt - 100"))
    assert found.grid is not None
    assert n_constituents(found.grid) == 4
    (towers,) = found.open(found.input_files()).chunks()
    assert towers.mu.tolist() == [800, 850, 900, 950, 1000]
    table = towers.energy.reshape(5, 4, 3)
    particles = make_jets(5).particles
    expected = particles[:, :4, :3].copy()
    expected[2] = particles[2, [0, 2, 3, 4], :3]
    np.testing.assert_allclose(table, expected, rtol=1e-6)


def test_more_constituents_than_there_are_and_other_conditions_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", 3)
    found = load_card(card(tmp_path, "options: {constituents: 30}"))
    with pytest.raises(CardError, match="the jets have 12 constituents"):
        list(found.open(found.input_files()).chunks())
    found = load_card(card(tmp_path, "mu: ptt"))
    with pytest.raises(CardError, match="mu: pt"):
        found.open(found.input_files())
    with pytest.raises(CardError, match="either features or constituents"):
        load_card(card(tmp_path, "options: {constituents: 3, features: [mass]}"))


def test_constituents_are_the_leading_ones_in_whatever_order(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", 5)
    found = load_card(card(tmp_path, "options: {constituents: 4}\nmu: pt"))
    (expected,) = found.open(found.input_files()).chunks()
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["particle_features"][:] = file["particle_features"][:][:, ::-1]
    (towers,) = found.open(found.input_files()).chunks()
    np.testing.assert_array_equal(towers.energy, expected.energy)


@pytest.mark.parametrize("share", [-0.1, 150.0])
def test_pt_that_is_not_relative_to_the_jet_is_refused(tmp_path: Path, share: float) -> None:
    write(tmp_path / "a.hdf5", 5)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["particle_features"][3, 1] = [0.3, 0.2, share, 0.0]
    found = load_card(card(tmp_path))
    (_,) = found.open(found.input_files()).chunks()
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["particle_features"][3, 1, 3] = 1
    with pytest.raises(UnreadableInputError, match=f"jet 3: .* p_T,rel {share:g}") as refused:
        list(found.open(found.input_files()).chunks())
    assert "mask" in refused.value.hint
