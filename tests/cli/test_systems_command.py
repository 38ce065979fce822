"""`pileupgen benchmark`: systems trained and judged on a small run, kept, and shown."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pileupgen.compare import jet_quality, quality, two_sample
from pileupgen.compare.jet_quality import TABLE_J
from pileupgen.compare.systems import ControlCurve, SystemTable
from pileupgen.errors import (
    ConfigError,
    DependencyError,
    GeometryError,
    MissingInputError,
    OutputError,
    RunError,
    TrainingError,
)
from pileupgen.measure.fibres import CHANNELS
from pileupgen.report import systems
from pileupgen.report.systems import write_systems
from pileupgen.simulate.zdc_spec import ZdcSpec
from pileupgen.workflow import benchmark, tasks
from pileupgen.zoo import image_system, places, point_system, scores
from tests.compare.test_jet_quality import write_jets
from tests.compare.test_shower_quality import SPEC, write_showers
from tests.compare.test_zdc_quality import write_light
from tests.conftest import write_sample

NAMES = "marginals,autoregressive,ddim"


@pytest.fixture(scope="module", autouse=True)
def _quick_judge() -> Iterator[None]:
    """Fewer trees, resamplings and corrected events: what they give is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_sample, "MAX_ITER", 5)
        patch.setattr(quality, "N_BOOTSTRAP", 10)
        patch.setattr(image_system, "CORRECTION_EVENTS", 30)
        yield


@pytest.fixture
def empty_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of figures with nothing in them; those of the module's first table are drawn."""

    def draw(figure: object, folder: Path, name: str) -> list[Path]:
        Figure((1.0, 1.0)).savefig(folder / f"{name}.png")
        return [folder / f"{name}.png"]

    monkeypatch.setattr(systems, "write_figure", draw)


@pytest.fixture(scope="module")
def judged(tmp_path_factory, command) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("systems") / "run"
    for number, domain in enumerate(("mc", "data")):
        write_sample(run / "data" / f"{domain}.h5", 160, number)
    return run, command(*arguments(run))


def arguments(run: Path, names: str = NAMES) -> list[str | Path]:
    options = ["--methods", names, "--minutes", "0.01", "--events", "45", "--no-cells"]
    return ["benchmark", "--run", run, *options]


def table_of(run: Path) -> SystemTable:
    text = (run / "systems" / "systems.json").read_text(encoding="utf-8")
    return SystemTable.from_dict(json.loads(text))


def test_each_use_of_each_system_has_a_row(judged):
    table = table_of(judged[0])
    uses = [(row.name, row.use) for row in table.rows]
    assert uses == [
        ("marginals", "generate"),
        ("autoregressive", "generate"),
        ("autoregressive", "translate"),
        ("ddim", "generate"),
    ]
    rows = {row.label: row for row in table.rows}
    assert rows["marginals"].n_parameters == 0
    assert rows["marginals"].quality.block is None
    assert rows["autoregressive, translating"].quality.block.value > 0.5
    assert rows["autoregressive"].nats is not None
    assert rows["ddim"].n_evaluations == 25
    assert 0 < rows["ddim"].training_seconds < 5
    assert table.reference.w1.value < table.source.w1.value


