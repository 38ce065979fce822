from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from pileupgen.cli import preprocess as command
from pileupgen.cli.ui import sample_table
from pileupgen.errors import (
    CardError,
    ConfigError,
    GeometryError,
    MissingInputError,
    PileupgenError,
    RunError,
    UnreadableInputError,
)
from pileupgen.jets.jetnet_file import create_jetnet_file
from pileupgen.samples.store import ImageStore
from tests.conftest import run_main
from tests.sample_files import delphes_branches, random_towers, write_delphes, write_tree

N_EVENTS = 80


@pytest.fixture
def workplace(tmp_path: Path, card_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two samples, their cards and a config, to be worked in."""
    for seed, domain in enumerate(("mc", "data")):
        write_delphes(tmp_path / f"{domain}.root", random_towers(N_EVENTS, seed))
        named = {"name": domain, "domain": domain, "files": [f"{domain}.root"]}
        change_card(tmp_path, domain, **{**card_values, **named})
    config = {
        "name": "trial",
        "samples": {"mc": "mc.yaml", "data": "data.yaml"},
        "preprocess": {"zero_suppression": 0.0},
    }
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def change_card(folder: Path, sample: str, **changes: Any) -> None:
    path = folder / f"{sample}.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    values = {**values, **changes, "files": changes.get("files", [f"{sample}.root"])}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def change_config(folder: Path, section: str, **changes: Any) -> None:
    path = folder / "trial.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values.setdefault(section, {}).update(changes)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def run(**options: Any) -> None:
    command.preprocess(**{"config": Path("trial.yaml"), **options})


def test_two_cards_become_two_stores(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    said = capsys.readouterr()
    folder = workplace / "runs" / "trial"
    for domain in ("mc", "data"):
        store = ImageStore(folder / "data" / f"{domain}.h5")
        assert len(store) == N_EVENTS
        assert store.domain == domain
        assert store.provenance["card"]["name"] == domain
        assert f"read   {domain}: {domain}.yaml, {domain}.root" in said.out
        assert f"wrote  runs/trial/data/{domain}.h5  {N_EVENTS} images of (2, 50, 36)" in said.out
        record = json.loads((folder / "stages" / f"preprocess_{domain}.json").read_text())
        assert record["summary"]["n_events"] == N_EVENTS
    assert (folder / "stages" / "preprocess.json").is_file()
    for label in ("events", "⟨μ⟩ ± sd", "⟨ΣE_T⟩ / GeV", "EM fraction", "occupancy em"):
        assert label in said.out
    assert said.out.rstrip().endswith("next   pileupgen train --config trial.yaml")
    assert said.err == ""


def test_jets_are_not_sent_to_a_training_of_images(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Constituents of jets are what the systems of the benchmark make."""
    rng = np.random.default_rng(1)
    particles = rng.uniform(0.01, 0.1, (N_EVENTS, 5, 4)).astype(np.float32)
    particles[..., 3] = 1
    jets = np.tile(np.float32([1000, 0, 90, 5]), (N_EVENTS, 1))
    with create_jetnet_file(workplace / "jets.h5", 5, {}) as writer:
        writer.append(particles, jets)
    for domain in ("mc", "data"):
        changes = {"files": ["jets.h5"], "format": "jetnet", "mu": "pt"}
        change_card(workplace, domain, **changes, options={"constituents": 5})
    change_config(workplace, "preprocess", geometry="features", zero_suppression=None)
    run()
    said = capsys.readouterr().out
    assert said.endswith("next   pileupgen benchmark --task jets --config trial.yaml\n")


def test_doing_it_again_is_cheap_and_says_so(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    first = capsys.readouterr().out
    store = workplace / "runs" / "trial" / "data" / "mc.h5"
    time = store.stat().st_mtime_ns
    run()
    again = capsys.readouterr().out
    assert again.count("as is  ") == 2
    assert "mc: inputs unchanged, runs/trial/data/mc.h5 is current" in again
    assert "wrote" not in again
    assert store.stat().st_mtime_ns == time
    table = first[first.index("before translation") :]
    assert again.endswith(table)
    run(force=True)
    assert store.stat().st_mtime_ns > time
    assert capsys.readouterr().out.count("wrote") == 2


@pytest.mark.parametrize("change", ["file", "card", "store"])
def test_what_has_changed_is_done_again_and_nothing_else(
    workplace: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    run()
    capsys.readouterr()
    if change == "file":
        write_delphes(workplace / "data.root", random_towers(30, 9))
    elif change == "card":
        change_card(workplace, "data", mu="unknown")
    else:
        (workplace / "runs" / "trial" / "data" / "data.h5").unlink()
    run()
    said = capsys.readouterr().out
    assert "as is  mc" in said
    assert "wrote  runs/trial/data/data.h5" in said
    assert said.count("wrote") == 1


def test_max_events_and_seed_go_to_the_run_and_the_next_command_names_it(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(max_events=20, seed=7, run=Path("runs/quick"))
    assert len(ImageStore(workplace / "runs" / "quick" / "data" / "mc.h5")) == 20
    assert "next   pileupgen train --run runs/quick\n" in capsys.readouterr().out
    run(config=None, run=Path("runs/quick"))
    said = capsys.readouterr().out
    assert said.count("as is  ") == 2
    assert said.endswith("next   pileupgen train --run runs/quick\n")


def test_a_run_of_another_config_is_left_alone(workplace: Path) -> None:
    run()
    before = (workplace / "runs" / "trial" / "data" / "mc.h5").read_bytes()
    change_config(workplace, "preprocess", zero_suppression=1.0)
    with pytest.raises(RunError, match=r"preprocess\.zero_suppression: 0\.0 → 1\.0"):
        run()
    assert (workplace / "runs" / "trial" / "data" / "mc.h5").read_bytes() == before


def test_the_first_domain_stays_done_if_the_second_fails(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (workplace / "data.root").read_bytes()
    (workplace / "data.root").write_bytes(whole[:-2000])
    with pytest.raises(UnreadableInputError, match=r"data\.root"):
        run()
    folder = workplace / "runs" / "trial" / "data"
    assert [path.name for path in folder.iterdir()] == ["mc.h5"]
    capsys.readouterr()
    (workplace / "data.root").write_bytes(whole)
    run()
    assert "as is  mc" in capsys.readouterr().out


def test_a_second_card_that_is_wrong_stops_before_the_first_is_begun(workplace: Path) -> None:
    change_card(workplace, "data", fils=["x"])
    with pytest.raises(CardError, match="unknown key 'fils'"):
        run()
    assert not (workplace / "runs" / "trial" / "data").exists()


def test_pileup_that_differs_is_warned_of(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_card(workplace, "data", mu=35)
    run()
    said = capsys.readouterr().err
    assert "the μ profiles differ" in said
    assert "60.76 and 35," in said
    change_card(workplace, "data", mu="unknown")
    run()
    assert "μ is not known in both domains" in capsys.readouterr().err


def test_a_card_in_another_role_and_missing_edges_are_warned_of(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(workplace, "samples", data="mc.yaml")
    write_delphes(workplace / "mc.root", random_towers(N_EVENTS, 1), "Tower.Edges[4]")
    run()
    said = capsys.readouterr().err
    assert "card 'mc' describes mc; here it stands for data" in said
    assert said.count("has no Tower.Edges") == 2
    first, second = (
        ImageStore(workplace / "runs" / "trial" / "data" / f"{domain}.h5").read().energy
        for domain in ("mc", "data")
    )
    assert np.array_equal(first, second)


def test_zero_suppression_is_reported(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_config(workplace, "preprocess", zero_suppression=1.0)
    run()
    assert "cells suppressed em" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("section", "changes", "error", "said"),
    [
        ("samples", {"mc": "nowhere"}, ConfigError, "No file 'nowhere' among data_cards"),
        ("samples", {"mc": "demo_mcc"}, ConfigError, "No file 'demo_mcc'"),
        ("samples", {"mcc": "x"}, ConfigError, "unknown key 'samples.mcc'"),
        ("preprocess", {"geometry": "atlsa"}, GeometryError, "No geometry preset 'atlsa'"),
        (
            "preprocess",
            {"geometry": {"eta_edges": [0, 1], "n_phi": 4, "layers": ["em", "presampler"]}},
            GeometryError,
            "layers ['presampler']",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    workplace: Path,
    section: str,
    changes: dict[str, Any],
    error: type[PileupgenError],
    said: str,
) -> None:
    change_config(workplace, section, **changes)
    with pytest.raises(error) as caught:
        run()
    assert said in caught.value.message
    assert not list((workplace / "runs").glob("**/*.h5"))


def test_a_missing_file_is_named(workplace: Path) -> None:
    (workplace / "mc.root").rename(workplace / "mc1.root")
    with pytest.raises(MissingInputError, match=r"mc\.root") as caught:
        run()
    assert "mc1.root" in caught.value.hint


def test_a_sample_to_be_generated_is_made_once(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    produce = pytest.importorskip("pileupgen.simulate.produce")
    made: list[int] = []

    def make_sample(spec: Any, path: Path, advance: Any, **_: Any) -> Any:
        path.parent.mkdir(parents=True, exist_ok=True)
        towers = random_towers(spec.n_events, seed=3)
        write_delphes(path, towers)
        made.append(spec.n_events)
        advance(spec.n_events, "events")
        return produce.SampleSummary(
            path, spec.fingerprint(), spec.n_events, towers.n_towers, 60.0, 1.0, ()
        )

    monkeypatch.setattr(produce, "make_sample", make_sample)
    monkeypatch.setattr(produce, "is_current", lambda spec, path, container: path.is_file())
    change_card(workplace, "mc", files=[], generate={"n_events": 50, "seed": 4})
    run()
    said = capsys.readouterr().out
    cached = list((workplace / "runs" / "cache").iterdir())
    assert len(cached) == 1
    assert f"wrote  runs/cache/{cached[0].name}  50 events" in said
    store = ImageStore(workplace / "runs" / "trial" / "data" / "mc.h5")
    assert store.provenance["inputs"] == [{"name": cached[0].name, "generated": cached[0].stem}]
    assert store.provenance["card"]["generate"] == {"n_events": 50, "seed": 4}
    os.utime(cached[0])
    run()
    assert made == [50]
    assert capsys.readouterr().out.count("as is  ") == 3
    run(max_events=10, run=Path("runs/quick"))
    assert made == [50, 10]


def test_settings_of_a_generated_sample_are_checked(workplace: Path) -> None:
    change_card(workplace, "mc", files=[], generate={"n_event": 50})
    with pytest.raises(CardError, match=r"mc\.yaml.*generate.*'n_event'.*'n_events'"):
        run()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--config", "trial.yaml"], 3, "mc.root cannot be read"),
        (["--config", "none.yaml"], 2, "No file 'none.yaml' among configs"),
        (["--config", "trial.yaml", "--max-events", "0"], 2, "--max-events"),
    ],
)
def test_a_fault_is_one_message_and_an_exit_code(
    workplace: Path, arguments: list[str], code: int, said: str
) -> None:
    (workplace / "mc.root").write_bytes(b"root, or so it says")
    found, text = run_main("preprocess", *arguments)
    assert found == code
    assert said in text
    assert "Traceback" not in text
    assert not list(workplace.glob("runs/**/*.h5"))


def test_mc_takes_the_pileup_of_data(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    towers = random_towers(400, 1)
    shifted = random_towers(400, 2)
    shifted.mu[:] += 6
    write_delphes(workplace / "mc.root", towers)
    write_delphes(workplace / "data.root", shifted)
    run()
    assert "--match-mu resample" in capsys.readouterr().err
    for mode in ("reweight", "resample"):
        run(match_mu=mode)
        captured = capsys.readouterr()
        assert f"match  mc to data by {mode}: ⟨μ⟩" in captured.out
        assert "μ profiles differ" not in captured.err
        images = ImageStore(workplace / "runs/trial/data/mc.h5").read()
        assert np.average(images.mu, weights=images.weight) > towers.mu.mean() + 4
        run(match_mu=mode)
        assert capsys.readouterr().out.count("as is  ") == 2
    run()
    captured = capsys.readouterr()
    assert "wrote  runs/trial/data/mc.h5" in captured.out
    assert len(ImageStore(workplace / "runs/trial/data/mc.h5")) == 400


def test_bad_files_are_named_and_counted(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "mc_bad.root").write_bytes(b"root, but no more")
    change_card(workplace, "mc", files=["mc.root", "mc_bad.root"])
    with pytest.raises(UnreadableInputError, match=r"mc_bad\.root"):
        run()
    capsys.readouterr()
    run(skip_bad=True)
    captured = capsys.readouterr()
    assert "mc_bad.root" in captured.err
    assert "files skipped" in captured.out
    store = ImageStore(workplace / "runs/trial/data/mc.h5")
    assert len(store) == N_EVENTS
    assert store.provenance["skipped"] == [
        {"name": "mc_bad.root", "error": "UnreadableInputError", "n_events": 0}
    ]
    with pytest.raises(UnreadableInputError, match=r"mc_bad\.root"):
        run()


def test_workers_change_no_byte_of_the_stores(workplace: Path) -> None:
    run()
    stores = [workplace / f"runs/trial/data/{domain}.h5" for domain in ("mc", "data")]
    before = [store.read_bytes() for store in stores]
    run(force=True, workers=2)
    assert [store.read_bytes() for store in stores] == before


def test_dead_cells_and_those_that_never_fire_are_counted_and_said(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    towers = random_towers(N_EVENTS, 1)
    energy = towers.energy.copy()
    energy[(towers.edges[:, 0] < 0) & (towers.edges[:, 3] > np.pi / 2), 0] = 0.0
    write_delphes(workplace / "data.root", replace(towers, energy=energy))
    region = {"eta": [0.0, 2.5], "phi": [0.0, 1.6], "layer": "had"}
    grid = {"eta_edges": [-2.5, 0.0, 2.5], "n_phi": 4, "dead_regions": [region]}
    change_config(workplace, "preprocess", geometry=grid)
    run()
    said = capsys.readouterr()
    out, warned = " ".join(said.out.split()), " ".join(said.err.split())
    assert "dead cells had, by the geometry │ 1 │ 1" in out
    assert "cells em that never fire │ │ 1" in out
    assert "cells of data (card 'data') that never fire" in warned
    assert "1 (em at η = -1.25, φ = 2.36)" in warned
    assert "cells of mc" not in warned


def test_profiles_of_weighted_events_are_compared_by_their_weights(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = np.arange(N_EVENTS) % 10 > 0
    even = np.arange(N_EVENTS) % 2 > 0
    for seed, (sample, is_busy) in enumerate((("mc", even), ("data", many))):
        towers = random_towers(N_EVENTS, seed)
        mu = np.where(is_busy, 60, 50).astype(np.float32)
        branches = delphes_branches(replace(towers, mu=mu))
        if sample == "mc":
            branches["Event.Weight"] = np.where(is_busy, 1.8, 0.2)
        write_tree(workplace / f"{sample}.root", branches)
    command.preprocess(config=Path("trial.yaml"))
    assert "mu_apart" not in capsys.readouterr().err
    change_card(workplace, "mc", weight="none")
    command.preprocess(config=Path("trial.yaml"))
    assert "mu_apart" in capsys.readouterr().err


def test_a_table_of_many_features_is_shown_in_part():
    names = [f"f{number}" for number in range(90)]
    summary = SimpleNamespace(
        n_events=7,
        layers=names,
        units=["GeV"] * 90,
        energy=np.arange(90.0),
        sd=np.ones(90),
        mean_mu=math.nan,
        skipped=(),
        census=SimpleNamespace(is_weighted=False),
    )
    rows = sample_table._of_features(summary)
    known = SimpleNamespace(**vars(summary) | {"mean_mu": 1100.0, "sd_mu": 60.0})
    # A jet's p_T, which is no number of interactions.
    assert sample_table._of_features(known)["mean of the card's mu ± sd"] == "1100.00 ± 60.00"
    assert len(rows) == 1 + sample_table.MOST_FEATURES + 1
    assert rows["f23 / GeV"] == "23 ± 1"
    assert list(rows)[-1] == "and 66 more features"
