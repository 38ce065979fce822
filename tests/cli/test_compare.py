from __future__ import annotations

import csv
import json
from copy import deepcopy
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pileupgen.cli.main import app
from pileupgen.compare.results import Comparison
from pileupgen.errors import ConfigError, MissingInputError, UnreadableInputError
from pileupgen.report.side_by_side import differences, headline_lines, run_names, to_markdown

ROWS = ("reference", "source", "translated")


def estimate(value: float | None, half: float = 0.01) -> dict[str, float | None]:
    if value is None:
        return {"value": None, "low": None, "high": None}
    return {"value": value, "low": value - half, "high": value + half}


def row(label: str, mean: float) -> dict:
    return {
        "label": label,
        "n_events": 1000,
        "n_samples": 1,
        "effective_events": 1000.0,
        "mean_w1": estimate(mean),
        "shift_removed": estimate(0.9),
        "two_sample": {
            "features": {
                "auc": 0.6,
                "spread": 0.003,
                "error": 0.004,
                "jsd": 0.1,
                "jsd_spread": 0.01,
                "n_seeds": 3,
            },
            "cells": None,
        },
        "source_correlation": None,
        "fpd": {"value": 0.0451, "low": 0.0431, "high": 0.0471, "jetnet_error": 0.0002},
        "kpd": None,
        "observables": {"rho": {"w1": estimate(mean), "separation": 0.01}},
    }


def load(metrics: dict) -> Comparison:
    return Comparison.model_validate_json(json.dumps(metrics))


