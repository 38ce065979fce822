"""From two data cards to a fitted response card, its table and what it explains."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pileupgen.cli.ui.console import console
from pileupgen.cli.ui.fit_table import show_fit
from pileupgen.errors import CardError
from pileupgen.simulate.response import RESPONSES, load_response
from pileupgen.simulate.response_fit import PARAMETERS
from pileupgen.workflow.generated import parse_spec, simulate_to
from pileupgen.workflow.response_fit import fit_card

CARD = """\
name: {name}
what: a few events
domain: {domain}
{origin}
format: delphes
detector: {{text: none to speak of, grid: atlas_barrel}}
how_made: by pileupgen simulate
selection: none
licence: CC0-1.0
contact: nobody
"""
FREE = ("hadrons, em part of it",)
# Two pools differ by chance, which the error of a fitted number does not hold: none too small.
SAMPLE = {"generator": "pythia6", "pool_size": 1500, "mu": 20}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cards of a recorded sample and of a simulated one."""
    pytest.importorskip("chromo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILEUPGEN_CACHE", str(tmp_path / "cache"))
    values = yaml.safe_load((RESPONSES / "mc.yaml").read_text())
    values["towers"] = [{"eta": [0.0, 1.2], "width": 0.1, "n_phi": 36}]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    values["energy_fractions"][0] = [0.1, 0.9]
    (tmp_path / "planted.yaml").write_text(yaml.safe_dump(values))
    origin = f"generate: {yaml.safe_dump(SAMPLE, default_flow_style=True)}"
    (tmp_path / "mc.yaml").write_text(CARD.format(name="mc", domain="mc", origin=origin))
    recorded = CARD.format(name="rec", domain="data", origin="files: recorded.root")
    (tmp_path / "rec.yaml").write_text(recorded)
    return tmp_path


def test_a_planted_number_explains_the_shift(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample = {**SAMPLE, "n_events": 400, "seed": 2, "response": "planted.yaml"}
    simulate_to(parse_spec(sample, "test", folder), folder / "recorded.root", workers=1)
    found = fit_card(
        "rec",
        "mc",
        "mine.yaml",
        folder / "out" / "fitted.yaml",
        n_recorded=400,
        n_simulated=170,
        fixed=[name for name in PARAMETERS if name not in FREE],
    )
    number = found.fit.numbers[FREE[0]]
    assert number.value == pytest.approx(0.1, abs=4 * number.error)
    assert number.error < 0.02
    # One number alone has nothing to exchange with.
    assert number.profile == pytest.approx((number.error, number.error), rel=0.5)
    assert found.fit.chi2 < found.fit.chi2_start / 3
    assert found.distances["fitted"] < found.distances["begun with"]
    assert 0.5 < found.explained < 1.5
    card = load_response(str(found.path))
    assert card.energy_fractions[0][0] == pytest.approx(number.value)
    with console.capture() as shown:
        show_fit(found)
    assert f"{number.value:.4f} ± {number.error:.4f}" in shown.get()
    assert "not determined" in shown.get()
    down, up = number.profile
    assert f"{number.value - down:.4f} to {number.value + up:.4f}" in shown.get()
    assert f"{found.explained:.2f} of it is explained" in shown.get()
    assert "cannot describe these events" not in caplog.text
    # What was planted is held, and what is fitted cannot stand for it.
    poor = fit_card(
        "rec",
        "mc",
        "mine.yaml",
        folder / "poor.yaml",
        n_recorded=400,
        n_simulated=170,
        fixed=[name for name in PARAMETERS if name != "had constant term"],
        refined=False,
    )
    assert poor.fit.chi2 > 4 * poor.fit.n_statistics
    assert "cannot describe these events" in caplog.text


def test_source_has_to_be_generated_pileup(folder: Path) -> None:
    with pytest.raises(CardError, match="no 'generate'"):
        fit_card("rec", "rec", "mine.yaml", folder / "fitted.yaml", n_recorded=20)
    hard = CARD.format(name="hard", domain="mc", origin="generate: {process: dijet}")
    (folder / "hard.yaml").write_text(hard)
    with pytest.raises(CardError, match="no card of pileup from a generator"):
        fit_card("rec", "hard", "mine.yaml", folder / "fitted.yaml", n_recorded=20)
    assert not (folder / "fitted.yaml").exists()


def test_cells_that_see_other_crossings_are_not_fitted(folder: Path) -> None:
    with pytest.raises(CardError, match="has pulse shapes"):
        fit_card("rec", "mc", "out_of_time", folder / "fitted.yaml", n_recorded=20)


def test_conditions_that_change_are_not_fitted(folder: Path) -> None:
    values = yaml.safe_load((RESPONSES / "mc.yaml").read_text())
    values["periods"] = [{"name": "A"}, {"name": "B", "part": 2}]
    (folder / "periods.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(CardError, match="has periods: the fit is of one set of conditions"):
        fit_card("rec", "mc", "periods.yaml", folder / "fitted.yaml", n_recorded=20)


def test_what_is_fitted_to_is_in_files(folder: Path) -> None:
    with pytest.raises(CardError, match=r"'mc' .* names no recorded files"):
        fit_card("mc", "mc", "mine.yaml", folder / "fitted.yaml", n_recorded=20)