def test_files_say_the_same(judged):
    run, said = judged
    folder = run / "systems"
    with (folder / "systems.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    table = table_of(run)
    assert [line["name"] for line in lines] == [row.name for row in table.rows]
    assert float(lines[1]["w1"]) == pytest.approx(table.rows[1].quality.w1.value)
    page = (folder / "systems.html").read_text(encoding="utf-8")
    for row in table.rows:
        assert row.label in page
        assert f"{row.quality.auc:.3f}" in page
    assert "data:image/png;base64" in page
    assert "systems.html" in said


@pytest.mark.usefixtures("empty_figures")
def test_what_is_there_is_not_measured_again(judged, command, monkeypatch):
    from pileupgen.zoo.image_system import ImageSystem

    run, _ = judged
    before = table_of(run)

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(ImageSystem, "fit", refuse)
    command(*arguments(run))
    assert table_of(run) == before
    # A trained network serves another way of drawing with it.
    command(*arguments(run, "ddim,ddpm"))
    rows = {row.name: row for row in table_of(run).rows}
    assert rows["ddpm"].n_evaluations == 100
    assert rows["ddpm"].training_steps == rows["ddim"].training_steps


@pytest.mark.usefixtures("empty_figures")
def test_a_row_of_another_version_is_measured_again(judged, command):
    run, _ = judged
    for path in (run / "systems" / "rows").glob("*.json"):
        path.write_text('[{"name": "of another version"}]')
    command(*arguments(run, "marginals"))
    assert [row.name for row in table_of(run).rows] == ["marginals"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--task", "shower"], "no task 'shower'.*showers"),
        (["--methods", "autoregresive"], "autoregressive"),
        (["--minutes", "0"], "more than 0"),
        (["--minutes", "nan"], "more than 0"),
        (["--minutes", "inf"], "more than 0"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_done(tmp_path, command, options, words):
    import re

    said = command("benchmark", "--run", tmp_path / "none", *options, error=ConfigError)
    assert re.search(words, said)


@pytest.mark.usefixtures("empty_figures")
def test_a_system_that_cannot_be_trained_costs_the_others_nothing(judged, command, monkeypatch):
    from pileupgen.zoo.gan import Gan

    def fail(*_: object) -> None:
        raise TrainingError("The loss is nan at step 3.", "")

    monkeypatch.setattr(Gan, "train", fail)
    run, _ = judged
    said = command(*arguments(run, "gan,marginals"))
    assert "gan is left out. The loss is nan" in said
    assert [row.name for row in table_of(run).rows] == ["marginals"]
    command(*arguments(run, "gan,sdi-gan"), error=TrainingError)


@pytest.mark.usefixtures("empty_figures")
def test_what_is_no_pair_is_refused_before_anything_is_trained(judged, command):
    said = command(*arguments(judged[0], "perfekt"), "--pairs", error=ConfigError)
    assert "no pairs" in said
    # Without the option it is left out, and says what it needs.
    said = command(*arguments(judged[0], "perfekt,marginals"))
    assert "--pairs" in said
    assert [row.name for row in table_of(judged[0]).rows] == ["marginals"]


def test_events_of_wanted_properties_have_a_figure(judged, tmp_path):
    curve = ControlCurve(
        name="sum",
        label="ΣE / GeV",
        asked=(1.0, 2.0),
        median=(1.1, 1.9),
        low=(1.0, 1.8),
        high=(1.2, 2.0),
        real=(1.5, 1.2, 1.8),
        slope=0.8,
        slope_error=0.05,
    )
    table = table_of(judged[0])
    row = replace(table.rows[0], controls=(curve,))
    written = write_systems(replace(table, rows=(row,)), tmp_path)
    assert "systems_control.png" in {path.name for path in written}
    page = (tmp_path / "systems.html").read_text(encoding="utf-8")
    assert "ΣE / GeV rises by 0.80 ± 0.05" in page
    assert page.count("data:image/png;base64") == 2
    assert SystemTable.from_dict(json.loads((tmp_path / "systems.json").read_text())).rows == (row,)


def test_a_sample_too_small_is_refused_before_anything_is_trained(tmp_path, command):
    for number, domain in enumerate(("mc", "data")):
        write_sample(tmp_path / "run" / "data" / f"{domain}.h5", 20, number)
    said = command(*arguments(tmp_path / "run", "marginals"), error=RunError)
    assert "5 test events" in said
    assert not (tmp_path / "run" / "systems").exists()


def test_no_place_for_results_is_found_before_anything_is_trained(tmp_path, command, monkeypatch):
    for number, domain in enumerate(("mc", "data")):
        write_sample(tmp_path / "run" / "data" / f"{domain}.h5", 60, number)
    (tmp_path / "run" / "systems").write_text("")
    monkeypatch.setattr(benchmark._Benchmarking, "rows_of", lambda *_: pytest.fail("trained"))
    said = command(*arguments(tmp_path / "run", "marginals"), error=OutputError)
    assert "Cannot write" in said


@pytest.mark.usefixtures("empty_figures")
def test_showers_have_a_table_of_their_own(tmp_path, command, monkeypatch):
    """Fewer tables and showers than usual, and no figure: those are tested elsewhere."""
    monkeypatch.setattr(scores, "N_BINS", 1)
    monkeypatch.setattr(benchmark, "N_TOGETHER", 8)
    run = tmp_path / "run"
    for seed, domain in enumerate(("mc", "data")):
        values = {"n_events": 60, "seed": seed, "energy": (20.0, 40.0)}
        (run / "data").mkdir(parents=True, exist_ok=True)
        write_showers(run / "data" / f"{domain}.h5", SPEC.model_copy(update=values), domain)
    forgotten = command(*arguments(run, "marginals"), error=ConfigError)
    assert "of the task 'showers', not of 'pileup'. Give --task showers." in forgotten
    said = command(*arguments(run, "marginals"), "--task", "showers")
    table = table_of(run)
    row = table.rows[0]
    assert table.task == "showers"
    assert row.quality.distances["longitudinal"].value < 0.5
    assert row.quality.response == pytest.approx(table.reference.response, abs=0.15)
    assert 0 < row.batch_ms < row.single_ms
    assert table.simulation_ms > 0
    page = (run / "systems" / "systems.html").read_text(encoding="utf-8")
    assert f"{table.simulation_ms / row.batch_ms:.2g}" in page
    assert "⟨z⟩" in page
    assert "mean W1/σ" in said
    with (run / "systems" / "systems.csv").open(encoding="utf-8") as file:
        line = next(csv.DictReader(file))
    assert float(line["e_cell"]) == pytest.approx(row.quality.distances["e_cell"].value)


def test_light_of_particles_has_the_table_of_its_papers(tmp_path, command, monkeypatch):
    """And a system that knows one condition is left out, with a word of why."""
    monkeypatch.setattr(systems, "write_figure", lambda *_: [])
    for module, name, value in (
        (scores, "N_LOG_BINS", 1),
        (scores, "N_BINS", 1),
        (places, "_BLOCK", 11),
        (image_system, "CORRECTION_EVENTS", 30),
        (benchmark, "N_TOGETHER", 8),
    ):
        monkeypatch.setattr(module, name, value)
    run = tmp_path / "run"
    (run / "data").mkdir(parents=True)
    for seed, domain in enumerate(("mc", "data")):
        spec = ZdcSpec(n_events=100, seed=seed, photons=10 - 5 * seed)
        write_light(run / "data" / f"{domain}.h5", spec, domain)
    said = command(*arguments(run, "marginals,pixelcnn"), "--task", "zdc")
    assert "pixelcnn is left out" in said
    assert "training, CPU min" not in said
    table = table_of(run)
    (row,) = table.rows
    assert set(row.quality.channels) == set(CHANNELS)
    w1 = [one.value for one in row.quality.channels.values()]
    assert row.quality.w1.value == pytest.approx(sum(w1) / 5)
    # Half of the light is read in common.
    values = {name: one.value for name, one in table.source.channels.items()}
    assert max(values, key=values.__getitem__) == "common"
    assert table.source.photons > 1.2 * table.reference.photons
    assert table.simulation_ms > 0 < row.batch_ms
    page = (run / "systems" / "systems.html").read_text(encoding="utf-8")
    for words in ("mean W1, photons", "x &lt; 0, y &gt; 0", "training, CPU min"):
        assert words in page
    with (run / "systems" / "systems.csv").open(encoding="utf-8") as file:
        line = next(csv.DictReader(file))
    assert float(line["quadrant_4"]) == pytest.approx(w1[4])


@pytest.mark.usefixtures("empty_figures")
def test_jets_have_the_distances_of_jetnet(tmp_path, command, monkeypatch):
    """And another yardstick: constituents, not cells, are independent."""
    monkeypatch.setattr(jet_quality, "N_BOOTSTRAP", 10)
    monkeypatch.setattr(point_system, "CORRECTION_EVENTS", 10)
    monkeypatch.setattr(benchmark, "N_TOGETHER", 8)
    run = tmp_path / "run"
    (run / "data").mkdir(parents=True)
    for seed, domain in enumerate(("mc", "data")):
        write_jets(run / "data" / f"{domain}.h5", 160, seed, domain, wider=1 + 0.5 * seed)
    forgotten = command(*arguments(run, "marginals"), error=ConfigError)
    assert "of the task 'jets', not of 'pileup'. Give --task jets." in forgotten
    said = command(*arguments(run, "point-marginals,epic-gan"), "--task", "jets", "--cells")
    table = table_of(run)
    assert [row.name for row in table.rows] == ["point-marginals", "epic-gan"]
    assert table.yardstick == "point-marginals"
    assert "W1^M" in said
    row = table.rows[0]
    assert set(row.quality.distances) == set(TABLE_J)
    assert row.quality.distances["etarel"].value < 0.5 * table.source.distances["etarel"].value
    assert table.source.mean_mass < 0.8 * table.reference.mean_mass
    assert table.is_worse_than_yardstick(row) is False
    # Nothing says by which simulation these jets were made.
    assert table.simulation_ms is None
    assert 0 < row.batch_ms < row.single_ms
    page = (run / "systems" / "systems.html").read_text(encoding="utf-8")
    for words in ("W1^M × 1000", "τ₃₂ × 1000", ">constituents<", "p_T of held-out jets"):
        assert words in page
    with (run / "systems" / "systems.csv").open(encoding="utf-8") as file:
        line = next(csv.DictReader(file))
    assert float(line["tau21"]) == pytest.approx(row.quality.distances["tau21"].value)
    assert float(line["mean_mass"]) == pytest.approx(row.quality.mean_mass)


def test_pileup_is_no_jet(judged, command):
    said = command(*arguments(judged[0], "marginals"), "--task", "jets", error=GeometryError)
    assert "no table of constituents" in " ".join(said.split())


def test_a_simulation_that_is_not_installed_has_no_time(monkeypatch):
    def missing(_: object) -> None:
        raise DependencyError("No Pythia.", "Install it.")

    task = replace(tasks.TASKS["jets"], maker=missing)
    assert task.maker_of({"process": "top"}) is None
    assert task.maker_of({"process": "inelastic"}) is None
    assert tasks.TASKS["pileup"].maker_of({"process": "inelastic"}) is None


def test_jets_of_the_simulation_are_made_as_many_as_asked_for():
    pytest.importorskip("pythia8mc")
    pytest.importorskip("fastjet")
    make = tasks.TASKS["jets"].maker_of({"process": "w"})
    assert 20 < make(60) <= 100


def test_a_run_without_images_is_named(tmp_path, command):
    said = command("benchmark", "--run", tmp_path / "none", error=MissingInputError)
    assert "preprocess" in said


def test_systems_are_listed_without_loading_one():
    code = (
        "import sys\n"
        "from pileupgen.cli.main import app\n"
        "app(['benchmark', '--list'], standalone_mode=False)\n"
        "assert not {'torch', 'diffusers', 'matplotlib'} & set(sys.modules), 'loaded'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "autoregressive" in done.stdout + done.stderr
