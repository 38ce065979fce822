"""From two samples to an overlaid store: sums, conditions, resuming, bad input."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.errors import (
    CardError,
    ConfigError,
    GeometryError,
    ImplausibleInputError,
    MissingInputError,
    OutputError,
    StoreError,
    UnreadableInputError,
)
from pileupgen.overlay import produce as produce_module
from pileupgen.overlay.settings import OverlaySettings
from pileupgen.parallel.farm import Farm
from pileupgen.samples.overlay_library import export_overlay
from pileupgen.samples.store import ImageStore, create_store
from pileupgen.workflow import overlay as overlay_workflow
from pileupgen.workflow.overlay import Overlaid, OverlayRequest, overlay, plan_overlay
from tests.overlay.overlay_inputs import GRID, write_events

N = 700


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_events(folder / "signal.h5", N, 1, scale=20.0, weight=np.linspace(-0.1, 2, N))
    mu = np.random.default_rng(2).poisson(20, 900)
    write_events(folder / "pileup.h5", 900, 2, mu=mu, noise=0.3, weight=np.linspace(1, 3, 900))
    return folder


def run(folder: Path, output: Path, settings: Any = None, **request: Any) -> Overlaid:
    farm = request.pop("farm", None)
    names = {"signal": folder / "signal.h5", "pileup": folder / "pileup.h5"}
    names |= {name: request.pop(name) for name in ("signal", "pileup") if name in request}
    made = OverlayRequest(str(names["signal"]), str(names["pileup"]), output, **request)
    return overlay(made, OverlaySettings(**(settings or {})), farm=farm)


def rows_of(store: ImageStore, name: str, values: np.ndarray) -> np.ndarray:
    """Rows of a sample that have these event numbers."""
    order = np.argsort(store.columns[name])
    return order[np.searchsorted(store.columns[name], values, sorter=order)]


def test_energies_are_added_cell_by_cell_and_everything_is_on_record(
    samples: Path, tmp_path: Path
) -> None:
    settings = {"copies": 2, "max_reuse": 2, "mu_profile": "flat:17,23", "mu_tolerance": 9}
    made = run(samples, tmp_path / "out.h5", settings, max_events=300).store
    assert len(made) == 600
    signal, pileup = (ImageStore(samples / f"{name}.h5") for name in ("signal", "pileup"))
    columns = made.columns
    assert columns["signal_event"].tolist() == np.repeat(np.arange(300) + 1000, 2).tolist()
    assert columns["copy"].tolist() == [0, 1] * 300
    ours = rows_of(signal, "event_id", columns["signal_event"])
    theirs = rows_of(pileup, "event_id", columns["pileup_event"])
    energy = signal.read(ours).energy + pileup.read(theirs).energy
    np.testing.assert_array_equal(made.read().energy, energy)
    np.testing.assert_array_equal(columns["mu"], pileup.columns["mu"][theirs])
    own = signal.columns["weight"]
    np.testing.assert_array_equal(columns["signal_weight"], own[ours])
    np.testing.assert_allclose(columns["weight"], own[ours] * columns["pileup_weight"])
    assert np.bincount(theirs).max() == 2
    assert np.bincount(columns["pileup_use"])[0] == len(np.unique(theirs))
    made_by = made.provenance
    assert len(made_by["signal"]["sha256"]) == len(made_by["pileup"]["sha256"]) == 64
    assert made_by["seed"] == 1
    assert made_by["versions"]["pileupgen"]
    assert made_by["settings"]["max_reuse"] == 2


def test_a_library_gives_the_same_events_as_its_store(samples: Path, tmp_path: Path) -> None:
    store = ImageStore(samples / "pileup.h5")
    export_overlay(store, store.indices(), tmp_path / "library.h5")
    first = run(samples, tmp_path / "a.h5").store
    second = run(samples, tmp_path / "b.h5", pileup=tmp_path / "library.h5").store
    np.testing.assert_array_equal(first.read().energy, second.read().energy)
    for name, values in first.columns.items():
        np.testing.assert_array_equal(values, second.columns[name])


def test_neither_workers_nor_an_interruption_change_a_byte(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(produce_module, "BLOCK_VALUES", 1)
    assert produce_module.block_events(GRID.shape) == 256
    run(samples, tmp_path / "whole.h5")
    with Farm(2) as farm:
        run(samples, tmp_path / "two.h5", farm=farm)
    done = []
    add = produce_module.Overlaying.add

    def interrupted(self: Any, *rows: Any) -> Any:
        done.append(len(rows[0]))
        if len(done) == 3:
            raise KeyboardInterrupt
        return add(self, *rows)

    with monkeypatch.context() as patched:
        patched.setattr(produce_module.Overlaying, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(samples, tmp_path / "cut.h5")
    assert not (tmp_path / "cut.h5").exists()
    left = list(tmp_path.glob(".cut.h5.blocks-*/*"))
    assert [path.name for path in sorted(left)] == ["000000.h5", "000001.h5"]
    times = {path: path.stat().st_mtime_ns for path in left}

    def seen(self: Any, *rows: Any) -> Any:
        assert {path: path.stat().st_mtime_ns for path in left} == times
        return add(self, *rows)

    with monkeypatch.context() as patched:
        patched.setattr(produce_module.Overlaying, "add", seen)
        run(samples, tmp_path / "cut.h5")
    whole = (tmp_path / "whole.h5").read_bytes()
    assert (tmp_path / "two.h5").read_bytes() == whole
    assert (tmp_path / "cut.h5").read_bytes() == whole
    assert not list(tmp_path.glob(".*"))


def test_what_is_done_is_not_done_again(samples: Path, tmp_path: Path) -> None:
    assert run(samples, tmp_path / "out.h5", max_events=9).is_new
    assert not run(samples, tmp_path / "out.h5", max_events=9).is_new
    assert run(samples, tmp_path / "out.h5", max_events=9, seed=2).is_new
    assert run(samples, tmp_path / "out.h5", max_events=9, seed=2, force=True).is_new


def test_a_plan_writes_nothing(samples: Path, tmp_path: Path) -> None:
    request = OverlayRequest(
        str(samples / "signal.h5"), str(samples / "pileup.h5"), tmp_path / "out.h5"
    )
    (step,) = plan_overlay(request).steps
    assert "700 events" in step.what
    assert not list(tmp_path.iterdir())
    overlay(request)
    (step,) = plan_overlay(request).steps
    assert "current" in step.what


def test_the_sum_is_cut_at_the_layers_thresholds(samples: Path, tmp_path: Path) -> None:
    plain = run(samples, tmp_path / "a.h5").store.read().energy
    cut = run(samples, tmp_path / "b.h5", {"zero_suppression": "0.5,1.5"}).store.read().energy
    for layer, limit in enumerate((0.5, 1.5)):
        expected = np.where(np.abs(plain[:, layer]) < limit, 0, plain[:, layer])
        np.testing.assert_array_equal(cut[:, layer], expected)
    with pytest.raises(ConfigError, match="3 numbers for the layers em, had"):
        run(samples, tmp_path / "c.h5", {"zero_suppression": "1,2,3"})


def test_wide_cells_are_cut_as_a_whole(tmp_path: Path) -> None:
    grid = Grid((-1.0, 0.0, 1.0), 8, ring_n_phi=(2, 8), name="wide")
    for name, seed in (("signal", 1), ("pileup", 2)):
        write_events(tmp_path / f"{name}.h5", 40, seed, grid=grid)
    plain = run(tmp_path, tmp_path / "a.h5").store.read().energy
    cut = run(tmp_path, tmp_path / "b.h5", {"zero_suppression": "2"}).store.read().energy
    for ring, limit in enumerate((0.5, 2.0)):
        rings = plain[:, :, ring]
        np.testing.assert_array_equal(cut[:, :, ring], np.where(rings < limit, 0, rings))


def test_cells_that_are_dead_in_the_pileup_are_dead_in_the_sum(tmp_path: Path) -> None:
    write_events(tmp_path / "signal.h5", 50, 1)
    store = write_events(tmp_path / "live.h5", 300, 2)
    energy = store.read().energy
    energy[:, 0, 3, 4:6] = 0
    with create_store(tmp_path / "pileup.h5", GRID, "data", {}) as writer:
        writer.append(energy, store.columns)
    made = run(tmp_path, tmp_path / "out.h5").store
    found = made.read().energy
    assert not found[:, 0, 3, 4:6].any()
    assert found[:, 1, 3, 4:6].any()
    assert made.provenance["n_dead_cells"] == 2


def test_translations_of_one_event_count_together(tmp_path: Path) -> None:
    write_events(tmp_path / "signal.h5", 60, 1)
    write_events(tmp_path / "pileup.h5", 30, 2, draws=3, mu=np.arange(30) + 5)
    with pytest.raises(StoreError, match="30 source events are used 1 times each after 30 of 60"):
        run(tmp_path, tmp_path / "out.h5")
    columns = run(tmp_path, tmp_path / "out.h5", {"max_reuse": 2}).store.columns
    assert np.bincount(columns["pileup_source"]).tolist() == [2] * 30
    assert columns["pileup_draw"].tolist() == columns["pileup_use"].tolist()
    assert set(columns["pileup_seed"]) == {7}


def test_weights_below_0_stay_and_those_made_positive_go_with_them(
    samples: Path, tmp_path: Path
) -> None:
    signed, positive = np.linspace(-0.5, 2, 50), np.linspace(0, 2, 50)
    write_events(tmp_path / "signal.h5", 50, 1, weight=signed, weight_positive=positive)
    signal = tmp_path / "signal.h5"
    columns = run(samples, tmp_path / "out.h5", signal=signal).store.columns
    np.testing.assert_array_equal(columns["signal_weight"], signed)
    np.testing.assert_allclose(columns["weight"], signed * columns["pileup_weight"])
    np.testing.assert_allclose(columns["weight_positive"], positive * columns["pileup_weight"])


@pytest.mark.parametrize(
    ("floors", "settings", "is_suppressed"),
    [
        ((0.0, 0.0), {}, False),
        ((0.5, 0.0), {}, False),
        ((0.5, 0.5), {}, True),
        ((0.0, 0.0), {"zero_suppression": "0.5,1.0"}, True),
    ],
)
def test_overlaid_events_are_overlaid_again(
    tmp_path: Path, floors: tuple[float, float], settings: dict[str, str], is_suppressed: bool
) -> None:
    for name, seed, floor in (("signal", 1, floors[0]), ("pileup", 2, floors[1])):
        noise = 0.0 if floor else 0.1
        write_events(tmp_path / f"{name}.h5", 30, seed, floor=floor, noise=noise, mu=4.0)
    run(tmp_path, tmp_path / "once.h5", settings)
    write_events(tmp_path / "raw.h5", 40, 3, noise=0.1, mu=6.0)
    twice = {"signal": tmp_path / "once.h5", "pileup": tmp_path / "raw.h5"}
    made = run(tmp_path, tmp_path / "twice.h5", **twice).store
    assert made.provenance["suppressed"] == {"signal": is_suppressed, "pileup": False}
    assert set(made.columns["mu"]) == {14.0}


# -- bad input -------------------------------------------------------------------------------------


def card(**detector: Any) -> dict[str, Any]:
    return {"card": {"detector": detector}}


def overlaid(period: str) -> dict[str, Any]:
    """Provenance of hard scatters with pileup of a period."""
    return {
        "stage": "overlay",
        "settings": {},
        "suppressed": {"signal": False, "pileup": False},
        "signal": {"provenance": card(period="2017A")},
        "pileup": {"provenance": card(period=period)},
    }


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"grid": Grid(GRID.eta_edges, 24)}, GeometryError, "n_phi"),
        ({"grid": Grid(GRID.eta_edges, 12, ("em", "tail"))}, GeometryError, "layers"),
        ({"scale": 2000.0}, ImplausibleInputError, "cannot be of one unit"),
        ({"provenance": card(period="2018B")}, CardError, "'2018B' for .* '2017A'"),
        ({"provenance": {"card": {"generate": {"period": "B"}}}}, CardError, "'B' for .* '2017A'"),
        # Of translated events the period of the target counts, not of the source.
        (
            {"provenance": {"source": card(period="2017A"), "period": "2018B"}},
            CardError,
            "'2018B' for .* '2017A'",
        ),
        ({"provenance": overlaid("2018B")}, CardError, "'2018B' for .* '2017A'"),
    ],
)
def test_samples_that_do_not_go_together(
    tmp_path: Path, change: dict[str, Any], error: Any, words: str
) -> None:
    write_events(tmp_path / "signal.h5", 30, 1, **change)
    write_events(tmp_path / "pileup.h5", 30, 2, provenance=card(period="2017A"))
    with pytest.raises(error, match=words):
        run(tmp_path, tmp_path / "out.h5")
    if error is CardError:
        assert run(tmp_path, tmp_path / "out.h5", allow=("period",)).is_new


def test_other_thresholds_take_one_for_the_sum(tmp_path: Path) -> None:
    write_events(tmp_path / "signal.h5", 30, 1, floor=0.3)
    write_events(tmp_path / "pileup.h5", 30, 2, floor=0.6)
    with pytest.raises(StoreError, match=r"thresholds differ.* 0\.30\d GeV.* 0\.60"):
        run(tmp_path, tmp_path / "out.h5")
    assert run(tmp_path, tmp_path / "out.h5", {"zero_suppression": "0.6"}).is_new
    assert run(tmp_path, tmp_path / "all.h5", allow=("thresholds",)).is_new
    # Where one of them is not suppressed there is nothing to compare.
    write_events(tmp_path / "signal.h5", 30, 1, noise=0.1)
    made = run(tmp_path, tmp_path / "one.h5").store
    assert made.provenance["suppressed"] == {"signal": False, "pileup": True}


def test_suppressed_pileup_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_events(tmp_path / "signal.h5", 30, 1, floor=0.5)
    write_events(tmp_path / "pileup.h5", 30, 2, floor=0.5)
    run(tmp_path, tmp_path / "out.h5")
    assert "both samples are zero-suppressed" in caplog.text


def test_a_library_that_changes_under_way(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(tmp_path / "pileup.h5", 900, 3)
    monkeypatch.setattr(produce_module, "BLOCK_VALUES", 1)
    add, calls = produce_module.Overlaying.add, []

    def meddling(self: Any, *rows: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            os.utime(tmp_path / "pileup.h5", ns=(1, 1))
        return add(self, *rows)

    monkeypatch.setattr(produce_module.Overlaying, "add", meddling)
    with pytest.raises(StoreError, match=r"pileup\.h5 was changed while"):
        run(samples, tmp_path / "out.h5", pileup=tmp_path / "pileup.h5")
    assert not (tmp_path / "out.h5").exists()


def test_a_full_disk_keeps_finished_blocks(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(produce_module, "BLOCK_VALUES", 1)
    create = produce_module.create_store

    def full(path: Path, *rest: Any) -> Any:
        if path.name == "000001.h5":
            raise OutputError(f"Cannot write {path}: No space left on device.")
        return create(path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(produce_module, "create_store", full)
        with pytest.raises(OutputError, match="No space left"):
            run(samples, tmp_path / "out.h5")
    assert [path.name for path in tmp_path.glob(".out.h5.blocks-*/*")] == ["000000.h5"]
    assert len(run(samples, tmp_path / "out.h5").store) == N


@pytest.mark.parametrize(
    ("settings", "request_", "error", "words"),
    [
        ({"mu_profile": "flat:50,80"}, {}, StoreError, "of the μ profile"),
        ({"mu_profile": "nowhere.txt"}, {}, ConfigError, "No μ profile"),
        ({"weights": "release"}, {}, StoreError, "no release weights"),
        ({}, {"pileup": "nowhere.h5"}, MissingInputError, "No image store or overlay library"),
        ({}, {"signal": "nowhere"}, ConfigError, "nowhere"),
        ({}, {"signal": "nowhere.h5"}, MissingInputError, "nowhere.h5"),
        ({}, {"allow": ("grids",)}, ConfigError, "Known: thresholds, period"),
    ],
)
def test_requests_that_cannot_be_met(
    samples: Path, tmp_path: Path, settings: Any, request_: Any, error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        run(samples, tmp_path / "out.h5", settings, **request_)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["store", "library"])
def test_a_truncated_sample_is_an_error(samples: Path, tmp_path: Path, kind: str) -> None:
    whole = samples / "pileup.h5"
    if kind == "library":
        store, whole = ImageStore(whole), tmp_path / "library.h5"
        export_overlay(store, store.indices(), whole)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole.read_bytes()[:-5000])
    with pytest.raises(UnreadableInputError, match=r"cut\.h5 cannot be read"):
        run(samples, tmp_path / "out.h5", pileup=cut)


def test_a_folder_is_no_store_to_write(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        run(samples, tmp_path)


def test_a_sample_is_not_overwritten(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="would be lost"):
        run(samples, samples / "pileup.h5")


@pytest.mark.parametrize(
    "settings",
    [
        {"max_reuse": 0},
        {"copies": 0},
        {"mu_tolerance": -1.0},
        {"mu_tolerance": float("nan")},
        {"zero_suppression": "x"},
        {"zero_suppression": "-1"},
        {"pileup_part": "3/2"},
        {"pileup_part": "half"},
        {"keep": 0.5},
        {"keep": 0.0, "interactions": True, "mu_profile": "poisson:6"},
        {"keep": float("nan"), "interactions": True, "mu_profile": "poisson:6"},
    ],
)
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        OverlaySettings(**settings)
    assert replace(OverlaySettings(), max_reuse=2).part == (1, 1)


# -- cards, and the bias of suppressed energies ----------------------------------------------------


def test_cards_are_drawn_on_the_grid_of_the_pileup(card_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_events(folder / "pileup.h5", 80, 2, grid=get_grid("atlas"))
    made = run(folder, folder / "first.h5", signal=card_path)
    assert len(made.store) == 60
    (drawn,) = (folder / "cache").glob("signal-sample-*.h5")
    assert made.store.provenance["signal"]["provenance"]["card"]["name"] == "sample"
    ours = ImageStore(drawn).read().energy.sum()
    theirs = ImageStore(folder / "pileup.h5")
    rows = rows_of(theirs, "event_id", made.store.columns["pileup_event"])
    expected = ours + theirs.read(rows).energy.sum(dtype=float)
    assert made.store.read().energy.sum(dtype=float) == pytest.approx(expected, rel=1e-5)
    before = drawn.stat().st_mtime_ns
    run(folder, folder / "second.h5", signal=card_path)
    assert drawn.stat().st_mtime_ns == before
    # As pileup a card is drawn on the grid that it names itself.
    run(folder, folder / "third.h5", signal=folder / "pileup.h5", pileup=card_path, max_events=9)


def test_a_card_without_a_grid_is_no_library(
    card_values: dict[str, Any], card_path: Path, tmp_path: Path
) -> None:
    del card_values["detector"]["grid"]
    card_path.write_text(yaml.safe_dump(card_values), encoding="utf-8")
    with pytest.raises(ConfigError, match="on which grid"):
        run(tmp_path, tmp_path / "out.h5", signal=card_path, pileup=card_path)


def test_the_bias_is_computed_at_the_librarys_thresholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastjet")
    write_events(tmp_path / "signal.h5", 60, 1)
    write_events(tmp_path / "pileup.h5", 80, 2, floor=0.8)
    write_events(tmp_path / "raw.h5", 50, 3, noise=0.3)
    monkeypatch.setattr(overlay_workflow, "UNSUPPRESSED", str(tmp_path / "raw.h5"))
    made = run(tmp_path, tmp_path / "out.h5", bias=True).store
    bias = made.provenance["suppression_bias"]
    assert bias["n_events"] == 50
    hard, raw = (ImageStore(tmp_path / f"{name}.h5").read().energy for name in ("signal", "raw"))
    em = [one[:50, 0] for one in (hard, raw)]
    cut = min(abs(e) for e in ImageStore(tmp_path / "pileup.h5").read().energy[:, 0].ravel() if e)
    first = np.where(np.abs(em[0] + em[1]) < cut, 0, em[0] + em[1]).sum(dtype=float)
    parts = sum(np.where(np.abs(one) < cut, 0, one).sum(dtype=float) for one in em)
    assert bias["energy"]["em"][0] == pytest.approx(parts / first - 1, rel=1e-4)
