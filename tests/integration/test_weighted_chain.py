"""Weighted events, some of negative weight, from files to the report: as those of the same law."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from pileupgen.calo.imaging import images_to_towers
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.samples.store import ImageStore
from tests.conftest import SMALL_GRID, make_energies
from tests.sample_files import delphes_branches, write_tree
from tests.tiny import CONFIG, Command

N = 900


def write(
    folder: Path, values: dict[str, Any], domain: str, events: Any, weight: NDArray[Any] | None
) -> None:
    energy, mu = events
    towers = images_to_towers(energy, SMALL_GRID, mu=mu)
    branches = delphes_branches(replace(towers, edges=towers.edges.astype(np.float32)))
    if weight is not None:
        branches["Event.Weight"] = weight
    write_tree(folder / f"{domain}.root", branches)
    card = {**values, "name": domain, "domain": domain, "files": f"{domain}.root"}
    (folder / f"{domain}.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")


def mean(energy: NDArray[Any], weight: NDArray[Any]) -> tuple[float, float]:
    """Mean energy of an event, and its error."""
    total = energy.sum(axis=(1, 2, 3), dtype=np.float64)
    found = float(np.average(total, weights=weight))
    variance = np.average((total - found) ** 2, weights=weight)
    return found, float(np.sqrt(variance * np.square(weight).sum())) / float(weight.sum())


def sigma(first: tuple[float, float], second: tuple[float, float]) -> float:
    return abs(first[0] - second[0]) / float(np.hypot(first[1], second[1]))


@pytest.fixture(scope="module")
def biased() -> tuple[Any, NDArray[np.float64]]:
    """Simulated events of which soft ones are rare and heavy, and a tenth have −w."""
    rng = np.random.default_rng(5)
    energy, mu = make_energies(int(N / 0.6), 0, 3)
    is_hard = energy.sum(axis=(1, 2, 3)) > 255
    chance = np.where(is_hard, 1.0, 0.35)
    kept = rng.random(len(chance)) < chance
    weight = np.where(rng.random(len(chance)) < 0.1, -1, 1) / chance
    return (energy[kept], mu[kept]), weight[kept]


def test_weighted_events_end_as_unweighted_ones_of_the_same_law(
    tmp_path: Path, card_values: dict[str, Any], biased: Any, command: Command
) -> None:
    events, weight = biased
    plain, data = make_energies(N, 0, 1), make_energies(N, 1, 2)
    write(tmp_path, card_values, "mc", events, weight)
    write(tmp_path, card_values, "data", data, None)
    config = {
        **CONFIG,
        "samples": {"mc": "mc.yaml", "data": "data.yaml"},
        "codec": "cells",
        "validate": {"n_bootstrap": 10},
    }
    (tmp_path / "weighted.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    where = ("--config", tmp_path / "weighted.yaml", "--run", tmp_path / "run")
    command("preprocess", *where)
    command("train", *where, "--device", "cpu")
    command("translate", *where, "--mode", "calibrate", "--split", "all", "--device", "cpu")
    command("validate", *where, "--quick", "--no-ladder")

    store = ImageStore(tmp_path / "run" / "data" / "mc.h5")
    usable = store.read().weight
    assert store.columns["weight"].min() < 0 <= usable.min()
    law, unit = mean(plain[0], np.ones(N)), np.ones(len(store))
    assert sigma(mean(store.read().energy, usable), law) < 3
    assert sigma(mean(store.read().energy, unit), law) > 5
    calibration = CellCalibration.from_pretrained(tmp_path / "run" / "model" / "calibration")
    null = float((plain[0] == 0).mean())
    assert float(calibration.null_mass[0].mean()) == pytest.approx(null, abs=0.02)
    translated = ImageStore(tmp_path / "run" / "translated" / "mc_to_data.h5").read().energy
    truth = mean(data[0], np.ones(N))
    assert sigma(mean(translated, usable), truth) < 3
    assert sigma(mean(translated, unit), truth) > 4
    metrics = json.loads((tmp_path / "run" / "validation" / "metrics.json").read_text())
    rows = metrics["rows"]
    assert rows["source"]["effective_events"] < 0.8 * rows["source"]["n_events"]
    assert rows["translated"]["shift_removed"]["value"] > 0.6
