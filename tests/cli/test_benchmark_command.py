"""The command, and the peers on made events, where the answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import PEERS, make_peer
from benchmarks.peers.contract import Problem
from benchmarks.quality import Judge
from benchmarks.table import known_rows
from benchmarks.table_text import markdown
from pileupgen.errors import ConfigError, MissingInputError
from pileupgen.run import RunDirectory
from pileupgen.samples.store import ImageStore


@pytest.fixture(scope="module")
def judge(tiny_run: Path) -> Judge:
    run = RunDirectory(tiny_run)
    stores = ImageStore(run.images("mc")), ImageStore(run.images("data"))
    return Judge.of(*stores, None, 1, 1)


@pytest.fixture(scope="module")
def problem(tiny_run: Path) -> Problem:
    run = RunDirectory(tiny_run)
    mc, data = (
        store.read(store.indices("train"))
        for store in (ImageStore(run.images("mc")), ImageStore(run.images("data")))
    )
    return Problem(mc, data, run, "cpu", 2.0, 1)


def test_identity_closes_nothing_and_the_floor_all(judge, problem):
    peer = make_peer("identity")
    peer.fit(problem)
    quality = judge.quality(peer.translate(judge.source_images))
    assert quality.gap_closed.value == pytest.approx(0)
    assert quality.block is not None
    assert quality.block.value == pytest.approx(1)
    assert judge.floor_quality().w1.value < 0.5 * quality.w1.value


@pytest.mark.parametrize(
    ("name", "closed"),
    [
        ("quantile morphing, plain", 0.4),
        ("quantile morphing, chained", 0.4),
        ("Gaussian-copula map", 0.4),
        ("reweighting (CARL)", 0.0),
    ],
)
def test_peers_close_some_of_the_gap(judge, problem, name, closed):
    peer = make_peer(name)
    peer.fit(problem)
    quality = judge.quality(peer.translate(judge.source_images))
    assert quality.gap_closed.value > closed
    assert peer.n_parameters > 0


@pytest.mark.parametrize("name", ["normalizing flow", "partial"])
def test_peers_with_networks_give_finite_events(judge, problem, name):
    pytest.importorskip("zuko", reason="the flow needs the extra 'peers'")
    peer = make_peer(name)
    peer.fit(problem)
    output = peer.translate(judge.source_images)
    given = output.observables if output.energy is None else output.energy
    assert given is not None
    assert len(given) == len(judge.source_images)
    assert np.isfinite(given).all()


def test_same_output_has_no_difference(judge):
    energy = judge.source_images.energy
    difference = judge.gap_difference(energy, energy)
    assert (difference.value, difference.error) == (0.0, 0.0)


def test_a_row_is_measured_once(tiny_run, command):
    pytest.importorskip("zuko", reason="the command wants the extra 'peers'")
    first = command("benchmark", "--run", tiny_run, "--rows", "identity", "--quick")
    (row,) = (tiny_run / "benchmark" / "rows").glob("*.json")
    before = row.stat().st_mtime_ns
    again = command("benchmark", "--run", tiny_run, "--rows", "ident", "--quick")
    assert row.stat().st_mtime_ns == before
    record = json.loads((tiny_run / "benchmark" / "table.json").read_text())
    assert [found["name"] for found in record["rows"]] == ["identity"]
    assert "| identity |" in markdown(record)
    assert "| identity |" in first
    assert "| identity |" in again
    assert {rate["batch"] for rate in record["rows"][0]["rates"]} == {1, 100, 1000}


def test_every_peer_has_a_row():
    assert known_rows() == ["floor", *PEERS]


def test_bad_input_is_named(tiny_run, command, tmp_path, monkeypatch):
    pytest.importorskip("zuko", reason="the command wants the extra 'peers'")
    said = command("benchmark", "--run", tiny_run, "--rows", "quantile", error=ConfigError)
    assert "names no single row" in said
    missing = command("benchmark", "--run", tmp_path / "none", error=MissingInputError)
    assert "preprocess" in missing
    monkeypatch.setattr("pileupgen.cli.benchmark.__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert "repository" in command("benchmark", "--run", tiny_run, error=MissingInputError)
