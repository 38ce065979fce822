from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.errors import GeometryError
from pileupgen.progress import SILENT
from pileupgen.report.figures import event_display_figure, overlay_figure
from pileupgen.samples.store import ImageStore, create_store
from pileupgen.workflow.overlay_effects import measure_overlay
from pileupgen.workflow.run import Run
from tests.overlay.overlay_inputs import GRID, write_events

pytest.importorskip("fastjet")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageStore]:
    folder = tmp_path_factory.mktemp("stores")
    mu = {seed: np.random.default_rng(seed).poisson(20, 300) for seed in (2, 3)}
    split = np.where(np.arange(300) % 10, 2, 0)
    write_events(folder / "target.h5", 300, 2, mu=mu[2], floor=0.6, split=split)
    source = write_events(
        folder / "source.h5", 300, 3, mu=mu[3], floor=0.6, scale=3.0, split=np.full(300, 2)
    )
    columns = {**source.columns, "source_event": source.columns["event_id"]}
    with create_store(folder / "translated.h5", GRID, "mc_to_data", {}) as writer:
        energy = source.read().energy * np.float32(2 / 3)
        energy[energy < 0.6] = 0
        writer.append(energy, columns)
    return {name: ImageStore(folder / f"{name}.h5") for name in ("target", "source", "translated")}


def measure(signal: Path, stores: dict[str, ImageStore]) -> tuple:
    return measure_overlay(
        str(signal), stores, signal, weighted=False, n_bootstrap=50, seed=1, listener=SILENT
    )


def test_translated_pileup_brings_the_numbers_to_those_of_data(
    stores: dict[str, ImageStore], tmp_path: Path
) -> None:
    energy = np.zeros((400, *GRID.shape), dtype=np.float32)
    rng = np.random.default_rng(5)
    energy[np.arange(400), 1, rng.integers(2, 6, 400), rng.integers(0, 12, 400)] = 60
    with create_store(tmp_path / "signal.h5", GRID, "mc", {}) as writer:
        columns = {"mu": np.zeros(400), "event_id": np.arange(400), "weight": np.ones(400)}
        writer.append(energy, {**columns, "split": np.zeros(400)})
    effects, event = measure(tmp_path / "signal.h5", stores)
    # Nine tenths of the smaller sample of pileup, 270 events: none is used twice.
    assert effects.n_events == 243
    assert effects.signal == "signal.h5"
    met = [one for one in effects.numbers if one.family == "E_T^miss" and "μ" in one.name]
    assert len(met) == 3
    for one in met:
        assert one.values["mc"].value > 1.2 * one.values["translated"].value
        assert one.sigmas["mc"] > abs(one.sigmas["translated"])
    # One event four ways: the same hard scatter in all, the same pileup in the middle two.
    alone, mc, translated, data = event.images
    where = alone > 0
    for image in (mc, translated, data):
        assert np.all(image[where] >= 0.999 * alone[where])
    pileup = mc - alone
    found = (translated - alone)[~where]
    assert np.count_nonzero(found) <= np.count_nonzero(pileup[~where])
    shown = found > 0
    np.testing.assert_allclose(found[shown] * 1.5, pileup[~where][shown], rtol=1e-5)
    (jet,) = event.jets
    ring, cell = np.argwhere(alone[1] == alone.max())[0]
    assert jet == pytest.approx((GRID.eta_centres[ring], GRID.phi_centres[cell]), abs=0.3)
    figure = event_display_figure(list(event.images), list(event.titles), GRID, event.jets)
    assert [len(axes.patches) for axes in figure.axes[:8]] == [3] * 8
    assert overlay_figure(effects).axes


def test_mc_has_weights_like_translated(stores: dict[str, ImageStore], tmp_path: Path) -> None:
    weight = np.where(np.arange(300) % 3, 0.2, 3.0)
    source = stores["source"]
    columns = {**source.columns, "weight": weight}
    with create_store(tmp_path / "mc.h5", GRID, "mc", {}) as writer:
        writer.append(source.read().energy, columns)
    # A translation that changes nothing.
    with create_store(tmp_path / "translated.h5", GRID, "mc_to_data", {}) as writer:
        writer.append(source.read().energy, {**columns, "source_event": columns["event_id"]})
    same = {name: ImageStore(tmp_path / f"{name}.h5") for name in ("mc", "translated")}
    write_events(tmp_path / "signal.h5", 300, 7, scale=20.0)
    effects, _ = measure(
        tmp_path / "signal.h5",
        {"target": stores["target"], "source": same["mc"], "translated": same["translated"]},
    )
    assert len(effects.numbers) > 5
    for one in effects.numbers:
        assert one.values["mc"] == one.values["translated"]


def test_jets_need_the_whole_azimuth(stores: dict[str, ImageStore], tmp_path: Path) -> None:
    window = Grid(GRID.eta_edges, 12, phi_min=0.0, phi_max=1.0)
    for name in ("target", "source", "translated"):
        write_events(tmp_path / f"{name}.h5", 9, 1, grid=window)
    narrow = {name: ImageStore(tmp_path / f"{name}.h5") for name in stores}
    with pytest.raises(GeometryError, match="whole azimuth"):
        measure(tmp_path / "signal.h5", narrow)


def test_a_validation_has_them_in_its_numbers_and_on_its_page(
    stores: dict[str, ImageStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create({"name": "small"}, tmp_path / "run")
    places = {
        "target": run.directory.images("data"),
        "source": run.directory.images("mc"),
        "translated": run.directory.translated,
    }
    for role, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(stores[role].path, place)
    # Figures of the rest are drawn elsewhere.
    monkeypatch.setattr("pileupgen.report.figures.validation_figures", lambda *_: iter(()))
    write_events(tmp_path / "signal.h5", 300, 7, scale=20.0)
    options = {"overlay": str(tmp_path / "signal.h5"), "quick": True, "n_bootstrap": 10}
    done = run.validate(**options)
    assert done.comparison.overlay is not None
    assert done.comparison.overlay.n_events == 243
    assert {Path(name).stem for name in done.comparison.figures} == {"overlaid_event", "overlay"}
    page = done.report.read_text(encoding="utf-8")
    assert "One hard scatter with pileup" in page
    assert "translated pileup" in page
    assert not run.validate(**options).is_new
    assert run.validate(quick=True, n_bootstrap=10).comparison.overlay is None
