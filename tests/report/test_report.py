from __future__ import annotations

import json
import re
import shutil
import struct
import zlib
from copy import deepcopy
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pileupgen.cli.validate import validate
from pileupgen.compare.headline import HEADLINE, glossary
from pileupgen.compare.results import Comparison
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import Validation, validate_stores
from pileupgen.diffusion.release import scan_release
from pileupgen.errors import MissingInputError, UnreadableInputError
from pileupgen.measure.bootstrap import Estimate
from pileupgen.report import figures
from pileupgen.report.captions import CAPTIONS, caption
from pileupgen.report.figures import validation_figures
from pileupgen.report.metrics_file import read_metrics
from pileupgen.report.page import NAME, render_report, write_report
from pileupgen.report.text import label_html, standing
from pileupgen.report.verdict import Judgement, judge_comparison

VOID = {"meta", "img", "br", "link"}
EVIL = '<script>alert("1")</script>&'


class Page(HTMLParser):
    """Checks nesting and collects what the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def png(width: int = 4, height: int = 3) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\xff" * width for _ in range(height)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def validation(toy_stores) -> Validation:
    settings = ComparisonSettings(n_bootstrap=10, n_seeds=1)
    roles = ("target", "source", "translated")
    return validate_stores(*(toy_stores[role] for role in roles), settings, seed=3)


@pytest.fixture
def metrics(validation) -> dict:
    found = json.loads(validation.comparison.to_json())
    found["inputs"] = {
        role: {"path": f"runs/toy/{role}.h5", "sha256": "0" * 64, "n_events": 600}
        for role in ("target", "source", "translated")
    }
    found["translation"] = {"t_release": 300, "w": 2.0, "mode": "partial"}
    found["versions"] = {"pileupgen": "0"}
    found["figures"] = ["figures/mean_maps.png", "figures/mean_maps.pdf"]
    return found


def load(metrics: dict) -> Comparison:
    return Comparison.model_validate_json(json.dumps(metrics))


def page_of(metrics: dict, pictures: dict[str, bytes]) -> str:
    return render_report(load(metrics), pictures)


def judged(metrics: dict) -> Judgement:
    return judge_comparison(load(metrics))


def set_significance(metrics: dict, row: str, value: float) -> None:
    verdict = metrics["verdicts"][row]
    verdict["significance"] = value
    for found in verdict["findings"]:
        found["significance"] = min(found["significance"], value)
    verdict["findings"][0]["significance"] = value


def test_the_page_needs_nothing_but_itself(metrics):
    page = Page(page_of(metrics, {"figures/mean_maps.png": png()}))
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object"})
    for _, attributes in page.tags:
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/png;base64,", "#"))
    css = (files("pileupgen.report") / "page.css").read_text()
    assert "url(" not in css
    assert "@import" not in css


def test_every_link_inside_has_its_place(metrics):
    tags = Page(page_of(metrics, {})).tags
    places = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(places) == len(set(places))
    for _, attributes in tags:
        if "href" in attributes:
            assert attributes["href"][1:] in places
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in places


def test_pictures_and_tables_can_be_heard(metrics):
    tags = Page(page_of(metrics, {"figures/mean_maps.png": png(40, 30)})).tags
    (image,) = (attributes for tag, attributes in tags if tag == "img")
    assert "η and φ" in image["alt"]
    assert (image["width"], image["height"]) == ("40", "30")
    n_tables = sum(tag == "table" for tag, _ in tags)
    assert n_tables >= 6
    assert sum(tag == "caption" for tag, _ in tags) == n_tables
    assert all(attributes["scope"] in ("col", "row") for tag, attributes in tags if tag == "th")
    assert ("html", {"lang": "en"}) in tags


def test_tables_are_rectangular(metrics):
    text = page_of(metrics, {})
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        widths = {
            len(re.findall(r"<t[hd][ >]", row))
            for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
        }
        assert len(widths) == 1


def test_light_dark_print_and_phone_are_provided_for():
    css = (files("pileupgen.report") / "page.css").read_text()
    for query in ("prefers-color-scheme: dark", "@media print", "max-width: 40rem"):
        assert query in css
    assert css.count("{") == css.count("}")


def test_whatever_comes_from_files_is_escaped(metrics):
    metrics["target"]["label"] = EVIL
    metrics["rows"]["source"]["label"] = EVIL
    metrics["rows"]["reference"]["label"] = EVIL
    metrics["notes"] = [EVIL]
    metrics["inputs"]["target"]["path"] = EVIL
    metrics["translation"] = {EVIL: EVIL, "t_release": EVIL, "w": EVIL}
    metrics["versions"] = {EVIL: EVIL}
    metrics["verdicts"]["translated"]["findings"][0]["name"] = EVIL
    for record in (*metrics["observables"].values(), *metrics["pileup"].values()):
        record["label"] = f"{EVIL}${EVIL}$"
        record["unit"] = EVIL
    text = page_of(metrics, {f"figures/{EVIL}.png": png()})
    page = Page(text)
    assert "<script" not in text
    assert page.open == []
    assert 'alert("1")' in page.text


def test_the_verdict_comes_first_and_says_by_how_much(metrics):
    set_significance(metrics, "translated", 12.34)
    metrics["verdicts"]["translated"]["findings"][0]["name"] = "rho, mean"
    text = Page(page_of(metrics, {})).text
    assert text.index("differ from data by 12.3 σ") < text.index("Numbers Each sample")
    assert "(rho, mean)" in text
    assert "energies of either sign" not in text
    assert f"{metrics['verdicts']['translated']['n_tests']:,}" in text


def test_tests_are_shown_with_and_without_correction(metrics):
    found = metrics["verdicts"]["translated"]["findings"][0]
    found.update(name="rho, mean", family="observable", local=9.9, significance=8.8)
    text = page_of(metrics, {})
    row = text[text.index('<th scope="row">rho, mean</th>') :].partition("</tr>")[0]
    cells = re.findall(r"<td>(.*?)</td>", row)
    assert cells == ["observable", "translated", "9.9\u00a0σ", "8.8\u00a0σ"]


def test_a_quiet_comparison_is_equivalent_if_events_are_many_enough_to_tell(metrics):
    set_significance(metrics, "translated", 1.0)
    metrics["equivalence"]["limit"] = 0.9 * metrics["equivalence"]["margin"]
    judgement = judged(metrics)
    assert judgement.agrees
    assert "equivalent to data within a margin" in judgement.lead
    metrics["equivalence"]["limit"] = 1.1 * metrics["equivalence"]["margin"]
    doubtful = judged(metrics)
    assert not doubtful.agrees
    assert "is not shown" in doubtful.lead
    assert not any("σ in" in text for text in judgement.against_it)


def test_a_control_that_fails_forbids_to_agree(metrics):
    set_significance(metrics, "translated", 1.0)
    metrics["equivalence"]["limit"] = 0.0
    set_significance(metrics, "reference", 6.0)
    judgement = judged(metrics)
    assert not judgement.agrees
    assert "The reference fails" in judgement.cautions[0]
    assert "6.0 σ" in judgement.cautions[0]


def test_observables_are_counted_once(metrics):
    judgement = judged(metrics)
    counts = [
        int(found.group(1))
        for text in (*judgement.for_it, *judgement.against_it)
        if (found := re.search(r"in (\d+) of \d+ observables", text))
    ]
    varying = [
        record["w1"]["value"] is not None
        for record in metrics["rows"]["translated"]["observables"].values()
    ]
    assert sum(counts) == sum(varying)


def test_a_test_that_cannot_tell_speaks_for_the_translation(metrics):
    test = metrics["rows"]["translated"]["two_sample"]["features"]
    test.update(auc=0.51, error=0.01, spread=0.0)
    assert any("at most 0.526 (95 %" in text for text in judged(metrics).for_it)
    test.update(auc=0.53)
    assert any("distinguishes translated from real" in text for text in judged(metrics).against_it)


def physics_distance(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "jetnet_error": 0.001}


def test_a_reference_farther_than_the_translated_is_told(metrics):
    metrics["rows"]["reference"]["fpd"] = physics_distance(0.3, 0.29, 0.31)
    metrics["rows"]["translated"]["fpd"] = physics_distance(0.04, 0.03, 0.05)
    assert any("do not rank" in text for text in judged(metrics).cautions)


def test_one_far_reference_sample_is_told_and_does_not_rank(metrics):
    metrics["rows"]["reference"]["fpd"] = physics_distance(0.01, 0.009, 0.7)
    metrics["rows"]["translated"]["fpd"] = physics_distance(0.04, 0.03, 0.05)
    found = judged(metrics).cautions
    assert any("0.700" in text and "median" in text for text in found)


def test_what_is_unknown_is_left_out(metrics):
    nothing = {"value": None, "low": None, "high": None}
    for row in metrics["rows"].values():
        row.update(fpd=None, kpd=None, source_correlation=None, shift_removed=nothing)
        row["two_sample"] = {"features": None, "cells": None}
    metrics.update(mu_bins=[], pileup={}, inputs={}, translation={})
    metrics["controls"]["null_source_correlation_block"] = None
    text = Page(page_of(metrics, {})).text
    assert "None" not in text.partition("Glossary")[0].partition("Verdict")[2]
    assert "AUC," not in text.split("Glossary")[1]
    assert "No figures were drawn." in text


def test_standing_follows_the_intervals():
    def interval(value: float, half: float = 0.1) -> Estimate:
        return Estimate(value, value - half, value + half)

    reference, source = interval(0.2), interval(1.0)
    assert standing(reference, source, interval(0.35)) == "reference"
    assert standing(reference, source, interval(0.5)) == "nearer"
    assert standing(reference, source, interval(1.1)) == "farther"
    assert standing(reference, source, interval(float("nan"))) == "unknown"


def test_labels_keep_their_words():
    label = r"$\sigma\,\mathrm{(log_{10}(}E\mathrm{/MeV))}$, em"
    assert label_html(label) == "σ\u2009(log<sub>10</sub>(<i>E</i>/MeV)), em"
    assert label_html("a < b", "GeV") == "a &lt; b [GeV]"
    assert label_html("$E_") == "<i>E</i><sub></sub>"


def test_every_label_is_understood(validation):
    for label in [record.label for record in validation.comparison.records] + [
        quantity.label for quantity in validation.comparison.pileup.values()
    ]:
        assert not set("\\${}_^") & set(label_html(label))


def test_every_figure_has_words(validation):
    names = [name for name, _ in validation_figures(validation)]
    curve = scan_release([0, 1], [(np.zeros(2), np.ones(2))] * 2, 1, n_bootstrap=2)
    names += [name for name, _ in validation_figures(validation, curve)]
    for name in (*names, *CAPTIONS):
        assert caption(name).see
    assert caption("something_new").alt == "Figure: something new."


def test_a_damaged_picture_is_refused(metrics, tmp_path: Path):
    with pytest.raises(UnreadableInputError, match="no PNG"):
        page_of(metrics, {"figures/mean_maps.png": b"GIF89a"})
    with pytest.raises(UnreadableInputError, match=r"mean_maps\.png cannot be read"):
        write_report(load(metrics), tmp_path)
    assert not (tmp_path / NAME).exists()


def test_the_page_is_written_whole_and_the_same_again(metrics, tmp_path: Path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/mean_maps.png").write_bytes(png())
    path = write_report(load(metrics), tmp_path)
    first = path.read_bytes()
    assert write_report(load(metrics), tmp_path).read_bytes() == first
    assert first.decode().startswith("<!DOCTYPE html>")


def test_metrics_are_read_back_as_they_were_written(metrics, validation):
    assert json.loads(validation.comparison.to_json()) == json.loads(
        Comparison.model_validate_json(validation.comparison.to_json()).to_json()
    )
    assert json.loads(load(metrics).to_json()) == metrics


def test_the_schema_describes_every_key(metrics):
    schema = Comparison.model_json_schema(mode="serialization")
    assert set(metrics) == set(schema["properties"])
    assert schema["properties"]["schema"]["const"] == metrics["schema"] == "pileupgen-metrics"
    assert schema["properties"]["schema_version"]["const"] == metrics["schema_version"]
    assert set(metrics["rows"]["source"]) == set(schema["$defs"]["Row"]["properties"])
    for name, one in schema["$defs"].items():
        if name != "Estimate":
            for key, described in one["properties"].items():
                assert described.get("description"), (name, key)
    assert schema["$defs"]["Estimate"]["properties"]["low"]["type"] == ["number", "null"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda m: m.pop("target"), "target: Field required"),
        (lambda m: m.update(extra=1), "extra: Extra inputs"),
        (lambda m: m["rows"]["source"].update(extra=1), "rows.source.extra: Extra inputs"),
        (lambda m: m["rows"]["source"]["mean_w1"].update(extra=1), "mean_w1.extra: "),
        (lambda m: m.update(schema_version=1), "schema_version: Input should be 2"),
        (lambda m: m["notes"].append(3), "notes.0: Input should be a valid string"),
        (lambda m: m["target"].update(n_events=-1), "target.n_events: Input should be greater"),
        (lambda m: m["target"].update(n_events=1.5), "target.n_events: "),
        (
            lambda m: m["rows"]["reference"]["two_sample"]["features"].update(auc=2.0),
            "rows.reference.two_sample.features.auc: Input should be less than or equal to 1",
        ),
        (
            lambda m: m["verdicts"]["reference"]["findings"][0].update(family="guess"),
            "verdicts.reference.findings.0.family: Input should be 'observable'",
        ),
    ],
)
def test_faults_are_named_with_their_place(metrics, tmp_path, change, place):
    changed = deepcopy(metrics)
    changed["notes"] = []
    change(changed)
    (tmp_path / "metrics.json").write_text(json.dumps(changed))
    with pytest.raises(UnreadableInputError, match="does not fit this version") as found:
        read_metrics(tmp_path)
    assert place in found.value.message


def test_derived_numbers_follow_the_rows(metrics):
    metrics["headline"] = {"mean_w1": 99.0}
    metrics["rows"]["translated"]["mean_w1"]["value"] = 0.25
    found = load(metrics).headline
    assert found["mean_w1"] == 0.25
    assert found["mean_w1_source"] == metrics["rows"]["source"]["mean_w1"]["value"]
    assert found["n_target"] == metrics["target"]["n_events"]


def test_every_headline_number_is_shown_defined_and_linked(metrics):
    metrics["truth"] = {
        role: {**metrics["rows"]["translated"]["source_correlation"]}
        for role in ("source", "translated")
    }
    test = metrics["rows"]["source"]["two_sample"]["features"]
    for row in metrics["rows"].values():
        row["two_sample"]["cells"] = test
    text = page_of(metrics, {})
    shown = {number.name for number, _ in load(metrics).shown()}
    assert shown == {number.name for number in HEADLINE} - {"rise"}
    for name in shown:
        assert f'href="#term-{name}"' in text
    for term in glossary("images"):
        assert f'id="term-{term.name}"' in text
        assert len(term.definition) > 15
    assert set(metrics["definitions"]) == {term.name for term in glossary("images")}


def test_metrics_are_read_from_run_folder_or_file(metrics, tmp_path: Path):
    folder = tmp_path / "run/validation"
    folder.mkdir(parents=True)
    with pytest.raises(MissingInputError) as missing:
        read_metrics(tmp_path / "run")
    assert f"pileupgen validate --run {tmp_path / 'run'}" in missing.value.hint
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for path in (tmp_path / "run", folder, folder / "metrics.json"):
        assert json.loads(read_metrics(path).to_json()) == metrics


def test_validate_writes_the_page_and_corrects_it(toy_stores, tmp_path: Path, monkeypatch):
    every = figures.validation_figures
    monkeypatch.setattr(figures, "validation_figures", lambda *given: list(every(*given))[:1])
    run = tmp_path / "run"
    for role, place in (
        ("source", "data/mc.h5"),
        ("target", "data/data.h5"),
        ("translated", "translated/mc_to_data.h5"),
    ):
        (run / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(toy_stores[role].path, run / place)
    config = tmp_path / "tiny.yaml"
    config.write_text("name: tiny\nseed: 3\nvalidate: {n_bootstrap: 10, n_seeds: 1}\n")
    app = typer.Typer()
    app.command()(validate)
    command = ["--config", str(config), "--run", str(run), "--quick"]
    page = run / "validation" / NAME
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert str(page) in first.output.replace("\n", "")
    assert read_metrics(run).figures
    written = page.read_bytes()
    assert written.count(b"<img") == 1
    page.unlink()
    again = CliRunner().invoke(app, command)
    assert "as is" in again.output
    assert page.read_bytes() == written


def source_check(**changes) -> dict:
    return {
        "n_events": 1000,
        "n_unlike": 80,
        "n_above": 3,
        "cells_above": 5,
        "energy_ratio": 2.5,
        "n_below": 0,
        "cells_below": 0,
        "n_mu": 0,
        "mu_low": 1.0,
        "mu_high": 1.0,
        "significance": 21.4,
        "shifts": [["energy of em", 0.81, 19.2]],
        "is_unlike": True,
        **changes,
    }


def test_source_events_unlike_the_trainings_have_a_section_and_a_caution(metrics):
    assert "Source events beside" not in page_of(metrics, {})
    assert 'href="#source"' not in page_of(metrics, {})
    metrics["source_check"] = source_check()
    page = Page(page_of(metrics, {}))
    assert "80 of 1,000" in page.text
    assert "5 cells, up to 2.5 times" in page.text
    assert "energy of em, averaged" in page.text
    assert "+0.810 standard deviations of events" in page.text
    (caution,) = [text for text in judged(metrics).cautions if "training" in text]
    assert "80 of 1,000 are flagged" in caution
    assert "differ by 21.4 σ, most in 'energy of em'" in caution
    metrics["source_check"] = source_check(n_unlike=1, significance=0.4, is_unlike=False)
    assert not [text for text in judged(metrics).cautions if "training" in text]
    assert "1 of 1,000" in Page(page_of(metrics, {})).text


def test_section_against_measurements_is_there_where_the_generator_was_checked(metrics):
    pictures = {"figures/mean_maps.png": png()}
    assert 'href="#measurements"' not in page_of(metrics, pictures)
    estimate = {"value": 1.25, "low": 1.2, "high": 1.3}
    metrics["measurements"] = {
        "generator": f"pythia8 at 7 TeV {EVIL}",
        "published": [{"title": "E_T density", "source": "ATLAS", "found": "3 of 6 bins"}],
        "bins": [
            {
                "low": 0.0,
                "high": 0.8,
                "asked": estimate,
                "target": {"value": 1.5, "low": 1.49, "high": 1.51},
                "translated": {"value": None, "low": None, "high": None},
            }
        ],
    }
    page = page_of(metrics, pictures)
    text = Page(page).text
    assert 'href="#measurements"' in page
    assert EVIL not in page
    for words in ("0 to 0.8", "1.250 ± 0.050", "1.500 ± 0.010", "3 of 6 bins"):
        assert words in text
