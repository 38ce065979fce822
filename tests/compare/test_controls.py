"""Controls: a translation that changes nothing gives again the row whose events it has."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pileupgen.calo.geometry import Grid
from pileupgen.cli.validate import validate
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import validate_stores
from pileupgen.errors import GeometryError, StoreError
from pileupgen.report.metrics_file import read_metrics
from pileupgen.report.verdict import judge_comparison
from pileupgen.samples.store import ImageStore

SETTINGS = ComparisonSettings(n_bootstrap=10, n_seeds=0, n_mu_bins=1)


@pytest.fixture(scope="module")
def make(toy, tmp_path_factory):
    """A control of a store's test events: (store, change of the images) to a store."""

    def control(own: ImageStore, change=lambda energy: energy, rows=None, **more) -> ImageStore:
        rows = own.indices("test") if rows is None else rows
        path = tmp_path_factory.mktemp("control") / f"{own.domain}_to_{own.domain}.h5"
        columns = {
            "source_event": own.columns["event_id"][rows],
            "split": np.full(len(rows), 2, dtype=np.uint8),
        }
        energy = change(own.read(rows).energy).astype(np.float32)
        provenance = {"t_release": 300, "w": 2.0, "mode": "partial"}
        given = {"domain": f"{own.domain}_to_{own.domain}", "provenance": provenance, **more}
        return toy.store(path, energy, **given, **columns)

    return control


def compared(toy_stores, *controls: ImageStore, settings: ComparisonSettings = SETTINGS):
    stores = (toy_stores[role] for role in ("target", "source", "translated"))
    return validate_stores(*stores, settings, controls=controls).comparison


def test_nothing_changed_gives_the_row_that_is_replaced_to_the_digit(toy_stores, make):
    identity, null = make(toy_stores["target"]), make(toy_stores["source"])
    settings = ComparisonSettings(n_bootstrap=20, n_seeds=1, n_mu_bins=1)
    result = compared(toy_stores, identity, null, settings=settings)
    assert list(result.controls.rows) == ["data_to_data", "mc_to_mc"]
    for control, name in zip(result.controls.rows.values(), ("reference", "source"), strict=True):
        row = result.rows[name]
        assert control.replaces == name
        assert control.row.mean_w1 == row.mean_w1
        assert control.row.observables == row.observables
        assert control.row.two_sample == row.two_sample
        assert (control.row.fpd, control.row.kpd) == (row.fpd, row.kpd)
        assert (control.rise.value, control.rise.low, control.rise.high) == (0.0, 0.0, 0.0)
        assert control.row.source_correlation.block.value == pytest.approx(1.0)
        assert control.row.source_correlation.cell.value == pytest.approx(1.0)
        assert control.verdict.significance == result.verdicts[name].significance


def test_what_the_translation_does_is_seen_far_below_the_floor(toy_stores, make):
    rng = np.random.default_rng(1)

    def spoil(energy):
        return energy * rng.lognormal(0.0, 0.1, energy.shape)

    result = compared(toy_stores, make(toy_stores["target"], lambda energy: 0.98 * energy))
    (control,) = result.controls.rows.values()
    # The events are the same, so a 2 % scale shows though the reference's own error is larger.
    assert control.rise.low > 0
    assert control.row.source_correlation.block.value == pytest.approx(1.0, abs=1e-3)
    (noisy,) = compared(toy_stores, make(toy_stores["target"], spoil)).controls.rows.values()
    assert 0.9 < noisy.row.source_correlation.cell.value < 0.999
    assert noisy.row.source_correlation.cell.value < noisy.row.source_correlation.block.value


def test_a_control_of_some_events_only_is_linked_to_these(toy_stores, make):
    rows = toy_stores["target"].indices("test")[::-3][:40]
    (control,) = compared(toy_stores, make(toy_stores["target"], rows=rows)).controls.rows.values()
    assert control.row.n_events == 40
    assert control.row.source_correlation.cell.value == pytest.approx(1.0)


def test_two_controls_of_one_kind_have_names_of_their_own(toy_stores, make):
    first, second = (make(toy_stores["target"]) for _ in range(2))
    result = compared(toy_stores, first, second)
    assert list(result.controls.rows) == ["data_to_data", "data_to_data_2"]
    assert "rise_data_to_data_2" in result.headline


