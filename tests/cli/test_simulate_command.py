from __future__ import annotations

from pathlib import Path

import pytest
import typer
import uproot
from typer.testing import CliRunner, Result

from pileupgen.cli.simulate import simulate
from pileupgen.errors import CardError, PileupgenError

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
    assert "minimum-bias pool" in forced.output
    assert (folder / "simulated.root").stat().st_mtime_ns > made


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
