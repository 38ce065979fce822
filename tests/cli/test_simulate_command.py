from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import pytest
import typer
import uproot
from matplotlib.figure import Figure
from typer.testing import CliRunner, Result

from pileupgen.cli.simulate import simulate
from pileupgen.errors import CardError, ConfigError, OutputError, PileupgenError
from pileupgen.report.figures.measured import measured_figure
from pileupgen.simulate.measured.check import GeneratorCheck
from pileupgen.simulate.measured.table import TABLES

SMALL = ["-g", "pythia6", "--pool-size", "40", "-n", "3", "--mu", "4", "--workers", "1"]
CARD = """\
name: tiny
what: a few events
domain: mc
{origin}
detector: {{text: none to speak of}}
how_made: by pileupgen simulate
selection: none
licence: CC0-1.0
contact: nobody
"""

app = typer.Typer()
app.command()(simulate)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILEUPGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_makes_a_file_once(folder: Path) -> None:
    pytest.importorskip("chromo")
    first = run(*SMALL)
    assert first.exit_code == 0
    assert "wrote" in first.output
    assert "next" in first.output
    made = (folder / "simulated.root").stat().st_mtime_ns
    assert "as is" in run(*SMALL).output
    assert (folder / "simulated.root").stat().st_mtime_ns == made
    forced = run(*SMALL, "--force")
    assert "pool of interactions" in forced.output
    assert (folder / "simulated.root").stat().st_mtime_ns > made


@pytest.mark.parametrize(
    ("process", "output", "better"),
    [((), "s.h5", "s.root"), (("--process", "shower"), "s.txt", "s.h5")],
)
def test_a_file_is_named_as_what_it_is(
    folder: Path, process: tuple[str, ...], output: str, better: str
) -> None:
    with pytest.raises(ConfigError, match=f"{output}: this sample is written as") as refused:
        run(*process, "-n", "3", "-o", output)
    assert refused.value.hint == f"Name it {better}."
    assert not (folder / output).exists()


def test_an_ending_may_be_in_upper_case(folder: Path) -> None:
    assert run("--process", "shower", "-n", "2", "-o", "s.HDF5").exit_code == 0
    with h5py.File(folder / "s.HDF5") as file:
        assert len(file["showers"]) == 2
    with pytest.raises(ConfigError, match=r"pool\.ROOT: the pool is written as HepMC 3"):
        run(*SMALL, "--hepmc", "pool.ROOT")


def test_a_pool_does_not_take_the_name_of_a_sample(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"pool\.root: the pool is written as HepMC 3") as refused:
        run(*SMALL, "--hepmc", "pool.root")
    assert refused.value.hint == "Name it pool.hepmc."
    assert not list(folder.iterdir())


def test_an_ntuple_holds_the_same_events(folder: Path) -> None:
    pytest.importorskip("chromo")
    run(*SMALL)
    assert "wrote" in run(*SMALL, "--rntuple").output
    assert "as is" in run(*SMALL, "--rntuple").output
    with uproot.open(folder / "simulated.root") as file:
        energy = file["Delphes"]["Tower_Eem"].array()
    assert "wrote" in run(*SMALL).output
    with uproot.open(folder / "simulated.root") as file:
        assert file["Delphes"]["Tower.Eem"].array().tolist() == energy.tolist()


def test_makes_what_a_card_describes(folder: Path) -> None:
    pytest.importorskip("chromo")
    origin = "generate: {generator: pythia6, pool_size: 40, n_events: 3, mu: 4}"
    (folder / "tiny.yaml").write_text(CARD.format(origin=origin))
    done = run("--card", "tiny", "--n-events", "2")
    assert done.exit_code == 0
    assert "make   2 events" in done.output
    assert "pythia6 (untuned: energies a third too soft) inelastic" in " ".join(done.output.split())
    assert (folder / "tiny.root").is_file()