def make() -> dict:
    """Metrics as `validate` writes them."""
    finding = {"family": "cell", "name": "cell [em]", "local": 6.0, "significance": 5.0}
    metrics = {
        "schema": "pileupgen-metrics",
        "schema_version": 2,
        "kind": "images",
        "settings": {"weighted": False, "level": 0.6827},
        "ess": 0.5,
        "notes": [],
        "target": {"label": "data", "n_events": 1000},
        "observables": {"rho": {"label": "$\\rho$", "unit": "GeV"}},
        "rows": {name: row(name, 0.1 * place) for place, name in enumerate(ROWS, start=1)},
        "controls": {"null_source_correlation_block": None},
        "verdicts": {
            name: {"significance": 5.0, "n_tests": 100, "n_clear": 1, "findings": [finding]}
            for name in ROWS
        },
        "mu_bins": [],
        "pileup": {},
        "truth": None,
        "inputs": {"target": {"path": "data.h5", "sha256": "aa", "n_events": 4000}},
        "translation": {"t_release": 300, "w": 2.0},
    }
    load(metrics)
    return metrics


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two run directories; the second lacks a number and was released elsewhere."""
    other = make()
    other["translation"] = {"t_release": 400}
    other["rows"]["translated"]["fpd"] = None
    folders = []
    for name, metrics in (("early", make()), ("late", other)):
        folder = tmp_path / name / "validation"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        folders.append(tmp_path / name)
    return folders


def call(*arguments: object):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_runs_stand_side_by_side(runs):
    result = call(*runs)
    assert result.exit_code == 0, result.output
    lines = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for line in result.output.splitlines()
        if len(cells := line.replace("┃", "│").split("│")) == 5
    }
    assert lines[""] == ["early", "late"]
    assert lines["mean W1/σ"] == ["0.300 ± 0.010", "0.300 ± 0.010"]
    assert lines["AUC, observables"] == ["0.600 ± 0.005", "0.600 ± 0.005"]
    assert lines["FPD × 1000"] == ["45.10 ± 2.00", "–"]
    assert lines["significance"] == ["5.0 σ", "5.0 σ"]
    assert lines["most significant difference"] == ["cell [em]", "cell [em]"]
    assert lines["release time t"] == ["300", "400"]
    assert "KPD × 1000" not in lines
    assert "warning" not in result.output
    for run in runs:
        assert str(run / "validation/metrics.json") in result.output.replace("\n", "")


def test_the_report_to_look_at_is_named(runs):
    assert "next" not in call(*runs).output
    page = runs[1] / "validation/report.html"
    page.write_text("")
    assert f"look at {page}" in call(*runs).output


def test_csv_has_every_headline_number_of_every_run(runs, tmp_path):
    path = tmp_path / "out/table.csv"
    assert call(*runs, "--output", path).exit_code == 0
    first, second = csv.DictReader(StringIO(path.read_text()))
    assert (first["run"], second["run"]) == ("early", "late")
    assert float(first["mean_w1"]) == pytest.approx(0.3)
    assert float(first["mean_w1_low"]) == pytest.approx(0.29)
    assert (first["fpd"], second["fpd"]) == ("0.0451", "")
    assert (first["fpd_low"], first["fpd_high"]) == ("0.0431", "0.0471")
    assert (first["w"], second["w"]) == ("2.0", "")


def test_markdown_is_what_is_shown(runs, tmp_path):
    path = tmp_path / "table.md"
    assert call(*runs, "-o", path).exit_code == 0
    lines = path.read_text().splitlines()
    assert lines[:2] == ["|  | early | late |", "|---|---:|---:|"]
    assert "| mean W1/σ | 0.300 ± 0.010 | 0.300 ± 0.010 |" in lines
    assert {line.count("|") for line in lines} == {4}


def test_a_bar_in_a_name_does_not_break_markdown():
    assert to_markdown(["a|b"], [["x", "1"]]).splitlines()[0] == "|  | a\\|b |"


def test_unlike_comparisons_are_told(runs):
    path = runs[1] / "validation/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["inputs"]["target"]["sha256"] = "bb"
    metrics["settings"]["weighted"] = True
    path.write_text(json.dumps(metrics))
    output = call(*runs).output
    assert "different target files: early | late" in output
    assert "different uses of release weights: early | late" in output
    assert differences(["a", "b"], [load(make()), load(make())]) == []


def test_undefined_numbers_are_dashes():
    metrics = deepcopy(make())
    metrics["rows"]["translated"]["shift_removed"] = estimate(None)
    lines = {line[0]: line[1:] for line in headline_lines([load(metrics), load(make())])}
    assert lines["fraction of the shift removed"] == ["–", "0.900 ± 0.010"]


def test_names_tell_runs_and_stores_apart():
    paths = [Path(name) for name in ("x/a/validation/metrics.json", "y/a/validation/metrics.json")]
    assert run_names(paths) == [str(path) for path in paths]
    assert run_names([Path("r/a/metrics.json")]) == ["a"]


def test_what_is_missing_names_the_command_that_makes_it(runs, tmp_path):
    error = call(runs[0], tmp_path / "none").exception
    assert isinstance(error, MissingInputError)
    assert f"pileupgen validate --run {tmp_path / 'none'}" in error.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a metrics.json of pileupgen"),
        ('{"schema": "other"}', "is not a metrics.json of pileupgen"),
        ('{"schema": "pileupgen-metrics", "schema_version": 0}', "does not fit this version"),
    ],
)
def test_what_is_foreign_or_damaged_is_refused(runs, text, message):
    (runs[1] / "validation/metrics.json").write_text(text)
    error = call(*runs).exception
    assert isinstance(error, UnreadableInputError)
    assert message in error.message
    assert f"pileupgen validate --run {runs[1]}" in error.hint


def test_bytes_that_are_no_text_are_refused(runs):
    (runs[1] / "validation/metrics.json").write_bytes(b"\x89HDF\xff\xfe")
    assert isinstance(call(*runs).exception, UnreadableInputError)


def test_an_unknown_format_is_refused_before_anything_is_read(tmp_path):
    error = call(tmp_path / "none", "--output", "table.xlsx").exception
    assert isinstance(error, ConfigError)
    assert ".md or .csv" in error.message


def test_help_has_examples():
    output = CliRunner().invoke(app, ["compare", "--help"]).output
    assert "pileupgen compare runs/demo runs/atlas" in output