def test_a_control_translated_otherwise_is_told(toy_stores, make):
    other = make(toy_stores["target"], provenance={"t_release": 995, "w": 2.0, "mode": "invert"})
    (note,) = [note for note in compared(toy_stores, other).notes if "other settings" in note]
    assert "mode invert instead of partial, t_release 995 instead of 300" in note


def test_the_test_on_cells_takes_controls_too(toy_stores, make, monkeypatch):
    from pileupgen.compare import cell_classifier

    seen = []

    def cell_test(first, second, grid, *weights, **options):
        seen.append((first.mean(), second.mean()))

    monkeypatch.setattr(cell_classifier, "cell_test", cell_test)
    settings = ComparisonSettings(n_bootstrap=10, n_seeds=0, n_mu_bins=1, cells=True)
    both = [make(toy_stores[role], lambda e: 2 * e) for role in ("target", "source")]
    compared(toy_stores, *both, settings=settings)
    reference, source, _, real, simulated = seen
    assert real == pytest.approx((2 * reference[0], reference[1]))
    assert simulated == pytest.approx((source[0], 2 * source[1]))


def test_what_is_no_control_is_refused(toy, toy_stores, make):
    target = toy_stores["target"]
    with pytest.raises(StoreError, match="holds mc_to_data: no control"):
        compared(toy_stores, toy_stores["translated"])
    with pytest.raises(StoreError, match="holds data_to_mc: no control"):
        compared(toy_stores, make(target, domain="data_to_mc"))
    with pytest.raises(StoreError, match=r"No event of .* is among the 150"):
        compared(toy_stores, make(target, rows=target.indices("train")))
    grid = Grid(toy.grid.eta_edges, 10)
    with pytest.raises(GeometryError):
        compared(toy_stores, make(target, lambda energy: energy[..., :10], grid=grid))


def test_table_numbers_and_report_show_it(toy_stores, make, tmp_path: Path):
    app = typer.Typer()
    app.command()(validate)
    run = tmp_path / "run"
    for role, place in (
        ("source", "data/mc.h5"),
        ("target", "data/data.h5"),
        ("translated", "translated/mc_to_data.h5"),
    ):
        (run / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(toy_stores[role].path, run / place)
    (tmp_path / "tiny.yaml").write_text("validate: {n_bootstrap: 10}\n")
    good, bad = make(toy_stores["target"]), make(toy_stores["source"], lambda e: 2.5 * e)

    def call(*options: str):
        config = str(tmp_path / "tiny.yaml")
        return CliRunner().invoke(app, ["--config", config, "--run", str(run), *options])

    controls = ("--control", str(good.path), "--control", str(bad.path))
    result = call("--quick", *controls, "--fail-if", "rise_mc_to_mc > 0.1")
    assert result.exit_code == 10, result.output
    for word in ("rise of mean W1/σ", "data →", "mc →"):
        assert word in result.output
    metrics = read_metrics(run)
    assert metrics.headline["rise_data_to_data"] == 0
    assert metrics.inputs["control 1"].n_events == 150
    judgement = judge_comparison(metrics)
    assert any("Control data → data" in text for text in judgement.for_it)
    assert any("Control mc → mc" in text for text in judgement.against_it)
    page = (run / "validation/report.html").read_text()
    assert page.count('<th scope="col">data → data</th>') == 1
    assert "largest to be expected" in page
    assert "as is" in call("--quick", *controls).output
    assert "as is" not in call("--quick", "--control", str(good.path)).output
    missing = call("--control", str(tmp_path / "nowhere.h5"))
    assert "nowhere.h5" in str(missing.exception)


def test_a_control_has_the_weights_of_the_events_that_it_was_made_of(
    toy, toy_stores, make, tmp_path
):
    own = toy_stores["target"]
    weight = np.linspace(0.5, 2.0, len(own))
    images = own.read()
    target = toy.store(tmp_path / "data.h5", images.energy, "data", weight=weight)
    control = make(target, rows=target.indices("test")[::-1])
    found = validate_stores(
        target, toy_stores["source"], toy_stores["translated"], SETTINGS, controls=[control]
    ).comparison.controls.rows["data_to_data"]
    kept = weight[target.indices("test")]
    assert found.row.effective_events == pytest.approx(kept.sum() ** 2 / np.square(kept).sum())
    assert found.rise.value == pytest.approx(0.0, abs=1e-12)
