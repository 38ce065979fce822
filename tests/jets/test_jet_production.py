from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from pileupgen.errors import CardError, GeneratorError, OutputError
from pileupgen.jets import produce as produce_jets
from pileupgen.jets.jetnet_file import create_jetnet_file
from pileupgen.jets.produce import are_current, make_jets
from pileupgen.jets.spec import JetSpec
from pileupgen.simulate.spec import SampleSpec
from pileupgen.workflow.generated import parse_spec, suffix

pytest.importorskip("pythia8mc")
pytest.importorskip("fastjet")

SPECS = {
    process: JetSpec(process=process, n_events=180, n_constituents=150)  # type: ignore[arg-type]
    for process in ("top", "w")
}


def read(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with h5py.File(path) as file:
        return file["particle_features"][:].astype(float), file["jet_features"][:].astype(float)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("jets")
    for process, spec in SPECS.items():
        make_jets(spec, folder / f"{process}.h5", workers=2)
    return {process: folder / f"{process}.h5" for process in SPECS}


@pytest.mark.parametrize(("process", "mass"), [("top", 172.5), ("w", 80.4)])
def test_mass_peaks_at_the_parent_s(files: dict[str, Path], process: str, mass: float) -> None:
    masses = np.sort(read(files[process])[1][:, 2])
    n = len(masses) // 3
    narrowest = int(np.argmin(masses[n:] - masses[:-n]))
    # The underlying event in a jet of R = 0.8 adds some GeV; of 180 jets the peak is known to 4.
    assert mass - 4 < 0.5 * (masses[narrowest] + masses[narrowest + n]) < mass + 18


def test_jets_of_qcd_have_no_peak_and_the_parton_s_pt(tmp_path: Path) -> None:
    """Masses are spread over more than 30 GeV, which those of W bosons are not."""
    spec = JetSpec(process="qcd", n_events=60)
    summary = make_jets(spec, tmp_path / "qcd.h5", workers=1)
    pt, _, mass, _ = read(tmp_path / "qcd.h5")[1].T
    assert 0.9 < np.median(pt) / spec.pt < 1.1
    assert 60 < np.median(mass) < 180
    assert np.quantile(mass, 0.75) - np.quantile(mass, 0.25) > 30
    # Both partons of nearly every collision give a jet.
    assert summary.n_jets / summary.n_collisions > 0.8


def test_particles_make_up_the_jet(files: dict[str, Path]) -> None:
    particles, jets = read(files["top"])
    # Of these all particles were kept, so that their momenta add up to the jet's.
    is_whole = jets[:, 3] < 150
    assert is_whole.mean() > 0.9
    jets = jets[is_whole]
    eta, phi, pt, mask = np.moveaxis(particles[is_whole], 2, 0)
    np.testing.assert_allclose(np.sum(pt * np.cos(phi), axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(np.sum(pt * np.sin(phi), axis=1), 0, atol=1e-4)
    p_z = np.sum(pt * np.sinh(eta + jets[:, 1:2]), axis=1)
    np.testing.assert_allclose(p_z, np.sinh(jets[:, 1]), atol=1e-3)
    np.testing.assert_array_equal(mask.sum(axis=1), jets[:, 3])


def test_layout_is_that_of_jetnet(files: dict[str, Path]) -> None:
    particles, jets = read(files["w"])
    assert particles.shape == (180, 150, 4)
    assert jets.shape == (180, 4)
    pt, mask = particles[..., 2], particles[..., 3]
    assert np.all(np.diff(pt, axis=1) <= 0)
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert not particles[mask == 0].any()
    assert np.all((jets[:, 0] > 800) & (jets[:, 0] < 1600))
    assert np.abs(particles[..., 1]).max() < 0.85


def test_jets_depend_on_the_spec_alone(tmp_path: Path, files: dict[str, Path]) -> None:
    spec = SPECS["w"].model_copy(update={"n_events": 70})
    make_jets(spec, tmp_path / "a.h5", workers=1)
    make_jets(spec, tmp_path / "b.h5", workers=3)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    for ours, longer in zip(read(tmp_path / "a.h5"), read(files["w"]), strict=True):
        np.testing.assert_array_equal(ours, longer[:70])
    assert not list(tmp_path.glob(".*"))


def test_file_tells_what_it_is(files: dict[str, Path], tmp_path: Path) -> None:
    assert are_current(SPECS["top"], files["top"])
    assert not are_current(SPECS["w"], files["top"])
    assert not are_current(SPECS["w"], tmp_path / "none.h5")
    (tmp_path / "bad.h5").write_bytes(b"no HDF5")
    assert not are_current(SPECS["w"], tmp_path / "bad.h5")
    with h5py.File(files["top"]) as file:
        record = json.loads(file.attrs["pileupgen"])
    assert record["spec"]["process"] == "top"
    assert {"pythia8mc", "fastjet"} <= set(record["versions"])


def test_impossible_selection_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce_jets, "MIN_YIELD", 1.0)
    spec = JetSpec(process="w", n_events=40, jet_pt=(3.0, 4.0))
    with pytest.raises(GeneratorError, match=r"50 collisions gave 0 of 40 jets"):
        make_jets(spec, tmp_path / "none.h5", workers=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"process": "top", "mu": 60}, "unknown key 'mu'"),
        ({"process": "top", "n_event": 60}, "Did you mean 'n_events'"),
        ({"process": "tops"}, "Did you mean 'top'"),
        ({"process": "w", "pt": 9000}, "out of reach"),
        ({"process": "w", "jet_pt": [2, 1]}, "ascending"),
    ],
)
def test_bad_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        parse_spec(values, "here")


def test_process_tells_the_kind() -> None:
    assert isinstance(parse_spec({"process": " Top "}, "here"), JetSpec)
    assert suffix(parse_spec({"process": "w"}, "here")) == ".h5"
    assert isinstance(parse_spec({}, "here"), SampleSpec)


def test_failed_file_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError), create_jetnet_file(tmp_path / "file" / "a.h5", 30, {}):
        pass
