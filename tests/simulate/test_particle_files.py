"""Pools of other generators: HepMC files and Delphes' pileup files, in and out."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.errors import CardError, MissingInputError, UnreadableInputError
from pileupgen.simulate.interactions import ARRAYS, Interactions
from pileupgen.simulate.particle_files import read_particles, write_hepmc
from pileupgen.simulate.produce import make_sample
from pileupgen.simulate.spec import SampleSpec
from tests.simulate_inputs import make_interactions

hepmc = pytest.importorskip("pyhepmc")
functions = pytest.importorskip("particle.pdgid").functions


def interactions(n: int, mean: int = 12, seed: int = 1) -> Interactions:
    """Interactions whose charges are those of their particles."""
    pool = make_interactions(n, mean, seed)
    charge = [round(functions.three_charge(int(code)) / 3) for code in pool.pid]
    return Interactions(**{**pool.arrays(), "charge": np.array(charge, dtype=np.int8)})  # type: ignore[arg-type]


def assert_same(found: Interactions, expected: Interactions) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


def write_pileup(path: Path, pool: Interactions) -> None:
    """As DelphesPileUpWriter writes it, particle by particle."""
    content, index = b"", b""
    for begin, end in zip(pool.offsets[:-1], pool.offsets[1:], strict=True):
        index += struct.pack(">q", len(content))
        content += struct.pack(">i", end - begin)
        for i in range(begin, end):
            vertex = (0.1, 0.2, -30.0, 0.0)
            momentum = (pool.px[i], pool.py[i], pool.pz[i], pool.energy[i])
            content += struct.pack(">i8f", pool.pid[i], *vertex, *momentum)
    path.write_bytes(content + index + struct.pack(">q", len(pool)))


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 12), mean=st.integers(0, 20), end=st.sampled_from(["", ".gz"]))
def test_a_pool_comes_back_from_hepmc(
    tmp_path_factory: pytest.TempPathFactory, n: int, mean: int, end: str
) -> None:
    path, pool = tmp_path_factory.mktemp("hepmc") / f"pool.hepmc3{end}", interactions(n, mean)
    write_hepmc(path, pool, 13000.0)
    assert_same(read_particles([path]), pool)
    content = path.read_bytes()
    write_hepmc(path, pool, 13000.0)
    assert path.read_bytes() == content
    with hepmc.open(path) as file:
        first = next(iter(file))
    assert [beam.pid for beam in first.beams] == [2212, 2212]
    assert first.beams[0].momentum.e == pytest.approx(6500, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 300), mean=st.integers(0, 5))
def test_delphes_pileup_files(tmp_path_factory: pytest.TempPathFactory, n: int, mean: int) -> None:
    path, pool = tmp_path_factory.mktemp("pileup") / "MinBias.pileup", interactions(n, mean)
    write_pileup(path, pool)
    assert_same(read_particles([path]), pool)


def test_several_files_and_a_limit(tmp_path: Path) -> None:
    pools = [interactions(5, seed=1), interactions(4, seed=2)]
    write_pileup(tmp_path / "a.pileup", pools[0])
    write_hepmc(tmp_path / "b.hepmc", pools[1], 8000.0)
    both = Interactions.join([pool.arrays() for pool in pools])
    files = [tmp_path / "a.pileup", tmp_path / "b.hepmc"]
    assert_same(read_particles(files), both)
    found = read_particles(files, 7)
    assert len(found) == 7
    assert found.px.tolist() == both.px[: both.offsets[7]].tolist()


def test_units_status_and_versions_of_others(tmp_path: Path) -> None:
    event = hepmc.GenEvent(hepmc.Units.MEV, hepmc.Units.MM)
    momentum = np.array([[0.0, 0, 6.5e6], [0, 0, -6.5e6], [3e3, 4e3, 0], [1e3, 0, 1e3], [1, 1, 1]])
    event.from_hepevt(
        7,
        *momentum.T,
        np.sqrt(np.square(momentum).sum(axis=1)),
        np.zeros(5),
        np.array([2212, 2212, 211, 22, 999999999], dtype=np.int32),
        np.array([4, 4, 1, 1, 2], dtype=np.int32),
        parents=np.array([[-1, -1], [-1, -1], [0, 1], [0, 1], [0, 1]], dtype=np.int32),
        fortran=False,
    )
    for kind in ("hepmc3", "hepmc2"):
        with hepmc.open(tmp_path / kind, "w", format=kind) as file:
            file.write(event)
        found = read_particles([tmp_path / kind])
        assert found.pid.tolist() == [211, 22]
        assert found.charge.tolist() == [1, 0]
        np.testing.assert_allclose(found.px, [3, 1], rtol=1e-6)
        np.testing.assert_allclose(found.energy, [5, np.sqrt(2)], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(kept=st.floats(0, 0.999), is_packed=st.booleans(), is_pileup=st.booleans())
def test_a_file_that_is_cut_is_never_a_smaller_pool(
    tmp_path_factory: pytest.TempPathFactory, kept: float, is_packed: bool, is_pileup: bool
) -> None:
    folder, pool = tmp_path_factory.mktemp("cut"), interactions(6)
    path = folder / ("a.pileup" if is_pileup else f"a.hepmc{'.gz' if is_packed else ''}")
    if is_pileup:
        write_pileup(path, pool)
    else:
        write_hepmc(path, pool, 13000.0)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UnreadableInputError, match="a\\."):
        read_particles([path])


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 0.95), damage=st.binary(min_size=1, max_size=8))
def test_a_damaged_event_is_not_left_out(
    tmp_path_factory: pytest.TempPathFactory, place: float, damage: bytes
) -> None:
    path, pool = tmp_path_factory.mktemp("bad") / "a.hepmc", interactions(6)
    write_hepmc(path, pool, 13000.0)
    content = path.read_bytes()
    begin = int(place * len(content))
    path.write_bytes(content[:begin] + damage + content[begin + len(damage) :])
    said = "a.hepmc"
    try:
        assert len(read_particles([path])) == 6
    except UnreadableInputError as error:
        said = error.message
    assert "a.hepmc" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.hepmc", b"", "is not HepMC"),
        ("x.lhe", b"<LesHouchesEvents version='3.0'>", "is not HepMC"),
        ("x.hepmc.gz", gzip.compress(b"nothing"), "is not HepMC"),
        ("x.pileup", b"", "cannot be read"),
        ("x.pileup", b"\x00" * 7, "is not a pileup file"),
        ("x.pileup", b"\xff" * 64, "is not a pileup file"),
        ("x.pileup", struct.pack(">iqq", 5, 0, 1), "is not a pileup file"),
    ],
    ids=[
        "an_empty_file",
        "les_houches",
        "compressed_text",
        "an_empty_pileup_file",
        "zeros",
        "ones",
        "a_truncated_index",
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableInputError, match=said):
        read_particles([tmp_path / name])
    with pytest.raises(MissingInputError):
        read_particles([tmp_path / "none"])


# -- samples of them -----------------------------------------------------------------------------


def sample(folder: Path, name: str, **values: Any) -> Any:
    spec = SampleSpec.parse({"n_events": 4, "pool_size": 40, **values}, "a test")
    summary = make_sample(spec, folder / f"{name}.root", workers=1, cache=folder / "cache")
    with uproot.open(folder / f"{name}.root") as file:
        return summary, file["Delphes"].arrays(["Tower.Eem", "Tower.Ehad", "Vertex_size"])


def test_a_sample_of_files_is_that_of_their_particles(tmp_path: Path) -> None:
    pool = interactions(30)
    write_pileup(tmp_path / "a.pileup", pool)
    write_hepmc(tmp_path / "b.hepmc3.gz", pool, 13000.0)
    first, towers = sample(tmp_path, "first", minimum_bias=str(tmp_path / "a.pileup"), mu=5)
    second, again = sample(tmp_path, "second", minimum_bias=[str(tmp_path / "b.hepmc3.gz")], mu=5)
    assert first.fingerprint != second.fingerprint
    for name in towers.fields:
        assert towers[name].tolist() == again[name].tolist()
    assert sum(sum(event) for event in towers["Tower.Eem"].tolist()) > 0
    moved = tmp_path / "moved.pileup"
    moved.write_bytes((tmp_path / "a.pileup").read_bytes())
    same = SampleSpec.parse(
        {"n_events": 4, "pool_size": 40, "minimum_bias": str(moved), "mu": 5}, ""
    )
    assert same.fingerprint() == first.fingerprint


def test_hard_scatters_of_files(tmp_path: Path) -> None:
    pool, hard = interactions(30), interactions(4, 60, seed=9)
    write_pileup(tmp_path / "pool.pileup", pool)
    write_hepmc(tmp_path / "hard.hepmc", hard, 13000.0)
    files = {"hard_scatter": str(tmp_path / "hard.hepmc")}
    _, alone = sample(tmp_path, "alone", **files)
    assert alone["Vertex_size"].tolist() == [1, 1, 1, 1]
    pileup = {"minimum_bias": str(tmp_path / "pool.pileup"), "mu": 3}
    _, both = sample(tmp_path, "both", **files, **pileup)
    _, without = sample(tmp_path, "without", **pileup)
    energy = [
        np.array(
            [sum(em) + sum(had) for em, had in zip(x["Tower.Eem"], x["Tower.Ehad"], strict=True)]
        )
        for x in (alone, both, without)
    ]
    assert ak.all(energy[0] > 0)
    # Thresholds and noise keep energies from adding up to rounding.
    np.testing.assert_allclose(energy[1], energy[0] + energy[2], rtol=0.25)
    assert both["Vertex_size"].tolist() == without["Vertex_size"].tolist()
    with pytest.raises(UnreadableInputError, match="4 hard scatters for 5 events"):
        sample(tmp_path, "more", **files, n_events=5)


def test_specs_that_contradict(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="both hard scatters"):
        SampleSpec.parse({"process": "ttbar", "hard_scatter": "x.hepmc"}, "a card")
    with pytest.raises(MissingInputError, match=r"x\.hepmc"):
        SampleSpec.parse({"minimum_bias": str(tmp_path / "x.hepmc")}, "a card").fingerprint()


def test_generated_samples_keep_their_fingerprints() -> None:
    plain = SampleSpec()
    assert "minimum_bias" not in plain.model_dump(exclude=plain._unset)
    assert plain.packages == ("pythia8mc",)