def test_card_of_files_is_refused(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(CARD.format(origin="files: a.root"))
    with pytest.raises(CardError, match="no 'generate'"):
        run("--card", "tiny")


def test_card_with_an_unknown_key_names_the_near_one(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(CARD.format(origin="generate: {n_event: 3}"))
    with pytest.raises(CardError, match="Did you mean 'n_events'"):
        run("--card", "tiny")


def test_bad_option_is_one_error() -> None:
    with pytest.raises(PileupgenError, match="no generator 'pythia'"):
        run("-g", "pythia")


def test_a_folder_is_no_file_to_write(folder: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        run(*SMALL, "-o", str(folder))
    with pytest.raises(OutputError, match="is a folder"):
        run(*SMALL, "--hepmc", ".")
    assert not list(folder.glob("*.root"))


def test_a_pool_to_write_has_to_be_one_before_events_are_made(folder: Path) -> None:
    origin = "generate: {generator: pythia6, n_events: 3, mu: 4, separate_pools: [[1, 2]]}"
    (folder / "tiny.yaml").write_text(CARD.format(origin=origin))
    with pytest.raises(ConfigError, match="one pool of interactions has a pool for --hepmc"):
        run("--card", "tiny", "--hepmc", "pool.hepmc")
    with pytest.raises(ConfigError, match="one pool of interactions has a pool for --hepmc"):
        run("--process", "top", "--hepmc", "pool.hepmc")
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_check_compares_with_measurements_and_is_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("chromo")

    def draw(checks: Sequence[GeneratorCheck], name: str) -> Figure:
        """One figure as it is; what others show is tested where they are made."""
        is_drawn = name == "atlas_2012_et_density"
        return measured_figure(checks, name) if is_drawn else Figure((1.0, 1.0))

    monkeypatch.setattr("pileupgen.workflow.generator_check.measured_figure", draw)
    asked = ["--check", "-g", "pythia6", "-n", "300", "--workers", "1", "--sqrt-s", "7000"]
    first = run(*asked)
    assert first.exit_code == 0
    words = " ".join(first.output.split())
    assert "check E_T density, 7 TeV: generated / measured 0." in words
    assert "0.753 −0.037 +0.038" in words.replace("0.7532", "0.753"), "bin by bin"
    record = json.loads((folder / "checks" / "pythia6-inelastic-7000GeV.json").read_text())
    names = [table["head"]["name"] for table in record["tables"]]
    assert {"atlas_2012_et_density", "atlas_2012_sum_et", "cms_2011_energy_flow_7000"} < set(names)
    for name in names:
        assert {path.suffix for path in (folder / "checks").glob(f"{name}.*")} == {".png", ".pdf"}
    assert "as is" in run(*asked).output
    monkeypatch.setattr("pileupgen.workflow.generator_check.write_figure", lambda *_: [])
    assert "as is" not in run(*asked, "--seed", "2").output
    # The record is named in the summary of samples of the same generator.
    summary = " ".join(run(*SMALL).output.split())
    assert "check pythia6 at 7 TeV, not checked at 13.6 TeV: E_T density" in summary
    assert "differs in" in summary


def test_sample_of_an_unchecked_generator_says_so() -> None:
    pytest.importorskip("chromo")
    summary = " ".join(run(*SMALL).output.split())
    assert "not checked against measurements yet: pileupgen simulate --check -g pythia6" in summary


def test_check_takes_a_table_and_a_card_of_the_users_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("chromo")
    monkeypatch.setattr("pileupgen.workflow.generator_check.write_figure", lambda *_: [])
    shipped = (TABLES / "atlas_2012_et_density.csv").read_text(encoding="utf-8")
    own = folder / "own.csv"
    own.write_text(shipped.replace("sqrt_s: 7000", "sqrt_s: 900"), encoding="utf-8")
    origin = "generate: {generator: pythia6, seed: 4}"
    (folder / "tiny.yaml").write_text(CARD.format(origin=origin))
    asked = ["--check", "--card", "tiny", "-n", "100", "--sqrt-s", "900", "--table", str(own)]
    with pytest.raises(CardError, match="both named 'atlas_2012_et_density'"):
        run(*asked)
    own.write_text(own.read_text().replace("atlas_2012_et_density", "own"), encoding="utf-8")
    assert run(*asked, "-o", "there").exit_code == 0
    record = json.loads((folder / "there" / "pythia6-inelastic-900GeV.json").read_text())
    assert [table["head"]["name"] for table in record["tables"]][-1] == "own"
    assert (record["seed"], record["n_events"]) == (4, 100)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mu", "3"], "mu do not go with --check"),
        (["--filling", "48b7e"], "filling do not go with --check"),
        (["--rntuple", "--hepmc", "pool.hepmc"], "hepmc, rntuple do not go with --check"),
        (["--card", "jetnet_top"], "no generator of minimum bias"),
        (["--sqrt-s", "8000"], "Nothing was measured at 8000 GeV"),
        (["--process", "top"], "no process 'top'"),
        (["--process", "dijet"], "'dijet' is a hard process"),
        (["--table", "absent.csv"], "No measured table absent.csv"),
        (["-g", "sibyll", "--tune", "21"], "tune is a setting of pythia8"),
        (["--config", "demo", "-o", "there"], "does not go with check, output"),
        (["-n", "1", "-g", "pythia6"], "at least 2 are needed"),
    ],
)
def test_check_refuses_what_it_cannot_use(options: list[str], words: str) -> None:
    pytest.importorskip("chromo")
    with pytest.raises(PileupgenError) as caught:
        run("--check", *options)
    assert words in str(caught.value)
